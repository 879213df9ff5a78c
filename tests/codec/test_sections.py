"""Sections of a frame: classes and deflated values come back, and values that coding would make longer are stored verbatim."""

import dataclasses
import hashlib
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.codec.chunk import (
    decode_backscatter,
    decode_latents,
    decode_lowest_latents,
    encode_backscatter,
    encode_latents,
    read_backscatter,
)
from xsarcomp.codec.frame import DTYPES, read_frame, write_frame
from xsarcomp.codec.integer_chunk import decode_integer_chunk, encode_integer_chunk
from xsarcomp.codec.sections import deflate, inflate, pack_classes, unpack_classes
from xsarcomp.codec.settings import Guarantees, Settings
from xsarcomp.errors import BitstreamError, CorruptStreamError, LimitExceededError
from xsarcomp.radiometry.pixel_classes import EXACT

LARGEST_EXCESS = 128
"""Bytes of a frame beyond those of its values: the header of 8 dimensions has 90, of two 66; an empty symbol section 5."""


@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple),
    kinds=st.sets(st.integers(1, 6), max_size=6),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=100)
def test_classes_come_back_whatever_kinds_there_are(shape, kinds, seed):
    classes = np.random.default_rng(seed).choice(np.array([0, *kinds], np.uint8), shape)
    section = pack_classes(classes)
    unpacked = unpack_classes(section, shape)
    np.testing.assert_array_equal(unpacked, classes)
    assert unpacked.dtype == np.uint8
    assert bool(section) == bool(classes.any())


def test_classes_of_all_pixels_of_a_large_chunk_come_back():
    classes = np.full((2, 1024, 1024), 1, np.uint8)
    section = pack_classes(classes)
    assert len(section) < 1000
    np.testing.assert_array_equal(unpack_classes(section, classes.shape), classes)


def test_class_that_says_valid_is_refused_in_a_section_of_invalid_pixels():
    section = pack_classes(np.eye(8, dtype=np.uint8))
    with pytest.raises(CorruptStreamError, match="class 0"):
        unpack_classes(b"\0" + section[1:], (8, 8))


@given(section=st.binary(max_size=60))
@settings(deadline=None, max_examples=100)
def test_damaged_section_of_classes_is_refused(section):
    for candidate in (b"\x01" + section, b"\xff" + section):
        with pytest.raises(BitstreamError):
            unpack_classes(candidate, (3, 50, 7))


@given(content=st.binary(max_size=300))
@settings(deadline=None, max_examples=50)
def test_inflating_returns_exactly_what_was_deflated(content):
    section = deflate(content)
    assert inflate(section, len(content)) == content
    for wrong in (len(content) + 1, len(content) - 1):
        if wrong >= 0:
            with pytest.raises(CorruptStreamError):
                inflate(section, wrong)
    for damaged in (section[:-1], section + b"\0", b"", section[1:]):
        with pytest.raises(BitstreamError):
            inflate(damaged, len(content))


def test_section_that_expands_without_end_is_stopped_at_the_expected_size():
    bomb = zlib.compress(bytes(50_000_000), 9)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptStreamError):
            inflate(bomb, 1000)
        with pytest.raises(LimitExceededError):
            inflate(b"tiny", 10**9)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def random_bits(shape, dtype, seed=0):
    """Values of random bits: every class of pixels, and for floats all that they can hold."""
    dtype = np.dtype(dtype)
    content = np.random.default_rng(seed).bytes(int(np.prod(shape)) * dtype.itemsize)
    return np.frombuffer(content, dtype).reshape(shape)


