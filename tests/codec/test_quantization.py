"""Quantization: laws of rounding, cost and symmetry; points, states and the cheapest path of the trellis."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.support.block_paths import optimized_symbols
from tests.support.format_decoder import points_from_the_format, restored_from_the_format
from tests.support.numpy_formulation import numpy_bins, random_tables
from xsarcomp.codec.choice import QUANTIZER_PASSES, choose_points, initial_points
from xsarcomp.codec.contexts import busy_latents, quiet_blocks, traverse
from xsarcomp.codec.entropy_coding import decode_symbols, encode_symbols, estimate_bits
from xsarcomp.codec.entropy_tables import CHANNEL_ORDER, CHANNELS, DIRECT_TOKENS, LARGEST_MAGNITUDE
from xsarcomp.codec.kernels import contexts as kernels
from xsarcomp.codec.quantization import (
    SHIFT_CLASSES,
    QuantizerStates,
    dequantize,
    nearest_anchor,
    points_from_symbols,
    quantize_deadzone,
    spacings_db,
    symbols_from_points,
)
from xsarcomp.codec.trellis import BLOCK_TRELLIS

ANCHORS_DB = np.array([0.25, 0.5, 1.0, 3.6, 10.0])
scaled_latents = arrays.arrays(np.float64, (1, 2, 3, 5), elements=st.floats(-300, 300))
ONES = np.ones(2)


@pytest.mark.parametrize("index", range(len(ANCHORS_DB)))
def test_an_anchor_is_nearest_to_itself(index):
    assert nearest_anchor(float(ANCHORS_DB[index]), ANCHORS_DB) == index


@given(step_db=st.floats(0.01, 100))
def test_nearest_anchor_has_the_smallest_ratio_to_the_step(step_db):
    ratios = [max(step_db / anchor, anchor / step_db) for anchor in ANCHORS_DB.tolist()]
    chosen = nearest_anchor(step_db, ANCHORS_DB)
    assert ratios[chosen] <= min(ratios) * (1 + 1e-12)


@given(scaled=scaled_latents, rounding=st.floats(0, 0.5))
def test_deadzone_treats_both_signs_alike(scaled, rounding):
    symbols = quantize_deadzone(scaled, ONES, rounding)
    assert symbols.dtype == np.int32
    np.testing.assert_array_equal(quantize_deadzone(-scaled, ONES, rounding), -symbols)


@given(scaled=scaled_latents, rounding=st.floats(0, 0.5))
def test_deadzone_rounds_to_one_of_the_two_integers_around_and_rather_to_zero(scaled, rounding):
    magnitude, symbol = np.abs(scaled), np.abs(quantize_deadzone(scaled, ONES, rounding))
    # the sum of latent and rounding is itself rounded to a float64
    assert (magnitude - symbol < 1 - rounding + 1e-12).all()
    assert (symbol - magnitude <= rounding + 1e-12).all()
    assert (symbol[magnitude < 1 - rounding - 1e-12] == 0).all()


def test_deadzone_measures_each_channel_in_its_own_spacing():
    spacings = np.random.default_rng(0).uniform(0.1, 9, 64)
    latents = np.random.default_rng(1).normal(0, 20, (2, 64, 3, 4))
    points = quantize_deadzone(latents, spacings)
    for channel in range(64):
        alone = np.ascontiguousarray(latents[:, channel : channel + 1] / spacings[channel])
        np.testing.assert_array_equal(points[:, channel : channel + 1], quantize_deadzone(alone, np.ones(1)))


def quantize_rate_distortion(scaled, bins, code_length, shifts, lagrangian):
    """Symbols that the kernels choose for latents in units of the step, under given context bins."""
    latents, symbols = scaled.reshape(-1), np.empty(scaled.size, np.int32)
    magnitudes, nearest = np.empty(scaled.size), np.empty(scaled.size, np.int32)
    prices, points = np.empty(len(code_length) * DIRECT_TOKENS, np.float32), np.append(0.0, shifts)
    price, point = np.empty((3, scaled.size), np.float32), np.empty((2, scaled.size))
    kernels.round_to_nearest(latents, 1.0, magnitudes, nearest)
    kernels.weigh(code_length, lagrangian, prices)
    kernels.look_up(bins.reshape(-1), nearest, prices, points, price, point)
    kernels.decide(latents, magnitudes, nearest, price, point, symbols)
    return symbols.reshape(scaled.shape)


def cost(scaled, symbols, bins, code_length, shifts, lagrangian):
    """Squared error plus weighted bits of given symbols, written out symbol by symbol."""
    total = np.empty(scaled.shape)
    for place in np.ndindex(*scaled.shape):
        magnitude = abs(int(symbols[place]))
        value = 0.0 if magnitude == 0 else magnitude - float(shifts[min(magnitude, SHIFT_CLASSES) - 1])
        bits = float(code_length[bins[place], min(magnitude, code_length.shape[1] - 1)]) + (magnitude > 0)
        total[place] = (abs(float(scaled[place])) - value) ** 2 + lagrangian * bits
    return total


@st.composite
def rate_distortion_cases(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    scaled = generator.laplace(0, draw(st.sampled_from([0.3, 1.5, 20.0])), (2, 4, 6))
    bins = generator.integers(0, 4, scaled.shape).astype(np.uint8)
    code_length = -np.log2(generator.dirichlet(np.full(16, 0.5), 4) + 1e-5).astype(np.float32)
    shifts = generator.uniform(-0.1, 0.3, SHIFT_CLASSES).astype(np.float32)
    return scaled, bins, code_length, shifts, draw(st.sampled_from([0.0, 0.05, 0.12, 1.0]))


@given(case=rate_distortion_cases())
@settings(deadline=None, max_examples=50)
def test_the_chosen_symbol_never_costs_more_than_the_nearest_the_one_below_or_zero(case):
    scaled, *rest = case
    chosen = quantize_rate_distortion(*case)
    nearest = np.floor(np.abs(scaled) + 0.5).astype(int)
    chosen_cost = cost(scaled, chosen, *rest)
    for candidate in (nearest, np.maximum(nearest - 1, 0), np.zeros_like(nearest)):
        # code lengths are float32: costs carry about seven digits
        assert (chosen_cost <= cost(scaled, candidate, *rest) * (1 + 1e-5) + 1e-5).all()
    assert (np.abs(chosen) <= nearest).all()
    assert ((chosen == 0) | (np.sign(chosen) == np.sign(scaled))).all()


@given(case=rate_distortion_cases())
@settings(deadline=None, max_examples=20)
def test_the_choice_does_not_depend_on_the_sign_of_a_latent(case):
    scaled, *rest = case
    np.testing.assert_array_equal(quantize_rate_distortion(-scaled, *rest), -quantize_rate_distortion(scaled, *rest))


def test_without_a_price_of_bits_the_nearest_symbol_is_chosen():
    scaled = np.random.default_rng(1).normal(0, 3, (1, 8, 8))
    chosen = quantize_rate_distortion(
        scaled, np.zeros(scaled.shape, np.uint8), np.ones((1, 16), np.float32), np.zeros(SHIFT_CLASSES, np.float32), 0.0
    )
    np.testing.assert_array_equal(chosen, np.rint(scaled))


def test_where_bits_are_dear_all_symbols_are_zero():
    scaled = np.random.default_rng(1).normal(0, 3, (1, 8, 8))
    code_length = np.arange(1, 17, dtype=np.float32)[None]
    chosen = quantize_rate_distortion(
        scaled, np.zeros(scaled.shape, np.uint8), code_length, np.zeros(SHIFT_CLASSES, np.float32), 1e6
    )
    assert not chosen.any()


point_arrays = arrays.arrays(np.int32, (1, 64, 2, 2), elements=st.integers(-(2**21) + 2, 2**21 - 2))


@given(points=point_arrays, seed=st.integers(0, 2**32), step_db=st.floats(0.02, 64))
@settings(deadline=None, max_examples=50)
def test_reconstruction_is_odd_and_that_of_the_format_to_the_bit(points, seed, step_db):
    generator = np.random.default_rng(seed)
    shifts = generator.uniform(-0.2, 0.4, (64, SHIFT_CLASSES)).astype(np.float32)
    spacings = np.where(generator.random(64) < 0.5, 0.5625 * step_db, step_db)
    latents = dequantize(points, shifts, spacings)
    assert latents.dtype == np.float32
    np.testing.assert_array_equal(dequantize(-points, shifts, spacings), -latents)
    for place in np.ndindex(points.shape):
        channel = place[1]
        expected = restored_from_the_format(int(points[place]), shifts[channel], np.float32(spacings[channel]))
        assert latents[place] == expected


def test_each_magnitude_class_has_its_own_reconstruction_point():
    points = np.zeros((1, 64, 1, 9), np.int32)
    points[0, 9, 0] = [0, 1, -2, 3, -4, 5, 6, 7, -70]
    shifts = np.zeros((64, 6), np.float32)
    shifts[9] = [0.25, 0.125, -0.5, 0.375, 0.5, -0.25]
    spacings = np.full(64, 9.0)
    spacings[9] = 2.0
    latents = dequantize(points, shifts, spacings)
    np.testing.assert_array_equal(latents[0, 9, 0], [0, 1.5, -3.75, 7, -7.25, 9, 12.5, 14.5, -140.5])
    assert not np.delete(latents, 9, axis=1).any()


@st.composite
def symbol_cases(draw, limit=LARGEST_MAGNITUDE):
    """Any symbols, and any channels in the trellis but the lowest."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 3)), CHANNELS, draw(st.integers(1, 7)), draw(st.integers(1, 9)))
    symbols = np.rint(generator.laplace(0, draw(st.sampled_from([0.3, 2.0, 1000.0])), shape)).astype(np.int32)
    symbols[generator.random(shape) < 0.01] = generator.choice([1 - limit, limit - 1])
    has_trellis = generator.random(CHANNELS) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    has_trellis[0] = False
    return symbols, has_trellis


