"""Chunks leave no trace: latents are the same bits for every chunking, pixels the same values, both stores agree."""

import numpy as np
import pytest
import xarray as xr

from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.lapped import BLOCK

pytestmark = pytest.mark.slow

IRREGULAR = {"y": (1, 7, 150, 2, 140), "x": (99, 1, 1, 259)}
CHUNKS = {
    "64": 64,
    "100": 100,
    "256": 256,
    "512": 512,
    "columns": {"x": 5, "y": -1},
    "irregular": IRREGULAR,
    "whole": -1,
}


def assert_same_latents(found, expected):
    """The same integers; a lazy dataset may have exact values that all turn out to be unused."""
    assert set(expected.data_vars) <= set(found.data_vars)
    for name in found.data_vars:
        if name in expected:
            np.testing.assert_array_equal(found[name].values, expected[name].values, err_msg=str(name))
        else:
            assert str(name).endswith("_exact")
            assert not found[name].values.any()


def assert_same_pixels(found, expected):
    """The same up to rounding: matrix products of other shapes sum float32 in another order, 5e-7 of the value."""
    xr.testing.assert_allclose(found.compute(), expected, rtol=1e-5, atol=0)


@pytest.fixture(scope="module")
def encoded(scene):
    return scene.sarcomp.encode(bits_per_pixel=1)


@pytest.fixture(scope="module")
def decoded(encoded):
    return encoded.sarcomp.decode()


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
def test_chunks_of_any_size_give_the_latents_of_the_whole_array(scene, encoded, decoded, chunks):
    lazy = scene.chunk(chunks).sarcomp.encode(bits_per_pixel=1)
    assert_same_latents(lazy, encoded)
    assert_same_pixels(lazy.sarcomp.decode(), decoded)


def test_one_pixel_chunks_give_the_latents_of_the_whole_array(scene):
    small = scene.isel(y=slice(200, 220), x=slice(150, 175))
    whole, lazy = small.sarcomp.encode(bits_per_pixel=4), small.chunk(1).sarcomp.encode(bits_per_pixel=4)
    assert_same_latents(lazy, whole)
    assert_same_pixels(lazy.sarcomp.decode(), whole.sarcomp.decode())


@pytest.fixture(scope="module")
def wide():
    """Several blocks of latents along both axes, with gaps that cross their borders; values of two times."""
    values = np.random.default_rng(1).gamma(4.4, 0.1 / 4.4, (2, 540, 530)).astype(np.float32)
    values[0, 490:540, 500:520] = np.nan
    values[1, :, :3] = 0
    values[1, 511, 511] = -1
    return xr.DataArray(values, dims=("time", "y", "x"), name="vv")


@pytest.mark.parametrize("chunks", [{"time": 1, "y": 300, "x": 512}, {"y": (511, 29), "x": 497}], ids=str)
def test_several_blocks_give_the_latents_of_one(wide, chunks):
    whole = wide.sarcomp.encode(bits_per_pixel=1)
    lazy = wide.chunk(chunks).sarcomp.encode(bits_per_pixel=1)
    assert len(lazy.vv_latents.chunks[-2]) > 1
    assert len(lazy.vv_latents.chunks[-1]) > 1
    assert_same_latents(lazy, whole)
    assert_same_pixels(lazy.sarcomp.decode(), whole.sarcomp.decode())


@pytest.mark.parametrize("sizes", [{"y_latent": 20, "x_latent": 33}, {"y_latent": (1, 2, 65), "x_latent": -1}], ids=str)
def test_latents_in_any_chunks_decode_to_the_same_pixels(wide, sizes):
    encoded = wide.isel(time=[0]).sarcomp.encode(bits_per_pixel=1)
    assert_same_pixels(encoded.chunk(sizes).sarcomp.decode(), encoded.sarcomp.decode())


@pytest.mark.parametrize("chunks", [{"x": 100, "y": 100}, {"band": 1, "x": 512, "y": 37}], ids=str)
def test_chunks_leave_no_trace_in_a_real_scene(sar_data, chunks):
    import rioxarray

    original = rioxarray.open_rasterio(sar_data / "validation/grd_decibel/Bolivia_312675.tif", masked=True)
    whole, lazy = (array.sarcomp.encode(bits_per_pixel=1) for array in (original, original.chunk(chunks)))
    assert_same_latents(lazy, whole)
    assert_same_pixels(lazy.sarcomp.decode(), whole.sarcomp.decode())


def transparent(array, record, chunks, path):
    """What a transparent store of the array gives back, coded with the step of a latents store."""
    configuration = {"model": record["model_id"], "step_db": record["step_db"], "scale": "power", "nodata": None}
    configuration |= {"keep_means": True} if record.get("keep_means") else {}
    codec = {"name": "xsarcomp.backscatter", "configuration": configuration}
    encoding = {"vv": {"serializer": codec, "compressors": None, "chunks": chunks}}
    array.to_dataset().to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)
    return xr.open_zarr(path, consolidated=False).vv.load()


def test_one_chunk_in_a_transparent_store_is_exactly_the_latents_store(scene, encoded, decoded, tmp_path):
    found = transparent(scene.vv, encoded.sarcomp.info()["vv"], scene.vv.shape, tmp_path / "a.zarr")
    np.testing.assert_array_equal(found.values, decoded.vv.values)


def test_inside_its_chunks_a_transparent_store_is_the_latents_store(tmp_path):
    edge = 256
    values = np.random.default_rng(2).gamma(4.4, 0.1 / 4.4, (2 * edge, 2 * edge)).astype(np.float32)
    original = xr.DataArray(values, dims=("y", "x"), name="vv")
    encoded = original.sarcomp.encode(bits_per_pixel=1, keep_means=False)  # a tile has one mean, at borders and inside
    record = encoded.sarcomp.info()["vv"]
    found = transparent(original, record, (edge, edge), tmp_path / "a.zarr")
    difference = np.abs(10 * np.log10(found.values / encoded.sarcomp.decode().vv.values))
    # a symbol sees the mirror image beyond the chunk within the signal reach of the coder, a pixel the symbols within the model's reach
    margin = load_coder(record["model_id"]).signal_reach + BLOCK * (load_coder(record["model_id"]).latent_reach + 1)
    from_border = np.minimum(np.arange(2 * edge) % edge, edge - 1 - np.arange(2 * edge) % edge)
    outer = np.minimum(np.arange(2 * edge), 2 * edge - 1 - np.arange(2 * edge)) == from_border
    far = (from_border >= margin) | outer
    inside = far[:, None] & far[None, :]
    assert inside.mean() > 0.3
    # the symbols there are the same; float32 rounds differently in tiles of other shapes, a network's more than this one
    assert difference[inside].max() < 1e-3
    # at the borders chunks differ, but by less than what quantization itself does
    assert 0 < difference[~inside].max() < 8
