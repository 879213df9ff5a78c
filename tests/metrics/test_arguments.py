"""Checks that all measures share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsarcomp.errors import DimensionError
from xsarcomp.metrics.arguments import checked_pair

shapes = st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple)


@given(shape=shapes, dtype=st.sampled_from(["f2", ">f4", "i2", "f8"]))
def test_equal_shapes_come_back_as_float64_and_bool_with_their_values(shape, dtype):
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    original, restored, valid = checked_pair(values, -values, values % 2)
    assert (original.dtype, restored.dtype, valid.dtype) == (np.float64, np.float64, bool)
    np.testing.assert_array_equal(original, values)
    np.testing.assert_array_equal(restored, -values)
    np.testing.assert_array_equal(valid, values % 2 == 1)


@given(first=shapes, second=shapes, place=st.integers(0, 2))
def test_a_shape_that_differs_is_refused_wherever_it_stands(first, second, place):
    arrays = [np.zeros(first)] * 3
    arrays[place] = np.zeros(second)
    if first == second:
        assert checked_pair(*arrays)[0].shape == first
        return
    with pytest.raises(DimensionError, match="expected three equal ones"):
        checked_pair(*arrays)


@given(shape=shapes)
def test_only_planes_pass_where_planes_are_asked_for(shape):
    if len(shape) == 2:
        assert checked_pair(*[np.zeros(shape)] * 3, planes=True)[0].shape == shape
        return
    with pytest.raises(DimensionError, match=rf"found {len(shape)} dimensions, expected \(y, x\)"):
        checked_pair(*[np.zeros(shape)] * 3, planes=True)
