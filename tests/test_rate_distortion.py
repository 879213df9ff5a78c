"""Rate-distortion curves: measuring, interpolating, comparing."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsarcomp.errors import DimensionError, RateError
from xsarcomp.evaluation.rate_distortion import (
    RatePoint,
    bd_rate,
    curve,
    filled_from_nearest,
    rmse_at_rates,
)

RATES = np.geomspace(0.1, 4, 9)


@dataclass(frozen=True)
class Rounding:
    """Codec of known rate and error: rounds to multiples of the setting and writes one byte a pixel."""

    settings: tuple = (1.0, 4.0)

    def encode(self, plane_db, setting):
        assert np.isfinite(plane_db).all()
        return np.round(plane_db / setting).astype(np.int8).tobytes() + bytes([int(setting)])

    def decode(self, data, shape):
        return np.frombuffer(data[:-1], dtype=np.int8).reshape(shape).astype(np.float32) * data[-1]


def points(rates, errors):
    return [
        RatePoint(setting=0.0, bits_per_pixel=float(rate), rmse_db=float(error))
        for rate, error in zip(rates, errors, strict=True)
    ]


def power_law(rates, factor=1.0):
    return points(np.asarray(rates) * factor, 0.7 * np.asarray(rates) ** -0.8)


def test_bits_and_errors_are_pooled_over_planes():
    first = np.full((4, 5), 2.0)  # a step of 4 rounds 2 dB to 0: an error of 2 dB
    second = np.full((10, 6), 4.0)
    fine, coarse = sorted(curve(Rounding(), [first, second]), key=lambda point: point.setting)
    assert fine.bits_per_pixel == coarse.bits_per_pixel == pytest.approx(8 * (80 + 2) / 80)
    assert fine.rmse_db == 0
    assert coarse.rmse_db == pytest.approx(math.sqrt(20 * 4 / 80))


def test_invalid_pixels_cost_bits_but_no_error():
    plane = np.full((4, 5), 4.0)
    plane[0] = np.nan
    (fine, coarse) = curve(Rounding(), [plane])
    assert fine.bits_per_pixel == pytest.approx(8 * 21 / 20)
    assert coarse.rmse_db == 0


def test_curves_of_nothing_are_refused():
    with pytest.raises(RateError, match="no valid pixel in 1 planes"):
        curve(Rounding(), [np.full((3, 3), np.nan)])
    with pytest.raises(RateError, match="no valid pixel in 0 planes"):
        curve(Rounding(), [])


def test_invalid_pixels_are_filled_with_the_nearest_value():
    plane = np.array([[1.0, np.nan, np.nan, np.nan, 2.0]])
    filled = filled_from_nearest(plane)
    assert filled[0, [0, 1, 3, 4]].tolist() == [1, 1, 2, 2]
    assert np.isnan(plane).sum() == 3
    assert not filled_from_nearest(np.full((2, 2), np.nan)).any()
    with pytest.raises(DimensionError):
        filled_from_nearest(np.zeros(4))


def test_errors_between_points_follow_a_power_law():
    wanted = (0.25, 0.7, 2.0)
    expected = 0.7 * np.array(wanted) ** -0.8
    np.testing.assert_allclose(rmse_at_rates(power_law(RATES), wanted), expected)
    np.testing.assert_allclose(rmse_at_rates(power_law(RATES)[::-1], wanted), expected)


def test_rates_that_were_not_reached_are_not_extrapolated():
    errors = rmse_at_rates(power_law([0.5, 1.0]), (0.4, 0.5, 1.0, 1.1))
    assert np.isnan(errors).tolist() == [True, False, False, True]


@given(st.floats(0.5, 2.0))
def test_a_rate_factor_is_the_bd_rate(factor):
    reference = power_law(RATES)
    assert bd_rate(power_law(RATES, factor), reference) == pytest.approx(100 * (factor - 1), abs=1e-6)


def test_ten_per_cent_more_bits_are_a_bd_rate_of_ten_per_cent_on_a_bent_curve():
    errors = 2.2 * 2.0**-RATES
    reference, test = points(RATES, errors), points(1.1 * RATES, errors)
    assert bd_rate(test, reference) == pytest.approx(10)
    assert bd_rate(reference, test) == pytest.approx(100 * (1 / 1.1 - 1))


def test_only_the_rates_asked_for_count():
    reference = power_law(RATES)
    # a fifth fewer bits where the reference has more than 1 bit per pixel, the same bits elsewhere
    test = points(np.where(RATES > 1, 0.8, 1.0) * RATES, 0.7 * RATES**-0.8)
    low = bd_rate(test, reference, (0.11, 0.6))
    high = bd_rate(test, reference, (1.7, 3.9))
    assert low == pytest.approx(0, abs=1e-6)
    assert high == pytest.approx(-20)


def test_points_that_a_cheaper_one_beats_do_not_count():
    reference = power_law(RATES)
    worse = [*reference, *points([0.9, 3.0], [5.0, 5.0])]
    assert bd_rate(worse, reference) == pytest.approx(0, abs=1e-9)
    lossless = [*reference, *points([30.0], [0.0])]
    np.testing.assert_allclose(rmse_at_rates(lossless, (1.0,)), rmse_at_rates(reference, (1.0,)))


def test_curves_without_common_errors_are_refused():
    with pytest.raises(RateError, match="no common error"):
        bd_rate(points([0.5, 1], [9, 8]), points([0.5, 1], [2, 1]))
    with pytest.raises(RateError, match="at least 2"):
        rmse_at_rates(points([1.0], [1.0]))