@given(case=symbol_cases())
@settings(deadline=None, max_examples=40)
def test_points_and_quantizers_are_those_of_the_format(case):
    symbols, has_trellis = case
    before = symbols.copy()
    points, quantizers = points_from_the_format(symbols, has_trellis)
    np.testing.assert_array_equal(points_from_symbols(symbols, has_trellis), points)
    states = QuantizerStates((len(symbols), *symbols.shape[2:]))
    for channel in CHANNEL_ORDER:
        if has_trellis[channel]:
            np.testing.assert_array_equal(states.quantizers, quantizers[:, channel])
            np.testing.assert_array_equal(states.advance(symbols[:, channel]), points[:, channel])
    np.testing.assert_array_equal(symbols, before)


@given(case=symbol_cases(limit=2**30))
@settings(deadline=None, max_examples=40)
def test_any_symbols_come_back_from_their_points(case):
    symbols, has_trellis = case
    points = points_from_symbols(symbols, has_trellis)
    assert points.dtype == np.int32
    np.testing.assert_array_equal(symbols_from_points(points, has_trellis), symbols)
    np.testing.assert_array_equal(points[:, ~has_trellis], symbols[:, ~has_trellis])


@given(case=symbol_cases())
@settings(deadline=None, max_examples=20)
def test_signs_turn_points_and_nothing_else(case):
    symbols, has_trellis = case
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.int32), symbols.shape)
    np.testing.assert_array_equal(
        points_from_symbols(signs * symbols, has_trellis), signs * points_from_symbols(symbols, has_trellis)
    )


