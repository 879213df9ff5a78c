"""Rates of whole stores: what was asked for lies in the bytes that are stored, masks and exactly kept values included."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
import zarr

from xsarcomp.stores.report import store_report, warn_if_missed

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:this does not look like")]


def write(scene, path, *, is_transparent, measure=True, **request):
    if is_transparent:
        scene.sarcomp.to_zarr(path, encoding=scene.sarcomp.encoding(**request), consolidated=False)
    else:
        scene.sarcomp.encode(**request).sarcomp.to_zarr(path, consolidated=False)
    return store_report(path) if measure else None


KINDS = pytest.mark.parametrize("is_transparent", [False, True], ids=["latents", "transparent"])


def power(shape=(512, 512)):
    return np.random.default_rng(0).gamma(4.4, 0.02 / 4.4, shape).astype(np.float32)


@KINDS
@pytest.mark.parametrize("share", [0.01, 0.25])
def test_a_speckled_mask_is_part_of_the_rate(tmp_path, is_transparent, share):
    values = power()
    values[np.random.default_rng(1).random(values.shape) < share] = np.nan
    scene = xr.Dataset({"vv": (("y", "x"), values)})
    report = write(scene, tmp_path / "a.zarr", is_transparent=is_transparent, bits_per_pixel=2)
    assert report.bits_per_pixel == pytest.approx(2, rel=0.05)


@KINDS
@pytest.mark.filterwarnings("ignore:10% of the values of 'vv' are negative:UserWarning")
def test_negative_power_is_part_of_the_rate(tmp_path, is_transparent):
    values = power()
    scene = xr.Dataset({"vv": (("y", "x"), values - np.quantile(values, 0.1).astype(np.float32))})
    report = write(scene, tmp_path / "a.zarr", is_transparent=is_transparent, scale="power", bits_per_pixel=7)
    assert report.bits_per_pixel == pytest.approx(7, rel=0.06)


@pytest.mark.parametrize("seed", [0, 2])
def test_a_large_scene_of_textures_in_patches_takes_the_bits_that_were_asked_for(tmp_path, seed):
    """Calm water with islands that hold most of the bits: a sample that misses some of them misses the rate."""
    random = np.random.default_rng(seed)
    values = np.kron(random.gamma(40, 0.01 / 40, (1040, 1040)), np.ones((2, 2))).astype(np.float32)
    for y, x, height, width in random.integers([0, 0, 60, 60], [1900, 1900, 400, 400], (16, 4)):
        island = values[y : y + height, x : x + width]
        island[:] = 0.2 * np.exp(1.5 * random.normal(size=island.shape))
    scene = xr.Dataset({"vv": (("y", "x"), values)})
    report = write(scene, tmp_path / "a.zarr", is_transparent=True, bits_per_pixel=1)
    assert 0.95 < report.bits_per_pixel < 1.02, report.bits_per_pixel


def test_bytes_that_were_asked_for_stand_beside_those_that_are_stored(tmp_path):
    scene = xr.Dataset({"vv": (("y", "x"), power((256, 256)))})
    report = write(scene, tmp_path / "a.zarr", is_transparent=False, bits_per_pixel=2)
    assert (report.target, report.asked_bytes, report.got_bytes) == (
        "bits_per_pixel=2",
        256 * 256 // 4,
        report.payload_bytes,
    )
    whole = write(scene, tmp_path / "b.zarr", is_transparent=False, preset="8x")
    assert (whole.asked_bytes, whole.got_bytes) == (pytest.approx(256 * 256 // 2, rel=0.01), whole.stored_bytes)
    assert write(scene, tmp_path / "c.zarr", is_transparent=False, rmse_db=1).asked_bytes is None
    encoding = scene.sarcomp.encoding(bits_per_pixel=3, max_error_db=3.0, keep_means=True)
    assert encoding.target == "bits_per_pixel=3, max_error_db=3.0, keep_means=True"


@pytest.mark.parametrize(("share", "is_named"), [(1.03, True), (1.01, False), (0.96, False), (0.94, True)])
def test_a_large_store_that_misses_the_bytes_is_warned_of(tmp_path, recwarn, share, is_named):
    scene = xr.Dataset({"vv": (("y", "x"), power((64, 64)))})
    report = write(scene, tmp_path / "a.zarr", is_transparent=False, bits_per_pixel=2)
    recwarn.clear()
    warn_if_missed(replace(report, got_bytes=round(share * report.asked_bytes)))
    assert not recwarn.list  # headers are half of a small store
    warn_if_missed(replace(report, pixels=2**22, got_bytes=round(share * report.asked_bytes)))
    assert [str(report.asked_bytes) in str(warning.message) for warning in recwarn.list] == [True] * is_named


class Sizing(zarr.storage.LocalStore):
    """A store that counts how often it is asked for the size of an object."""

    asked = 0

    async def getsize(self, key):
        Sizing.asked += 1
        return await super().getsize(key)


@KINDS
@pytest.mark.parametrize(
    ("request_", "is_asked"), [({"bits_per_pixel": 2}, False), ({"rmse_db": 1}, False), ({"preset": "8x"}, True)]
)
def test_the_writer_knows_the_bytes_without_asking_the_store(tmp_path, monkeypatch, is_transparent, request_, is_asked):
    scene = xr.Dataset({"vv": (("y", "x"), power((64, 64)))})
    monkeypatch.setattr("xsarcomp.stores.report.LARGE_SCENE", 1)
    monkeypatch.setattr("xsarcomp.stores.report.ABOVE", -2)  # any number of bytes is warned of
    Sizing.asked, store = 0, Sizing(tmp_path / "a.zarr")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write(scene, store, is_transparent=is_transparent, **request_, measure=False)
    assert (Sizing.asked > 0) == is_asked
    found = [str(warning.message) for warning in caught if "was asked for" in str(warning.message)]
    report = store_report(tmp_path / "a.zarr")
    if "rmse_db" in request_:
        assert not found
    else:
        got = report.stored_bytes if is_asked else report.payload_bytes
        assert [f"and the store has {got}," in text for text in found] == [True]
