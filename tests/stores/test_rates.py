"""Rates of whole stores: what was asked for lies in the bytes that are stored, masks and exactly kept values included."""

import numpy as np
import pytest
import xarray as xr

from xsarcomp.stores.report import store_report

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:this does not look like")]


def write(scene, path, *, is_transparent, **request):
    if is_transparent:
        scene.sarcomp.to_zarr(path, encoding=scene.sarcomp.encoding(**request), consolidated=False)
    else:
        scene.sarcomp.encode(**request).sarcomp.to_zarr(path, consolidated=False)
    return store_report(path)


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
