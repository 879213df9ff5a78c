"""Areas of one number that nobody declared as nodata come back exactly, with one warning; what was declared is not overruled."""

import warnings

import numpy as np
import pytest
import xarray as xr

from xsarcomp.scenes.rasters import open_raster
from xsarcomp.scenes.sampling import sample_windows
from xsarcomp.scenes.simulation import simulate_scene


def backscatter(shape=(136, 152), seed=5, scale="decibel"):
    """Two polarizations without an invalid pixel."""
    power = simulate_scene(shape, seed=seed, nodata_border=False)
    values = 10 * np.log10(power) if scale == "decibel" else power
    return xr.Dataset({name: (("y", "x"), plane.copy()) for name, plane in zip(("vv", "vh"), values, strict=True)})


def scene(number=0.0, scale="decibel", **attributes):
    """The same with an area of one number, of which no attribute tells."""
    planes = backscatter(scale=scale)
    for plane in planes.values():
        plane[:, :40] = number
        plane.attrs.update(attributes)
    return planes


def decoded(data, kind, tmp_path, **request):
    if kind == "latents":
        return data.sarcomp.encode(bits_per_pixel=1, **request).sarcomp.decode()
    encoding = data.sarcomp.encoding(bits_per_pixel=1, **request)
    data.to_zarr(tmp_path / "plain", encoding=encoding, consolidated=False)
    return xr.open_zarr(tmp_path / "plain", consolidated=False)


def assert_filled(found, number):
    for plane in found[["vv", "vh"]].values():
        assert (plane[:, :40] == number).all()
        assert not (plane[:, 40:] == number).any()


@pytest.mark.parametrize("kind", ["latents", "transparent"])
@pytest.mark.parametrize(
    ("number", "scale"),
    [(0.0, "decibel"), (-99.0, "decibel"), (-9999.0, "decibel"), (-9999.0, "power"), (1.0, "power")],
)
def test_the_number_comes_back_exactly_with_one_warning_that_names_it(number, scale, kind, tmp_path):
    with pytest.warns(UserWarning, match="% of the sample of 'vv'") as caught:
        found = decoded(scene(number, scale), kind, tmp_path)
    assert len(caught) == 1
    for part in ("26.3 % of the sample of 'vh'", f"exactly {number:g}", "array.attrs['nodata'] = number"):
        assert part in str(caught[0].message)
    assert_filled(found, number)


def test_the_number_does_not_depend_on_chunks():
    whole = scene()
    with pytest.warns(UserWarning, match="exactly 0"):
        expected = whole.sarcomp.encode(bits_per_pixel=1)
    for chunks in (37, 64, 200):
        with pytest.warns(UserWarning, match="exactly 0"):
            encoded = whole.chunk(chunks).sarcomp.encode(bits_per_pixel=1)
        assert encoded.sarcomp.info() == expected.sarcomp.info()
        xr.testing.assert_identical(encoded[list(expected)].compute(), expected)


def test_a_declaration_is_followed_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_filled(scene(_FillValue=0.0).sarcomp.encode().sarcomp.decode(), 0.0)
        said = scene(nodata=np.nan).sarcomp.encode()
        assert {each["nodata"] for each in said.sarcomp.info().values()} == {None}
        for lazy in (scene(nodata=np.nan).chunk(64).sarcomp.encode(), scene(_FillValue=0.0).chunk(64).sarcomp.encode()):
            lazy.compute()


def test_a_second_number_beside_the_declared_one_is_said_to_be_lost():
    data = scene(_FillValue=-9999.0)
    with pytest.warns(UserWarning, match=r"exactly 0, and nodata is -9999.*compressed as backscatter and change"):
        data.sarcomp.encode()


def test_a_date_is_encoded_like_one_without_an_area_and_the_other_way_round():
    empty = backscatter(seed=6)
    with pytest.warns(UserWarning, match="exactly 0"):
        first = scene().sarcomp.encode()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_filled(scene().sarcomp.encode(like=first).sarcomp.decode(), 0.0)
        empty.sarcomp.encode(like=first)
    with pytest.warns(UserWarning, match="compressed as backscatter and change"):
        scene().sarcomp.encode(like=empty.sarcomp.encode())


@pytest.mark.slow
def test_an_area_that_the_sample_missed_is_warned_of_while_it_is_encoded():
    data = backscatter((2304, 2304), seed=7)[["vv"]]
    positions = xr.DataArray(np.arange(data.vv.size).reshape(data.vv.shape), dims=("y", "x"))
    sample = sample_windows(positions, ("y", "x"), lambda arrays: [np.asarray(array) for array in arrays])
    missed = np.isin(positions, np.concatenate([windows.ravel() for windows in sample]), invert=True)
    missed[512:] = missed[:, 512:] = False  # all between the windows of a corner
    data["vv"] = data.vv.where(~missed, 0.0)
    encoded = data.chunk(1024).sarcomp.encode()
    assert encoded.sarcomp.info()["vv"]["nodata"] is None
    with pytest.warns(UserWarning, match="areas of 'vv' are exactly 0, which is not known as nodata"):
        encoded.vv_mask.compute()
    with pytest.warns(UserWarning, match="areas of 'vv' are exactly 0"):
        data.sarcomp.encode()


@pytest.mark.data
def test_of_a_real_scene_whose_tag_was_lost_the_zeros_come_back(sar_data):
    tagged = open_raster(str(sar_data / "validation/grd_decibel/awc00.tif")).load()
    lost = tagged.copy()
    lost.band_data.attrs.pop("_FillValue")
    with pytest.warns(UserWarning, match=r"26.7 % of the sample of 'band_data' are exactly 0"):
        found = lost.sarcomp.encode(bits_per_pixel=1).sarcomp.decode()
    np.testing.assert_array_equal(found.band_data == 0, tagged.band_data == 0)


@pytest.mark.data
@pytest.mark.parametrize("name", ["test/grd_decibel/Hefei.tif", "train/pairs_sen12mscr/4294_s1.tif"])
def test_bright_targets_of_a_real_scene_that_were_clipped_to_zero_are_no_fill(sar_data, name):
    clipped = open_raster(str(sar_data / name)).load()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded = clipped.sarcomp.encode(bits_per_pixel=1)
    assert encoded.sarcomp.info()["band_data"]["nodata"] is None
