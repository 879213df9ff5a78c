"""Gains of tiles: the mean power is kept whatever the decoder made of a tile, and dark pixels do not pay for bright ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.codec.tile_means import GAIN_STEP_DB, TILE, UNIFORM_LEVEL, apply_gains, compute_gains, tile_count
from xsarcomp.radiometry.pixel_classes import NAN, VALID

OFFSET_DB = -12.0
HALF_STEP_DB = GAIN_STEP_DB / 2 + 1e-4  # and what float32 rounds


def corrected(restored, gains, origin=(0, 0)):
    """Decibels after the gains."""
    signal = (restored - OFFSET_DB).astype(np.float32)
    apply_gains(signal, gains, OFFSET_DB, OFFSET_DB, origin)
    return signal + np.float64(OFFSET_DB)


def tile_means_db(decibel, classes):
    """Mean power of the valid pixels of each tile, tile by tile, dB."""
    means = []
    for plane, valid in zip(10 ** (decibel / 10), classes == VALID, strict=True):
        for top in range(0, plane.shape[0], TILE):
            for left in range(0, plane.shape[1], TILE):
                place = np.s_[top : top + TILE, left : left + TILE]
                if valid[place].any():
                    means.append(10 * np.log10(plane[place][valid[place]].mean()))
    return np.array(means)


def random_scene(seed, shape, spread_db, bias_db):
    """Decibels, a bad copy of them, and classes with holes; a few pixels are bright."""
    generator = np.random.default_rng(seed)
    decibel = generator.normal(-12, 4, shape) + 35 * (generator.random(shape) < 0.002)
    restored = decibel + generator.normal(bias_db, spread_db, shape)
    classes = np.where(generator.random(shape) < 0.2, NAN, VALID).astype(np.uint8)
    classes[:, :TILE, :TILE] = NAN
    return decibel, restored, classes


@given(
    seed=st.integers(0, 2**32),
    shape=st.sampled_from([(1, 1, 1), (1, 64, 64), (2, 65, 100), (1, 130, 70), (3, 30, 190)]),
    spread_db=st.sampled_from([0.0, 0.5, 3.0, 9.0]),
    bias_db=st.sampled_from([0.0, -2.0, 2.0, 12.0, -25.0]),
    uniform=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_the_mean_power_of_every_tile_is_kept_to_half_a_step(seed, shape, spread_db, bias_db, uniform):
    decibel, restored, classes = random_scene(seed, shape, spread_db, bias_db)
    gains = compute_gains(decibel, restored, classes, OFFSET_DB, uniform=uniform)
    assert gains.shape == (shape[0], 2, tile_count(shape[1]), tile_count(shape[2]))
    after = corrected(restored, gains)
    np.testing.assert_allclose(
        tile_means_db(after, classes), tile_means_db(decibel, classes), atol=HALF_STEP_DB, rtol=0
    )


def test_the_sea_around_a_ship_stays_as_it_is_and_the_ship_gets_its_power_back():
    generator = np.random.default_rng(3)
    decibel = generator.normal(-22, 1.5, (1, 64, 64))
    decibel[0, 30:33, 40:44] = 14.0
    restored = decibel + generator.normal(0, 0.3, decibel.shape)
    restored[0, 30:33, 40:44] -= 3.0
    after = corrected(restored, compute_gains(decibel, restored, np.zeros(decibel.shape, np.uint8), OFFSET_DB))
    moved = np.abs(after - restored)
    sea = np.ones(decibel.shape, bool)
    sea[0, 30:33, 40:44] = False
    assert moved[sea].mean() < 0.1  # one gain for all would move it by 3 dB
    assert np.abs(after - decibel)[~sea].mean() < 0.5


def test_uniform_gains_move_no_pixel_by_more_than_the_largest_error():
    decibel, restored, classes = random_scene(8, (2, 100, 130), 0.0, 0.0)
    restored = decibel + np.random.default_rng(9).uniform(-1.5, 1.5, decibel.shape)
    moved = np.abs(corrected(restored, compute_gains(decibel, restored, classes, OFFSET_DB, uniform=True)) - restored)
    assert moved.max() <= 1.5 + HALF_STEP_DB


def test_a_tile_that_cannot_lose_its_power_at_its_bright_pixels_loses_it_everywhere():
    decibel, restored = np.full((1, 64, 64), -40.0), np.full((1, 64, 64), -39.9)
    restored[0, 0, 0] = -43.0
    decibel[0, 5, 5] = 20.0
    restored[0, 5, 6] = 45.0
    gains = compute_gains(decibel, restored, np.zeros(decibel.shape, np.uint8), OFFSET_DB)
    assert gains[0, 1, 0, 0] in (UNIFORM_LEVEL, *range(-30, 30))
    after = corrected(restored, gains)
    np.testing.assert_allclose(
        tile_means_db(after, np.zeros_like(decibel)), tile_means_db(decibel, np.zeros_like(decibel)), atol=HALF_STEP_DB
    )


def test_tiles_without_a_valid_pixel_and_perfect_tiles_have_no_gain():
    decibel, _, classes = random_scene(1, (1, 128, 128), 0, 0)
    assert not compute_gains(decibel, decibel, classes, OFFSET_DB).any()
    assert not compute_gains(decibel, decibel + 3, np.full(decibel.shape, NAN, np.uint8), OFFSET_DB).any()


@pytest.mark.parametrize("origin", [(0, 0), (1, 63), (40, 7), (64, 64)])
def test_a_window_gets_the_same_gains_as_the_whole(origin):
    decibel, restored, classes = random_scene(5, (2, 200, 210), 2.0, 1.0)
    gains = compute_gains(decibel, restored, classes, OFFSET_DB)
    whole = corrected(restored, gains)
    top, left = origin
    tiles = gains[:, :, top // TILE :, left // TILE :]
    window = corrected(restored[:, top:, left:], np.ascontiguousarray(tiles), (top % TILE, left % TILE))
    np.testing.assert_array_equal(window, whole[:, top:, left:])
