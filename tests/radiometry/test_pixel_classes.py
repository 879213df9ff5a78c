"""Pixel classes of every kind of number, and the bit-exact return of what is invalid."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xsarcomp.errors import DimensionError, RadiometryError
from xsarcomp.radiometry.decibel import from_signal, to_signal
from xsarcomp.radiometry.pixel_classes import (
    DECIBEL_LIMIT,
    EXACT,
    NAN,
    NEGATIVE_INFINITY,
    NODATA,
    POSITIVE_INFINITY,
    VALID,
    ZERO,
    classify,
    exact_values,
    present_classes,
    reinsert_invalid,
)
from xsarcomp.radiometry.scales import SCALES

FLOATS = [order + code for code in ("f2", "f4", "f8") for order in "<>"]
INTEGERS = [order + kind + size for kind in "iu" for size in "1248" for order in "<>"]
SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, -9999.0, 1.0, -1.0, -12.5, 0.1, 6e-8, 60000.0, -600.0]


def backscatter_arrays():
    """Arrays of every dtype, byte order and shape, with many special values."""
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)

    def filled(dtype):
        elements = hnp.from_dtype(np.dtype(dtype))
        if "f" in dtype:
            elements |= st.sampled_from(SPECIAL).map(np.dtype(dtype).type)
        else:
            elements |= st.sampled_from([0, 1, 7])
        return hnp.arrays(dtype, shapes, elements=elements)

    return st.sampled_from(FLOATS + INTEGERS).flatmap(filled)


nodata_values = st.sampled_from([None, np.nan, 0, 0.0, -0.0, 1, 7, -9999.0, -3.4028234663852886e38, np.inf, 2.5, 2**63])


def _bits(array):
    """The bits of an array as integers, with one kind of NaN."""
    native = array.astype(array.dtype.newbyteorder("="))
    if native.dtype.kind == "f":
        native = np.where(np.isnan(native), native.dtype.type(np.nan), native)
    return np.ascontiguousarray(native).view(f"u{native.dtype.itemsize}")


@settings(deadline=None, max_examples=300)
@given(backscatter=backscatter_arrays(), nodata=nodata_values, scale=st.sampled_from(SCALES))
@example(backscatter=np.array([7, 8], "u1"), nodata=7, scale="decibel")
def test_invalid_pixels_come_back_bit_for_bit_and_valid_ones_stay_valid(backscatter, nodata, scale):
    classes = classify(backscatter, scale, nodata)
    signal = to_signal(backscatter, classes, scale, -12.0)
    decoded = from_signal(signal, scale, backscatter.dtype, offset_db=-12.0)
    restored = reinsert_invalid(decoded, classes, nodata, exact_values(backscatter, classes))
    invalid = classes != VALID
    assert np.isfinite(signal).all()
    assert restored.dtype == backscatter.dtype
    np.testing.assert_array_equal(_bits(restored)[invalid], _bits(backscatter)[invalid])
    np.testing.assert_array_equal(classify(restored, scale, nodata), classes)


@settings(deadline=None)
@given(backscatter=backscatter_arrays(), nodata=nodata_values, scale=st.sampled_from(SCALES))
def test_classes_follow_the_definition_pixel_by_pixel(backscatter, nodata, scale):
    classes = classify(backscatter, scale, nodata)
    assert classes.dtype == np.uint8
    assert classes.shape == backscatter.shape
    for value, found in zip(backscatter.ravel(), classes.ravel(), strict=True):
        if np.isnan(value):
            assert found == NAN
        elif not np.isfinite(value):
            assert found in (POSITIVE_INFINITY if value > 0 else NEGATIVE_INFINITY, NODATA)
        elif scale == "decibel":
            is_nodata = found in (NODATA, EXACT) and nodata is not None
            assert found == VALID or is_nodata or abs(float(value)) > DECIBEL_LIMIT
        elif value > 0:
            # a float64 may hold power that is more than 500 dB from one
            decibel = {"power": 10, "amplitude": 20}[scale] * math.log10(float(value))
            assert found in (VALID, NODATA) or (found == EXACT and abs(decibel) > DECIBEL_LIMIT - 1e-9)
        else:
            assert found in ((ZERO, NODATA, EXACT) if value == 0 else (EXACT, NODATA))


def test_each_kind_of_value_has_its_class():
    values = np.array([1.0, np.nan, np.inf, -np.inf, 0.0, -9999.0, -2.0, 5e-324, -0.0])
    expected = [VALID, NAN, POSITIVE_INFINITY, NEGATIVE_INFINITY, ZERO, NODATA, EXACT, EXACT, EXACT]
    assert classify(values, "power", -9999.0).tolist() == expected
    assert classify(values, "amplitude", -9999.0).tolist() == expected
    in_decibel = [VALID, NAN, POSITIVE_INFINITY, NEGATIVE_INFINITY, VALID, NODATA, VALID, VALID, VALID]
    assert classify(values, "decibel", -9999.0).tolist() == in_decibel


def test_zero_is_invalid_in_decibel_only_if_declared_and_wins_over_zero():
    zeros = np.zeros(2, np.float32)
    assert classify(zeros, "decibel").tolist() == [VALID, VALID]
    assert classify(zeros, "decibel", 0).tolist() == [NODATA, NODATA]
    assert classify(zeros, "power", 0).tolist() == [NODATA, NODATA]


def test_nodata_is_compared_in_the_type_of_the_array():
    assert classify(np.array([-9999.1], np.float32), "decibel", -9999.1).tolist() == [NODATA]
    assert classify(np.array([255, 254], np.uint8), "amplitude", 255.0).tolist() == [NODATA, VALID]
    assert classify(np.array([255], np.uint8), "amplitude", -1).tolist() == [VALID]
    assert classify(np.array([2], np.uint8), "amplitude", 2.5).tolist() == [VALID]
    assert classify(np.array([2**63 - 1]), "amplitude", 2**63 - 1).tolist() == [NODATA]


def test_undeclared_fill_value_in_decibels_is_kept_exactly():
    assert classify(np.array([-9999.0, -999.0, 1e20, -448.0]), "decibel").tolist() == [
        EXACT,
        EXACT,
        EXACT,
        VALID,
    ]


def test_decoded_value_that_equals_nodata_moves_aside():
    for dtype, nodata in [
        ("f4", 0.0),
        ("f4", -12.5),
        ("f2", 65504.0),
        ("u1", 255),
        ("i2", -5),
        ("f8", 5e-324),
    ]:
        decoded = np.array([nodata], dtype)
        restored = reinsert_invalid(decoded, np.array([VALID]), nodata)
        assert restored[0] != nodata
        assert abs(float(restored[0]) - nodata) <= max(1.0, 32.0 * (nodata == 65504.0))


def test_restoring_leaves_the_decoded_array_alone():
    decoded = np.ones(3, np.float32)
    reinsert_invalid(decoded, np.array([NAN, VALID, ZERO]))
    assert decoded.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("classes", "dtype", "nodata"),
    [
        ([9], "f4", None),
        ([NODATA], "f4", None),
        ([NODATA], "f4", np.nan),
        ([NAN], "i2", None),
        ([NODATA], "u1", -1),
    ],
)
def test_classes_that_cannot_be_restored_are_refused(classes, dtype, nodata):
    with pytest.raises(RadiometryError, match="classes"):
        reinsert_invalid(np.ones(1, dtype), np.array(classes, np.uint8), nodata)


def test_another_number_of_exact_values_or_another_shape_is_refused():
    with pytest.raises(DimensionError, match="0 exact values for 1"):
        reinsert_invalid(np.ones(1), np.array([EXACT]))
    with pytest.raises(DimensionError, match="2 exact values for 1"):
        reinsert_invalid(np.ones(1), np.array([EXACT]), exact=np.ones(2))
    with pytest.raises(DimensionError, match="shape"):
        reinsert_invalid(np.ones(1), np.array([[VALID]]))


def test_unknown_scale_is_refused():
    with pytest.raises(RadiometryError, match="'power', 'decibel' or 'amplitude'"):
        classify(np.ones(1), "dB")


@given(classes=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=0, max_side=6)))
def test_present_classes_are_the_distinct_ones(classes):
    assert present_classes(classes) == np.unique(classes).tolist()


def test_no_pixels_have_no_classes():
    assert present_classes(np.zeros((0, 4), np.uint8)) == []


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_each_number_that_is_valid_comes_back_from_its_decibels(dtype, scale):
    """What decoders limit must be no valid pixel: float32 reaches to 770 dB as amplitude."""
    exponents = np.linspace(-330, 308, 1000)
    with np.errstate(over="ignore"):
        values = np.concatenate([10.0**exponents, [1e25, 1e-25, 1e30, 1e-45, 3.4e38]]).astype(dtype)
    values[:-5:2] *= -1 if scale == "decibel" else 1
    classes = classify(values, scale)
    decoded = from_signal(to_signal(values, classes, scale, -12.0), scale, dtype, offset_db=-12.0)
    valid = (classes == VALID) & (np.abs(values) >= np.finfo(dtype).tiny)  # subnormal numbers have coarse steps
    assert valid.sum() > 8
    if scale == "decibel":
        np.testing.assert_allclose(decoded[valid], values[valid], rtol=2 * np.finfo(dtype).eps, atol=0.002)
    else:
        np.testing.assert_allclose(decoded[valid], values[valid], rtol=max(3e-4, 2 * float(np.finfo(dtype).eps)))
