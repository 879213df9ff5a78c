"""Stored chunks of backscatter, latents and integers: any array comes back, and no damage passes as pixels."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.codec import chunk, sections
from xsarcomp.codec.chunk import (
    decode_backscatter,
    decode_latents,
    decode_lowest_latents,
    encode_backscatter,
    encode_latents,
)
from xsarcomp.codec.frame import BACKSCATTER, LATENTS, NO_MODEL, read_frame, write_frame
from xsarcomp.codec.integer_chunk import decode_integer_chunk, encode_integer_chunk
from xsarcomp.codec.settings import Settings
from xsarcomp.errors import (
    BitstreamError,
    CorruptStreamError,
    DimensionError,
    LimitExceededError,
    RadiometryError,
    UnsupportedFormatError,
)

NODATA = -9999.0
FLOATS = ("<f4", ">f4", "<f8", ">f8", "<f2", ">f2")
INTEGERS = ("<u2", ">u2", "<i2", ">i2", "<i4")


def in_scale(decibel, scale):
    """Decibels in a scale, as float64."""
    return {"power": 10 ** (decibel / 10), "amplitude": 10 ** (decibel / 20), "decibel": decibel}[scale]


def in_decibel(values, scale):
    values = values.astype(np.float64)
    return values if scale == "decibel" else {"power": 10, "amplitude": 20}[scale] * np.log10(values)


def root_mean_square(difference):
    return float(np.sqrt(np.mean(np.square(difference))))


@pytest.mark.parametrize("scale", ["power", "amplitude", "decibel"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_come_back_within_a_step_and_invalid_pixels_bit_for_bit(coder, speckled, dtype, scale):
    backscatter = in_scale(speckled[:40, :56].astype(np.float64), scale).astype(dtype)
    special = [np.nan, np.inf, -np.inf, NODATA, -0.0, 0.0, -3.5, 600.0]
    backscatter[3, 5 : 5 + len(special)] = special
    backscatter[20:35, 30:50] = np.nan
    invalid = ~np.isfinite(backscatter) | (backscatter == np.dtype(dtype).type(NODATA))
    invalid |= (np.abs(backscatter) > 500) if scale == "decibel" else (backscatter <= 0)
    backscatter.setflags(write=False)
    content = encode_backscatter(backscatter, Settings(step_db=1.0, scale=scale, nodata=NODATA), coder)
    decoded = decode_backscatter(content, NODATA, coder)
    assert decoded.dtype == np.dtype(dtype)
    assert decoded.shape == backscatter.shape
    assert decoded[invalid].tobytes() == canonical(backscatter[invalid]).tobytes()
    error_db = in_decibel(decoded[~invalid], scale) - in_decibel(backscatter[~invalid], scale)
    assert np.isfinite(error_db).all()
    assert root_mean_square(error_db) < 1.0


def canonical(values):
    """Values with each NaN as the default one."""
    values = values.copy()
    values[np.isnan(values)] = np.nan
    return values


@pytest.mark.parametrize("scale", ["power", "amplitude"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_come_back_within_a_step_with_zero_and_nodata_exactly(coder, speckled, dtype, scale):
    level_db = 40 if scale == "power" else 70  # digital numbers of about a thousand: rounding is far below the step
    backscatter = np.rint(in_scale(speckled[:40, :56].astype(np.float64) + level_db, scale)).clip(1, 32_000)
    backscatter = backscatter.astype(dtype)
    backscatter[:9, :9], backscatter[12, 12] = 0, 32_767
    content = encode_backscatter(backscatter, Settings(step_db=1.0, scale=scale, nodata=32_767), coder)
    decoded = decode_backscatter(content, 32_767, coder)
    assert decoded.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(decoded == 0, backscatter == 0)
    np.testing.assert_array_equal(decoded == 32_767, backscatter == 32_767)
    valid = (backscatter > 0) & (backscatter < 32_767)
    assert root_mean_square(in_decibel(decoded[valid], scale) - in_decibel(backscatter[valid], scale)) < 1.0


@pytest.mark.slow
@given(
    shape=st.lists(st.integers(1, 12), min_size=2, max_size=4).map(tuple),
    layout=st.permutations(range(4)),
    step_db=st.sampled_from([0.5, 3.6]),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=20)
def test_memory_layout_of_the_input_does_not_change_the_pixels(coder, shape, layout, step_db, seed):
    generator = np.random.default_rng(seed)
    backscatter = generator.normal(-15, 3, shape).astype(np.float32)
    backscatter[generator.random(shape) < 0.1] = np.nan
    before = backscatter.copy()
    chunk_settings = Settings(step_db=step_db, scale="decibel")
    expected = decode_backscatter(encode_backscatter(backscatter, chunk_settings, coder), None, coder)
    axes = [axis for axis in layout if axis < len(shape)]
    permuted = np.ascontiguousarray(backscatter.transpose(axes)).transpose(np.argsort(axes))
    sparse = np.repeat(backscatter, 3, axis=-1)[..., 1::3]
    backwards = np.ascontiguousarray(backscatter[::-1])[::-1]
    for same in (permuted, sparse, backwards, np.asfortranarray(backscatter), backscatter.astype(">f4")):
        same.setflags(write=False)
        decoded = decode_backscatter(encode_backscatter(same, chunk_settings, coder), None, coder)
        np.testing.assert_array_equal(decoded, expected)
        assert decoded.shape == shape
    np.testing.assert_array_equal(backscatter, before)
    np.testing.assert_array_equal(np.isnan(expected), np.isnan(backscatter))


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_order_comes_back(coder, speckled, order):
    backscatter = np.array(np.stack([speckled[:20, :30]] * 2), order=order)
    decoded = decode_backscatter(
        encode_backscatter(backscatter, Settings(step_db=2.0, scale="decibel"), coder), None, coder
    )
    assert decoded.flags.c_contiguous == (order == "C")
    assert decoded.flags.f_contiguous == (order == "F")
    assert decoded.flags.writeable


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 1), (1, 9), (3, 1, 1, 1), (7, 300)])
@pytest.mark.parametrize("value", [-12.25, np.nan])
def test_chunk_of_few_pixels_comes_back(coder, shape, value):
    backscatter = np.full(shape, value, np.float32)
    chunk_settings = Settings(step_db=0.05, scale="decibel")
    decoded = decode_backscatter(encode_backscatter(backscatter, chunk_settings, coder), None, coder)
    assert decoded.shape == shape
    np.testing.assert_allclose(decoded, backscatter, atol=0.05)


@pytest.mark.parametrize("dtype", ["c8", "?", "U3", "M8[s]"])
def test_data_type_that_is_no_backscatter_is_refused(coder, dtype):
    with pytest.raises(RadiometryError):
        encode_backscatter(np.zeros((8, 8), dtype), Settings(step_db=1.0, scale="power"), coder)


@pytest.mark.parametrize("shape", [(), (9,), (0, 8), (8, 0)])
def test_chunk_without_a_plane_is_refused(coder, shape):
    with pytest.raises(DimensionError):
        encode_backscatter(np.ones(shape, np.float32), Settings(step_db=1.0, scale="power"), coder)


@pytest.fixture(scope="module")
def small_chunk(coder, speckled):
    backscatter = speckled[:9, :10].copy()
    backscatter[0, :3] = np.nan, np.inf, -777.0
    return encode_backscatter(backscatter, Settings(step_db=10.0, scale="decibel"), coder)


def test_each_flipped_bit_and_each_truncation_of_a_chunk_is_noticed(coder, small_chunk):
    for bit in range(8 * len(small_chunk)):
        damaged = bytearray(small_chunk)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            decode_backscatter(bytes(damaged), None, coder)
    for length in range(len(small_chunk)):
        with pytest.raises(BitstreamError):
            decode_backscatter(small_chunk[:length], None, coder)


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_damage_with_right_checksums_gives_the_same_symbols_or_an_error(coder, small_chunk, data):
    frame = read_frame(small_chunk)
    damaged = bytearray(frame.symbols)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_backscatter(write_frame(dataclasses.replace(frame, symbols=bytes(damaged))), None, coder)
    except BitstreamError:
        return
    np.testing.assert_array_equal(decoded, decode_backscatter(small_chunk, None, coder))


NAN_AT_FIRST = b"\x01" + sections.deflate(b"\x80" + bytes(11))
# What a writer with evil intent and right checksums can say about a chunk that cannot be.
LIES = {
    "table set that the model lacks": {"anchor": 3},
    "step of zero": {"step_db": 0.0},
    "step below what coders serve": {"step_db": 0.001},
    "step above what coders serve": {"step_db": 900.0},
    "other shape": {"shape": (9, 20)},
    "more planes": {"shape": (2, 9, 10)},
    "integers with NaN": {"dtype": np.dtype("<i2"), "classes": NAN_AT_FIRST, "exact": b""},
    "symbols missing": {"symbols": b""},
    "class that does not exist": {"classes": b"\x09" + NAN_AT_FIRST[1:], "exact": b""},
    "classes that do not exist": {"classes": b"\xff" + sections.deflate(b"\xc8" * 90), "exact": b""},
    "classes missing, exact values there": {"classes": b""},
    "exact values missing": {"exact": b""},
    "exact values of another type": {"dtype": np.dtype("<f8")},
    "exact values that are none": {"exact": b"\x00"},
}


@pytest.mark.parametrize("name", LIES)
def test_frame_with_right_checksums_that_cannot_be_is_a_bitstream_error(coder, small_chunk, name):
    content = write_frame(dataclasses.replace(read_frame(small_chunk), **LIES[name]))
    with pytest.raises(BitstreamError):
        decode_backscatter(content, None, coder)


@pytest.mark.parametrize("shape", [(2**26, 1, 1), (2**24, 2, 2), (2**26, 1)])
def test_tiny_frame_cannot_ask_for_gigabytes_of_symbols(coder, small_chunk, monkeypatch, shape):
    asked = []

    def refuse(_payload, symbols_shape, *_):
        asked.append(symbols_shape)
        raise LimitExceededError("stopped by the test before anything is allocated")

    monkeypatch.setattr(chunk, "decode_symbols", refuse)
    frame = dataclasses.replace(read_frame(small_chunk), shape=shape, classes=b"", exact=b"")
    with pytest.raises(BitstreamError):
        decode_backscatter(write_frame(frame), None, coder)
    # pixels are padded to whole blocks of 64: the limit must hold for what is allocated
    assert not asked, f"{len(small_chunk)} bytes made the decoder ask for symbols of shape {asked[0]}"


def test_chunk_of_another_model_is_refused(coder, small_chunk):
    other = dataclasses.replace(coder, model_id="0" * 64)
    with pytest.raises(UnsupportedFormatError, match=r"0000000000000000\.\.\."):
        decode_backscatter(small_chunk, None, other)


def latents_of(seed, shape, spread=3.0):
    return np.rint(np.random.default_rng(seed).laplace(0, spread, shape)).astype(np.int32)


@given(
    leading=st.lists(st.integers(1, 3), max_size=2),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    seed=st.integers(0, 2**32),
    anchor=st.integers(0, 2),
    spread=st.sampled_from([0.0, 0.3, 10.0, 3000.0]),
)
@settings(deadline=None, max_examples=40)
def test_latents_come_back_without_loss(coder, leading, rows, columns, seed, anchor, spread):
    latents = latents_of(seed, (*leading, 64, rows, columns), spread)
    for layout in (latents, np.asfortranarray(latents), latents.astype(">i4"), latents[..., ::-1][..., ::-1]):
        decoded = decode_latents(encode_latents(layout, anchor, coder), coder)
        np.testing.assert_array_equal(decoded, latents)
        assert decoded.dtype == np.int32


def test_kinds_of_chunks_are_not_mixed_up(coder, small_chunk):
    latents = encode_latents(latents_of(1, (64, 2, 2)), 0, coder)
    with pytest.raises(UnsupportedFormatError, match="kind"):
        decode_latents(small_chunk, coder)
    with pytest.raises(UnsupportedFormatError, match="kind"):
        decode_backscatter(latents, None, coder)
    assert read_frame(latents).kind == LATENTS
    assert read_frame(small_chunk).kind == BACKSCATTER


def test_each_flipped_bit_of_a_chunk_of_latents_is_noticed(coder):
    content = encode_latents(latents_of(2, (64, 1, 1), 1.0), 0, coder)
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            decode_latents(bytes(damaged), coder)


@pytest.mark.parametrize(
    "latents",
    [
        np.zeros((64, 4), np.int32),
        np.zeros((63, 4, 4), np.int32),
        np.zeros((4, 4, 64), np.int32),
        np.zeros((64, 4, 4), np.int64),
        np.zeros((64, 4, 4), np.uint32),
        np.zeros((64, 4, 4), np.float32),
    ],
    ids=lambda latents: f"{latents.dtype}-{latents.shape}",
)
def test_what_are_no_latents_is_refused(coder, latents):
    with pytest.raises(DimensionError, match="64 latents"):
        encode_latents(latents, 0, coder)


def test_frame_of_latents_whose_shape_is_none_is_refused(coder):
    content = encode_latents(latents_of(1, (64, 2, 2)), 0, coder)
    frame = read_frame(content)
    changes = [{"shape": shape} for shape in ((64, 4), (32, 8, 2), (2, 2, 64))]
    for change in (*changes, {"dtype": np.dtype("<f4")}):
        with pytest.raises(BitstreamError):
            decode_latents(write_frame(dataclasses.replace(frame, **change)), coder)


@given(
    lead=st.lists(st.integers(1, 3), max_size=2),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    spread=st.sampled_from([0.0, 0.6, 4.0, 300.0]),
    anchor=st.integers(0, 2),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=60)
def test_the_lowest_latents_alone_are_those_of_the_whole_chunk(coder, lead, shape, spread, anchor, seed):
    generator = np.random.default_rng(seed)
    decay = 0.9 ** np.arange(64)[:, None, None]
    latents = np.rint(generator.laplace(0, 1, (*lead, 64, *shape)) * spread * decay).astype(np.int32)
    content = encode_latents(latents, anchor, coder)
    lowest = decode_lowest_latents(content, coder)
    np.testing.assert_array_equal(lowest, decode_latents(content, coder)[..., 0, :, :])
    np.testing.assert_array_equal(lowest, latents[..., 0, :, :])


def test_the_lowest_latents_are_refused_where_any_byte_is_damaged_or_missing(coder):
    latents = np.random.default_rng(0).integers(-9, 10, (64, 4, 5)).astype(np.int32)
    content = encode_latents(latents, 1, coder)
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(BitstreamError):
            decode_lowest_latents(bytes(damaged), coder)
    for length in (0, 30, 70, len(content) - 1):
        with pytest.raises(BitstreamError):
            decode_lowest_latents(content[:length], coder)


def test_a_chunk_of_backscatter_has_no_lowest_latents_to_give(coder, speckled):
    content = encode_backscatter(speckled[:16, :16], Settings(step_db=1.0, scale="decibel"), coder)
    with pytest.raises(UnsupportedFormatError, match="the chunk is of kind 1, expected 2"):
        decode_lowest_latents(content, coder)


def some_integers(shape=(2, 3, 17, 9)):
    return np.random.default_rng(1).integers(-3, 4, shape).astype(np.int32)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (2, 3, 17, 9)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_integers_of_any_shape_and_memory_order_come_back(shape, order):
    integers = np.array(some_integers(shape), order=order)
    np.testing.assert_array_equal(decode_integer_chunk(encode_integer_chunk(integers)), integers)
    np.testing.assert_array_equal(decode_integer_chunk(encode_integer_chunk(integers.astype(">i4"))), integers)


def test_the_frame_of_integers_names_no_model_and_the_minor_version_that_brought_it():
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
        {"guarantee_data": b"\x01"},
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


def test_each_flipped_bit_and_each_truncation_of_a_chunk_of_integers_is_refused():
    content = encode_integer_chunk(some_integers((9, 8)))
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            decode_integer_chunk(bytes(damaged))
    for length in range(len(content)):
        with pytest.raises(BitstreamError):
            decode_integer_chunk(content[:length])
