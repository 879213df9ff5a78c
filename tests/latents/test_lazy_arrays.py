"""Lazy arrays: any index gives what NumPy gives, reads the chunks that it touches and no others, in windows of bounded size."""

import itertools

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stored_scenes import latents, transparent
from xsarcomp.latents import lazy_arrays
from xsarcomp.latents.lazy_arrays import LazyArray, LazyValues, lazily
from xsarcomp.scenes.simulation import simulated_dataset

SHAPE, CHUNKS = (5, 37, 23), (2, 4, 4)
VALUES = np.arange(np.prod(SHAPE)).reshape(SHAPE)


class Noted(LazyArray):
    """Lazy array of known values that notes the windows that are read."""

    shape, chunks, dtype = SHAPE, CHUNKS, VALUES.dtype

    def __init__(self):
        self.windows = []

    def read(self, window):
        self.windows.append(window)
        return VALUES[tuple(slice(*span) for span in window)]


class NotedWithMargin(Noted):
    margin = 3


def indices(size):
    """Index of an axis: one position, a slice with any step, several positions in any order, a mask."""
    return (
        st.integers(-size, size - 1)
        | st.slices(size)
        | st.lists(st.integers(-size, size - 1), max_size=6).map(lambda chosen: np.array(chosen, np.intp))
        | st.lists(st.booleans(), min_size=size, max_size=size).map(np.array)
    )


def chunks_of(window):
    """Chunks that a window touches."""
    ranges = (range(start // chunk, -(-stop // chunk)) for (start, stop), chunk in zip(window, CHUNKS, strict=True))
    return set(itertools.product(*ranges))


def chunks_at(*positions):
    return {
        tuple(int(position) // chunk for position, chunk in zip(point, CHUNKS, strict=True))
        for point in zip(*map(np.ravel, positions), strict=True)
    }


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(lazy_arrays, "LARGEST_WINDOW", 8)
    monkeypatch.setattr(lazy_arrays, "WINDOW_VALUES", 128)


@given(index=st.tuples(*map(indices, SHAPE)), kind=st.sampled_from([Noted, NotedWithMargin]))
def test_any_index_gives_what_numpy_gives_and_reads_only_what_it_touches(index, kind):
    array = kind()
    found = xr.Variable(("time", "y", "x"), LazyValues(array))[index]
    assert array.windows == []
    np.testing.assert_array_equal(found.values, xr.Variable(("time", "y", "x"), VALUES)[index].values)
    positions = [np.atleast_1d(np.arange(size)[one]) for one, size in zip(index, SHAPE, strict=True)]
    read = set().union(*map(chunks_of, array.windows))
    assert read == chunks_at(*np.meshgrid(*positions, indexing="ij"))
    is_dense = all((np.diff(position) == 1).all() for position in positions)
    assert is_dense or all(stop - start <= 8 for window in array.windows for start, stop in window[1:])


@given(points=st.lists(st.tuples(*(st.integers(-size, size - 1) for size in SHAPE)), max_size=12))
def test_points_give_what_numpy_gives_and_read_only_what_they_touch(points):
    array = Noted()
    time, y, x = np.array(points, np.intp).reshape(-1, 3).T
    along = {name: xr.Variable("point", index) for name, index in (("time", time), ("y", y), ("x", x))}
    found = xr.Variable(("time", "y", "x"), LazyValues(array)).isel(along)
    np.testing.assert_array_equal(found.values, VALUES[time, y, x])
    read = [chunk for window in array.windows for chunk in chunks_of(window)]
    assert set(read) == chunks_at(time % 5, y % 37, x % 23)
    assert len(read) <= 2 * len(set(read))  # several planes in a chunk may be read one after the other


def test_a_series_at_points_reads_the_planes_of_a_chunk_together():
    array = Noted()
    y, x = xr.Variable("point", [1, 2, 30]), xr.Variable("point", [3, 2, 20])
    found = xr.Variable(("time", "y", "x"), LazyValues(array)).isel(y=y, x=x)
    np.testing.assert_array_equal(found.values, VALUES[:, [1, 2, 30], [3, 2, 20]])
    assert array.windows == [((0, 5), (1, 3), (2, 4)), ((0, 5), (30, 31), (20, 21))]


def test_far_positions_are_read_apart_and_near_ones_together():
    array = NotedWithMargin()
    _ = xr.Variable(("time", "y", "x"), LazyValues(array))[0, [0, 36], [0, 5]].values
    assert array.windows == [((0, 1), (0, 1), (0, 6)), ((0, 1), (36, 37), (0, 6))]


def test_a_function_of_windows_is_indexed_in_the_same_way():
    values = np.arange(200 * 90).reshape(200, 90)
    read = []

    def function(window):
        read.append(window)
        return values[tuple(slice(*span) for span in window)]

    found = xr.Variable(("y", "x"), lazily(function, values.shape, values.dtype)).transpose()[3, ::-199]
    np.testing.assert_array_equal(found.values, values.T[3, ::-199])
    assert sorted(read) == [((0, 1), (3, 4)), ((199, 200), (3, 4))]


# real stores


class CountingStore(zarr.storage.MemoryStore):
    """Store in memory that notes which chunks are read."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.read = []

    def with_read_only(self, read_only=False):
        other = super().with_read_only(read_only)
        other.read = self.read
        return other

    async def get(self, key, *arguments, **options):
        if "/c/" in key:
            self.read.append(key)
        return await super().get(key, *arguments, **options)


@pytest.fixture(scope="module")
def large():
    """One plane of 8 x 8 chunks of 64 pixels."""
    return simulated_dataset((512, 512), seed=4)[["vv"]]


INDEXERS = {
    "strided": {"y": slice(None, None, 511), "x": slice(None, None, -511)},
    "two points": {"y": xr.DataArray([0, 511], dims="point"), "x": xr.DataArray([0, 511], dims="point")},
}


@pytest.mark.parametrize(("kind", "count"), [("strided", 16), ("two points", 8)])
def test_only_the_latents_around_the_wanted_pixels_are_read(large, kind, count):
    store = CountingStore()
    latents(large, store)
    whole = xr.open_dataset(store, engine="sarcomp").vv.load()
    opened = xr.open_dataset(store, engine="sarcomp").vv
    store.read.clear()
    found = opened.isel(INDEXERS[kind]).load()
    read = [key for key in store.read if "vv_coding" not in key]  # two numbers in one chunk
    assert len(read) == len(set(read))
    # beside a corner lie 2 x 2 chunks of latents: those of its block, and those that the decoder reads around
    assert sum("vv_latents" in key for key in read) == count
    assert sum("vv_mask" in key for key in read) == count // 4
    xr.testing.assert_allclose(found, whole.isel(INDEXERS[kind]), rtol=1e-5)


@pytest.mark.parametrize(("kind", "count"), [("strided", 4), ("two points", 2)])
def test_a_transparent_store_reads_only_the_chunks_of_the_wanted_pixels(large, kind, count):
    store = CountingStore()
    transparent(large, store)
    opened = xr.open_dataset(store, engine="zarr", consolidated=False).vv
    store.read.clear()
    opened.isel(INDEXERS[kind]).load()
    assert len(store.read) == len(set(store.read)) == count
