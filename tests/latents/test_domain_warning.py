"""One warning for input unlike the training data, with what is off; none for calibrated scenes, in any scale and type."""

import warnings

import numpy as np
import pytest
import rioxarray
import xarray as xr
from scipy.ndimage import uniform_filter

import xsarcomp
from xsarcomp.codec.installed_models import load_coder, load_domain
from xsarcomp.codec.rate_control import Sample
from xsarcomp.codec.settings import Settings
from xsarcomp.errors import DomainWarning
from xsarcomp.latents import domain_warning
from xsarcomp.radiometry.domain import COMMON_LOOKS, CORRELATION_X, LEVEL, LOOKS
from xsarcomp.scenes.simulation import simulate_speckle, simulated_dataset

MODEL = "s1-grd-10m-lapped"
FROM_DECIBEL = {
    "decibel": lambda decibel: decibel,
    "power": lambda decibel: 10 ** (decibel / 10),
    "amplitude": lambda decibel: 10 ** (decibel / 20),
}


@pytest.fixture(scope="module")
def card():
    return load_coder(MODEL).card


@pytest.fixture(scope="module")
def domain(card):
    return load_domain(load_coder(MODEL).model_id)


def told(request_warning):
    return [one for one in request_warning if issubclass(one.category, DomainWarning)]


def warned(dataset, **request):
    """Texts of the warnings of an encoding, made without a graph's computation."""
    lazy = dataset.chunk() if all(array.chunks is None for array in dataset.data_vars.values()) else dataset
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lazy.sarcomp.encode(model=MODEL, **request)
    assert all(one.filename == __file__ for one in told(caught))  # the line of the user's call
    return [str(one.message) for one in told(caught)]


def filtered(scene):
    return scene.copy(data={name: uniform_filter(scene[name].values, 3) for name in scene.data_vars})


@pytest.fixture(scope="module")
def plain():
    """vv and vh, float32 power, 256 x 300 pixels without gaps."""
    scene = simulated_dataset((256, 300), 5)[["vv", "vh"]]
    return scene.fillna(scene.median())


def test_a_scene_gives_no_warning_whatever_its_chunks(scene):
    assert warned(scene) == []
    assert warned(scene.chunk(y=100, x=130)) == []


def test_a_filtered_scene_gives_one_warning_for_all_variables(plain):
    (text,) = warned(filtered(plain))
    assert "'s1-grd-10m-lapped'" in text
    assert "equivalent number of looks" in text
    assert "in 'vv'" in text
    assert "in 'vh'" in text
    assert "expected 4.18 to 13.8" in text
    assert "\n" not in text


def test_the_transparent_encoding_warns_as_well(plain):
    with pytest.warns(DomainWarning, match="equivalent number of looks"):
        filtered(plain).sarcomp.encoding(model=MODEL)


def test_the_warning_is_public_and_a_user_warning():
    assert xsarcomp.DomainWarning is DomainWarning
    assert issubclass(DomainWarning, UserWarning)


@pytest.mark.parametrize(
    ("values", "scale", "told"),
    [
        (lambda power: np.sqrt(power), "power", "equivalent number of looks"),
        (lambda power: power, "amplitude", "equivalent number of looks"),
        (lambda power: 1e4 * power, "power", "median level in dB"),
        (lambda power: power.round(2) + 0.01, "power", "distinct values"),
        (lambda power: power[::3, ::3].repeat(3, 0).repeat(3, 1)[:256, :300], "power", "distinct values"),
    ],
    ids=["amplitude as power", "power as amplitude", "digital numbers", "quantized", "enlarged"],
)
def test_wrong_scale_unit_and_quantisation_are_told(plain, values, scale, told):
    changed = plain.copy(data={name: values(plain[name].values) for name in plain.data_vars}).drop_attrs()
    (text,) = warned(changed, scale=scale)
    assert told in text
    assert f"Taken as scale {scale}" in text


def test_an_average_of_dates_is_told_and_each_date_is_not():
    rng = np.random.default_rng(3)
    dates = np.stack([0.1 * simulate_speckle((240, 240), rng=rng, looks=4.4) for _ in range(5)])
    stack = xr.DataArray(dates.astype(np.float32), dims=("time", "y", "x"), name="vv").to_dataset()
    assert warned(stack) == []
    (text,) = warned(stack.mean("time"))
    assert "averaged over dates" in text


def test_tiny_arrays_and_arrays_without_speckle_give_no_warning(plain):
    assert warned(filtered(plain).isel(y=slice(0, 120), x=slice(0, 120))) == []
    assert warned(xr.full_like(plain, 0.1)) == []
    assert warned(xr.full_like(plain, np.nan), scale="power") == []


