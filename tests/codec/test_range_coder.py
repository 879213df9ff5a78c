"""The range coder beside the one of constriction: the same words, the same symbols, and damage that is named."""

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.codec.entropy_tables import FREQUENCY_TOTAL, LARGEST_MAGNITUDE, TOKENS, tokens_of
from xsarcomp.codec.range_coder import RangeDecoder, RangeEncoder
from xsarcomp.errors import CorruptStreamError, LimitExceededError


def random_frequencies(generator, sharpness):
    """A table of a few bins; the sharper, the more of a row is one token."""
    shares = generator.dirichlet(np.full(TOKENS, sharpness), generator.integers(1, 5))
    frequencies = 1 + np.floor(shares * (FREQUENCY_TOTAL - TOKENS)).astype(np.int64)
    rest = FREQUENCY_TOTAL - frequencies.sum(1)
    frequencies[np.arange(len(rest)), generator.integers(0, TOKENS, len(rest))] += rest
    return frequencies.astype(np.uint16)


def random_pass(generator, sharpness, spread, count):
    """Values, bins and table of a pass."""
    frequencies = random_frequencies(generator, sharpness)
    values = np.rint(generator.laplace(0, spread, count)).clip(1 - LARGEST_MAGNITUDE, LARGEST_MAGNITUDE - 1)
    return values.astype(np.int32), generator.integers(0, len(frequencies), count).astype(np.uint8), frequencies


