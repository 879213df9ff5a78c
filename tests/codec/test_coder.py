"""The coder without a network: limits, locality, and the trade of rate against error."""

import copy
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.block_paths import optimized_symbols
from tests.support.format_decoder import points_from_the_format, restored_from_the_format
from xsarcomp.codec import lapped
from xsarcomp.codec.choice import choose_points, initial_points
from xsarcomp.codec.coder import LARGEST_STEP_DB, QUANTIZER_REACH, SMALLEST_STEP_DB
from xsarcomp.codec.entropy_coding import estimate_bits
from xsarcomp.codec.quantization import dequantize, points_from_symbols, spacings_db, symbols_from_points
from xsarcomp.codec.trellis import BLOCK_TRELLIS
from xsarcomp.errors import RateError


@pytest.fixture(scope="module")
def latents(coder, speckled):
    """Latents of the mirrored simulated plane, with one more around than the quantizer cuts off."""
    signal = np.rint((speckled.astype(np.float64)[None] - coder.card.offset_db) * 512) / 512
    around = lapped.OVERLAP + lapped.BLOCK * (QUANTIZER_REACH + 1)
    return coder.analyze(np.pad(signal, ((0, 0), (around, around), (around, around)), mode="symmetric"))


@pytest.mark.parametrize("step_db", [0.0, -1.0, 0.9 * SMALLEST_STEP_DB, 1.1 * LARGEST_STEP_DB, np.inf, np.nan])
def test_step_outside_the_format_is_refused_everywhere(coder, latents, step_db):
    symbols = np.zeros((1, 64, 3, 3), np.int32)
    for use in (
        lambda: coder.anchor(step_db),
        lambda: coder.quantize(latents, step_db),
        lambda: coder.reconstruct(symbols, step_db),
        lambda: coder.synthesize(symbols, step_db),
    ):
        with pytest.raises(RateError, match=r"0\.02.*64"):
            use()


def test_steps_at_the_limits_are_served_by_the_nearest_tables(coder):
    assert coder.anchor(SMALLEST_STEP_DB) == 0
    assert coder.anchor(LARGEST_STEP_DB) == len(coder.card.anchor_steps_db) - 1
    assert [coder.anchor(step_db) for step_db in coder.card.anchor_steps_db] == [0, 1, 2]


def test_mean_correction_is_that_of_the_card_at_anchors_and_lies_between_them(coder):
    card = coder.card
    corrections = [coder.mean_correction_db(step_db) for step_db in card.anchor_steps_db]
    np.testing.assert_allclose(corrections, card.mean_corrections_db)
    for index, (finer, coarser) in enumerate(zip(card.anchor_steps_db, card.anchor_steps_db[1:], strict=False)):
        # a step that is halfway in the ratio is halfway in the correction
        halfway = np.mean(card.mean_corrections_db[index : index + 2])
        assert coder.mean_correction_db(float(np.sqrt(finer * coarser))) == pytest.approx(halfway)


def test_mean_correction_stays_constant_beyond_the_anchors(coder):
    assert coder.mean_correction_db(SMALLEST_STEP_DB) == coder.card.mean_corrections_db[0]
    assert coder.mean_correction_db(LARGEST_STEP_DB) == coder.card.mean_corrections_db[-1]


