"""Keys of planes: known by what a plane is, not by where it stands in a selection."""

import numpy as np
import pytest
import xarray as xr

from xsarcomp.latents.speckle_keys import _coordinate_keys
from xsarcomp.scenes.simulation import simulate_scene


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


def test_equal_coordinates_of_other_types_have_one_key():
    numbers = [_coordinate_keys(np.array([1, 2], dtype), "band") for dtype in ("i2", "i8", "f4", "f8")]
    assert all(keys == numbers[0] for keys in numbers)
    times = [
        _coordinate_keys(np.array(["2024-01-01T05:30"], f"datetime64[{unit}]"), "time") for unit in ("m", "s", "ns")
    ]
    assert all(keys == times[0] for keys in times)
    assert _coordinate_keys(np.array(["vv", "vh"]), "polarization") == _coordinate_keys(
        np.array(["vv", "vh"], object), "polarization"
    )
    assert len({*numbers[0], *_coordinate_keys(np.array([1, 2]), "frame")}) == 4


def test_coordinates_that_come_twice_do_not_make_the_same_noise_twice(encoded):
    twice = encoded.assign_coords(time=[7, 7, 8])
    noise = np.log(twice.sarcomp.decode(restore="speckle").vv / twice.sarcomp.decode().vv).values[:, 0].reshape(3, -1)
    noise = noise[:, np.isfinite(noise).all(axis=0)]
    assert np.abs(np.corrcoef(noise) - np.eye(3)).max() < 0.25
