"""Quantization: laws of rounding, cost and symmetry."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.support.format_decoder import restored_from_the_format
from xsarcomp.codec.entropy_tables import DIRECT_TOKENS
from xsarcomp.codec.kernels import contexts
from xsarcomp.codec.quantization import SHIFT_CLASSES, dequantize, nearest_anchor, quantize_deadzone

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
    spacings_db = np.random.default_rng(0).uniform(0.1, 9, 64)
    latents = np.random.default_rng(1).normal(0, 20, (2, 64, 3, 4))
    points = quantize_deadzone(latents, spacings_db)
    for channel in range(64):
        alone = np.ascontiguousarray(latents[:, channel : channel + 1] / spacings_db[channel])
        np.testing.assert_array_equal(points[:, channel : channel + 1], quantize_deadzone(alone, np.ones(1)))


def quantize_rate_distortion(scaled, bins, code_length, shifts, lagrangian):
    """Symbols that the kernels choose for latents in units of the step, under given context bins."""
    latents, symbols = scaled.reshape(-1), np.empty(scaled.size, np.int32)
    magnitudes, nearest = np.empty(scaled.size), np.empty(scaled.size, np.int32)
    prices, points = np.empty(len(code_length) * DIRECT_TOKENS, np.float32), np.append(0.0, shifts)
    price, point = np.empty((3, scaled.size), np.float32), np.empty((2, scaled.size))
    contexts.round_to_nearest(latents, 1.0, magnitudes, nearest)
    contexts.weigh(code_length, lagrangian, prices)
    contexts.look_up(bins.reshape(-1), nearest, prices, points, price, point)
    contexts.decide(latents, magnitudes, nearest, price, point, symbols)
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
    spacings_db = np.where(generator.random(64) < 0.5, 0.5625 * step_db, step_db)
    latents = dequantize(points, shifts, spacings_db)
    assert latents.dtype == np.float32
    np.testing.assert_array_equal(dequantize(-points, shifts, spacings_db), -latents)
    for place in np.ndindex(points.shape):
        channel = place[1]
        expected = restored_from_the_format(int(points[place]), shifts[channel], np.float32(spacings_db[channel]))
        assert latents[place] == expected


def test_each_magnitude_class_has_its_own_reconstruction_point():
    points = np.zeros((1, 64, 1, 9), np.int32)
    points[0, 9, 0] = [0, 1, -2, 3, -4, 5, 6, 7, -70]
    shifts = np.zeros((64, 6), np.float32)
    shifts[9] = [0.25, 0.125, -0.5, 0.375, 0.5, -0.25]
    spacings_db = np.full(64, 9.0)
    spacings_db[9] = 2.0
    latents = dequantize(points, shifts, spacings_db)
    np.testing.assert_array_equal(latents[0, 9, 0], [0, 1.5, -3.75, 7, -7.25, 9, 12.5, 14.5, -140.5])
    assert not np.delete(latents, 9, axis=1).any()
