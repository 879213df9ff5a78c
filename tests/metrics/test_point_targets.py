"""Point targets that were put into speckle, and what was done to them."""

import math

import numpy as np
import pytest
from scipy import ndimage

from xsarcomp.errors import DimensionError
from xsarcomp.metrics.point_targets import compare_point_targets
from xsarcomp.scenes.simulation import simulate_speckle

TARGETS = {(20, 30): 30.0, (0, 70): 100.0, (60, 64): 10.0}


@pytest.fixture
def sea():
    power = 0.01 * simulate_speckle((80, 90), rng=np.random.default_rng(1)).astype(np.float64)
    for position, brightness in TARGETS.items():
        power[position] = brightness
    return power


def everywhere(plane):
    return np.ones(plane.shape, dtype=bool)


def test_targets_are_found_brightest_first_and_a_copy_keeps_them(sea):
    found = compare_point_targets(sea, sea, everywhere(sea))
    assert list(zip(found.rows.tolist(), found.columns.tolist(), strict=True)) == [(0, 70), (20, 30), (60, 64)]
    np.testing.assert_allclose(found.peak_db, [20, 10 * math.log10(30), 10])
    assert found.mean_error_db == found.mean_shift_pixels == 0


def test_a_shifted_scene_has_its_shift(sea):
    shifted = np.roll(sea, (2, -1), axis=(0, 1))
    found = compare_point_targets(sea, shifted, everywhere(sea))
    assert found.shift_y.tolist() == [2, 2, 2]
    assert found.shift_x.tolist() == [-1, -1, -1]
    assert found.mean_shift_pixels == pytest.approx(math.sqrt(5))
    assert found.mean_error_db == pytest.approx(0)


def test_clipping_takes_from_the_peaks_what_lies_above(sea):
    found = compare_point_targets(sea, np.minimum(sea, 30), everywhere(sea))
    np.testing.assert_allclose(found.error_db, [10 * math.log10(0.3), 0, 0])
    assert found.mean_error_db == pytest.approx(-10 * math.log10(0.3) / 3)


def test_a_mean_over_nine_pixels_takes_nine_and_a_half_decibels(sea):
    found = compare_point_targets(sea, ndimage.uniform_filter(sea, 3), everywhere(sea))
    np.testing.assert_allclose(found.error_db[1:], -10 * math.log10(9), atol=0.05)
    assert (np.abs(found.shift_y) <= 1).all()


def test_speckle_alone_has_no_target():
    power = simulate_speckle((200, 200), rng=np.random.default_rng(2))
    found = compare_point_targets(power, power, everywhere(power))
    assert found.rows.size == 0
    assert math.isnan(found.mean_error_db)
    assert math.isnan(found.mean_shift_pixels)


def test_invalid_pixels_hold_no_target(sea):
    valid = everywhere(sea)
    valid[20, 30] = valid[0, 70] = False
    restored = sea.copy()
    sea[~valid], restored[~valid] = np.nan, 1e9
    found = compare_point_targets(sea, restored, valid)
    assert found.rows.tolist() == [60]
    assert found.mean_error_db == 0
    assert compare_point_targets(sea, restored, valid & False).rows.size == 0


def test_a_neighbor_within_reach_is_no_second_target_and_the_number_is_limited(sea):
    sea[22, 32] = 29.0
    assert compare_point_targets(sea, sea, everywhere(sea)).rows.size == 3
    assert compare_point_targets(sea, sea, everywhere(sea), count=2).rows.tolist() == [0, 20]


def test_stacks_are_refused(sea):
    with pytest.raises(DimensionError, match="one polarization"):
        compare_point_targets(sea[None], sea[None], everywhere(sea)[None])
