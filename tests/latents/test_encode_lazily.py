"""Encoding and decoding on Dask: only requested blocks are computed; tasks are few, small and have stable names."""

import pickle

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from tests.support.speckle_arrays import array, speckle
from xsarcomp.latents import encode as encode_module
from xsarcomp.latents import windows
from xsarcomp.latents.layout import CHUNK_LATENTS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def large():
    """Scene of 2 x 3 chunks of latents."""
    return array(speckle((600, 1040), seed=4))


@pytest.fixture(scope="module")
def large_store(large, tmp_path_factory):
    path = tmp_path_factory.mktemp("latents") / "large.zarr"
    large.chunk(512).sarcomp.encode(bits_per_pixel=1).to_zarr(path, zarr_format=3, consolidated=False)
    return path


@pytest.fixture
def decoded_chunks(monkeypatch):
    """Chunks of latents that were decoded."""
    from xsarcomp.codec import chunk

    calls = []
    original = chunk.decode_latents
    monkeypatch.setattr(chunk, "decode_latents", lambda *arguments: calls.append(1) or original(*arguments))
    return calls


def test_any_part_of_a_lazy_result_is_that_part_of_the_whole(large_store):
    decoded = xr.open_zarr(large_store, consolidated=False).sarcomp.decode().vv
    whole = decoded.values
    for window in np.s_[:10, :10], np.s_[505:520, 500:530], np.s_[-1, -1], np.s_[::100, 7], np.s_[[3, 599], 1020:]:
        np.testing.assert_array_equal(decoded[window].values, whole[window])


def test_a_corner_decodes_the_chunks_of_the_corner(large_store, decoded_chunks):
    decoded = xr.open_zarr(large_store, consolidated=False).sarcomp.decode().vv
    assert decoded_chunks == []
    decoded[:10, :10].compute()
    assert len(decoded_chunks) == 4  # its own chunk, and three for what lies beyond its edges


def test_encoding_and_opening_compute_no_latents(large, large_store, decoded_chunks, monkeypatch):
    def never(*_arguments):
        raise AssertionError("latents were computed")

    monkeypatch.setattr(encode_module, "encode_window", never)
    monkeypatch.setattr(windows, "decode_window", never)
    encoded = large.chunk(300).sarcomp.encode(bits_per_pixel=1)
    encoded.sarcomp.decode()
    xr.open_zarr(large_store, consolidated=False).sarcomp.decode()
    assert decoded_chunks == []


@pytest.mark.parametrize("chunk", [100, 512, 1040])
def test_tasks_are_few_and_carry_no_model(large, chunk):
    lazy = large.copy(data=da.from_array(large.values, chunks=chunk))
    encoded = lazy.sarcomp.encode(bits_per_pixel=1)
    blocks = int(np.prod(lazy.data.numblocks))
    tasks = [key for key in dict(encoded.__dask_graph__()) if "sarcomp" in str(key)]
    assert len(tasks) <= 3 * blocks
    decoded = encoded.sarcomp.decode()
    more = [key for key in dict(decoded.__dask_graph__()) if "sarcomp-decode" in str(key)]
    assert len(more) <= blocks
    own = {key: task for key, task in dict(decoded.__dask_graph__()).items() if "sarcomp" in str(key)}
    assert len(pickle.dumps(own)) < 20_000 + 2_000 * len(own)


@pytest.mark.slow
def test_keys_are_the_same_every_time(large, large_store):
    names = [large.chunk(300).sarcomp.encode(bits_per_pixel=1).vv_latents.data.name for _ in range(2)]
    assert names[0] == names[1]
    assert names[0] != large.chunk(300).sarcomp.encode(bits_per_pixel=2).vv_latents.data.name
    stored = xr.open_zarr(large_store, consolidated=False)
    assert stored.sarcomp.decode().vv.data.name == stored.sarcomp.decode().vv.data.name


def test_blocks_of_latents_are_whole_chunks_of_the_store(large):
    encoded = large.chunk(100).sarcomp.encode(bits_per_pixel=1)
    for name, unit in (("vv_latents", CHUNK_LATENTS), ("vv_mask", 8 * CHUNK_LATENTS)):
        for sizes in encoded[name].chunks[-2:]:
            assert all(size % unit == 0 for size in sizes[:-1])