@given(case=symbol_cases(), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=40)
def test_points_of_a_block_depend_on_no_other_block(case, seed):
    symbols, has_trellis = case
    planes, _, height, width = symbols.shape
    generator = np.random.default_rng(seed)
    plane, row, column = (int(generator.integers(size)) for size in (planes, height, width))
    points = points_from_symbols(symbols, has_trellis)
    window = np.s_[plane:, :, row:, column:]
    np.testing.assert_array_equal(points_from_symbols(symbols[window], has_trellis), points[window])
    others = symbols + generator.integers(-3, 4, symbols.shape).astype(np.int32)
    others[plane, :, row, column] = symbols[plane, :, row, column]
    found = points_from_symbols(np.asfortranarray(others), has_trellis)
    np.testing.assert_array_equal(found[plane, :, row, column], points[plane, :, row, column])


def test_both_quantizers_have_zero_and_together_each_point_of_the_grid():
    """Channels 1 and 8 bring a block to the odd quantizer; channel 2 runs through the symbols there."""
    symbols = np.zeros((1, CHANNELS, 2, 9), np.int32)
    symbols[0, 2] = np.arange(-4, 5)
    symbols[0, 1, 1] = 1  # an odd symbol is seen in the quantizer two symbols later
    has_trellis = np.isin(np.arange(CHANNELS), [1, 8, 2])
    even, odd = points_from_symbols(symbols, has_trellis)[0, 2].tolist()
    assert even == [-8, -6, -4, -2, 0, 2, 4, 6, 8]
    assert odd == [-7, -5, -3, -1, 0, 1, 3, 5, 7]


