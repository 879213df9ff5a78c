"""Trellis-coded quantization: points and states by their definition, the cheapest path, and what a path is worth."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.format_decoder import points_from_the_format
from tests.support.numpy_formulation import numpy_bins, random_tables
from xsarcomp.codec.coder import QUANTIZER_PASSES, choose_points, initial_points, optimized_symbols
from xsarcomp.codec.contexts import busy_places, quiet_blocks, traverse
from xsarcomp.codec.entropy_coding import decode_symbols, encode_symbols, estimate_bits
from xsarcomp.codec.entropy_tables import CHANNEL_ORDER, CHANNELS, LARGEST_MAGNITUDE
from xsarcomp.codec.quantization import QuantizerStates, points_of, spacings_db, symbols_of


@st.composite
def symbol_cases(draw, limit=LARGEST_MAGNITUDE):
    """Any symbols, and any channels in the trellis but the lowest."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 3)), CHANNELS, draw(st.integers(1, 7)), draw(st.integers(1, 9)))
    symbols = np.rint(generator.laplace(0, draw(st.sampled_from([0.3, 2.0, 1000.0])), shape)).astype(np.int32)
    symbols[generator.random(shape) < 0.01] = generator.choice([1 - limit, limit - 1])
    trellised = generator.random(CHANNELS) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    trellised[0] = False
    return symbols, trellised


@given(case=symbol_cases())
@settings(deadline=None, max_examples=40)
def test_points_and_quantizers_are_those_of_the_format(case):
    symbols, trellised = case
    before = symbols.copy()
    points, quantizers = points_from_the_format(symbols, trellised)
    np.testing.assert_array_equal(points_of(symbols, trellised), points)
    states = QuantizerStates((len(symbols), *symbols.shape[2:]))
    for channel in CHANNEL_ORDER:
        if trellised[channel]:
            np.testing.assert_array_equal(states.quantizers, quantizers[:, channel])
            np.testing.assert_array_equal(states.advance(symbols[:, channel]), points[:, channel])
    np.testing.assert_array_equal(symbols, before)


@given(case=symbol_cases(limit=2**30))
@settings(deadline=None, max_examples=40)
def test_any_symbols_come_back_from_their_points(case):
    symbols, trellised = case
    points = points_of(symbols, trellised)
    assert points.dtype == np.int32
    np.testing.assert_array_equal(symbols_of(points, trellised), symbols)
    np.testing.assert_array_equal(points[:, ~trellised], symbols[:, ~trellised])


@given(case=symbol_cases())
@settings(deadline=None, max_examples=20)
def test_signs_turn_points_and_nothing_else(case):
    symbols, trellised = case
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.int32), symbols.shape)
    np.testing.assert_array_equal(points_of(signs * symbols, trellised), signs * points_of(symbols, trellised))


@given(case=symbol_cases(), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=40)
def test_points_of_a_block_depend_on_no_other_block(case, seed):
    symbols, trellised = case
    planes, _, height, width = symbols.shape
    generator = np.random.default_rng(seed)
    plane, row, column = (int(generator.integers(size)) for size in (planes, height, width))
    points = points_of(symbols, trellised)
    window = np.s_[plane:, :, row:, column:]
    np.testing.assert_array_equal(points_of(symbols[window], trellised), points[window])
    others = symbols + generator.integers(-3, 4, symbols.shape).astype(np.int32)
    others[plane, :, row, column] = symbols[plane, :, row, column]
    found = points_of(np.asfortranarray(others), trellised)
    np.testing.assert_array_equal(found[plane, :, row, column], points[plane, :, row, column])


