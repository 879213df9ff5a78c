"""The error bound: its spacing holds for any decoder and any rounding, and bounds that cannot be guaranteed are refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.codec.error_bound import (
    DECODERS_DIFFER_DB,
    LARGEST_BOUND_DB,
    SMALLEST_BOUND_DB,
    check_bound,
    compute_residuals,
    mark_unbounded_exact,
    residual_spacing_db,
)
from xsarcomp.errors import BoundError, RateError
from xsarcomp.radiometry.decibel import decibel_from_backscatter, from_signal
from xsarcomp.radiometry.pixel_classes import EXACT, NAN, VALID, classify

BOUNDS = st.floats(0.12, 30.0)


def restored_db(values, scale, spacing, off_db, other_db):
    """What a decoder returns that differs by ``other_db`` from that of the encoder, whose signal is off by ``off_db``."""
    classes = classify(values, scale)
    decibel = decibel_from_backscatter(values, scale, classes=classes)
    seen = decibel + off_db
    corrected = seen + compute_residuals(decibel, seen, classes, spacing) * spacing + other_db
    returned = from_signal(corrected, scale, values.dtype, offset_db=0.0)
    return decibel, decibel_from_backscatter(returned, scale, classes=classes), classes


@given(
    bound=st.floats(SMALLEST_BOUND_DB, 30.0), seed=st.integers(0, 2**32), scale=st.sampled_from(["power", "decibel"])
)
@settings(max_examples=60, deadline=None)
def test_a_float_is_within_the_bound_whatever_the_decoder_adds(bound, seed, scale):
    generator = np.random.default_rng(seed)
    decibel = generator.uniform(-60, 30, (1, 20, 20))
    values = (decibel if scale == "decibel" else 10 ** (decibel / 10)).astype(np.float32)
    spacing = residual_spacing_db(bound, values.dtype)
    other = generator.choice([-1, 1], values.shape) * DECODERS_DIFFER_DB * 0.95
    check_bound(*restored_db(values, scale, spacing, generator.normal(0, 3 * bound, values.shape), other), bound)


@given(
    bound=BOUNDS,
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(
        [("amplitude", "u1"), ("amplitude", "u2"), ("power", "u2"), ("decibel", "i1"), ("power", "f2")]
    ),
)
@settings(max_examples=150, deadline=None)
def test_rounding_to_a_coarse_type_stays_within_the_bound(bound, seed, kind):
    scale, dtype = kind
    generator = np.random.default_rng(seed)
    values = generator.integers(1, 60, (1, 20, 20)) * (1e-6 if dtype == "f2" else 1)
    spacing = residual_spacing_db(bound, np.dtype(dtype))
    off = generator.normal(0, 2 * bound, values.shape)
    check_bound(*restored_db(values.astype(dtype), scale, spacing, off, 0.9 * DECODERS_DIFFER_DB), bound)


def test_the_spacing_of_a_float_is_nearly_twice_the_bound_and_less_with_means_and_coarse_types():
    plain = residual_spacing_db(2.0, np.dtype("f4"))
    assert plain == pytest.approx(4.0 - 2 * DECODERS_DIFFER_DB)
    assert residual_spacing_db(2.0, np.dtype("f4"), keep_means=True) < plain / 2
    assert residual_spacing_db(2.0, np.dtype("u2")) < plain / 2
    assert residual_spacing_db(2.0, np.dtype("u2"), 255) < residual_spacing_db(2.0, np.dtype("u2"))
    assert residual_spacing_db(2.0, np.dtype("f4"), -9999.0) == plain


@pytest.mark.parametrize(
    "bound", [0, -1, math.nan, math.inf, SMALLEST_BOUND_DB / 2, LARGEST_BOUND_DB * 2, "1", True, None]
)
def test_a_bound_that_makes_no_sense_is_refused(bound):
    with pytest.raises(RateError, match="max_error_db"):
        residual_spacing_db(bound, np.dtype("f4"))


def test_a_bound_finer_than_the_data_type_allows_is_refused_with_advice():
    with pytest.raises(RateError, match="float32"):
        residual_spacing_db(0.02, np.dtype("u2"))
    assert residual_spacing_db(0.12, np.dtype("u2"), 7, keep_means=True) > 0


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_pixels_near_the_smallest_numbers_of_a_float_are_kept_exactly(dtype):
    tiny = np.finfo(dtype).tiny
    values = np.array([[1.0, tiny, tiny * 1e11, tiny * 1e13, 0.0]], dtype)
    classes = np.array([[VALID, VALID, VALID, VALID, NAN]], np.uint8)
    np.testing.assert_array_equal(mark_unbounded_exact(classes, values), [[VALID, EXACT, EXACT, VALID, NAN]])


def test_classes_of_ordinary_pixels_and_coarse_types_stay_as_they_are():
    classes = np.zeros((3, 4), np.uint8)
    assert mark_unbounded_exact(classes, np.ones((3, 4), np.float32)) is classes
    assert mark_unbounded_exact(classes, np.ones((3, 4), np.float16)) is classes
    assert mark_unbounded_exact(classes, np.ones((3, 4), np.uint16)) is classes


def test_residuals_are_multiples_of_the_spacing_and_none_where_a_pixel_is_invalid():
    decibel = np.array([[[0.0, 1.0, 2.1, -5.0, 9.0]]])
    classes = np.array([[[VALID, VALID, VALID, VALID, NAN]]], np.uint8)
    residuals = compute_residuals(decibel, np.zeros_like(decibel), classes, 2.0)
    np.testing.assert_array_equal(residuals, [[[0, 0, 1, -2, 0]]])
    assert residuals.dtype == np.int32


def test_a_broken_bound_is_an_error_and_an_invalid_pixel_breaks_none():
    decibel, classes = np.zeros((1, 2, 2)), np.array([[[VALID, VALID], [VALID, NAN]]], np.uint8)
    restored = np.array([[[0.5, -0.5], [0.0, 99.0]]])
    check_bound(decibel, restored, classes, 0.5)
    with pytest.raises(BoundError, match=r"0\.5 dB"):
        check_bound(decibel, restored, classes, 0.49)
    with pytest.raises(BoundError):
        check_bound(decibel, np.full_like(restored, np.nan), classes, 0.5)