def test_symbols_without_a_trellis_are_points_already():
    symbols = np.arange(2 * CHANNELS * 6, dtype=np.int32).reshape(2, CHANNELS, 2, 3)
    assert points_from_symbols(symbols, np.zeros(CHANNELS, bool)) is symbols


def test_points_of_a_trellis_lie_nearer_than_a_step():
    has_trellis = np.arange(CHANNELS) % 2 == 1
    assert spacings_db(3.2, has_trellis, BLOCK_TRELLIS).tolist() == [3.2, 0.5625 * 3.2] * 32


@given(seed=st.integers(0, 2**32), is_quiet=st.booleans())
@settings(deadline=None, max_examples=25)
def test_bins_of_the_traversal_follow_points_and_states(seed, is_quiet):
    generator = np.random.default_rng(seed)
    tables = random_tables(generator)
    symbols = np.rint(generator.laplace(0, 2, (2, CHANNELS, 9, 7))).astype(np.int32)
    if is_quiet:
        symbols[:, 1:, :5] = 0
    busy = busy_latents(quiet_blocks(symbols), symbols.shape)
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
    symbols, has_trellis = case
    tables = dataclasses.replace(random_tables(np.random.default_rng(seed)), trellised=has_trellis[None])
    payload = encode_symbols(symbols, tables, 0)
    np.testing.assert_array_equal(decode_symbols(payload, symbols.shape, tables, 0), symbols)
    assert 8 * len(payload) == pytest.approx(estimate_bits(symbols, tables, 0), rel=0.01, abs=128)


def test_points_of_a_coded_stream_are_those_that_were_chosen(coder):
    generator = np.random.default_rng(3)
    falling = 9 * np.exp(-0.2 * np.array([channel // 8 + channel % 8 for channel in range(CHANNELS)]))
    latents = generator.laplace(0, 1, (2, CHANNELS, 12, 11)) * falling[:, None, None]
    step_db, anchor = 1.0, coder.anchor(1.0)
    has_trellis = coder.channels_with_trellis(step_db)
    points = initial_points(latents, has_trellis, step_db, BLOCK_TRELLIS)
    for _ in range(QUANTIZER_PASSES):
        points = choose_points(latents, points, coder.tables, anchor, coder.shifts[anchor], step_db, 0.12)
    symbols = optimized_symbols(latents, coder.tables, anchor, coder.shifts[anchor], step_db, 0.12)
    payload = encode_symbols(symbols, coder.tables, anchor)
    decoded = decode_symbols(payload, symbols.shape, coder.tables, anchor)
    np.testing.assert_array_equal(coder.points(decoded, step_db), points)
    np.testing.assert_array_equal(coder.points(decoded, step_db), points_from_the_format(symbols, has_trellis)[0])