def noise(shape, dtype, seed=0):
    """Uniform noise over 300 dB, or over all values of an integer type, in decibel."""
    generator, dtype = np.random.default_rng(seed), np.dtype(dtype)
    if dtype.kind == "f":
        return generator.uniform(-150, 150, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return generator.integers(limits.min, limits.max, shape, dtype.newbyteorder("="), endpoint=True).astype(dtype)


def holes(shape, dtype, seed=0):
    """Every other pixel invalid in one of several ways; mean 0.1, as power."""
    generator, dtype = np.random.default_rng(seed), np.dtype(dtype)
    level = 0.1 if dtype.kind == "f" else 50.0
    values = generator.gamma(4.4, level / 4.4, shape).astype(dtype)
    others = [0, np.nan, np.inf, -1.5, -0.0] if dtype.kind == "f" else [0, np.iinfo(dtype).max]
    others = np.array(others).astype(dtype)
    return np.where(generator.random(shape) < 0.5, values, generator.choice(others, shape)).astype(dtype)


def exact_everywhere(shape, dtype, seed=0):
    """No backscatter at all: negative power, or in unsigned types no zero."""
    values = -np.abs(random_bits(shape, dtype, seed)) if np.dtype(dtype).kind != "u" else noise(shape, dtype, seed)
    return values.astype(dtype)


CONTENT = {"bits": random_bits, "noise": noise, "holes": holes, "exact": exact_everywhere}


@pytest.mark.filterwarnings("ignore:overflow|invalid value|divide by zero:RuntimeWarning")
@pytest.mark.parametrize("content", CONTENT)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", ["power", "decibel"])
def test_no_frame_is_longer_than_its_values_by_more_than_a_header(coder, dtype, content, scale):
    for shape, step_db in (((1, 1), 0.02), ((3, 40, 50), 0.02), ((70, 90), 2.0), ((1,) * 7 + (9,), 0.5)):
        values = CONTENT[content](shape, dtype)
        frame = encode_backscatter(values, Settings(step_db=step_db, scale=scale, nodata=7), coder)
        assert len(frame) <= values.nbytes + LARGEST_EXCESS
        found = decode_backscatter(frame, 7, coder)
        assert (found.shape, found.dtype) == (values.shape, values.dtype)
        if read_frame(frame).verbatim:
            assert found.tobytes() == values.tobytes()


@given(
    shape=st.lists(st.integers(1, 20), min_size=2, max_size=4).map(tuple),
    dtype=st.sampled_from(DTYPES),
    content=st.sampled_from(sorted(CONTENT)),
    step_db=st.sampled_from([0.02, 0.3, 3.0, 64.0]),
    scale=st.sampled_from(["power", "amplitude", "decibel"]),
    guarantees=st.sampled_from([{}, {"max_error_db": 0.2}, {"keep_means": True}]),
    seed=st.integers(0, 2**32),
)
@pytest.mark.filterwarnings("ignore:overflow|invalid value|divide by zero:RuntimeWarning")
@settings(deadline=None, max_examples=40)
def test_no_frame_is_longer_than_its_values_with_any_settings(
    coder, shape, dtype, content, step_db, scale, guarantees, seed
):
    values = CONTENT[content](shape, dtype, seed)
    requested = Guarantees.from_request(
        guarantees.get("max_error_db"), guarantees.get("keep_means", False), np.dtype(dtype), None, scale
    )
    frame = encode_backscatter(values, Settings(step_db=step_db, scale=scale, guarantees=requested), coder)
    assert len(frame) <= values.nbytes + LARGEST_EXCESS
    assert decode_backscatter(frame, None, coder).shape == shape


@pytest.mark.parametrize("shape", [(64, 1, 1), (2, 64, 4, 5), (64, 16, 16)])
@pytest.mark.parametrize("largest", [20, 2**19 - 1, 2**20 - 1])
def test_no_frame_of_latents_is_longer_than_they_are(coder, shape, largest):
    latents = np.random.default_rng(0).integers(-largest, largest + 1, shape).astype(np.int32)
    latents[..., 0, :, :] //= 4
    frame = encode_latents(latents, 0, coder)
    assert len(frame) <= latents.nbytes + LARGEST_EXCESS
    np.testing.assert_array_equal(decode_latents(frame, coder), latents)
    np.testing.assert_array_equal(decode_lowest_latents(frame, coder), latents[..., 0, :, :])


@given(
    shape=st.lists(st.integers(1, 12), min_size=2, max_size=3).map(tuple),
    largest=st.sampled_from([1, 14, 15, 300, 2**20 - 1]),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=60)
def test_no_frame_of_integers_is_longer_than_they_are(shape, largest, seed):
    integers = np.random.default_rng(seed).integers(-largest, largest + 1, shape).astype(np.int32)
    frame = encode_integer_chunk(integers)
    assert len(frame) <= integers.nbytes + LARGEST_EXCESS
    np.testing.assert_array_equal(decode_integer_chunk(frame), integers)


@pytest.fixture
def verbatim(coder):
    """A verbatim frame, and its values."""
    values = random_bits((9, 11), "<f4")
    frame = encode_backscatter(values, Settings(step_db=0.02, scale="decibel"), coder)
    assert read_frame(frame).verbatim
    return frame, values


def test_a_verbatim_frame_is_of_the_new_minor_version_and_holds_nothing_else(verbatim):
    content, values = verbatim
    frame = read_frame(content)
    assert content[4:6] == b"\x01\x01"
    assert frame.symbols == values.tobytes()
    assert (frame.classes, frame.exact, frame.guarantee_data) == (b"", b"", b"")
    assert len(content) == 66 + values.nbytes


def test_all_its_pixels_are_exact_ones(verbatim, coder):
    content, values = verbatim
    _, symbols, classes, exact, guarantee_data = read_backscatter(content, coder)
    assert (classes == EXACT).all()
    assert exact.tobytes() == values.tobytes()
    assert guarantee_data is None
    assert not symbols.any()
    assert symbols.shape == (1, 64, 2, 2)


def test_memory_order_comes_back_and_the_bytes_are_those_of_c_order(coder):
    values = np.asfortranarray(random_bits((9, 11), ">f8"))
    content = encode_backscatter(values, Settings(step_db=0.02, scale="power"), coder)
    frame, found = read_frame(content), decode_backscatter(content, None, coder)
    assert frame.verbatim
    assert frame.symbols == np.ascontiguousarray(values).tobytes()
    assert found.flags.f_contiguous
    assert found.flags.writeable
    assert found.tobytes() == values.tobytes()


def forged(content, **changes):
    return write_frame(dataclasses.replace(read_frame(content), **changes))


def test_values_that_are_not_those_of_the_hash_are_refused(verbatim, coder):
    content, values = verbatim
    other = bytearray(values.tobytes())
    other[5] ^= 1
    with pytest.raises(CorruptStreamError, match="hash"):
        decode_backscatter(forged(content, symbols=bytes(other)), None, coder)


@pytest.mark.parametrize(
    "change",
    [
        {"symbols": bytes(395)},
        {"symbols": bytes(397)},
        {"symbols": b""},
        {"shape": (9, 12)},
        {"dtype": np.dtype("<f8")},
        {"classes": b"\x01\x02"},
        {"exact": b"\x01"},
        {"guarantee_data": bytes(20)},
        {"verbatim": False},
        {"step_db": 0.0},
        {"anchor": 2},
    ],
    ids=str,
)
def test_a_verbatim_frame_that_cannot_be_is_refused(verbatim, coder, change):
    with pytest.raises(BitstreamError):
        decode_backscatter(forged(verbatim[0], **change), None, coder)


@pytest.mark.parametrize("value", [2**20, -(2**20), 2**31 - 1, -(2**31)])
def test_verbatim_integers_have_the_limits_of_all_integers(coder, value):
    latents = np.random.default_rng(0).integers(-(2**20) + 1, 2**20, (64, 4, 4)).astype(np.int32)
    latents[0] = 0
    for content, decode in (
        (encode_latents(latents, 0, coder), lambda content: decode_latents(content, coder)),
        (encode_latents(latents, 0, coder), lambda content: decode_lowest_latents(content, coder)),
        (encode_integer_chunk(latents), decode_integer_chunk),
    ):
        wrong = latents.copy()
        wrong[3, 2, 1] = value
        verbatim_frame = dataclasses.replace(read_frame(content), verbatim=True, symbols=wrong.tobytes())
        right_hash = hashlib.blake2b(verbatim_frame.symbols, digest_size=8).digest()
        with pytest.raises(CorruptStreamError, match="no encoder writes"):
            decode(write_frame(dataclasses.replace(verbatim_frame, symbol_hash=right_hash)))
