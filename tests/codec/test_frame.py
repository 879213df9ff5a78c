"""The frame: round trip, exhaustive damage, and headers that lie although their checksum is right."""

import dataclasses
import math
import struct
import tracemalloc

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.effort import at_most_lines
from xsarcomp.codec.frame import (
    BACKSCATTER,
    DTYPES,
    INTEGERS,
    LARGEST_CHUNK,
    LATENTS,
    Frame,
    check_chunk,
    read_frame,
    symbol_hash,
    write_frame,
)
from xsarcomp.errors import (
    BitstreamError,
    CorruptStreamError,
    DimensionError,
    LimitExceededError,
    UnsupportedFormatError,
)

LINES = 200
"""What a header may cost to refuse: no loop over what it claims."""
FRAME = Frame(
    kind=BACKSCATTER,
    dtype=np.dtype("<f4"),
    shape=(2, 5, 7),
    anchor=1,
    step_db=1.25,
    scale="power",
    model_id="0123456789abcdef",
    symbol_hash=b"12345678",
    symbols=b"symbols of the chunk",
    classes=b"classes",
    exact=b"exact",
)
# Places of the fields in the header, from the format: magic, major, minor, kind, data type, flags, anchor,
# dimensions, scale, reserved, step, model, three lengths, symbol hash, payload checksum, shape, checksum.
MAJOR, KIND, DTYPE, FLAGS, DIMENSIONS, SCALE, STEP, SYMBOLS_LENGTH, SHAPE = 4, 6, 7, 8, 11, 12, 14, 30, 54


@st.composite
def frames(draw):
    kind = draw(st.sampled_from([BACKSCATTER, LATENTS]))
    shape = draw(st.lists(st.integers(1, 6), min_size=2, max_size=8))
    return Frame(
        kind=kind,
        dtype=np.dtype(draw(st.sampled_from(DTYPES))),
        shape=tuple(shape),
        anchor=draw(st.integers(0, 255)),
        step_db=draw(st.floats(0, 999)),
        scale=draw(st.sampled_from(["power", "amplitude", "decibel"])) if kind == BACKSCATTER else "",
        model_id=draw(st.binary(min_size=8, max_size=8)).hex(),
        symbol_hash=draw(st.binary(min_size=8, max_size=8)),
        symbols=draw(st.binary(max_size=50)),
        classes=draw(st.binary(max_size=20)),
        exact=draw(st.binary(max_size=20)),
        fortran_order=draw(st.booleans()),
    )


@given(frame=frames())
@settings(deadline=None, max_examples=100)
def test_reading_a_written_frame_gives_the_frame(frame):
    assert read_frame(write_frame(frame)) == frame


def test_only_the_first_sixteen_digits_of_the_model_id_travel():
    frame = dataclasses.replace(FRAME, model_id=FRAME.model_id + 48 * "e")
    assert read_frame(write_frame(frame)) == FRAME


def test_each_flipped_bit_of_a_frame_is_noticed():
    content = write_frame(FRAME)
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            read_frame(bytes(damaged))


def test_each_truncated_and_each_extended_frame_is_refused():
    content = write_frame(FRAME)
    for length in range(len(content)):
        with pytest.raises(BitstreamError):
            read_frame(content[:length])
    for tail in (b"\0", content):
        with pytest.raises(CorruptStreamError):
            read_frame(content + tail)


@given(content=st.binary(max_size=120))
@settings(deadline=None, max_examples=100)
def test_arbitrary_bytes_are_no_frame(content):
    for candidate in (content, b"XSAR" + content, b"XSAR\x01\x00" + content):
        with pytest.raises(BitstreamError):
            read_frame(candidate)


def with_header(place, replacement, frame=FRAME):
    """A frame with some bytes of its header replaced and the checksum of the header made right again."""
    content = bytearray(write_frame(frame))
    content[place : place + len(replacement)] = replacement
    stop = SHAPE + 4 * content[DIMENSIONS]
    content[stop : stop + 4] = struct.pack("<I", google_crc32c.value(bytes(content[:stop])))
    return bytes(content)


def shaped(*shape):
    """A frame whose header announces a shape and whose checksum is right."""
    return with_header(
        SHAPE, struct.pack(f"<{len(shape)}I", *shape), dataclasses.replace(FRAME, shape=(1,) * len(shape))
    )


