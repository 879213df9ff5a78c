"""Windows of a scene: the same symbols as the whole, whatever the cut, the holes and the size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.codec.settings import Settings
from xsarcomp.codec.window import (
    Axis,
    backscatter_from_signal,
    classify_backscatter,
    decode_planes,
    decode_window,
    encode_planes,
    encode_window,
    latent_count,
    latent_span,
    pixel_span,
    signal_from_backscatter,
)
from xsarcomp.errors import DimensionError

SETTINGS = Settings(step_db=2.0, scale="decibel")


def scene_of(speckled, shape, seed, hole_share=0.1):
    """Decibels of any size cut out of a mirrored scene, with single, blockwise and edge holes of NaN."""
    generator = np.random.default_rng(seed)
    planes, height, width = shape
    tall = np.pad(speckled, ((0, max(0, height - 88)), (0, max(0, width - 104))), mode="symmetric")
    backscatter = np.stack([np.roll(tall, 7 * plane)[:height, :width] for plane in range(planes)]).copy()
    holes = generator.random((height, width)) < hole_share
    top, left = generator.integers(0, height), generator.integers(0, width)
    holes[top : top + 40, left : left + 25] |= hole_share > 0
    backscatter[:, holes] = np.nan
    return backscatter


def filled_signal(backscatter, settings, coder, origin=(0, 0)):
    """Signal of backscatter with the pixels filled that its own classes call invalid."""
    return signal_from_backscatter(backscatter, classify_backscatter(backscatter, settings), settings, coder, origin)


def window_symbols(backscatter, coder, rows, columns):
    """Symbols of latents rows x columns from the pixels that :func:`pixel_span` asks for, and no others."""
    height, width = backscatter.shape[1:]
    (top, bottom), (left, right) = pixel_span(*rows, height), pixel_span(*columns, width)
    part = np.ascontiguousarray(backscatter[:, top:bottom, left:right])
    signal = filled_signal(part, SETTINGS, coder, origin=(top, left))
    return encode_window(signal, coder, SETTINGS.step_db, Axis(*rows, height, top), Axis(*columns, width, left))


@st.composite
def scenes_with_windows(draw):
    height, width = draw(st.integers(1, 260)), draw(st.integers(1, 260))
    if draw(st.booleans()):
        height = draw(st.integers(1, 20))
    windows = []
    for size in (height, width):
        start = draw(st.integers(0, latent_count(size) - 1))
        windows.append((start, draw(st.integers(start + 1, latent_count(size)))))
    return (
        (1, height, width),
        windows,
        draw(st.integers(0, 2**32)),
        draw(st.sampled_from([0.0, 0.05, 0.6, 1.0])),
    )


@given(case=scenes_with_windows())
@settings(deadline=None, max_examples=40)
def test_symbols_of_a_window_are_those_of_the_whole_bit_for_bit(coder, speckled, case):
    shape, (rows, columns), seed, hole_share = case
    backscatter = scene_of(speckled, shape, seed, hole_share)
    signal = filled_signal(backscatter, SETTINGS, coder)
    whole = encode_planes(signal, coder, SETTINGS.step_db)
    window = window_symbols(backscatter, coder, rows, columns)
    np.testing.assert_array_equal(window, whole[:, :, slice(*rows), slice(*columns)])


@given(case=scenes_with_windows())
@settings(deadline=None, max_examples=25)
def test_decoded_window_is_that_of_the_whole(coder, speckled, case):
    shape, (rows, columns), seed, _ = case
    signal = filled_signal(scene_of(speckled, shape, seed), SETTINGS, coder)
    symbols = encode_planes(signal, coder, SETTINGS.step_db)
    whole = decode_planes(symbols, shape[1:], coder, SETTINGS.step_db)
    (top, bottom), (left, right) = (
        latent_span(*window, latents, coder.latent_reach)
        for window, latents in zip((rows, columns), symbols.shape[2:], strict=True)
    )
    part = decode_window(
        symbols[:, :, top:bottom, left:right],
        coder,
        SETTINGS.step_db,
        Axis(*rows, symbols.shape[2], top),
        Axis(*columns, symbols.shape[3], left),
    )
    expected = whole[:, 8 * rows[0] : 8 * rows[1], 8 * columns[0] : 8 * columns[1]]
    # float32 sums of another order: far below the step, but not bit for bit
    np.testing.assert_allclose(part[:, : expected.shape[1], : expected.shape[2]], expected, atol=1e-4)


@pytest.mark.parametrize("tile", [1, 2, 5])
def test_tiles_bound_the_memory_and_leave_no_trace(coder, speckled, monkeypatch, tile):
    signal = filled_signal(scene_of(speckled, (2, 75, 91), seed=3), SETTINGS, coder)
    symbols = encode_planes(signal, coder, 1.0)
    decoded = decode_planes(symbols, (75, 91), coder, 1.0)
    monkeypatch.setattr("xsarcomp.codec.window.TILE_LATENTS", tile)
    np.testing.assert_array_equal(encode_planes(signal, coder, 1.0), symbols)
    np.testing.assert_allclose(decode_planes(symbols, (75, 91), coder, 1.0), decoded, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 300), (300, 7), (8, 8), (16, 17), (65, 64)])
def test_scene_of_any_size_comes_back_within_about_a_step(coder, speckled, shape):
    backscatter = scene_of(speckled, (1, *shape), seed=1, hole_share=0.0)
    classes = classify_backscatter(backscatter, SETTINGS)
    signal = signal_from_backscatter(backscatter, classes, SETTINGS, coder)
    symbols = encode_planes(signal, coder, 1.0)
    assert symbols.shape == (1, 64, latent_count(shape[0]), latent_count(shape[1]))
    decoded = decode_planes(symbols, shape, coder, 1.0)
    assert decoded.shape == signal.shape
    assert decoded.dtype == np.float32
    assert not classes.any()
    assert np.sqrt(np.mean((decoded - signal) ** 2)) <= 1.0


@pytest.mark.parametrize("step_db", [0.1, 0.5, 1.0, 3.6, 10.0, 30.0])
def test_error_of_a_scene_is_bounded_by_the_step(coder, speckled, step_db):
    signal = filled_signal(speckled[None], SETTINGS, coder)
    error = decode_planes(encode_planes(signal, coder, step_db), speckled.shape, coder, step_db) - signal
    # the transform is orthogonal: pixels have the error of latents, below a step in the mean square
    assert np.sqrt(np.mean(error**2)) < 0.7 * step_db
    assert np.abs(error).max() < 5 * step_db
    if step_db <= 3.6:
        assert np.sqrt(np.mean(error**2)) > 0.1 * step_db


@given(level_db=st.floats(-60, 30), step_db=st.floats(0.05, 20))
@settings(deadline=None, max_examples=25)
def test_constant_scene_keeps_its_level_within_a_sixteenth_of_a_step(coder, level_db, step_db):
    signal = filled_signal(np.full((1, 40, 24), level_db), SETTINGS, coder)
    decoded = decode_planes(encode_planes(signal, coder, step_db), (40, 24), coder, step_db)
    # half a step of the lowest latent, whose gain is 8; the rest is the rounding of the basis
    assert np.abs(decoded - signal).max() <= step_db / 16 + 0.01


def test_planes_are_independent_of_each_other(coder, speckled):
    signal = filled_signal(scene_of(speckled, (3, 50, 40), seed=9), SETTINGS, coder)
    together = encode_planes(signal, coder, 1.0)
    for plane in range(3):
        alone = encode_planes(signal[plane : plane + 1], coder, 1.0)
        np.testing.assert_array_equal(alone, together[plane : plane + 1])


@given(pixels=st.integers(1, 3000), data=st.data())
@settings(deadline=None, max_examples=60)
def test_pixels_read_for_a_window_start_at_a_block_of_the_filling_and_stay_in_the_scene(pixels, data):
    start = data.draw(st.integers(0, latent_count(pixels) - 1))
    stop = data.draw(st.integers(start + 1, latent_count(pixels)))
    first, last = pixel_span(start, stop, pixels)
    assert first % 16 == 0
    assert 0 <= first <= 8 * start
    assert min(8 * stop, pixels) <= last <= pixels


def test_wrong_number_of_latents_is_refused(coder):
    with pytest.raises(DimensionError, match="latents"):
        decode_planes(np.zeros((1, 64, 2, 2), np.int32), (16, 17), coder, 1.0)


def test_invalid_pixels_come_back_and_the_mean_correction_is_added_to_the_valid(coder, speckled):
    backscatter = scene_of(speckled, (1, 24, 32), seed=2)
    backscatter[0, 0, :3] = np.inf, -np.inf, -9999.0
    declared = Settings(step_db=10.0, scale="decibel", nodata=-9999.0)
    classes = classify_backscatter(backscatter, declared)
    signal = signal_from_backscatter(backscatter, classes, declared, coder)
    assert np.isfinite(signal).all()
    restored = backscatter_from_signal(signal.astype(np.float32), classes, None, np.dtype("f4"), declared, coder)
    assert restored.dtype == np.float32
    invalid = classes > 0
    np.testing.assert_array_equal(restored[invalid], backscatter[invalid])
    correction = coder.mean_correction_db(10.0)
    np.testing.assert_allclose(restored[~invalid], backscatter[~invalid] + correction, atol=0.002)
