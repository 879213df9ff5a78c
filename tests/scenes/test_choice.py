"""Which variables are compressed: those that say that they are backscatter, those that the caller names, and no others."""

import warnings

import numpy as np
import pytest
import xarray as xr

from tests.support import products
from xsarcomp.errors import AlreadyLossyError, DimensionError, RadiometryError
from xsarcomp.scenes.choice import check_quantity, choose_variables, separate_bands
from xsarcomp.scenes.quantities import Kind, judge_quantity


def array(name=None, dims=("y", "x"), dtype=np.float32, labels=None, **attributes):
    if labels:
        dims, attributes = ("band", *dims), attributes | {"long_name": tuple(labels)}
    sizes = [len(labels) if dim == "band" and labels else 2 for dim in dims]
    return xr.DataArray(np.zeros(sizes, dtype), dims=dims, name=name, attrs=attributes)


def dataset(*arrays):
    return xr.merge([each.to_dataset() for each in arrays])


BACKSCATTER = """
    vv vh HH hv VV_db VVdB sigma0_vv gamma0 beta0 Sigma0_VV_db Gamma0_VH vv_gamma0 sigma0VV sigmaNought Intensity_VV
    Amplitude_VH Sigma0_VV_use_local_inci_from_dem backscatter NRCS sigma_0 sigma_naught S1_VV vv_ascending vv_mean intensity
    vv_noise_removed VV_angle_corrected gamma0_area_normalized Gamma0_VH_masked grd
    S1A_IW_20240101T155531_DVP_RTC10_G_gpuned_5685_VV
"""
OTHERS = """
    vv_coherence coherence vv_std VV_stdDev NESZ_vv incidenceAngle local_incidence_angle angle mask vv_mask water_mask
    layover_shadow_mask dem elevation B04 B8A vv_vh_ratio noise vv_noise vv_count n_obs lia vv_lia phase landcover
    classification quality_flag optical shadow spatial_ref sigma0_ratio rvi class alpha corr area vv_enl
"""


@pytest.mark.parametrize("name", BACKSCATTER.split())
def test_a_name_of_backscatter_is_understood(name):
    assert judge_quantity(array(name)).kind is Kind.BACKSCATTER


@pytest.mark.parametrize("name", OTHERS.split())
def test_a_name_of_another_quantity_is_understood_even_beside_a_polarization(name):
    assert judge_quantity(array(name)).kind is Kind.OTHER


@pytest.mark.parametrize("name", ["measurement", "foo", "band_data", "plane_0", "stack", "vvx", None])
def test_a_name_that_says_nothing_decides_nothing(name):
    assert judge_quantity(array(name)).kind is Kind.UNKNOWN


@pytest.mark.parametrize(
    ("described", "kind"),
    [
        (array("vv", long_name="interferometric coherence VV"), Kind.OTHER),
        (array("vv", long_name="sigma0, thermal noise removed, corrected for the incidence angle"), Kind.BACKSCATTER),
        (array("a", long_name="noise equivalent sigma zero"), Kind.OTHER),
        (array("a", long_name="standard deviation of the backscatter"), Kind.OTHER),
        (array("a", standard_name="surface_backwards_scattering_coefficient_of_radar_wave"), Kind.BACKSCATTER),
        (array("a", long_name="gamma nought"), Kind.BACKSCATTER),
        (array("a", units="dB"), Kind.BACKSCATTER),
        (array("a", units="m2 m-2"), Kind.BACKSCATTER),
        (array("a", units="1"), Kind.UNKNOWN),
        (array("a", units="degrees"), Kind.OTHER),
        (array("a", polarisation="VV"), Kind.BACKSCATTER),
        (array("vv", dtype=bool), Kind.OTHER),
        (array("vv", dtype=np.uint8, flag_values=[0, 1]), Kind.OTHER),
        (array("band_data", labels=("vv", "vh")), Kind.BACKSCATTER),
        (array("band_data", labels=("B02", "B03")), Kind.OTHER),
        (array("band_data", labels=("b1", "b2")), Kind.UNKNOWN),
        (array("vv", labels=("first", "second")), Kind.BACKSCATTER),
        (array("band_data", labels=("vv", "vh", "local_incidence_angle")), Kind.MIXED),
        (array("band_data", labels=("vv", "b2")), Kind.MIXED),
        (array("bands", ("band", "y", "x")).assign_coords(band=["vv", "vh"]), Kind.BACKSCATTER),
    ],
    ids=str,
)
def test_attributes_and_bands_tell_what_a_variable_is(described, kind):
    assert judge_quantity(described).kind is kind


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("/data/S1A_IW_GRDH_1SDV_20240101.tif", Kind.BACKSCATTER),
        ("s1.tif", Kind.BACKSCATTER),
        (r"C:\scenes\place_VV.tif", Kind.BACKSCATTER),
        ("S1A_IW_20240101_inc_map_dem.tif", Kind.OTHER),
        ("place_water.tif", Kind.OTHER),
        ("scene.tif", Kind.UNKNOWN),
    ],
)
def test_the_name_of_the_file_decides_where_a_reader_gave_the_name(source, kind):
    opened = array("band_data")
    opened.encoding["source"] = source
    assert judge_quantity(opened).kind is kind
    opened.name = "a_name_of_its_own"
    assert judge_quantity(opened).kind is Kind.UNKNOWN


