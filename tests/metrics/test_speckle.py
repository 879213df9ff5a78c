"""Speckle statistics on fields whose number of looks is known."""

import math

import numpy as np
import pytest
from scipy import ndimage

from xsarcomp.errors import DimensionError, RadiometryError
from xsarcomp.metrics import speckle


def gamma_speckle(looks, shape=(200, 200), seed=0):
    return np.random.default_rng(seed).gamma(looks, 1 / looks, size=shape)


def everywhere(plane):
    return np.ones(plane.shape, dtype=bool)


@pytest.mark.parametrize("looks", [1.0, 4.4, 28.0])
def test_gamma_speckle_has_its_number_of_looks(looks):
    assert speckle.equivalent_number_of_looks(gamma_speckle(looks)) == pytest.approx(looks, rel=0.05)


def test_looks_do_not_depend_on_gain_or_gaps():
    power = gamma_speckle(4.4)
    with_gaps = 7 * power
    with_gaps = np.append(with_gaps, [np.nan, np.inf])
    assert speckle.equivalent_number_of_looks(with_gaps) == pytest.approx(speckle.equivalent_number_of_looks(power))


def test_constant_power_has_infinitely_many_looks():
    assert speckle.equivalent_number_of_looks(np.full(10, 0.5)) == math.inf


def test_fewer_than_two_values_are_refused():
    with pytest.raises(RadiometryError, match="at least 2"):
        speckle.equivalent_number_of_looks([1.0, np.nan])


def test_windows_avoid_edges_of_the_reflectivity_and_invalid_pixels():
    power = gamma_speckle(4.4, (250, 250))
    power[:125] *= np.where(np.arange(250) % 10 < 5, 1, 10)  # stripes: heterogeneous
    valid = everywhere(power)
    valid[200:, :] = False
    windows = speckle.homogeneous_windows(power, valid)
    assert len(windows) == 8  # a tenth of 8 x 10 complete windows
    assert (windows[:, 0] >= 125).all()
    assert (windows[:, 0] + 25 <= 200).all()
    assert (windows % 25 == 0).all()


def test_windows_come_most_homogeneous_first_and_do_not_repeat():
    power = gamma_speckle(4.4, (500, 500))
    windows = speckle.homogeneous_windows(power, everywhere(power))
    looks = [speckle.equivalent_number_of_looks(power[y : y + 25, x : x + 25]) for y, x in windows]
    assert len({tuple(corner) for corner in windows}) == len(windows) == 40
    assert looks == sorted(looks, reverse=True)


def test_at_least_eight_windows_are_used_where_there_are_eight():
    power = gamma_speckle(4.4, (75, 100))
    assert len(speckle.homogeneous_windows(power, everywhere(power))) == 8
    assert len(speckle.homogeneous_windows(power[:50, :50], everywhere(power[:50, :50]))) == 4
    assert len(speckle.homogeneous_windows(power, everywhere(power), window=10, count=3)) == 3


@pytest.mark.parametrize("shape", [(24, 24), (24, 300), (0, 0)])
def test_scenes_smaller_than_a_window_have_no_window_and_no_ratio(shape):
    power = gamma_speckle(4.4, shape)
    assert speckle.homogeneous_windows(power, everywhere(power)).shape == (0, 2)
    assert math.isnan(speckle.enl_ratio(power, power, everywhere(power)))


def test_areas_of_constant_power_hold_no_speckle():
    power = np.full((100, 100), 0.1)
    assert len(speckle.homogeneous_windows(power, everywhere(power))) == 0


def test_identical_scenes_have_an_enl_ratio_of_one():
    power = gamma_speckle(4.4)
    assert speckle.enl_ratio(power, power, everywhere(power)) == 1


def test_a_mean_of_nine_pixels_has_about_nine_times_the_looks():
    power = gamma_speckle(4.4)
    smoothed = ndimage.uniform_filter(power, 3)
    assert speckle.enl_ratio(power, smoothed, everywhere(power)) == pytest.approx(9, rel=0.25)


def test_noise_added_by_a_codec_lowers_the_enl_ratio():
    power = gamma_speckle(4.4)
    noisy = power * gamma_speckle(4.4, seed=1)
    assert speckle.enl_ratio(power, noisy, everywhere(power)) < 0.7


def test_ratio_image_of_the_reflectivity_is_the_speckle():
    power = 0.1 * gamma_speckle(4.4)
    statistics = speckle.ratio_image_statistics(power, np.full_like(power, 0.1), everywhere(power))
    assert statistics.mean == pytest.approx(1, abs=0.01)
    assert statistics.variance == pytest.approx(1 / 4.4, rel=0.05)
    assert abs(statistics.correlation_y) < 0.02
    assert abs(statistics.correlation_x) < 0.02


def test_ratio_image_shows_structure_that_was_taken_away():
    power = gamma_speckle(4.4)
    edges = np.where(np.arange(200) % 20 < 10, 0.5, 2.0)
    statistics = speckle.ratio_image_statistics(power * edges, power, everywhere(power))
    assert statistics.correlation_y == pytest.approx(1)
    assert 0.7 < statistics.correlation_x < 0.9


def test_ratio_image_of_a_copy_and_of_nothing():
    power = gamma_speckle(4.4)
    copy = speckle.ratio_image_statistics(power, power, everywhere(power))
    assert (copy.mean, copy.variance) == (1, 0)
    assert math.isnan(copy.correlation_y)
    nothing = speckle.ratio_image_statistics(power, power, ~everywhere(power))
    assert math.isnan(nothing.mean)


def test_neighbor_correlation_skips_invalid_pixels():
    values = np.random.default_rng(0).normal(size=(60, 60))
    values[1::2] = values[::2]  # pairs of equal rows
    valid = everywhere(values)
    valid[2::4] = False
    expected = np.corrcoef(values[:-1][valid[:-1] & valid[1:]], values[1:][valid[:-1] & valid[1:]])[0, 1]
    values[~valid] = np.nan
    assert speckle.neighbor_correlation(values, valid, axis=0) == pytest.approx(expected)
    assert abs(speckle.neighbor_correlation(values, valid, axis=1)) < 0.1
    assert math.isnan(speckle.neighbor_correlation(values, ~valid & False, axis=1))


def test_stacks_are_refused():
    stack = np.ones((2, 30, 30))
    with pytest.raises(DimensionError, match="one polarization"):
        speckle.enl_ratio(stack, stack, stack > 0)