def test_both_quantizers_have_zero_and_together_each_point_of_the_grid():
    """Channels 1 and 8 bring a block to the odd quantizer; channel 2 runs through the symbols there."""
    symbols = np.zeros((1, CHANNELS, 2, 9), np.int32)
    symbols[0, 2] = np.arange(-4, 5)
    symbols[0, 1, 1] = 1  # an odd symbol is seen in the quantizer two symbols later
    trellised = np.isin(np.arange(CHANNELS), [1, 8, 2])
    even, odd = points_of(symbols, trellised)[0, 2].tolist()
    assert even == [-8, -6, -4, -2, 0, 2, 4, 6, 8]
    assert odd == [-7, -5, -3, -1, 0, 1, 3, 5, 7]


def test_symbols_without_a_trellis_are_points_already():
    symbols = np.arange(2 * CHANNELS * 6, dtype=np.int32).reshape(2, CHANNELS, 2, 3)
    assert points_of(symbols, np.zeros(CHANNELS, bool)) is symbols


def test_points_of_a_trellis_lie_nearer_than_a_step():
    trellised = np.arange(CHANNELS) % 2 == 1
    assert spacings_db(3.2, trellised).tolist() == [3.2, 0.5625 * 3.2] * 32


@given(seed=st.integers(0, 2**32), is_quiet=st.booleans())
@settings(deadline=None, max_examples=25)
def test_bins_of_the_traversal_follow_points_and_states(seed, is_quiet):
    generator = np.random.default_rng(seed)
    tables = random_tables(generator)
    symbols = np.rint(generator.laplace(0, 2, (2, CHANNELS, 9, 7))).astype(np.int32)
    if is_quiet:
        symbols[:, 1:, :5] = 0
    busy = busy_places(quiet_blocks(symbols), symbols.shape)
    assert (busy is not None) == is_quiet
    points, quantizers = points_from_the_format(symbols, tables.trellised[0])
    seen = []

    def transfer(values, bins, key):
        if not key[1]:
            expected = numpy_bins(points, tables, 0, key[2]) + quantizers[:, key[2]] * (tables.thresholds.shape[-1] + 1)
            np.testing.assert_array_equal(bins, expected if busy is None else expected[busy])
            seen.append(key[2])
        return values

    np.testing.assert_array_equal(traverse(symbols, symbols.shape, tables, 0, transfer, busy=busy), symbols)
    assert tuple(seen) == CHANNEL_ORDER[1:]


@given(case=symbol_cases(limit=LARGEST_MAGNITUDE // 2), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_any_symbols_are_a_valid_stream_under_any_trellis(case, seed):
    symbols, trellised = case
    tables = dataclasses.replace(random_tables(np.random.default_rng(seed)), trellised=trellised[None])
    payload = encode_symbols(symbols, tables, 0)
    np.testing.assert_array_equal(decode_symbols(payload, symbols.shape, tables, 0), symbols)
    assert 8 * len(payload) == pytest.approx(estimate_bits(symbols, tables, 0), rel=0.01, abs=128)


def test_points_of_a_coded_stream_are_those_that_were_chosen(coder):
    generator = np.random.default_rng(3)
    falling = 9 * np.exp(-0.2 * np.array([channel // 8 + channel % 8 for channel in range(CHANNELS)]))
    latents = generator.laplace(0, 1, (2, CHANNELS, 12, 11)) * falling[:, None, None]
    step_db, anchor = 1.0, coder.anchor(1.0)
    trellised = coder.trellised(step_db)
    points = initial_points(latents, trellised, step_db)
    for _ in range(QUANTIZER_PASSES):
        points = choose_points(latents, points, coder.tables, anchor, coder.shifts[anchor], step_db, 0.12)
    symbols = optimized_symbols(latents, coder.tables, anchor, coder.shifts[anchor], step_db, 0.12)
    payload = encode_symbols(symbols, coder.tables, anchor)
    decoded = decode_symbols(payload, symbols.shape, coder.tables, anchor)
    np.testing.assert_array_equal(coder.points(decoded, step_db), points)
    np.testing.assert_array_equal(coder.points(decoded, step_db), points_from_the_format(symbols, trellised)[0])
