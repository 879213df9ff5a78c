"""Keys of planes: known by what a plane is, not by where it stands in a selection."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.speckle_keys import _coordinate_texts, speckle_keys
from xsarcomp.scenes.simulation import simulate_scene, simulate_speckle


@pytest.fixture(scope="module")
def encoded():
    """Three dates in two frames; the frames have no coordinate."""
    planes = np.stack([simulate_scene((40, 48), seed=seed)[0] for seed in range(6)]).reshape(3, 2, 40, 48)
    times = np.array(["2024-01-01", "2024-01-13", "2024-01-25"], "datetime64[ns]")
    array = xr.DataArray(planes, dims=("time", "frame", "y", "x"), coords={"time": times}, name="vv")
    return array.to_dataset().sarcomp.encode(bits_per_pixel=0.3, scale="power")


@pytest.fixture(scope="module")
def whole(encoded):
    return encoded.sarcomp.decode(restore="speckle").vv


@pytest.mark.parametrize(
    "select",
    [
        lambda data: data.isel(time=1),
        lambda data: data.isel(time=[2, 0]),
        lambda data: data.transpose("frame", "time", ...),
        lambda data: data.isel(time=2).transpose("frame", ...),
    ],
    ids=["one date", "dates in another order", "transposed", "one date, transposed"],
)
def test_a_plane_has_the_same_noise_before_and_after_a_selection(encoded, whole, select):
    before = select(encoded).sarcomp.decode(restore="speckle").vv
    xr.testing.assert_allclose(before.transpose(*select(whole).dims), select(whole), rtol=1e-4)


def test_lazy_stacks_get_the_same_speckle_as_those_in_memory(encoded, whole):
    lazy = encoded.chunk({"time": 1, "frame": 1, "y_latent": 3}).sarcomp.decode(restore="speckle").vv
    xr.testing.assert_allclose(lazy.compute(), whole, rtol=1e-4)


def test_each_plane_has_noise_of_its_own(encoded, whole):
    plain = encoded.sarcomp.decode().vv
    noise = np.log(whole.values / plain.values).reshape(6, -1)
    noise = noise[:, np.isfinite(noise).all(axis=0)]
    correlation = np.corrcoef(noise) - np.eye(6)
    assert np.abs(correlation).max() < 0.25  # 1500 pixels that know their neighbors


def test_equal_coordinates_of_other_types_have_one_name():
    numbers = [_coordinate_texts(np.array([1, 2], dtype), "band") for dtype in ("i2", "i8", "f4", "f8")]
    assert all(keys == numbers[0] for keys in numbers)
    times = [
        _coordinate_texts(np.array(["2024-01-01T05:30"], f"datetime64[{unit}]"), "time") for unit in ("m", "s", "ns")
    ]
    assert all(keys == times[0] for keys in times)
    assert _coordinate_texts(np.array(["vv", "vh"]), "polarization") == _coordinate_texts(
        np.array(["vv", "vh"], object), "polarization"
    )
    assert len({*numbers[0], *_coordinate_texts(np.array([1, 2]), "frame")}) == 4


def test_coordinates_that_come_twice_do_not_make_the_same_noise_twice(encoded):
    twice = encoded.assign_coords(time=[7, 7, 8])
    noise = np.log(twice.sarcomp.decode(restore="speckle").vv / twice.sarcomp.decode().vv).values[:, 0].reshape(3, -1)
    noise = noise[:, np.isfinite(noise).all(axis=0)]
    assert np.abs(np.corrcoef(noise) - np.eye(3)).max() < 0.25


def scales(data):
    """Factor of each plane, in the order of the dimensions."""
    metadata = LatentsMetadata.from_attribute(data.vv_latents.attrs["sarcomp"])
    selected = replace(metadata, dims=tuple(name for name in metadata.dims if name in data.sizes))
    keys = speckle_keys(data, metadata, selected, "speckle")
    return keys.for_window(tuple((0, data.sizes[name]) for name in selected.leading)).scales


@pytest.fixture(scope="module")
def two_polarizations():
    """Two dates of VV with usual speckle, and of VH with that of six looks more."""
    generator = np.random.default_rng(2)
    planes = np.stack(
        [[simulate_speckle((112, 120), rng=generator, looks=looks) for looks in (4.4, 26.0)] for _ in range(2)]
    )
    return xr.DataArray(
        0.05 * planes,
        dims=("time", "polarization", "y", "x"),
        coords={"time": [1, 2], "polarization": ["VV", "VH"]},
        name="vv",
    ).to_dataset()


def test_polarizations_in_one_variable_have_scales_of_their_own_and_dates_share_them(two_polarizations):
    encoded = two_polarizations.sarcomp.encode(bits_per_pixel=0.25, scale="power", model="s1-grd-10m-lapped")
    noted = encoded.vv_latents.attrs["sarcomp"]["speckle_scales"]["mapping"]
    assert list(noted) == ["", "polarization=VV", "polarization=VH"]
    of_planes = scales(encoded).reshape(2, 2)
    np.testing.assert_array_equal(of_planes[0], of_planes[1])
    assert of_planes[0, 0] == pytest.approx(noted[""] * noted["polarization=VV"], rel=1e-6)
    assert abs(np.log(of_planes[0, 0] / of_planes[0, 1])) > 0.02
    np.testing.assert_allclose(scales(encoded.isel(polarization=1)), of_planes[:, 1], rtol=1e-6)
    np.testing.assert_allclose(scales(encoded.isel(time=[1])), of_planes[1], rtol=1e-6)
    renamed = encoded.assign_coords(polarization=["HH", "HV"])
    np.testing.assert_allclose(scales(renamed), noted[""], rtol=1e-6)


def test_a_variable_with_an_error_bound_has_no_scale(two_polarizations):
    encoded = two_polarizations.isel(time=0).sarcomp.encode(max_error_db=2, scale="power", model="s1-grd-10m-lapped")
    assert "speckle_scales" not in encoded.vv_latents.attrs["sarcomp"]


def test_stores_without_scales_keep_the_noise_of_the_law(two_polarizations):
    encoded = two_polarizations.sarcomp.encode(bits_per_pixel=0.25, scale="power", model="s1-grd-10m-lapped")
    attribute = encoded.vv_latents.attrs["sarcomp"]
    earlier = encoded.copy()
    earlier["vv_latents"].attrs = {"sarcomp": {key: attribute[key] for key in attribute if key != "speckle_scales"}}
    np.testing.assert_array_equal(scales(earlier), 1)