@pytest.mark.parametrize("make", products.PRODUCTS)
def test_of_each_product_the_backscatter_is_chosen_and_nothing_else(make):
    product = make()
    data = product.data.to_dataset() if isinstance(product.data, xr.DataArray) else product.data
    choice = choose_variables(data)
    assert tuple(choice.names) == product.names
    assert set(choice.kept) == set(data.data_vars) - set(product.names)
    assert choice.doubtful == []


def test_of_intensity_and_coherence_only_the_intensity_is_chosen():
    choice = choose_variables(dataset(array("intensity"), array("vv_coherence"), array("vv_std")))
    assert choice.names == ["intensity"]
    assert choice.text == (
        "compressed: intensity; kept exactly: vv_coherence (its name says 'coherence'), vv_std (its name says 'std')"
    )


def test_where_nothing_says_that_it_is_backscatter_an_error_lists_what_there_is():
    scene = dataset(array("B04", units="1"), array("thing", dtype=np.int16), array("vv", ("time",)))
    with pytest.raises(DimensionError) as refusal:
        choose_variables(scene)
    for part in (
        "B04 (y, x; float32; units '1'): its name says 'b04'",
        "thing (y, x; int16; no units)",
        "variables=['thing']",
    ):
        assert part in str(refusal.value)
    with pytest.raises(DimensionError, match="no variable"):
        choose_variables(xr.Dataset())


def test_the_only_variable_of_a_sentinel_1_product_is_backscatter():
    scene = array("measurement").to_dataset()
    with pytest.raises(DimensionError, match=r"variables=\['measurement'\]"):
        choose_variables(scene)
    assert choose_variables(scene.assign_attrs(family_name="SENTINEL-1")).names == ["measurement"]
    with pytest.raises(DimensionError, match="no variable says"):
        choose_variables(scene.assign(other=scene.measurement).assign_attrs(family_name="SENTINEL-1"))


def test_what_may_be_backscatter_beside_backscatter_is_kept_and_noted():
    choice = choose_variables(dataset(array("vv"), array("thing"), array("number", dtype=np.int32)))
    assert (choice.names, choice.doubtful) == (["vv"], ["thing"])


def test_named_variables_are_followed_and_others_are_kept():
    scene = dataset(array("vv"), array("vh"), array("thing"))
    choice = choose_variables(scene, ["thing", "vv"])
    assert choice.names == ["vv", "thing"]
    assert choice.kept == {"vh": "not among variables="}
    assert choose_variables(scene, "thing").names == ["thing"]


@pytest.mark.parametrize("wrong", [["vx"], [], ["vv", "other"]])
def test_names_that_the_dataset_does_not_have_are_refused(wrong):
    with pytest.raises(DimensionError, match="expected those of variables="):
        choose_variables(dataset(array("vv")), wrong)


def test_naming_what_says_that_it_is_something_else_is_followed_with_a_warning():
    with pytest.warns(UserWarning, match="'vv_coherence' is compressed as backscatter.*its name says 'coherence'"):
        assert choose_variables(dataset(array("vv_coherence")), ["vv_coherence"]).names == ["vv_coherence"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choose_variables(dataset(array("thing")), ["thing"])


def test_an_array_that_says_that_it_is_something_else_is_refused_with_advice():
    check_quantity(array("thing"))
    with pytest.raises(RadiometryError, match=r"'vv_coherence' is no backscatter.*scale='power'"):
        check_quantity(array("vv_coherence"))
    with pytest.raises(RadiometryError, match=r"'angle'.*to_dataset"):
        check_quantity(array("band_data", labels=("vv", "angle")))


def test_bands_of_several_kinds_are_refused_in_one_variable_and_separated_on_request():
    mixed = array("band_data", labels=("vv", "vh", "local_incidence_angle"), _FillValue=0.0).to_dataset()
    with pytest.raises(DimensionError, match=r"'local_incidence_angle'.*to_dataset\('band'\)"):
        choose_variables(mixed)
    separate = separate_bands(mixed)
    assert choose_variables(separate).names == ["vv", "vh"]
    assert separate.vv.attrs == {"long_name": "vv", "_FillValue": 0.0}
    bands = mixed.band_data
    advised = bands.assign_coords(band=list(bands.long_name)).to_dataset("band")
    assert choose_variables(advised).names == ["vv", "vh"]


def test_bands_stay_together_unless_some_of_them_are_named():
    bands = array("band_data", labels=("vv", "vh")).to_dataset()
    xr.testing.assert_identical(separate_bands(bands), bands)
    xr.testing.assert_identical(separate_bands(bands, ["band_data"]), bands)
    xr.testing.assert_identical(separate_bands(bands, ["thing"]), bands)
    assert choose_variables(separate_bands(bands, ["vh"]), ["vh"]).names == ["vh"]
    twice = array("band_data", labels=("vv", "vv", "angle")).to_dataset()
    xr.testing.assert_identical(separate_bands(twice), twice)


def test_latents_are_refused():
    latents = array("vv_latents", sarcomp="{}").to_dataset()
    for variables in (None, ["vv_latents"]):
        with pytest.raises(AlreadyLossyError, match="decode it"):
            choose_variables(latents, variables)