HOSTILE = {
    "more values than the limit": (shaped(LARGEST_CHUNK + 1, 1), LimitExceededError),
    "largest dimensions": (shaped(2**32 - 1, 2**32 - 1), LimitExceededError),
    "product of 2**64, zero in 64 bits": (shaped(2**31, 2**31, 4), LimitExceededError),
    "product of 2**256": (shaped(*[2**31] * 8), LimitExceededError),
    "product of 2**63, negative in 64 bits": (shaped(2**31, 2**31, 2), LimitExceededError),
    "zero rows": (shaped(0, 7), LimitExceededError),
    "zero beside a huge dimension": (shaped(2**32 - 1, 0, 5), LimitExceededError),
    "no dimensions": (with_header(DIMENSIONS, b"\x00"), CorruptStreamError),
    "one dimension": (with_header(DIMENSIONS, b"\x01"), CorruptStreamError),
    "nine dimensions": (with_header(DIMENSIONS, b"\x09"), CorruptStreamError),
    "255 dimensions": (with_header(DIMENSIONS, b"\xff"), CorruptStreamError),
    "newer version": (with_header(MAJOR, b"\x02"), UnsupportedFormatError),
    "other magic": (with_header(0, b"XSAS"), UnsupportedFormatError),
    "kind 0": (with_header(KIND, b"\x00"), UnsupportedFormatError),
    "kind 4": (with_header(KIND, b"\x04"), UnsupportedFormatError),
    "unknown data type": (with_header(DTYPE, bytes([len(DTYPES)])), UnsupportedFormatError),
    "unknown scale": (with_header(SCALE, b"\x04"), UnsupportedFormatError),
    "backscatter without scale": (with_header(SCALE, b"\x00"), CorruptStreamError),
    "latents with a scale": (with_header(KIND, bytes([LATENTS])), CorruptStreamError),
    "integers with a scale": (with_header(KIND, bytes([INTEGERS])), CorruptStreamError),
    "guarantee data that are missing": (with_header(FLAGS, struct.pack("<H", 3 | 8)), CorruptStreamError),
    "verbatim values and classes": (with_header(FLAGS, struct.pack("<H", 3 | 16)), CorruptStreamError),
    "too few verbatim values": (
        with_header(FLAGS, struct.pack("<H", 16), dataclasses.replace(FRAME, classes=b"", exact=b"")),
        CorruptStreamError,
    ),
    "unknown flag": (with_header(FLAGS, struct.pack("<H", 3 | 64)), UnsupportedFormatError),
    "highest flag": (with_header(FLAGS, struct.pack("<H", 3 | 2**15)), UnsupportedFormatError),
    "flags without sections": (
        with_header(FLAGS, struct.pack("<H", 3), dataclasses.replace(FRAME, classes=b"")),
        BitstreamError,
    ),
    "sections without flags": (with_header(FLAGS, b"\x00\x00"), CorruptStreamError),
    "step NaN": (with_header(STEP, struct.pack("<d", math.nan)), CorruptStreamError),
    "step infinite": (with_header(STEP, struct.pack("<d", math.inf)), CorruptStreamError),
    "step negative": (with_header(STEP, struct.pack("<d", -1.0)), CorruptStreamError),
    "step huge": (with_header(STEP, struct.pack("<d", 1e300)), CorruptStreamError),
    "symbols longer than the frame": (
        with_header(SYMBOLS_LENGTH, struct.pack("<I", 2**32 - 1)),
        CorruptStreamError,
    ),
    "all lengths largest": (
        with_header(SYMBOLS_LENGTH, struct.pack("<III", *[2**32 - 1] * 3)),
        CorruptStreamError,
    ),
    "all lengths zero": (with_header(SYMBOLS_LENGTH, bytes(12)), CorruptStreamError),
    "symbols one byte shorter": (with_header(SYMBOLS_LENGTH, struct.pack("<I", 19)), CorruptStreamError),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_header_that_lies_is_refused_fast_and_without_memory(name):
    content, error = HOSTILE[name]
    with pytest.raises(error), at_most_lines(LINES):
        read_frame(content)
    tracemalloc.start()
    try:
        with pytest.raises(error):
            read_frame(content)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_payload_with_another_checksum_is_refused_although_its_header_is_right():
    content = bytearray(write_frame(FRAME))
    content[-1] ^= 1
    with pytest.raises(CorruptStreamError, match="payload"):
        read_frame(bytes(content))


@pytest.mark.parametrize("shape", [(), (5,), (0, 4), (4, 0), (1,) * 9, (2**13, 2**13 + 1)])
def test_chunk_that_the_format_does_not_hold_is_refused_before_coding(shape):
    with pytest.raises(DimensionError, match="chunk"):
        check_chunk(shape, BACKSCATTER)


def test_chunks_up_to_the_limits_are_accepted():
    check_chunk((2**13, 2**13), BACKSCATTER)
    check_chunk((1,) * 8, BACKSCATTER)


def test_hash_of_symbols_does_not_depend_on_their_layout_or_byte_order():
    symbols = np.random.default_rng(1).integers(-9, 9, (2, 64, 3, 4)).astype(np.int32)
    expected = symbol_hash(symbols)
    assert len(expected) == 8
    for layout in (np.asfortranarray(symbols), symbols.astype(">i4"), symbols[::-1][::-1]):
        assert symbol_hash(layout) == expected
    other = symbols.copy()
    other[1, 63, 2, 3] += 1
    assert symbol_hash(other) != expected
