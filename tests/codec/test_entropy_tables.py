"""Frozen tables: their rules, tokens by their definition, and integers that reach the range coder unchanged."""

import dataclasses

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.format_decoder import RangeDecoderFromTheFormat
from xsarcomp.codec.entropy_tables import (
    CHANNEL_ORDER,
    FREQUENCY_TOTAL,
    LARGEST_MAGNITUDE,
    TOKEN_START,
    TOKENS,
    EntropyTables,
    tokens_of,
)
from xsarcomp.codec.range_coder import RangeEncoder
from xsarcomp.errors import ModelIntegrityError


def tables_with(tables, **changes):
    """A copy of tables with single entries changed: name to (place, value)."""
    arrays = {name: getattr(tables, name).copy() for name in EntropyTables.names()}
    for name, (place, value) in changes.items():
        arrays[name][place] = value
    return EntropyTables(**arrays)


def token_by_definition(magnitude):
    """Magnitudes up to 15 are their own token; above, each octave has two."""
    if magnitude < 16:
        return magnitude
    octave = magnitude.bit_length() - 1
    return 16 + 2 * (octave - 4) + (magnitude >> (octave - 1) & 1)


def test_tokens_follow_their_definition_up_to_the_limit():
    edges = {2**e + h * 2 ** (e - 1) + d for e in range(4, 20) for h in (0, 1) for d in (-1, 0, 1)}
    magnitudes = np.array([*range(200), *sorted(edges), LARGEST_MAGNITUDE - 1])
    expected = [token_by_definition(int(magnitude)) for magnitude in magnitudes]
    np.testing.assert_array_equal(tokens_of(magnitudes.astype(np.int32)), expected)
    assert max(expected) == TOKENS - 1


