"""Rate-distortion curves: measuring, interpolating, comparing."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from xsarcomp.benchmarks.measurement import Measurement, measured_curve, pooled_point
from xsarcomp.errors import RateError
from xsarcomp.metrics.rate_distortion import RateDistortionCurve, RatePoint, bd_rate, metric_at_rate, rmse_at_rates

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
    fine, coarse = sorted(measured_curve(Rounding(), [first, second]), key=lambda point: point.setting)
    assert fine.bits_per_pixel == coarse.bits_per_pixel == pytest.approx(8 * (80 + 2) / 80)
    assert fine.rmse_db == 0
    assert coarse.rmse_db == pytest.approx(math.sqrt(20 * 4 / 80))


def test_invalid_pixels_cost_bits_but_no_error():
    plane = np.full((4, 5), 4.0)
    plane[0] = np.nan
    (fine, coarse) = measured_curve(Rounding(), [plane])
    assert fine.bits_per_pixel == pytest.approx(8 * 21 / 20)
    assert coarse.rmse_db == 0


def test_curves_of_nothing_are_refused():
    with pytest.raises(RateError, match="no valid pixel in 1 planes"):
        measured_curve(Rounding(), [np.full((3, 3), np.nan)])
    with pytest.raises(RateError, match="no valid pixel in 0 planes"):
        measured_curve(Rounding(), [])


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


def bent_rate(errors, sigma=1.1):
    """A law whose rate falls faster and faster with the logarithm of the error, as that of speckle does."""
    return np.log2(1 + (sigma / np.asarray(errors)) ** 2) / 2


@pytest.mark.parametrize("count", [7, 9, 25])
def test_few_points_give_the_bd_rate_of_the_whole_curve(count):
    reference_rate, test_rate = (lambda errors: bent_rate(errors)), (lambda errors: 0.9 * bent_rate(errors, 1.15))

    def sampled(law, offset):
        errors = np.geomspace(0.11 * offset, 1.95 * offset, count)
        return points(law(errors), errors)

    low, high = 0.145, 1.75
    limits = tuple(float(bent_rate(error)) for error in (high, low))
    oracle = integrate.quad(
        lambda x: np.log(test_rate(np.exp(x)) / reference_rate(np.exp(x))), np.log(low), np.log(high)
    )
    expected = 100 * np.expm1(oracle[0] / np.log(high / low))
    found = bd_rate(sampled(test_rate, 1.03), sampled(reference_rate, 1.0), limits)
    assert found == pytest.approx(expected, abs={7: 0.15, 9: 0.1, 25: 0.01}[count])


def test_thinning_a_curve_makes_it_look_better_by_much_less_than_with_straight_lines():
    errors = np.geomspace(0.12, 1.9, 33)
    reference = points(bent_rate(errors), errors)
    between = np.log(np.geomspace(0.15, 1.6, 500))
    thin = np.log(errors[::4])
    straight = np.interp(between, thin, np.log(bent_rate(np.exp(thin)))) - np.log(bent_rate(np.exp(between)))
    assert 100 * np.expm1(straight.mean()) < -0.4
    assert abs(bd_rate(reference[::4], reference)) < 0.05


def test_the_ends_of_a_curve_belong_to_it():
    # limits that fall on an end must not be lost to rounding, whatever the numbers are
    rng = np.random.default_rng(1)
    for _ in range(200):
        rates = np.sort(rng.uniform(0.2, 1.5, 5))
        reference = points(rates, 0.7 * rates**-0.8)
        assert bd_rate(reference, reference) == pytest.approx(0, abs=1e-9)


def test_the_share_of_the_errors_that_both_reach_is_told():
    reference = power_law(np.geomspace(0.1, 2, 12))
    half = power_law(np.geomspace(0.1, math.sqrt(0.2), 7))
    assert RateDistortionCurve(half).bd_rate(RateDistortionCurve(reference), (0.1, 2.0)) == pytest.approx(
        (0, 0.5), abs=1e-6
    )
    assert RateDistortionCurve(reference).bd_rate(RateDistortionCurve(half), (0.1, 2.0))[1] == pytest.approx(1.0)


def test_figures_are_pooled_over_planes():
    def plane(scale, looks, edges, power):
        return Measurement(
            coded_bits=100.0 * scale,
            pixels=100 * scale,
            valid_pixels=100 * scale,
            squared_error=100.0 * scale,
            original_power=power,
            restored_power=power * (1.1 if scale == 1 else 1.0),
            enl_ratio=looks,
            edge_preservation=edges,
        )

    point = pooled_point(3.0, [plane(1, 0.8, 0.5, 10.0), plane(3, 1.0, 0.9, 30.0), plane(1, 1.7, math.nan, 10.0)])
    assert point.setting == 3.0
    assert (point.bits_per_pixel, point.rmse_db) == (1.0, 1.0)
    assert point.enl_ratio == 1.0
    assert point.edge_preservation == pytest.approx((0.5 + 3 * 0.9) / 4)
    assert point.bias_db == pytest.approx(10 * math.log10(52 / 50))


def test_figures_that_no_plane_knows_are_not_a_number():
    point = pooled_point(1.0, [Measurement(coded_bits=1.0, pixels=4, valid_pixels=4, squared_error=1.0)])
    assert all(math.isnan(value) for value in (point.enl_ratio, point.edge_preservation, point.bias_db))


def test_figures_between_points_are_interpolated_over_the_logarithm_of_the_rate():
    known = [
        RatePoint(setting=0.0, bits_per_pixel=rate, rmse_db=1.0, bias_db=bias)
        for rate, bias in ((4.0, 0.4), (0.25, 0.0), (1.0, 0.1))
    ]
    assert metric_at_rate(known, "bias_db", 0.5) == pytest.approx(0.05)
    assert metric_at_rate(known, "bias_db", 1.0) == pytest.approx(0.1)
    assert metric_at_rate(known, "bias_db", 2.0) == pytest.approx(0.25)
    assert math.isnan(metric_at_rate(known, "bias_db", 5.0))
    assert math.isnan(metric_at_rate(known, "enl_ratio", 1.0))
    assert math.isnan(metric_at_rate([], "bias_db", 1.0))


def test_only_the_rates_asked_for_count():
    reference = power_law(RATES)
    # a fifth fewer bits where the reference has more than 1 bit per pixel, the same bits elsewhere
    test = points(np.where(RATES > 1, 0.8, 1.0) * RATES, 0.7 * RATES**-0.8)
    low = bd_rate(test, reference, (0.11, 0.39))  # the slope at a point knows its two neighbors
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