def test_a_model_that_says_nothing_of_its_domain_checks_the_range_of_values_alone(plain, monkeypatch):
    monkeypatch.setattr("xsarcomp.latents.plan.load_domain", lambda model_id: None)
    assert warned(filtered(plain)) == []
    (text,) = warned(plain * 1e5, scale="power")
    assert "lie outside" in text
    assert "median" not in text


def compared(values, scale, card, domain, nodata=None, polarizations=("vv", "vh")):
    samples = [Sample(backscatter=values[:1], settings=Settings(step_db=3.0, scale=scale, nodata=nodata))]
    samples += (
        [Sample(backscatter=values[1:], settings=Settings(step_db=3.0, scale=scale, nodata=nodata))]
        if len(values) > 1
        else []
    )
    return domain_warning.compare_with_training("s1", samples, range(len(values)), polarizations, card, domain)


def off(comparison):
    return {one.statistic for one in comparison.deviations}


def test_windows_of_a_plane_are_judged_together_whatever_stack_they_came_in(plain, card, domain):
    values = np.stack([plain.vv.values, filtered(plain).vv.values])
    assert off(compared(values, "power", card, domain, polarizations=("vv", "vv"))) == {LOOKS}
    pieces = values[:1].reshape(1, 4, 64, 300)[0]
    sample = [Sample(backscatter=pieces, settings=Settings(step_db=3.0, scale="power", nodata=None))]
    together = domain_warning.compare_with_training("vv", sample, [0] * 4, ["vv"], card, domain)
    assert off(together) == set()
    assert together.outside_share == 0


def chips(folder, *splits):
    for split in splits:
        for path in sorted((folder / split / "grd_decibel").glob("*.tif")):
            if not path.stem.endswith("_water"):
                yield path


@pytest.mark.data
@pytest.mark.parametrize("scale", FROM_DECIBEL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_calibrated_chip_is_called_unlike(sar_data, card, domain, scale, dtype):
    for path in chips(sar_data, "train", "validation"):
        raster = rioxarray.open_rasterio(path)
        decibel = raster.values.astype(np.float64)
        decibel[decibel == (np.nan if raster.rio.nodata is None else raster.rio.nodata)] = np.nan
        found = compared(FROM_DECIBEL[scale](decibel).astype(dtype), scale, card, domain)
        assert found.deviations == (), path.name
        assert found.outside_share <= domain_warning.REPORTED_SHARE, path.name


@pytest.mark.data
def test_other_chips_that_models_are_trained_on_are_not_unlike(sar_data, card, domain):
    for pattern in ("pairs_sen12mscr", "pairs_terramesh"):
        for path in sorted(sar_data.glob(f"*/{pattern}/*_s1.tif")):
            found = compared(rioxarray.open_rasterio(path).values, "decibel", card, domain)
            assert found.deviations == (), path.name
    for split in ("train", "validation"):
        with xr.open_dataset(sar_data / split / "patches/bigearthnet.nc") as patches:
            values = patches.backscatter.transpose("patch", "polarization", "y", "x").values
            names = patches.polarization.values.tolist() * len(values)
        values = values.reshape(-1, *values.shape[-2:])
        assert (
            compared(values, "decibel", card, domain, polarizations=[name.lower() for name in names]).deviations == ()
        )


@pytest.mark.data
def test_composites_of_a_month_are_recognized(sar_data, card, domain):
    for path in sorted((sar_data / "outofdomain/monthly_composites").glob("*.tif")):
        found = compared(rioxarray.open_rasterio(path).values, "decibel", card, domain, -9999.0, ("vv", "vh") * 2)
        assert off(found) & {LOOKS, COMMON_LOOKS}, path.name


@pytest.mark.data
def test_products_of_30_m_are_told_by_their_correlation(sar_data, card, domain):
    for path in sorted((sar_data / "validation/rtc_stacks").glob("*.nc")):
        with xr.open_dataset(path) as burst:
            assert CORRELATION_X in off(compared(burst.vv.values, "power", card, domain, polarizations=["vv"] * 31))


@pytest.mark.data
def test_scenes_of_unknown_gain_are_told_by_their_level(sar_data, card, domain):
    for path in sorted((sar_data / "validation/grd_intensity_uncalibrated").glob("*.tif")):
        assert LEVEL in off(compared(rioxarray.open_rasterio(path).values, "power", card, domain))


@pytest.mark.data
def test_a_composite_is_told_when_it_is_encoded(sar_data):
    from xsarcomp.stores import files

    scene = files.open_scene(str(sar_data / "outofdomain/monthly_composites/000aa810_S1_01.tif"))
    (text,) = warned(scene)
    assert "averaged over dates" in text
