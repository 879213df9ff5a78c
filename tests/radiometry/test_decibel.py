"""The signal in steps of 1/512 dB, its inverse, the bias of the mean power, and counts out of range."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xsarcomp.errors import RadiometryError
from xsarcomp.radiometry.decibel import (
    RangeCounts,
    count_out_of_range,
    decibel_from_backscatter,
    from_signal,
    mean_power_correction_db,
    to_signal,
)
from xsarcomp.radiometry.filling import SIGNAL_STEPS_PER_DB
from xsarcomp.radiometry.pixel_classes import VALID, classify
from xsarcomp.radiometry.scales import SCALES

HALF_STEP_DB = 0.5 / SIGNAL_STEPS_PER_DB
PER_DECADE = {"power": 10.0, "amplitude": 20.0}


def _backscatter(decibel, scale):
    return decibel if scale == "decibel" else 10.0 ** (decibel / PER_DECADE[scale])


def _decibel(value, scale):
    """An oracle by another library function: the natural logarithm of the standard library."""
    return value if scale == "decibel" else PER_DECADE[scale] * math.log(value) / math.log(10.0)


decibels = hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=5), elements=st.floats(-60.0, 35.0))


@given(decibel=decibels, scale=st.sampled_from(SCALES))
def test_decibels_of_each_scale_agree_with_the_standard_library(decibel, scale):
    values = _backscatter(decibel, scale)
    expected = [_decibel(value, scale) for value in values.ravel().tolist()]
    np.testing.assert_allclose(decibel_from_backscatter(values, scale).ravel(), expected, rtol=0, atol=1e-11)


@given(
    decibel=decibels,
    scale=st.sampled_from(SCALES),
    dtype=st.sampled_from(["<f4", ">f4", "<f8", ">f8"]),
    offset=st.floats(-30, 10),
)
def test_round_trip_is_within_half_a_step(decibel, scale, dtype, offset):
    values = _backscatter(decibel, scale).astype(dtype)
    classes = classify(values, scale)
    signal = to_signal(values, classes, scale, offset)
    np.testing.assert_array_equal(signal * SIGNAL_STEPS_PER_DB, np.rint(signal * SIGNAL_STEPS_PER_DB))
    decoded = from_signal(signal, scale, dtype, offset_db=offset)
    assert decoded.dtype == np.dtype(dtype)
    error = decibel_from_backscatter(decoded, scale) - decibel_from_backscatter(values, scale)
    # float32 adds up to 2**-24 of the value: 5e-7 dB for power, 2e-6 dB for decibels up to 35
    assert np.abs(error).max(initial=0.0) <= HALF_STEP_DB + 5e-6


@settings(deadline=None)
@given(seed=st.integers(0, 50), start=st.integers(0, 40), length=st.integers(0, 70))
def test_signal_of_a_part_equals_the_part_of_the_signal(seed, start, length):
    power = np.random.default_rng(seed).gamma(4.4, 0.02, (3, 110)).astype(np.float32)
    window = (slice(None), slice(start, start + length))
    whole = to_signal(power, classify(power, "power"), "power", -11.3)
    part = to_signal(power[window], classify(power[window], "power"), "power", -11.3)
    np.testing.assert_array_equal(part, whole[window])


@pytest.mark.parametrize("scale", SCALES)
def test_decibels_do_not_depend_on_memory_layout_or_byte_order(scale):
    values = _backscatter(np.random.default_rng(1).normal(-12.0, 5.0, (37, 41)), scale).astype(np.float32)
    expected = decibel_from_backscatter(values, scale)
    spread = np.zeros((37, 123), np.float32)
    spread[:, ::3] = values
    for same in (values.astype(">f4"), np.asfortranarray(values), spread[:, ::3], values[::-1][::-1]):
        np.testing.assert_array_equal(decibel_from_backscatter(same, scale), expected)
    assert expected.flags.c_contiguous


def test_offset_per_polarization_is_taken_off_and_put_back():
    power = np.full((2, 3, 4), 0.01)
    offset = np.array([-11.0, -17.0])[:, None, None]
    signal = to_signal(power, np.zeros(power.shape, np.uint8), "power", offset)
    assert (signal[0] == -9).all()
    assert (signal[1] == -3).all()
    np.testing.assert_allclose(from_signal(signal, "power", "f8", offset_db=offset), 0.01, rtol=1e-12)


def test_invalid_pixels_raise_no_warning_and_have_signal_zero():
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 0.1])
    for scale in ("power", "amplitude"):
        signal = to_signal(values, classify(values, scale), scale, -5.0)
        np.testing.assert_array_equal(signal[:-1], 0.0)
    signalling_nan = np.array([0x7F800001], np.uint32).view(np.float32)
    assert to_signal(signalling_nan, classify(signalling_nan, "power"), "power", 0.0).tolist() == [0.0]


@pytest.mark.parametrize("dtype", ["f4"])
def test_denormal_power_is_valid_and_keeps_its_decibels(dtype):
    smallest = np.nextafter(np.dtype(dtype).type(0), np.dtype(dtype).type(1))
    power = smallest * np.array([1, 3, 1000], dtype)
    classes = classify(power, "power")
    assert (classes == VALID).all()
    decoded = from_signal(to_signal(power, classes, "power", -11.0), "power", dtype, offset_db=-11.0)
    np.testing.assert_array_equal(decoded, power)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", [f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)] + ["f2", "f4", "f8"])
def test_values_too_large_or_small_for_the_type_end_at_its_limits_and_never_wrap(scale, dtype):
    signal = np.array([-1e5, -600.0, -300.0, -20.0, 0.0, 20.0, 300.0, 600.0, 1e5])
    decoded = from_signal(signal, scale, dtype, offset_db=0.0)
    assert np.isfinite(decoded).all()
    assert (decoded[1:] >= decoded[:-1]).all()
    if scale != "decibel":
        assert (decoded > 0).all()
    assert (classify(decoded, scale) == VALID).all()


def test_largest_values_of_narrow_types_are_reached():
    assert from_signal([200.0], "power", "f2", offset_db=0.0)[0] == np.finfo("f2").max
    assert from_signal([200.0], "power", "u1", offset_db=0.0)[0] == 255
    assert from_signal([200.0], "power", "i8", offset_db=0.0)[0] == 2**63 - 1024
    assert from_signal([-200.0], "decibel", "i1", offset_db=0.0)[0] == -128
    assert from_signal([3.52], "decibel", "i2", offset_db=0.0)[0] == 4


def test_nan_in_the_decoded_signal_is_refused():
    with pytest.raises(RadiometryError, match="NaN"):
        from_signal([0.0, np.nan], "power", "f4", offset_db=0.0)


def test_complex_backscatter_is_refused_with_advice():
    with pytest.raises(RadiometryError, match=r"abs\(values\)\*\*2"):
        classify(np.ones(2, np.complex64), "power")
    with pytest.raises(RadiometryError, match="complex"):
        from_signal([0.0], "power", np.complex64, offset_db=0.0)


@pytest.mark.parametrize("rmse_db", [0.1, 0.5, 1.0, 2.0])
def test_correction_restores_the_mean_power_of_gaussian_errors(rmse_db):
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    mean_power = np.sum(weights * 10.0 ** (rmse_db * points / 10.0)) / np.sum(weights)
    assert mean_power_correction_db(rmse_db**2) == pytest.approx(10.0 * np.log10(mean_power), abs=1e-12)


def test_correction_is_added_before_the_scale_returns():
    correction = mean_power_correction_db(np.array([0.0, 1.0]))
    np.testing.assert_allclose(correction, [0.0, 0.1151], atol=1e-4)
    decoded = from_signal(np.zeros(2), "decibel", "f8", offset_db=-10.0, correction_db=correction)
    np.testing.assert_array_equal(decoded, -10.0 + correction)


@pytest.mark.parametrize("error", [-1.0, np.nan, np.inf])
def test_impossible_mean_squared_error_is_refused(error):
    with pytest.raises(RadiometryError, match="mean squared error"):
        mean_power_correction_db(error)


@given(decibel=decibels, seed=st.integers(0, 9), cut=st.integers(0, 3))
def test_counts_of_parts_add_up_and_only_valid_values_outside_count(decibel, seed, cut):
    valid = np.random.default_rng(seed).random(decibel.shape) < 0.7
    whole = count_out_of_range(decibel, -40.0, 15.0, valid)
    parts = [count_out_of_range(part, -40.0, 15.0, mask) for part, mask in
             ((decibel[:cut], valid[:cut]), (decibel[cut:], valid[cut:]))]  # fmt: skip
    assert parts[0] + parts[1] == whole
    assert whole.outside_count == sum(not -40.0 <= value <= 15.0 for value in decibel[valid].tolist())
    assert whole.outside_share <= 1.0


def test_range_itself_is_inside_and_nothing_valid_has_share_zero():
    report = count_out_of_range([-40.0, 15.0, 99.0, -99.0], -40.0, 15.0, [True, True, True, False])
    assert report == RangeCounts(valid_count=3, below_count=0, above_count=1)
    assert report.outside_share == pytest.approx(1 / 3)
    assert RangeCounts(valid_count=0, below_count=0, above_count=0).outside_share == 0.0