def test_texture_gain_scales_all_latents_but_the_lowest_in_the_synthesis(coder):
    symbols = np.random.default_rng(3).integers(-3, 4, (1, 64, 9, 8)).astype(np.int32)
    lowest = symbols.copy()
    lowest[:, 1:] = 0
    step_db = 3.6
    mean = coder.synthesize(lowest, step_db)
    plain = copy.copy(coder)
    object.__setattr__(plain, "card", dataclasses.replace(coder.card, texture_gains=(1.0, 1.0, 1.0)))
    gain = coder.texture_gain(step_db)
    assert gain == pytest.approx(1.02)
    expected = mean + gain * (plain.synthesize(symbols, step_db) - mean)
    np.testing.assert_allclose(coder.synthesize(symbols, step_db), expected, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(plain.synthesize(lowest, step_db), mean)


@given(
    seed=st.integers(0, 2**32),
    step_db=st.sampled_from([0.3, 1.0, 3.6, 12.0]),
    place=st.tuples(st.integers(0, 9), st.integers(0, 11)),
)
@settings(deadline=None, max_examples=25)
def test_a_symbol_depends_on_latents_within_the_reach_of_the_quantizer_alone(coder, latents, seed, step_db, place):
    row, column = place
    generator = np.random.default_rng(seed)
    other = generator.normal(0, 30, latents.shape)
    kept = (
        slice(None),
        slice(None),
        slice(row, row + 2 * QUANTIZER_REACH + 1),
        slice(column, column + 2 * QUANTIZER_REACH + 1),
    )
    other[kept] = latents[kept]
    symbol = coder.quantize(latents, step_db)[:, :, row, column]
    np.testing.assert_array_equal(coder.quantize(other, step_db)[:, :, row, column], symbol)


def test_symbols_of_windows_are_those_of_the_whole(coder, latents):
    whole = coder.quantize(latents, 2.0)
    for top, bottom, left, right in ((0, 1, 0, 1), (2, 7, 5, 12), (4, 5, 0, 13), (0, whole.shape[2], 3, 4)):
        window = latents[:, :, top : bottom + 2 * QUANTIZER_REACH, left : right + 2 * QUANTIZER_REACH]
        np.testing.assert_array_equal(coder.quantize(window, 2.0), whole[:, :, top:bottom, left:right])


def test_lowest_channel_is_rounded_to_the_nearest_step(coder, latents):
    inside = slice(QUANTIZER_REACH, -QUANTIZER_REACH)
    symbols = coder.quantize(latents, 3.6)
    np.testing.assert_array_equal(symbols[:, 0], np.rint(latents[:, 0, inside, inside] / 3.6))


def test_the_small_model_has_a_trellis_where_symbols_are_busy(coder):
    used = coder.tables.trellised.sum(1)
    assert used[0] > used[1] > used[2]
    assert [coder.channels_with_trellis(step_db).sum() for step_db in (1.1, 4.0, 12.0)] == used.tolist()


@pytest.mark.parametrize("step_db", [0.5, 1.0, 3.6, 10.0])
def test_optimised_symbols_are_never_larger_than_rounded_ones_without_a_trellis(coder, latents, step_db):
    anchor = coder.anchor(step_db)
    symbols = optimized_symbols(latents, coder.tables, anchor, coder.shifts[anchor], step_db, 0.12)
    alone = ~coder.tables.trellised[anchor]
    assert (np.abs(symbols) <= np.floor(np.abs(latents) / step_db + 0.5))[:, alone].all()
    assert ((symbols == 0) | (np.sign(symbols) == np.sign(latents)))[:, 1:].all()


def test_points_of_a_path_lie_within_two_spacings_of_their_latents_or_are_zero(coder, latents):
    trellised = coder.tables.trellised[0]
    points = points_from_symbols(optimized_symbols(latents, coder.tables, 0, coder.shifts[0], 1.0, 0.12), trellised)
    distance = np.abs(latents / spacings_db(1.0, trellised, BLOCK_TRELLIS)[:, None, None] - points)[:, trellised]
    # points of a quantizer and a parity are four apart; in the odd quantizer 0, 3, 7, ... have a larger first gap
    assert ((distance <= 2 + 1e-5) | (points[:, trellised] == 0) | (np.abs(points[:, trellised]) == 3)).all()


@pytest.mark.parametrize("step_db", [0.7, 3.3, 9.0])
def test_latents_of_symbols_are_those_of_the_format_to_the_bit(coder, step_db):
    anchor, trellised = coder.anchor(step_db), coder.channels_with_trellis(step_db)
    symbols = np.rint(np.random.default_rng(5).laplace(0, 3, (2, 64, 4, 5))).astype(np.int32)
    points, _ = points_from_the_format(symbols, trellised)
    restored = coder.reconstruct(coder.points(symbols, step_db), step_db)
    for place in np.ndindex(symbols.shape):
        channel = place[1]
        spacing = np.float32(9 / 16 * step_db if trellised[channel] else step_db)
        expected = restored_from_the_format(int(points[place]), coder.shifts[anchor, channel], spacing)
        assert restored[place] == expected


def test_dearer_bits_lower_the_rate_and_raise_the_error(coder, latents):
    trellised = coder.tables.trellised[0]
    start, shifts, spacings = (
        initial_points(latents, trellised, 1.0, BLOCK_TRELLIS),
        coder.shifts[0],
        spacings_db(1.0, trellised, BLOCK_TRELLIS),
    )
    rates, errors = [], []
    for lagrangian in (0.0, 0.12, 0.5, 2.0):
        chosen = choose_points(latents, start, coder.tables, 0, shifts, 1.0, lagrangian)
        np.testing.assert_array_equal(chosen[:, 0], start[:, 0])  # the lowest channel takes no part
        rates.append(estimate_bits(symbols_from_points(chosen, trellised), coder.tables, 0))
        errors.append(float(np.mean((dequantize(chosen, shifts, spacings) - latents) ** 2)))
    assert rates == sorted(rates, reverse=True)
    assert errors == sorted(errors)


def test_quantizer_leaves_its_input_alone(coder, latents):
    before = latents.copy()
    coder.quantize(latents, 1.0)
    np.testing.assert_array_equal(latents, before)


def rate_and_error(coder, latents, step_db):
    """Bits per pixel and root mean squared error in dB of the decoded signal."""
    symbols = coder.quantize(latents, step_db)
    signal = coder.synthesize(symbols, step_db)
    exact = lapped.synthesize(latents.astype(np.float32), coder.basis)
    cut = (latents.shape[2] * 8 - 16 - signal.shape[1]) // 2
    difference = signal - exact[:, cut:-cut, cut:-cut]
    bits = estimate_bits(symbols, coder.tables, coder.anchor(step_db))
    return bits / (64 * symbols[0, 0].size), float(np.sqrt(np.mean(difference**2)))


def test_rate_falls_and_error_rises_with_the_step(coder, latents):
    points = [rate_and_error(coder, latents, step_db) for step_db in (0.5, 1.0, 2.0, 3.6, 7.0, 12.0)]
    rates, errors = zip(*points, strict=True)
    assert list(rates) == sorted(rates, reverse=True)
    assert list(errors) == sorted(errors)
    assert rates[0] > 5 * rates[-1]
    assert errors[0] < 0.5  # no more than a step


def test_synthesis_gives_pixels_of_whole_blocks_without_the_latents_around(coder):
    signal = coder.synthesize(np.zeros((2, 64, 5, 7), np.int32), 1.0)
    assert coder.latent_reach == 1
    assert signal.shape == (2, 8 * 3, 8 * 5)
    assert signal.dtype == np.float32
    assert not signal.any()
