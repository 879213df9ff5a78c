"""Planes of integers to bytes and back: the same words as the text of the format says, few of them, and damage named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.format_decoder import integers_from_the_format
from xsarcomp.codec.entropy_tables import LARGEST_MAGNITUDE
from xsarcomp.codec.residual_coding import decode_integers, encode_integers
from xsarcomp.errors import CorruptStreamError, LimitExceededError, SarcompError


def integers(seed, shape, spread):
    """Integers of a Laplacian distribution."""
    drawn = np.rint(np.random.default_rng(seed).laplace(0, spread, shape))
    return drawn.clip(1 - LARGEST_MAGNITUDE, LARGEST_MAGNITUDE - 1).astype(np.int32)


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))
SPREADS = st.sampled_from([0.0, 0.1, 0.6, 4.0, 90.0, 4e5])


@given(seed=st.integers(0, 2**32), shape=SHAPES, spread=SPREADS)
@settings(max_examples=60, deadline=None)
def test_integers_come_back_and_a_decoder_written_from_the_format_reads_the_same(seed, shape, spread):
    values = integers(seed, shape, spread)
    content = encode_integers(values)
    np.testing.assert_array_equal(decode_integers(content, shape), values)
    np.testing.assert_array_equal(integers_from_the_format(np.frombuffer(content, "<u4"), shape), values)


@pytest.mark.parametrize("magnitude", [1, 13, 14, 15, 16, 17, 2**19, 2**20 - 1])
def test_magnitudes_at_the_borders_of_their_classes_come_back(magnitude):
    values = np.array([[[0, magnitude, -magnitude], [-magnitude, 0, 0], [magnitude, magnitude, -magnitude]]], np.int32)
    np.testing.assert_array_equal(decode_integers(encode_integers(values), values.shape), values)


@pytest.mark.parametrize("shape", [(0, 4, 4), (1, 0, 4), (1, 4, 0)])
def test_no_integers_are_no_bytes(shape):
    assert encode_integers(np.zeros(shape, np.int32)) == b""
    assert decode_integers(b"", shape).shape == shape


@pytest.mark.parametrize("spread", [0.2, 0.35, 0.7, 3.0])
def test_the_rate_is_within_a_percent_of_the_entropy_of_independent_integers(spread):
    values = np.rint(np.random.default_rng(4).normal(0, spread, (1, 512, 512))).astype(np.int32)
    shares = np.unique(values, return_counts=True)[1] / values.size
    entropy = -(shares * np.log2(shares)).sum()
    assert entropy < 8 * len(encode_integers(values)) / values.size < 1.01 * entropy + 0.002


def test_a_plane_of_zeros_costs_next_to_nothing():
    assert len(encode_integers(np.zeros((1, 512, 512), np.int32))) < 8


def test_rows_of_the_largest_integers_find_room():
    values = np.full((1, 3, 5000), LARGEST_MAGNITUDE - 1, np.int32)
    np.testing.assert_array_equal(decode_integers(encode_integers(values), values.shape), values)


@pytest.mark.parametrize("value", [LARGEST_MAGNITUDE, -LARGEST_MAGNITUDE, -(2**31)])
def test_an_integer_that_is_too_large_is_refused(value):
    with pytest.raises(LimitExceededError, match="larger error bound"):
        encode_integers(np.array([[[value]]], np.int64).astype(np.int32))


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        (lambda content: content[:-1], (1, 20, 20)),
        (lambda content: content[:-4], (1, 20, 20)),
        (lambda content: content + bytes(8), (1, 20, 20)),
        (lambda content: b"\xff" * len(content), (1, 20, 20)),
        (lambda content: content, (1, 0, 20)),
    ],
    ids=["part of a word", "a word missing", "two words more", "impossible words", "no integers"],
)
def test_content_that_no_encoder_writes_is_refused(change, shape):
    content = encode_integers(integers(1, (1, 20, 20), 2.0))
    with pytest.raises(CorruptStreamError):
        decode_integers(change(content), shape)


@given(content=st.binary(max_size=64), shape=SHAPES)
@settings(max_examples=200, deadline=None)
def test_any_bytes_decode_or_are_refused(content, shape):
    try:
        values = decode_integers(content, shape)
    except SarcompError:
        return
    assert np.abs(values.astype(np.int64)).max() < LARGEST_MAGNITUDE