def random_signs(generator, count):
    """Values, where their signs stand, what is predicted, and how often that is right."""
    values = generator.integers(1, 9, count) * generator.choice([-1, 1], count)
    index = np.sort(generator.permutation(count)[: count // 2])
    agreements = generator.choice([1, 2, 3_000, 32_767, 32_768, 32_769, 65_535], index.size)
    return values.astype(np.int32), index, generator.random(index.size) < 0.5, agreements.astype(np.uint16)


def model_of(row):
    """Categorical model of constriction: it adds one to each of these weights, and then they sum to 2**24."""
    return constriction.stream.model.Categorical(row.astype(np.float64) * 2**8 - 1, perfect=False)


def words_of_constriction(passes, signs):
    """Words of all passes and of the signs behind each."""
    encoder = constriction.stream.queue.RangeEncoder()
    for (values, bins, frequencies), (signed, index, predicted, agreements) in zip(passes, signs, strict=True):
        tokens = tokens_of(np.abs(values)).astype(np.int32)
        for context_bin in np.unique(bins):
            encoder.encode(tokens[bins == context_bin], model_of(frequencies[context_bin]))
        surprises = ((signed[index] < 0) != predicted).astype(np.int32)
        chances = (FREQUENCY_TOTAL - agreements.astype(np.int64)) / FREQUENCY_TOTAL
        if surprises.size:
            encoder.encode(surprises, constriction.stream.model.Bernoulli(perfect=False), chances)
    return encoder.get_compressed()


@given(
    seed=st.integers(0, 2**32),
    sharpness=st.sampled_from([0.005, 0.05, 1.0, 50.0]),
    spread=st.sampled_from([0.0, 0.4, 3.0, 80.0, 2e5]),
    counts=st.lists(st.integers(0, 300), max_size=4),
)
@settings(deadline=None, max_examples=200)
def test_words_are_those_of_constriction_and_all_comes_back(seed, sharpness, spread, counts):
    generator = np.random.default_rng(seed)
    passes = [random_pass(generator, sharpness, spread, count) for count in counts]
    signs = [random_signs(generator, count) for count in counts]
    encoder = RangeEncoder()
    for number, (one, signed) in enumerate(zip(passes, signs, strict=True)):
        encoder.encode(*one, has_signs=number % 2 == 0)
        encoder.encode_signs(*signed)
    words, bits = encoder.finish()
    np.testing.assert_array_equal(words, words_of_constriction(passes, signs))
    decoder = RangeDecoder(words, bits)
    for number, (one, signed) in enumerate(zip(passes, signs, strict=True)):
        values, bins, frequencies = one
        found = decoder.decode(bins, frequencies, has_signs=number % 2 == 0)
        np.testing.assert_array_equal(found, values if number % 2 == 0 else np.abs(values))
        magnitudes = np.abs(signed[0])
        decoder.decode_signs(magnitudes, *signed[1:])
        np.testing.assert_array_equal(magnitudes[signed[1]], signed[0][signed[1]])
    assert decoder.is_exhausted()


def steep(token, share=FREQUENCY_TOTAL - TOKENS + 1):
    """A row that is nearly all one token."""
    row = np.ones((1, TOKENS), np.uint16)
    row[0, token] = share
    return row


@pytest.mark.parametrize("count", [1, 2, 3, 100, 4_097, 70_000])
@pytest.mark.parametrize(("magnitude", "likely"), [(0, 0), (15, 15), (0, 15), (15, 0)])
def test_runs_of_one_symbol_are_coded_as_constriction_does(count, magnitude, likely):
    values, bins, frequencies = np.full(count, magnitude, np.int32), np.zeros(count, np.uint8), steep(likely)
    encoder = RangeEncoder()
    encoder.encode(values, bins, frequencies, has_signs=False)
    words, bits = encoder.finish()
    oracle = constriction.stream.queue.RangeEncoder()
    oracle.encode(values, model_of(frequencies[0]))
    np.testing.assert_array_equal(words, oracle.get_compressed())
    np.testing.assert_array_equal(RangeDecoder(words, bits).decode(bins, frequencies, has_signs=False), values)


def test_a_carry_runs_through_all_words_that_are_full():
    frequencies = random_frequencies(np.random.default_rng(5), 5.0)[:1]
    frequencies[0, 16:] = 1  # tokens are their values
    frequencies[0, 0] += np.uint16(FREQUENCY_TOTAL - frequencies.sum(dtype=np.int64))
    bins = np.zeros(80, np.uint8)
    # the middle of all numbers lies inside the interval of these, so the words before it are 7fffffff ffffffff ...
    middle = np.array([2**31, *([0] * 30)], np.uint32)
    around = RangeDecoder(middle, np.zeros(0, np.uint8)).decode(bins, frequencies, has_signs=False)
    beginnings = set()
    for length in range(len(around)):
        # and with tokens from the upper end the interval goes beyond the middle
        for values in (around[:length], np.append(around[:length], [15, 15, 15]).astype(np.int32)):
            encoder = RangeEncoder()
            encoder.encode(values, np.zeros(values.size, np.uint8), frequencies, has_signs=False)
            words, _ = encoder.finish()
            oracle = constriction.stream.queue.RangeEncoder()
            oracle.encode(values, model_of(frequencies[0]))
            np.testing.assert_array_equal(words, oracle.get_compressed())
            beginnings.add(tuple(words[:3].tolist()))
    assert {(2**31 - 1, 2**32 - 1, 2**32 - 1), (2**31, 0, 0)} <= beginnings


def test_nothing_coded_makes_no_word():
    words, bits = RangeEncoder().finish()
    assert words.size == bits.size == 0
    assert RangeDecoder(words, bits).is_exhausted()


@pytest.mark.parametrize("value", [LARGEST_MAGNITUDE, -LARGEST_MAGNITUDE, 2**31 - 1, -(2**31)])
def test_a_magnitude_beyond_the_format_is_refused_and_nothing_is_coded(value):
    encoder = RangeEncoder()
    values = np.array([3, value, 0], np.int32)
    with pytest.raises(LimitExceededError, match=str(abs(value))):
        encoder.encode(values, np.zeros(3, np.uint8), steep(0), has_signs=True)
    words, bits = encoder.finish()
    assert words.size == bits.size == 0


@given(
    words=st.lists(st.integers(0, 2**32 - 1), max_size=12),
    bits=st.lists(st.integers(0, 1), max_size=40),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=200)
def test_any_words_decode_as_constriction_decodes_them_or_are_refused_with_it(words, bits, seed):
    generator = np.random.default_rng(seed)
    frequencies = random_frequencies(generator, 1.0)[:1]
    frequencies[0, 15:] = 1  # no remainders, which constriction does not know
    frequencies[0, 0] += np.uint16(FREQUENCY_TOTAL - frequencies.sum(dtype=np.int64))
    given_words, bins = np.array(words, np.uint32), np.zeros(30, np.uint8)
    decoder = RangeDecoder(given_words, np.array(bits, np.uint8))
    oracle = constriction.stream.queue.RangeDecoder(given_words)
    agreements = generator.integers(1, FREQUENCY_TOTAL, 30)
    try:
        tokens = oracle.decode(model_of(frequencies[0]), 30)
        chances = (FREQUENCY_TOTAL - agreements) / FREQUENCY_TOTAL
        surprises = oracle.decode(constriction.stream.model.Bernoulli(perfect=False), chances)
    except AssertionError:
        with pytest.raises(CorruptStreamError):
            read(decoder, bins, frequencies, agreements)
        return
    if tokens.max() > 15:
        return
    found, signed = read(decoder, bins, frequencies, agreements)
    np.testing.assert_array_equal(found, tokens)
    np.testing.assert_array_equal(signed < 0, surprises.astype(bool))
    assert decoder.is_exhausted() == (oracle.maybe_exhausted() and len(bits) < 8 and not any(bits))


def read(decoder, bins, frequencies, agreements):
    """Values and signs of as many places."""
    found, signed = decoder.decode(bins, frequencies, has_signs=False), np.ones(agreements.size, np.int32)
    decoder.decode_signs(
        signed, np.arange(agreements.size), np.zeros(agreements.size, bool), agreements.astype(np.uint16)
    )
    return found, signed


@pytest.mark.parametrize("has_signs", [True, False])
def test_missing_bits_are_noticed_wherever_they_end(has_signs):
    values = np.array([0, -1, 70_000, -20, 0, 5, 16], np.int32)
    bins, frequencies = np.zeros(values.size, np.uint8), random_frequencies(np.random.default_rng(1), 10.0)
    encoder = RangeEncoder()
    encoder.encode(values, bins, frequencies, has_signs=has_signs)
    words, bits = encoder.finish()
    assert bits.size == (5 if has_signs else 0) + 15 + 3 + 3
    for length in range(bits.size):
        with pytest.raises(CorruptStreamError, match="last sign or remainder"):
            RangeDecoder(words, bits[:length]).decode(bins, frequencies, has_signs=has_signs)


def test_words_that_no_encoder_writes_are_refused():
    words = np.full(3, 2**32 - 1, np.uint32)
    with pytest.raises(CorruptStreamError, match="impossible"):
        RangeDecoder(words, np.zeros(0, np.uint8)).decode(np.zeros(5, np.uint8), steep(0), has_signs=False)
    magnitudes, places = np.ones(5, np.int32), np.arange(5)
    with pytest.raises(CorruptStreamError, match="impossible"):
        RangeDecoder(words, np.zeros(0, np.uint8)).decode_signs(
            magnitudes, places, np.zeros(5, bool), np.full(5, 9, np.uint16)
        )


def test_words_and_bits_that_are_left_over_are_noticed():
    values, bins = np.array([3, -2, 0, 9], np.int32), np.zeros(4, np.uint8)
    encoder = RangeEncoder()
    encoder.encode(values, bins, steep(0), has_signs=True)
    words, bits = encoder.finish()
    for more_words, more_bits, expected in (
        ([], [], True),
        ([], [0] * 7, True),
        ([], [0] * 8, False),
        ([], [1], False),
        ([0, 0], [], False),
    ):
        decoder = RangeDecoder(
            np.concatenate([words, np.array(more_words, np.uint32)]),
            np.concatenate([bits, np.array(more_bits, np.uint8)]),
        )
        decoder.decode(bins, steep(0), has_signs=True)
        assert decoder.is_exhausted() is expected
