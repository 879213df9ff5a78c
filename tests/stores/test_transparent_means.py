"""Kept means of transparent stores: in every chunk of both Zarr formats, in shards, and as far as integers can hold them."""

import numpy as np
import pytest
import xarray as xr

from tests.support.format_frames import frame_from_the_format
from tests.support.leveled import LEVELED, tile_errors_db
from xsarcomp.codec.mean_levels import LEVEL_STEP_DB
from xsarcomp.codec.tile_means import GUARANTEED_DB
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.verification import verify_store

pytestmark = pytest.mark.slow

HALF_STEP_DB = LEVEL_STEP_DB / 2 + 2e-4
CHUNK = (64, 128)
LAYOUTS = {"format 3": {}, "sharded": {"shards": (128, 256)}, "format 2": {"zarr_format": 2}}


@pytest.fixture(scope="module")
def scene():
    """One polarization with a border without data and ships far brighter than the sea."""
    data = simulated_dataset((150, 270), seed=8)[["vv"]]
    data.vv[90:93, 120:124] = 900.0
    return data


def written(scene, path, zarr_format=3, shards=None, **request):
    encoding = scene.sarcomp.encoding(**({"bits_per_pixel": 0.4} | request), zarr_format=zarr_format)
    encoding["vv"] |= {"chunks": CHUNK, **({"shards": shards} if shards else {})}
    scene.to_zarr(path, encoding=encoding, zarr_format=zarr_format, consolidated=False)
    return xr.open_zarr(path, consolidated=False)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_tile_of_every_chunk_keeps_its_mean_by_default(scene, layout, tmp_path):
    found = written(scene, tmp_path / "a", **layout)
    assert found.sarcomp.info()["vv"]["keep_means"] is True
    valid = np.isfinite(scene.vv.values)
    assert np.abs(tile_errors_db(found.vv.values, scene.vv.values, "power", valid)).max() <= HALF_STEP_DB
    np.testing.assert_array_equal(np.isfinite(found.vv.values), valid)
    assert verify_store(tmp_path / "a").ok


def test_without_means_frames_have_no_levels_and_means_are_off(scene, tmp_path):
    found = written(scene, tmp_path / "a", keep_means=False)
    written(scene, tmp_path / "b")
    flags = [frame_from_the_format((tmp_path / name / "vv/c/0/0").read_bytes()).flags & LEVELED for name in "ab"]
    assert flags == [0, LEVELED]
    valid = np.isfinite(scene.vv.values)
    assert np.abs(tile_errors_db(found.vv.values, scene.vv.values, "power", valid)).max() > 5 * HALF_STEP_DB


def test_a_bound_alone_keeps_no_means_and_with_them_by_corrections(scene, tmp_path):
    written(scene, tmp_path / "a", bits_per_pixel=None, max_error_db=2.0)
    found = written(scene, tmp_path / "b", bits_per_pixel=None, max_error_db=2.0, keep_means=True)
    for name in "ab":
        frame = frame_from_the_format((tmp_path / name / "vv/c/0/0").read_bytes())
        assert frame.corrections
        assert not frame.levels
    valid = np.isfinite(scene.vv.values)
    assert np.abs(tile_errors_db(found.vv.values, scene.vv.values, "power", valid)).max() <= GUARANTEED_DB


@pytest.mark.parametrize("zarr_format", [3, 2])
@pytest.mark.parametrize(
    ("dtype", "scale", "factor", "most_db"),
    # rounding adds 1/12 to the mean square of small integers, and pixels of 0 are invalid
    [("i2", "amplitude", 1000, HALF_STEP_DB), ("u1", "amplitude", 60, GUARANTEED_DB), ("u1", "amplitude", 8, 0.2),
     ("i2", "decibel", 1, 0.05), ("f2", "power", 1, GUARANTEED_DB)],
)  # fmt: skip
def test_means_of_integers_are_kept_up_to_rounding(zarr_format, dtype, scale, factor, most_db, tmp_path):
    power = simulated_dataset((200, 200), seed=4).vv[36:164, 36:164].clip(max=4.0)
    values = factor * {"amplitude": np.sqrt, "decibel": lambda one: 10 * np.log10(one), "power": lambda one: one}[
        scale
    ](power)
    values = (values if dtype == "f2" else np.rint(values)).astype(dtype).to_dataset(name="vv")
    found = written(values, tmp_path / "a", zarr_format, scale=scale)
    valid = np.isfinite(values.vv.values) & (scale == "decibel" or values.vv.values > 0)
    errors = np.abs(tile_errors_db(found.vv.values, values.vv.values, scale, valid))
    assert errors.max() <= most_db
    assert found.vv.dtype == np.dtype(dtype)
