"""Samples: all of a small variable, windows spread over a large one, the same ones every time."""

import numpy as np
import pytest
import xarray as xr

from xsarcomp.scenes.sampling import WINDOW_PIXELS, sample_windows, sampled_planes


def load(arrays):
    return [np.asarray(array) for array in arrays]


def numbered(*sizes, dims=None):
    """Values that say where they stand."""
    return xr.DataArray(
        np.arange(np.prod(sizes), dtype=np.int64).reshape(sizes), dims=dims or ("time", "y", "x")[-len(sizes) :]
    )


def test_a_small_variable_is_looked_at_as_a_whole_each_value_once():
    array = numbered(3, 5, 40, 30, dims=("time", "band", "y", "x"))
    pieces = sample_windows(array, ("y", "x"), load)
    np.testing.assert_array_equal(np.sort(np.concatenate([piece.ravel() for piece in pieces])), array.values.ravel())
    assert all(piece.shape[1:] == (40, 30) for piece in pieces)


def test_dimensions_may_come_in_any_order():
    array = numbered(30, 4, 40, dims=("x", "time", "y"))
    pieces = np.concatenate(sample_windows(array, ("y", "x"), load))
    np.testing.assert_array_equal(pieces, array.transpose("time", "y", "x").values)


@pytest.mark.parametrize("sizes", [(1200, 900), (5, 600, 700), (200, 300, 300), (3, 2000, 100), (2, 10, 200_000)])
def test_a_large_variable_gives_windows_within_the_limit(sizes):
    limit = 96 * WINDOW_PIXELS**2
    pieces = sample_windows(numbered(*sizes), ("y", "x"), load, limit)
    ((rows, columns),) = {piece.shape[1:] for piece in pieces}
    for edge, size in zip((rows, columns), sizes[-2:], strict=True):
        assert (size <= 1.5 * WINDOW_PIXELS and edge == size) or WINDOW_PIXELS / 1.5 <= edge <= 1.5 * WINDOW_PIXELS
    assert 0 < sum(piece.size for piece in pieces) <= 1.5 * limit + rows * columns
    for window in np.concatenate(pieces):
        # each is a window of the array: neighbors in it are neighbors in the array
        assert (np.diff(window, axis=1) == 1).all()
        assert (np.diff(window, axis=0) == sizes[-1]).all()


def test_windows_of_a_large_variable_do_not_all_lie_on_one_place():
    sizes = (6, 1000, 1000)
    windows = np.concatenate(sample_windows(numbered(*sizes), ("y", "x"), load, 6 * WINDOW_PIXELS**2))
    places = {int(window[0, 0]) % 1_000_000 for window in windows}
    planes = {int(window[0, 0]) // 1_000_000 for window in windows}
    assert len(planes) >= 4
    assert len(places) >= 4


@pytest.mark.slow
def test_each_pixel_of_a_large_variable_has_the_same_chance():
    """A border of other content must weigh in the sample as it does in the scene."""
    sizes = (40, 2048, 2048)
    seen = np.zeros((32, 32))
    for window in np.concatenate(sample_windows(numbered(*sizes), ("y", "x"), load, sizes[0] * 2**20)):
        row, column = divmod(int(window[0, 0]) % 2048**2, 2048)
        seen[row // 64, column // 64] += 1
    border = (seen.sum() - seen[1:-1, 1:-1].sum()) / seen.sum()
    assert border == pytest.approx(124 / 1024, abs=0.02)


def test_the_sample_is_the_same_every_time():
    first, second = (sample_windows(numbered(1100, 1300), ("y", "x"), load, 300_000) for _ in range(2))
    for left, right in zip(first, second, strict=True):
        np.testing.assert_array_equal(left, right)


def test_all_windows_are_loaded_at_once():
    calls = []

    def counting(arrays):
        calls.append(len(arrays))
        return load(arrays)

    sample_windows(numbered(4, 700, 700), ("y", "x"), counting, 400_000)
    assert len(calls) == 1


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (0, 5, 5)])
def test_an_empty_variable_has_no_sample(sizes):
    assert sample_windows(numbered(*sizes), ("y", "x"), load) == []


def test_many_small_planes_are_handed_on_in_few_stacks():
    pieces = sample_windows(numbered(500, 8, 8), ("y", "x"), load)
    assert len(pieces) <= 4


@pytest.mark.parametrize(
    ("sizes", "limit"), [((3, 40, 30), 10_000), ((7, 600, 700), 6 * WINDOW_PIXELS**2), ((0, 4, 4), 9)]
)
def test_each_window_is_told_its_plane(sizes, limit):
    array = numbered(*sizes)
    windows = [window for stack in sample_windows(array, ("y", "x"), load, limit) for window in stack]
    planes = sampled_planes(array, ("y", "x"), limit)
    assert [int(window[0, 0]) // (sizes[1] * sizes[2]) for window in windows] == planes
