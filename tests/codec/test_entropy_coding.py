"""Entropy coding: round trips, damage, exact probabilities, and a range decoder written only from the format.

The last tests compare the kernel that codes all channels in one call with the passes taken one by one.
"""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.block_paths import optimized_symbols
from tests.support.format_decoder import (
    RangeDecoderFromTheFormat,
    bin_from_the_format,
    points_from_the_format,
    signs_from_the_format,
)
from xsarcomp.codec.contexts import busy_latents, quiet_blocks, traverse
from xsarcomp.codec.entropy_coding import (
    coded_channel_count,
    decode_channels,
    decode_lowest_channel,
    decode_symbols,
    encode_channels,
    encode_symbols,
    estimate_bits,
)
from xsarcomp.codec.entropy_tables import CHANNEL_ORDER, LARGEST_MAGNITUDE, tokens_of
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.kernels import channels as channel_kernels
from xsarcomp.codec.kernels import contexts as kernels
from xsarcomp.codec.kernels import paths as path_kernels
from xsarcomp.codec.kernels import range_coder as range_kernels
from xsarcomp.codec.kernels import signs as sign_kernels
from xsarcomp.codec.kernels import trellis as trellis_kernels
from xsarcomp.codec.range_coder import RangeDecoder, RangeEncoder
from xsarcomp.codec.signs import SignedValues, traverse_signs
from xsarcomp.codec.symbol_head import SymbolHead
from xsarcomp.errors import CorruptStreamError, LimitExceededError

# A value of the lowest channel is coded as a difference of two of them, which must itself be below the limit.
LARGEST_LOWEST = LARGEST_MAGNITUDE // 2 - 1


