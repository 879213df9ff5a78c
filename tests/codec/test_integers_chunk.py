"""Chunks of residuals and gains: their frame comes back, and one that says more than it may is refused."""

import dataclasses

import numpy as np
import pytest

from xsarcomp.codec.chunk import decode_integer_chunk, decode_latents, encode_integer_chunk
from xsarcomp.codec.frame import NO_MODEL, read_frame, write_frame
from xsarcomp.errors import BitstreamError, CorruptStreamError, DimensionError, UnsupportedFormatError


def some_integers(shape=(2, 3, 17, 9)):
    return np.random.default_rng(1).integers(-3, 4, shape).astype(np.int32)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (2, 3, 17, 9)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_integers_of_any_shape_and_memory_order_come_back(shape, order):
    integers = np.array(some_integers(shape), order=order)
    np.testing.assert_array_equal(decode_integer_chunk(encode_integer_chunk(integers)), integers)
    np.testing.assert_array_equal(decode_integer_chunk(encode_integer_chunk(integers.astype(">i4"))), integers)


def test_the_frame_names_no_model_and_the_minor_version_that_brought_it():
    content = encode_integer_chunk(some_integers())
    assert read_frame(content).model_id == NO_MODEL
    assert content[4:6] == b"\x01\x01"


@pytest.mark.parametrize("integers", [np.zeros((3, 3), np.int64), np.zeros(3, np.int32), np.zeros((0, 3), np.int32)])
def test_what_is_no_plane_of_int32_is_refused(integers):
    with pytest.raises(DimensionError):
        encode_integer_chunk(integers)


@pytest.mark.parametrize(
    "change",
    [
        {"anchor": 1},
        {"model_id": "00" * 7 + "01"},
        {"classes": b"\x01\x02"},
        {"exact": b"\x01"},
        {"corrections": b"\x01"},
        {"fortran_order": True},
        {"dtype": np.dtype("<f4")},
        {"step_db": 1.0},
        {"symbol_hash": b"\0" * 8},
        {"symbols": b""},
    ],
    ids=str,
)
def test_a_frame_that_says_more_than_integers_have_is_refused(change):
    frame = read_frame(encode_integer_chunk(some_integers()))
    with pytest.raises(CorruptStreamError):
        decode_integer_chunk(write_frame(dataclasses.replace(frame, **change)))


def test_the_codecs_of_integers_and_latents_do_not_read_each_other(coder):
    with pytest.raises(UnsupportedFormatError, match="another one"):
        decode_latents(encode_integer_chunk(some_integers((64, 4, 4))), coder)


def test_every_flipped_bit_and_every_truncation_is_refused():
    content = encode_integer_chunk(some_integers((9, 8)))
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            decode_integer_chunk(bytes(damaged))
    for length in range(len(content)):
        with pytest.raises(BitstreamError):
            decode_integer_chunk(content[:length])
