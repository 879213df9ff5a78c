"""Statistics of flat windows against speckle of known looks, sampling and quantization."""

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from xsarcomp.radiometry.speckle_statistics import (
    COMMON_LOOKS,
    CORRELATION_X,
    CORRELATION_Y,
    DISTINCT,
    LEVEL,
    LOOKS,
    MIN_WINDOWS,
    STATISTICS,
    cut_windows,
    flat_window_statistics,
    plane_statistics,
)
from xsarcomp.scenes.simulation import simulate_speckle

SHAPE = (264, 252)


def speckle_db(looks=4.4, seed=0, level_db=-10.0, shape=SHAPE):
    """Flat land with the correlated speckle of IW GRD, in dB."""
    power = simulate_speckle(shape, rng=np.random.default_rng(seed), looks=looks)
    return level_db + 10 * np.log10(power)


def statistics(plane_db, valid=None):
    valid = np.ones(plane_db.shape, bool) if valid is None else valid
    return flat_window_statistics(cut_windows(plane_db[None], valid[None]))


def decibel_of_mean(planes_db):
    return 10 * np.log10(np.mean([10 ** (plane / 10) for plane in planes_db], axis=0))


@pytest.mark.parametrize("looks", [2, 5, 9, 30])
def test_looks_of_uncorrelated_speckle_are_those_of_its_gamma_distribution(looks):
    power = np.random.default_rng(1).gamma(looks, 1 / looks, (600, 600))
    found = statistics(10 * np.log10(power) - 10)
    assert looks < found[LOOKS] < 1.35 * looks  # the tenth that varies least varies less than all of it
    assert abs(found[CORRELATION_Y]) < 0.1
    assert abs(found[CORRELATION_X]) < 0.1


def test_averaging_dates_multiplies_looks_and_leaves_correlation():
    one, four = statistics(speckle_db()), statistics(decibel_of_mean([speckle_db(seed=seed) for seed in range(4)]))
    for name in (LOOKS, COMMON_LOOKS):
        assert 3.3 < four[name] / one[name] < 4.7
    for name in (CORRELATION_Y, CORRELATION_X):
        assert four[name] == pytest.approx(one[name], abs=0.05)


def test_filtering_adds_more_to_looks_than_to_looks_at_common_sharpness():
    plane = speckle_db()
    before, after = statistics(plane), statistics(10 * np.log10(uniform_filter(10 ** (plane / 10), 3)))
    assert after[LOOKS] / before[LOOKS] > 1.5 * after[COMMON_LOOKS] / before[COMMON_LOOKS]
    assert after[CORRELATION_Y] > before[CORRELATION_Y] + 0.1


def test_transposing_swaps_the_axes_and_nothing_else():
    plane = speckle_db()[:252]
    plane = uniform_filter(plane, (1, 2))
    upright, turned = statistics(plane), statistics(np.ascontiguousarray(plane.T))
    assert upright[CORRELATION_X] > upright[CORRELATION_Y] + 0.05
    swapped = turned | {CORRELATION_X: turned[CORRELATION_Y], CORRELATION_Y: turned[CORRELATION_X]}
    assert swapped == pytest.approx(upright, rel=1e-5)


def test_a_gain_moves_the_level_alone():
    plane = speckle_db(level_db=-12.0)
    before, after = statistics(plane), statistics(plane + 5.0)
    assert after.pop(LEVEL) == pytest.approx(before.pop(LEVEL) + 5.0, abs=1e-4)
    assert after == pytest.approx(before, rel=1e-3)


@pytest.mark.parametrize("repeats", [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_pixels_repeated_along_one_axis_are_distinct_along_both_they_are_not(repeats):
    plane = speckle_db().repeat(repeats[0], 0).repeat(repeats[1], 1)
    assert statistics(plane)[DISTINCT] == pytest.approx(0.5 if repeats == (2, 2) else 1.0, abs=0.01)


def test_the_share_of_distinct_values_falls_with_the_quantisation():
    plane = speckle_db()
    shares = [statistics(np.round(plane / step) * step)[DISTINCT] for step in (0.001, 0.01, 0.1, 0.5)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.95
    assert shares[2] < 0.5


def test_one_window_counts_its_distinct_values():
    windows = np.tile(np.arange(144, dtype=np.float32).reshape(1, 12, 12) % 37 % 12, (MIN_WINDOWS, 1, 1)) - 15
    expected = []
    for axis in (0, 1):
        window = windows[0]
        fresh = np.ones(window.shape, bool)
        fresh[(slice(None),) * axis + (slice(1, None),)] = np.diff(window, axis=axis) != 0
        expected.append(len(set(window[fresh].tolist())) / fresh.sum())
    assert flat_window_statistics(windows)[DISTINCT] == pytest.approx(max(expected))


def test_windows_with_an_invalid_pixel_are_left_out():
    plane = speckle_db()
    valid = np.ones(SHAPE, bool)
    valid[30, 40] = False
    poisoned = np.where(valid, plane, 1e6)
    windows = cut_windows(poisoned[None], valid[None])
    assert len(windows) == 22 * 21 - 1
    assert windows.max() < 100
    assert windows.dtype == np.float32


def test_windows_tile_each_plane_from_its_first_pixel():
    planes = np.arange(2 * 30 * 27, dtype=float).reshape(2, 30, 27)
    windows = cut_windows(planes, np.ones(planes.shape, bool))
    assert windows.shape == (8, 12, 12)
    np.testing.assert_array_equal(windows[3], planes[0, 12:24, 12:24])
    np.testing.assert_array_equal(windows[4], planes[1, :12, :12])


@pytest.mark.parametrize("shape", [(0, 40), (5, 5), (100, 100)])
def test_too_little_gives_no_statistics(shape):
    assert statistics(np.full(shape, -10.0)) == {}


@pytest.mark.parametrize("plane", [speckle_db(level_db=-30.0), np.full(SHAPE, -10.0)], ids=["dark", "constant"])
def test_dark_and_constant_planes_have_a_level_and_no_speckle(plane):
    assert statistics(plane) == {LEVEL: pytest.approx(np.median(plane), abs=0.1)}


def test_lines_are_no_speckle():
    lines = np.tile(np.random.default_rng(0).normal(-10, 2, SHAPE[1]), (SHAPE[0], 1))
    assert set(statistics(lines)) == {LEVEL}


def test_large_planes_are_thinned_out_without_changing_what_is_found():
    plane = speckle_db(shape=(1200, 1200))
    whole, part = statistics(plane), statistics(plane[:400])
    assert whole == pytest.approx(part, rel=0.06)


def test_small_planes_of_one_polarization_are_taken_together():
    planes = [(name, speckle_db(seed=seed, shape=(110, 110))) for seed in range(8) for name in ("vv", "vh")]
    valid = np.ones((1, 110, 110), bool)
    found = plane_statistics((name, cut_windows(plane[None], valid)) for name, plane in planes)
    assert [name for name, _ in found] == ["vv", "vh", "vv", "vh"]  # 3 x 81 windows are enough
    assert all(set(one) == set(STATISTICS) for _, one in found)
    assert plane_statistics((name, cut_windows(plane[None], valid)) for name, plane in planes[:4]) == []