@st.composite
def symbol_arrays(draw, largest_side=12):
    """Symbols as they come, and as they never come: empty, sparse, dense, with a few huge magnitudes."""
    shape = (
        draw(st.integers(1, 4)),
        64,
        draw(st.integers(1, largest_side)),
        draw(st.integers(1, largest_side)),
    )
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([0.0, 0.2, 3.0, 40.0, 5000.0]))
    decay = np.array([0.5 ** draw(st.integers(0, 1)) ** (channel // 8 + channel % 8) for channel in range(64)])
    symbols = np.rint(generator.laplace(0, 1, shape) * spread * decay[:, None, None]).astype(np.int32)
    for value in draw(st.lists(st.integers(-(2**20) + 1, 2**20 - 1), max_size=4)):
        place = tuple(generator.integers(0, size) for size in shape)
        symbols[place] = np.clip(value, -LARGEST_LOWEST, LARGEST_LOWEST) if place[1] == 0 else value
    return symbols


@given(symbols=symbol_arrays(), anchor=st.integers(0, 2))
@settings(deadline=None, max_examples=80)
def test_decoding_returns_the_symbols_and_the_size_is_the_estimate(coder, symbols, anchor):
    payload = encode_symbols(symbols, coder.tables, anchor)
    decoded = decode_symbols(payload, symbols.shape, coder.tables, anchor)
    np.testing.assert_array_equal(decoded, symbols)
    assert decoded.dtype == np.int32
    estimated_bytes = estimate_bits(symbols, coder.tables, anchor) / 8
    assert abs(len(payload) - estimated_bytes) <= 0.01 * estimated_bytes + 64


@pytest.mark.parametrize(
    "shape", [(1, 64, 1, 1), (1, 64, 1, 37), (1, 64, 37, 1), (9, 64, 2, 2), (1, 64, 33, 17), (2, 64, 16, 1)]
)
def test_shapes_at_the_edge_of_the_coarse_grid_come_back(coder, shape):
    symbols = np.random.default_rng(4).integers(-30, 31, shape).astype(np.int32)
    payload = encode_symbols(symbols, coder.tables, 1)
    np.testing.assert_array_equal(decode_symbols(payload, shape, coder.tables, 1), symbols)


def test_symbols_that_are_all_zero_cost_five_bytes(coder):
    symbols = np.zeros((2, 64, 40, 40), np.int32)
    assert len(encode_symbols(symbols, coder.tables, 0)) == 5
    assert estimate_bits(symbols, coder.tables, 0) == 0


@pytest.mark.parametrize("channel", [0, 1, 63])
@pytest.mark.parametrize("value", [2**20, -(2**20), 2**24, 2**31 - 1, -(2**31)])
def test_magnitude_beyond_the_format_is_refused(coder, channel, value):
    symbols = np.zeros((1, 64, 2, 2), np.int32)
    symbols[0, channel, 1, 1] = value
    with pytest.raises(LimitExceededError, match="magnitude"):
        encode_symbols(symbols, coder.tables, 0)


def test_differences_of_the_lowest_channel_beyond_the_format_are_refused_and_not_wrapped(coder):
    symbols = np.zeros((1, 64, 1, 2), np.int32)
    symbols[0, 0, 0] = LARGEST_MAGNITUDE - 1, 1 - LARGEST_MAGNITUDE
    with pytest.raises(LimitExceededError):
        encode_symbols(symbols, coder.tables, 0)


@pytest.mark.parametrize("position", [0, 1, 17, 63])
def test_channels_after_the_last_busy_one_are_not_coded(coder, position):
    symbols = np.zeros((1, 64, 3, 3), np.int32)
    symbols[0, CHANNEL_ORDER[position], 2, 2] = -1
    assert coded_channel_count(symbols) == position + 1
    payload = encode_symbols(symbols, coder.tables, 0)
    assert payload[0] == position + 1
    np.testing.assert_array_equal(decode_symbols(payload, symbols.shape, coder.tables, 0), symbols)


def half_empty(planes=2):
    """Symbols whose right half is quiet: nothing but the lowest channel there."""
    symbols = np.rint(np.random.default_rng(4).laplace(0, 1, (planes, 64, 16, 32))).astype(np.int32)
    symbols[:, 1:, :, 16:] = 0
    return symbols


def test_quiet_blocks_cost_next_to_nothing(coder):
    symbols = half_empty()
    symbols[:, 0] = 0
    full = len(encode_symbols(symbols, coder.tables, 0))
    left = len(encode_symbols(symbols[..., :16].copy(), coder.tables, 0))
    assert full < left + 0.03 * left + 40


def test_quiet_blocks_come_back_and_are_estimated(coder):
    symbols = half_empty()
    payload = encode_symbols(symbols, coder.tables, 0)
    assert payload[0] & 0x80
    np.testing.assert_array_equal(decode_symbols(payload, symbols.shape, coder.tables, 0), symbols)
    assert 8 * len(payload) == pytest.approx(estimate_bits(symbols, coder.tables, 0), rel=0.01, abs=64)


def test_a_stream_that_names_other_quiet_blocks_is_refused(coder):
    symbols = half_empty()
    payload = bytearray(encode_symbols(symbols, coder.tables, 0))
    payload[1] ^= 0x10
    with pytest.raises(CorruptStreamError):
        decode_symbols(bytes(payload), symbols.shape, coder.tables, 0)


def decoded_or_none(payload, shape, tables):
    """Symbols, or None where the decoder calls the stream damaged; any other error is a failure."""
    try:
        decoded = decode_symbols(payload, shape, tables, 1)
    except CorruptStreamError:
        return None
    assert decoded.shape == shape
    assert decoded.dtype == np.int32
    return decoded


@pytest.fixture(scope="module")
def small_stream(coder):
    generator = np.random.default_rng(8)
    symbols = np.rint(generator.laplace(0, 3, (1, 64, 2, 3))).astype(np.int32)
    symbols[:, CHANNEL_ORDER[12:]] = 0  # few channels, so that all the bits can be tried
    symbols[0, 0] += 400
    return symbols, encode_symbols(symbols, coder.tables, 1)


def test_each_truncated_stream_is_refused(coder, small_stream):
    symbols, payload = small_stream
    for length in range(len(payload)):
        assert decoded_or_none(payload[:length], symbols.shape, coder.tables) is None


def test_each_flipped_bit_is_noticed_or_gives_other_symbols(coder, small_stream):
    symbols, payload = small_stream
    words_stop = 5 + 4 * int.from_bytes(payload[1:5], "little")
    # a range coder ends with any number in its last interval: bits below that interval say nothing
    meaningless = range(8 * (words_stop - 8), 8 * words_stop)
    for bit in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        decoded = decoded_or_none(bytes(damaged), symbols.shape, coder.tables)
        if decoded is not None and bit not in meaningless:
            assert (decoded != symbols).any(), f"bit {bit} has no effect"


@given(payload=st.binary(max_size=200))
@settings(deadline=None, max_examples=150)
def test_arbitrary_bytes_give_symbols_or_a_corrupt_stream(coder, payload):
    decoded_or_none(payload, (1, 64, 2, 2), coder.tables)
    words = len(payload) // 4
    honest = bytes([3]) + words.to_bytes(4, "little") + payload
    decoded_or_none(honest, (1, 64, 2, 2), coder.tables)


def test_appended_bytes_are_refused(coder, small_stream):
    symbols, payload = small_stream
    for tail in (b"\0", b"\xff" * 9):
        assert decoded_or_none(payload + tail, symbols.shape, coder.tables) is None


def test_decoder_written_from_the_format_reads_the_same_tokens_and_signs(coder, speckled):
    signal = np.pad(np.rint((speckled[None] + 15) * 512) / 512, ((0, 0), (4, 4), (4, 4)), mode="symmetric")
    tables, latents = coder.tables, coder.analyze(signal.astype(np.float64))
    symbols = optimized_symbols(latents, tables, 0, coder.shifts[0], 1.0, 0.12)
    symbols[0, 1, 3, 3] = 70_000
    symbols[0, 1, 5, 4] = -70_000
    assert tables.trellised[0].any()
    points, quantizers = points_from_the_format(symbols, tables.trellised[0])
    coded = []

    def record(values, bins, key):
        table = (tables.lowest_frequencies if key[1] else tables.frequencies)[key[0], key[2]]
        if not key[1]:
            bins = np.array(
                [
                    bin_from_the_format(points, quantizers, tables, 0, key[2], (0, *place))
                    for place in np.ndindex(symbols.shape[2:])
                ]
            ).reshape(values.shape)
        for context_bin in np.unique(bins):
            tokens = tokens_of(np.abs(values[bins == context_bin])).tolist()
            weights = [256 * frequency for frequency in table[context_bin].tolist()]
            coded.extend((weights, token) for token in tokens)
        if not key[1]:
            coded.extend(signs_from_the_format(symbols, tables, key[0], key[2]))
        return values

    traverse(symbols, symbols.shape, tables, 0, record, coded_channel_count(symbols))
    payload = encode_symbols(symbols, tables, 0)
    words = np.frombuffer(payload[5 : 5 + 4 * int.from_bytes(payload[1:5], "little")], "<u4")
    decoder = RangeDecoderFromTheFormat(words)
    assert [decoder.decode(weights) for weights, _ in coded] == [token for _, token in coded]
    assert next(decoder.words, None) is None


@given(symbols=symbol_arrays(), anchor=st.integers(0, 2))
@settings(deadline=None, max_examples=80)
def test_the_lowest_channel_is_decoded_alone_as_with_all_others(coder, symbols, anchor):
    payload = encode_symbols(symbols, coder.tables, anchor)
    lowest = decode_lowest_channel(payload, symbols.shape, coder.tables, anchor)
    np.testing.assert_array_equal(lowest, symbols[:, 0])
    assert lowest.dtype == np.int32


def test_the_lowest_channel_behind_named_quiet_blocks(coder):
    symbols = half_empty()
    payload = encode_symbols(symbols, coder.tables, 1)
    assert payload[0] & 0x80
    np.testing.assert_array_equal(decode_lowest_channel(payload, symbols.shape, coder.tables, 1), symbols[:, 0])


@given(payload=st.binary(max_size=80))
@settings(deadline=None, max_examples=100)
def test_arbitrary_bytes_give_a_lowest_channel_or_a_corrupt_stream(coder, payload):
    with contextlib.suppress(CorruptStreamError):
        assert decode_lowest_channel(payload, (2, 64, 5, 3), coder.tables, 0).shape == (2, 5, 3)


@pytest.fixture(scope="module")
def tables():
    return load_coder("s1-grd-10m-lapped").tables


def coded_pass_by_pass(symbols, tables, anchor, busy):
    """Words and bits of the channels above the lowest, from the functions that know the order."""
    coder, known = RangeEncoder(), SignedValues(symbols.shape, busy)
    known.add_lowest(symbols[:, 0])

    def transfer(values, bins, key):
        if not key[1]:
            flat = np.ascontiguousarray(values).reshape(-1)
            coder.encode(flat, bins.reshape(-1), tables.frequencies[anchor, key[2]], has_signs=False)
            traverse_signs(known, tables, anchor, key[2], flat, coder.encode_signs)
        return values

    traverse(symbols, symbols.shape, tables, anchor, transfer, coded_channel_count(symbols), busy, None)
    return coder.finish()


def coded_at_once(symbols, tables, anchor, busy):
    coder = RangeEncoder()
    encode_channels(coder, symbols, tables, anchor, coded_channel_count(symbols), busy, None)
    return coder.finish()


@given(symbols=symbol_arrays())
@settings(deadline=None, max_examples=120)
def test_one_call_gives_the_words_and_bits_of_all_passes_and_reads_them(tables, symbols):
    quiet, anchor = quiet_blocks(symbols), len(symbols) % 3
    busy = busy_latents(quiet, symbols.shape)
    words, bits = coded_at_once(symbols, tables, anchor, busy)
    expected = coded_pass_by_pass(symbols, tables, anchor, busy)
    np.testing.assert_array_equal(words, expected[0])
    np.testing.assert_array_equal(bits, expected[1])
    decoded = np.zeros_like(symbols)
    decoded[:, 0] = symbols[:, 0]
    if (channels := coded_channel_count(symbols)) > 1:
        decode_channels(RangeDecoder(words, bits), decoded, tables, anchor, SymbolHead(channels, quiet))
    np.testing.assert_array_equal(decoded, symbols)


def test_words_and_bits_may_need_more_room_again_and_again(tables):
    generator = np.random.default_rng(3)
    symbols = generator.integers(-LARGEST_MAGNITUDE + 1, LARGEST_MAGNITUDE, (1, 64, 24, 24)).astype(np.int32)
    symbols[:, 0] //= 4
    words, bits = coded_at_once(symbols, tables, 0, None)
    assert min(words.size, bits.size) > 2**14  # what an encoder begins with is far less
    expected = coded_pass_by_pass(symbols, tables, 0, None)
    np.testing.assert_array_equal(words, expected[0])
    np.testing.assert_array_equal(bits, expected[1])


@pytest.mark.parametrize("channel", [1, 30, 63])
@pytest.mark.parametrize("magnitude", [LARGEST_MAGNITUDE, 2**31 - 1, -(2**31)])
def test_magnitudes_that_the_format_does_not_hold_are_refused(tables, channel, magnitude):
    symbols = np.ones((1, 64, 3, 3), np.int32)
    symbols[0, channel, 1, 1] = magnitude
    with pytest.raises(LimitExceededError, match=str(abs(magnitude))):
        coded_at_once(symbols, tables, 0, None)


@pytest.mark.parametrize("what", ["bits", "words"])
def test_missing_bits_and_impossible_words_are_refused(tables, what):
    symbols = np.random.default_rng(5).integers(-99, 99, (1, 64, 6, 6)).astype(np.int32)
    words, bits = coded_at_once(symbols, tables, 0, None)
    words, bits = (words, bits[:-40]) if what == "bits" else (np.full_like(words, 2**32 - 1), bits)
    decoded = np.zeros_like(symbols)
    decoded[:, 0] = symbols[:, 0]
    with pytest.raises(CorruptStreamError):
        decode_channels(RangeDecoder(words, bits), decoded, tables, 0, SymbolHead(64, None))


def test_the_cache_of_machine_code_depends_on_the_files_that_are_called_into():
    modules = (kernels, path_kernels, range_kernels, sign_kernels, trellis_kernels)
    digest = channel_kernels._sources(*modules)
    for kernel in (channel_kernels.encode_channels, channel_kernels.decode_channels):
        assert digest in [cell.cell_contents for cell in kernel.py_func.__closure__]
    assert channel_kernels._sources(*modules[:4]) != digest