def test_channels_are_coded_once_each_from_low_to_high_frequency():
    assert sorted(CHANNEL_ORDER) == list(range(64))
    frequencies = [channel // 8 + channel % 8 for channel in CHANNEL_ORDER]
    assert frequencies == sorted(frequencies)


@given(seed=st.integers(0, 2**32), sharpness=st.sampled_from([0.02, 0.2, 1.0, 50.0]))
@settings(deadline=None, max_examples=25)
def test_integer_frequencies_reach_the_coder_unchanged(coder, seed, sharpness):
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet(np.full(TOKENS, sharpness))
    frequencies = 1 + np.floor(shares * (FREQUENCY_TOTAL - TOKENS)).astype(int)
    frequencies[generator.integers(TOKENS)] += FREQUENCY_TOTAL - frequencies.sum()
    tables = tables_with(coder.tables, frequencies=((0, 5, 0), frequencies))
    tokens = np.concatenate([generator.permutation(TOKENS), generator.choice(TOKENS, 300, p=frequencies / 2**16)])
    encoder = RangeEncoder()
    bins = np.zeros(tokens.size, np.uint8)
    encoder.encode(TOKEN_START[tokens].astype(np.int32), bins, tables.frequencies[0, 5], has_signs=False)
    decoder = RangeDecoderFromTheFormat(encoder.finish()[0])
    assert [decoder.decode((256 * frequencies).tolist()) for _ in tokens] == tokens.tolist()


@pytest.mark.parametrize("frequency", [1, 2, 255, 4096, 60_000, FREQUENCY_TOTAL - TOKENS + 1])
def test_a_run_of_one_token_costs_its_code_length(frequency):
    frequencies = np.ones(TOKENS, int)
    frequencies[7], frequencies[30] = frequency, FREQUENCY_TOTAL - frequency - TOKENS + 2
    if frequency == FREQUENCY_TOTAL - TOKENS + 1:
        frequencies[30] = 1
    code_length = 16 - np.log2(frequency)
    count = int(min(2e6, 2e5 / code_length))
    encoder = RangeEncoder()
    encoder.encode(
        np.full(count, 7, np.int32), np.zeros(count, np.uint8), frequencies[None].astype(np.uint16), has_signs=False
    )
    # The coder ends on whole words, and at each token its range, 2**32 to 2**64, is cut to a multiple of
    # 2**24: 1.3e-4 bits in the mean over the logarithm of the range.
    assert 32 * encoder.finish()[0].size == pytest.approx(count * code_length, rel=1e-3, abs=64 + 2e-4 * count)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"term_channels": ((0, 9, 0), 63)}, "not decoded yet"),
        ({"term_channels": ((0, 9, 0), 9)}, "not decoded yet"),
        ({"term_channels": ((0, 0, 0), 0)}, "not decoded yet"),
        ({"term_channels": ((0, 9, 0), 64)}, "does not exist"),
        ({"term_kinds": ((0, 9, 0), 3)}, "does not exist"),
        ({"term_weights": ((0, 9, 0), -1)}, "does not exist"),
        ({"thresholds": ((0, 9, 0), 2**31 - 1)}, "ascending"),
        ({"trellised": ((2, 0), True)}, "lowest channel"),
        ({"lowest_thresholds": ((0, 3, 0), 2**31 - 1)}, "ascending"),
        ({"frequencies": ((0, 9, 0, 0), 0)}, "sum"),
        ({"frequencies": ((2, 63, 39, 47), 9999)}, "sum"),
        ({"lowest_frequencies": ((1, 12, 11, 40), 9999)}, "sum"),
        ({"sign_term_channels": ((0, 9, 0, 0), 63)}, "sign that is not decoded yet"),
        ({"sign_term_channels": ((0, 9, 0, 0), 9), "sign_term_kinds": ((0, 9, 0, 0), 1)}, "not decoded yet"),
        ({"sign_term_channels": ((0, 9, 1, 0), 9), "sign_term_kinds": ((0, 9, 1, 0), 0)}, "not decoded yet"),
        ({"sign_term_channels": ((0, 9, 1, 0), 9), "sign_term_kinds": ((0, 9, 1, 0), 5)}, "not decoded yet"),
        ({"sign_term_channels": ((0, 0, 1, 0), 0), "sign_term_kinds": ((0, 0, 1, 0), 6)}, "not decoded yet"),
        ({"sign_term_channels": ((0, 9, 0, 0), 64)}, "does not exist"),
        ({"sign_term_channels": ((0, 9, 0, 0), 0), "sign_term_kinds": ((0, 9, 0, 0), 1)}, "does not exist"),
        ({"sign_term_kinds": ((0, 9, 0, 0), 8)}, "does not exist"),
        ({"sign_thresholds": ((0, 9, 1, 0), 2**31 - 1), "sign_term_kinds": ((0, 9, 0, 7), 0)}, "ascending"),
        ({"sign_frequencies": ((0, 9, 0, 2, 7), 0)}, "at least 1"),
    ],
)
def test_tables_that_break_a_rule_are_refused(coder, changes, message):
    with pytest.raises(ModelIntegrityError, match=message):
        tables_with(coder.tables, **changes)


@pytest.mark.parametrize("name", EntropyTables.names())
def test_table_of_another_shape_is_refused(coder, name):
    with pytest.raises(ModelIntegrityError, match="shape"):
        dataclasses.replace(coder.tables, **{name: getattr(coder.tables, name)[:, :-1]})


@pytest.mark.parametrize(("bins", "lowest_bins"), [(129, 3), (3, 257)])
def test_tables_with_more_bins_than_a_byte_can_number_are_refused(coder, bins, lowest_bins):
    def resized(name, count, axis):
        array = getattr(coder.tables, name)
        return np.repeat(array.take([0], axis), count, axis)

    changes = {
        "thresholds": resized("thresholds", bins - 1, 2),
        "frequencies": resized("frequencies", 2 * bins, 2),
        "lowest_thresholds": resized("lowest_thresholds", lowest_bins - 1, 2),
        "lowest_frequencies": resized("lowest_frequencies", lowest_bins, 2),
    }
    with pytest.raises(ModelIntegrityError, match="at most 256"):
        dataclasses.replace(coder.tables, **changes)
    fewer = {"frequencies": resized("frequencies", 256, 2), "thresholds": resized("thresholds", 127, 2)}
    assert dataclasses.replace(coder.tables, **fewer).frequencies.shape[2] == 256


def test_model_files_hold_each_table_once_and_whether_a_channel_is_in_the_trellis(coder, model_content):
    arrays = safetensors.numpy.load(model_content)
    assert set(arrays) == {"lapped_basis", "shifts", "odd_frequencies", *EntropyTables.names()}
    assert arrays["trellised"].dtype == bool
    np.testing.assert_array_equal(arrays["trellised"], coder.tables.trellised)
