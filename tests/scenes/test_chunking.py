"""Sizes of chunks and shards as users give them, and blocks that end where stored objects end."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from xsarcomp.errors import ConfigurationError, DimensionError
from xsarcomp.scenes.chunking import (
    aligned_blocks,
    inner_ends,
    is_regular,
    nearest_divisor,
    requested_sizes,
    with_regular_blocks,
)

STACK = xr.DataArray(np.zeros((3, 40, 50)), dims=("time", "y", "x"), name="vv")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (None, {}),
        (512, {"y": 512, "x": 512}),
        (np.int64(512), {"y": 512, "x": 512}),
        ({"x": 256}, {"x": 256}),
        ({"time": 2, "y": 8, "x": 8}, {"time": 2, "y": 8, "x": 8}),
        ((1, 20, 30), {"time": 1, "y": 20, "x": 30}),
    ],
)
def test_sizes_are_one_number_or_one_by_dimension_or_one_for_each(request_, expected):
    assert requested_sizes("chunks", request_, STACK) == expected


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        ({"band": 2}, DimensionError, "'vv' with the dimensions time, y, x: there is no band"),
        ((20, 30), DimensionError, "found 2 sizes, expected 3"),
        (0, ConfigurationError, r"shards=0 for 'vv' .*: expected whole numbers of 1 or more"),
        (-1, ConfigurationError, r"such as \{'y': 1024, 'x': 1024\}"),
        (True, ConfigurationError, "shards=True"),
        ({"y": 51.2}, ConfigurationError, "51.2"),
        ("512", ConfigurationError, "'512'"),
    ],
)
def test_other_sizes_are_refused_with_what_to_type(request_, error, words):
    with pytest.raises(error, match=words):
        requested_sizes("shards", request_, STACK)


BLOCKS = st.lists(st.integers(1, 60), min_size=1, max_size=12)


@given(BLOCKS, st.integers(1, 50), st.integers(0, 100))
def test_aligned_blocks_hold_the_same_elements_and_end_at_the_unit(sizes, unit, start):
    blocks = aligned_blocks(sizes, unit, start)
    assert sum(blocks) == sum(sizes)
    assert min(blocks) > 0
    assert all((start + end) % unit == 0 for end in inner_ends(blocks))
    assert max(blocks) <= max(unit, *sizes)
    assert aligned_blocks(blocks, unit, start) == blocks


@given(BLOCKS, st.integers(1, 8))
def test_blocks_that_fit_stay_as_they_are(sizes, unit):
    fitting = tuple(unit * size for size in sizes)
    assert aligned_blocks(fitting, unit) == fitting


@given(BLOCKS)
def test_regular_blocks_are_those_that_xarray_writes(sizes):
    variable = xr.Variable("x", np.arange(sum(sizes))).chunk(x=tuple(sizes))
    regular = with_regular_blocks(variable)
    assert is_regular(regular.chunks[0])
    assert max(regular.chunks[0]) == max(sizes)
    assert (regular is variable) == is_regular(sizes)


@given(st.integers(1, 5000), st.integers(1, 1000), st.integers(1, 2000))
def test_the_nearest_divisor_divides_within_the_limit(size, wanted, largest):
    divisor = nearest_divisor(size, wanted, largest)
    assert size % divisor == 0
    assert 1 <= divisor <= largest
