"""All channels in one call of a kernel: the bytes and symbols of the passes taken one by one."""

import numpy as np
import pytest
from hypothesis import given, settings

from tests.codec.test_entropy_coding import symbol_arrays
from xsarcomp.codec.contexts import busy_places, quiet_blocks, traverse
from xsarcomp.codec.entropy_coding import coded_channel_count, decode_channels, encode_channels
from xsarcomp.codec.entropy_tables import LARGEST_MAGNITUDE
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.kernels import channels, contexts, range_coder, signs, trellis
from xsarcomp.codec.range_coder import RangeDecoder, RangeEncoder
from xsarcomp.codec.signs import SignedValues, transfer_signs
from xsarcomp.errors import CorruptStreamError, LimitExceededError


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
            transfer_signs(known, tables, anchor, key[2], flat, coder.encode_signs)
        return values

    traverse(symbols, symbols.shape, tables, anchor, transfer, coded_channel_count(symbols), busy)
    return coder.finish()


def coded_at_once(symbols, tables, anchor, busy):
    coder = RangeEncoder()
    encode_channels(coder, symbols, tables, anchor, coded_channel_count(symbols), busy)
    return coder.finish()


@given(symbols=symbol_arrays())
@settings(deadline=None, max_examples=120)
def test_one_call_gives_the_words_and_bits_of_all_passes_and_reads_them(tables, symbols):
    busy, anchor = busy_places(quiet_blocks(symbols), symbols.shape), len(symbols) % 3
    words, bits = coded_at_once(symbols, tables, anchor, busy)
    expected = coded_pass_by_pass(symbols, tables, anchor, busy)
    np.testing.assert_array_equal(words, expected[0])
    np.testing.assert_array_equal(bits, expected[1])
    decoded = np.zeros_like(symbols)
    decoded[:, 0] = symbols[:, 0]
    if (count := coded_channel_count(symbols)) > 1:
        decode_channels(RangeDecoder(words, bits), decoded, tables, anchor, count, busy)
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
        decode_channels(RangeDecoder(words, bits), decoded, tables, 0, 64, None)


def test_the_cache_of_machine_code_depends_on_the_files_that_are_called_into():
    modules = (contexts, range_coder, signs, trellis)
    digest = channels._sources(*modules)
    for kernel in (channels.encode_channels, channels.decode_channels):
        assert digest in [cell.cell_contents for cell in kernel.py_func.__closure__]
    assert channels._sources(*modules[:3]) != digest
