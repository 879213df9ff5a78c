"""Distributions and windows against SciPy, loops and cases with a known answer."""

import math

import numpy as np
import pytest
from scipy import stats

from xsarcomp.errors import DimensionError
from xsarcomp.metrics import distribution
from xsarcomp.metrics.speckle import equivalent_number_of_looks


def everywhere(plane):
    return np.ones(plane.shape, dtype=bool)


def normal(mean, deviation, shape=(60, 70), seed=1):
    return np.random.default_rng(seed).normal(mean, deviation, shape)


@pytest.mark.parametrize("restored", [normal(-12, 1.8, seed=2), normal(-11.5, 2, seed=2), normal(-12, 2, seed=2)])
def test_distance_of_distributions_agrees_with_scipy(restored):
    original = normal(-12, 2)
    expected = stats.ks_2samp(original.ravel(), restored.ravel()).statistic
    # about 4200 values over 10 dB: a bin of 0.001 dB holds 0 or 1 of them, rarely 4
    assert distribution.kolmogorov_smirnov_distance(original, restored, everywhere(original)) == pytest.approx(
        expected, abs=4 / original.size
    )


def test_values_in_another_order_have_the_same_distribution():
    original = normal(-12, 2)
    assert distribution.kolmogorov_smirnov_distance(original, original[::-1], everywhere(original)) == 0


def test_values_apart_and_beyond_all_bins_have_distance_one():
    original = normal(-12, 2)
    assert distribution.kolmogorov_smirnov_distance(original, original + 300, everywhere(original)) == 1
    assert distribution.kolmogorov_smirnov_distance(original - 400, original, everywhere(original)) == 1


def test_window_sums_agree_with_a_loop_and_keep_the_far_edges():
    values = np.random.default_rng(1).normal(size=(7, 11))
    sums = distribution.window_sums(values, 3)
    assert sums.shape == (3, 4)
    for row, column in np.ndindex(sums.shape):
        window = values[3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
        assert sums[row, column] == pytest.approx(window.sum())


def test_a_gain_of_one_decibel_is_the_bias_of_every_complete_window():
    power = np.random.default_rng(1).gamma(4.4, 0.02, (52, 80))
    biases = distribution.window_biases_db(power, power * 10**0.1, everywhere(power))
    assert biases.shape == (3, 4)
    np.testing.assert_allclose(biases[:2, :3], 1)
    assert np.isnan(biases[2]).all()
    assert np.isnan(biases[:, 3]).all()


def test_a_window_that_is_brightened_is_the_only_one_with_a_bias():
    power = np.random.default_rng(1).gamma(4.4, 0.02, (50, 50))
    restored, valid = power.copy(), everywhere(power)
    restored[25:, :25] *= 10**0.03
    valid[3, 40], power[3, 40] = False, np.nan
    biases = distribution.window_biases_db(power, restored, valid)
    np.testing.assert_allclose(biases, [[0, np.nan], [0.3, 0]], atol=1e-12)


def test_looks_of_windows_are_those_of_their_pixels():
    power = np.random.default_rng(1).gamma(4.4, 0.02, (60, 60))
    valid = everywhere(power)
    valid[30, 30] = False
    power[:25, 25:50] = 0.1  # constant: no speckle
    looks = distribution.window_looks(np.where(valid, power, np.nan), valid)
    assert looks[0, 0] == pytest.approx(equivalent_number_of_looks(power[:25, :25]))
    assert looks[1, 0] == pytest.approx(equivalent_number_of_looks(power[25:50, :25]))
    assert np.isnan([looks[0, 1], looks[1, 1], *looks[2], *looks[:, 2]]).all()


def test_errors_of_windows_count_valid_pixels_only():
    original = np.zeros((5, 6))
    restored, valid = original.copy(), everywhere(original)
    restored[:2, :2] = [[3, -3], [1, 100]]
    valid[1, 1] = False
    valid[4:, :2] = False
    errors = distribution.window_errors_db(original, np.where(valid, restored, np.nan), valid, window=2)
    expected = np.zeros((3, 3))
    expected[0, 0], expected[2, 0] = math.sqrt(19 / 3), np.nan
    np.testing.assert_allclose(errors, expected)


def test_no_valid_pixel_gives_nan_and_shapes_that_differ_are_refused():
    empty = np.full((30, 30), np.nan)
    valid = np.isfinite(empty)
    assert math.isnan(distribution.kolmogorov_smirnov_distance(empty, empty, valid))
    assert np.isnan(distribution.window_biases_db(empty, empty, valid)).all()
    assert np.isnan(distribution.window_looks(empty, valid)).all()
    assert np.isnan(distribution.window_errors_db(empty, empty, valid, window=8)).all()
    with pytest.raises(DimensionError, match="three equal ones"):
        distribution.kolmogorov_smirnov_distance(empty, empty[1:], valid)
    with pytest.raises(DimensionError, match="one polarization"):
        distribution.window_biases_db(empty[None], empty[None], valid[None])
