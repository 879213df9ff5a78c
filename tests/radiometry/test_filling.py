"""Filling of invalid pixels against a slow reading of its definition, and its independence of the window."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.errors import DimensionError
from xsarcomp.radiometry.filling import FILL_REACH, SIGNAL_STEPS_PER_DB, fill_invalid
from xsarcomp.radiometry.pixel_classes import NAN, VALID


def _scene(seed, shape, invalid_share, blob_size):
    """A signal in steps of 1/512 dB with scattered and clustered invalid pixels."""
    random = np.random.default_rng(seed)
    signal = np.rint(random.normal(0.0, 4.0, shape) * SIGNAL_STEPS_PER_DB) / SIGNAL_STEPS_PER_DB
    rows, columns = shape[-2:]
    coarse = random.random((*shape[:-2], -(-rows // blob_size), -(-columns // blob_size))) < invalid_share
    invalid = coarse.repeat(blob_size, axis=-2).repeat(blob_size, axis=-1)[..., :rows, :columns]
    classes = np.where(invalid, NAN, VALID).astype(np.uint8)
    return np.where(invalid, 0.0, signal), classes


def _rounded(value):
    return np.rint(value * SIGNAL_STEPS_PER_DB) / SIGNAL_STEPS_PER_DB


def _filled_pixel(signal, valid, row, column):
    """The definition, one pixel at a time."""
    for size in (2, 4, 8, 16):
        top, left = row // size * size, column // size * size
        window = (slice(top, top + size), slice(left, left + size))
        if valid[window].any():
            return _rounded(signal[window][valid[window]].mean())
    means = []
    for top in (row // 16 * 16 - 16, row // 16 * 16, row // 16 * 16 + 16):
        for left in (column // 16 * 16 - 16, column // 16 * 16, column // 16 * 16 + 16):
            window = (slice(max(top, 0), max(top + 16, 0)), slice(max(left, 0), max(left + 16, 0)))
            if valid[window].any():
                means.append(_rounded(signal[window][valid[window]].mean()))
    return _rounded(np.mean(means)) if means else 0.0


@pytest.mark.parametrize(("shape", "share", "blob"), [((37, 50), 0.4, 1), ((70, 61), 0.7, 7), ((90, 100), 0.8, 24)])
def test_filled_pixels_follow_the_definition(shape, share, blob):
    signal, classes = _scene(3, shape, share, blob)
    filled = fill_invalid(signal, classes)
    expected = signal.copy()
    for row, column in np.argwhere(classes != VALID):
        expected[row, column] = _filled_pixel(signal, classes == VALID, row, column)
    np.testing.assert_array_equal(filled, expected)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.05, 0.5, 0.9]),
    blob=st.sampled_from([1, 5, 30]),
    data=st.data(),
)
def test_filling_by_windows_equals_filling_the_whole(seed, share, blob, data):
    signal, classes = _scene(seed, (2, 130, 117), share, blob)
    whole = fill_invalid(signal, classes)
    top = data.draw(st.integers(0, 8)) * 16
    left = data.draw(st.integers(0, 7)) * 16
    bottom, right = data.draw(st.integers(top + 1, 130)), data.draw(st.integers(left + 1, 117))
    window_top, window_left = max(top - FILL_REACH, 0), max(left - FILL_REACH, 0)
    window = (slice(None), slice(window_top, bottom + FILL_REACH), slice(window_left, right + FILL_REACH))
    part = fill_invalid(signal[window], classes[window], origin=(window_top, window_left))
    np.testing.assert_array_equal(
        part[:, top - window_top : bottom - window_top, left - window_left : right - window_left],
        whole[:, top:bottom, left:right],
    )


@settings(deadline=None)
@given(seed=st.integers(0, 100), shift=st.integers(-300, 300))
def test_filling_does_not_depend_on_the_number_of_planes_or_memory_layout(seed, shift):
    signal, classes = _scene(seed, (3, 2, 33, 40), 0.5, 3)
    together = fill_invalid(signal, classes, origin=(16 * shift, -16 * shift))
    for index in np.ndindex(3, 2):
        alone = fill_invalid(np.asfortranarray(signal[index]), np.asfortranarray(classes[index]))
        np.testing.assert_array_equal(alone, together[index])


@given(seed=st.integers(0, 100), share=st.floats(0, 1), blob=st.integers(1, 40))
def test_valid_pixels_stay_and_filled_ones_lie_between_the_valid_ones(seed, share, blob):
    signal, classes = _scene(seed, (48, 35), share, blob)
    before = signal.copy()
    filled = fill_invalid(signal, classes)
    np.testing.assert_array_equal(signal, before)
    valid = classes == VALID
    np.testing.assert_array_equal(filled[valid], signal[valid])
    if valid.any():
        lowest, highest = min(signal[valid].min(), 0.0), max(signal[valid].max(), 0.0)
        assert ((filled >= lowest) & (filled <= highest)).all()
    np.testing.assert_array_equal(filled * SIGNAL_STEPS_PER_DB, np.rint(filled * SIGNAL_STEPS_PER_DB))


def test_signal_without_invalid_pixels_is_returned_as_it_is():
    signal = np.ones((2, 20, 20))
    assert fill_invalid(signal, np.zeros(signal.shape, np.uint8)) is signal


@pytest.mark.parametrize("shape", [(0, 0), (2, 0, 5), (0, 4, 4), (1, 1), (5, 1)])
def test_empty_and_wholly_invalid_arrays_are_filled_with_zero(shape):
    filled = fill_invalid(np.zeros(shape), np.full(shape, NAN, np.uint8))
    assert filled.shape == shape
    assert (filled == 0).all()


def test_plane_of_one_level_is_continued_at_that_level_next_to_the_gap():
    signal, classes = np.full((64, 64), -3.5), np.zeros((64, 64), np.uint8)
    signal[:, 32:], classes[:, 32:] = 0.0, NAN
    filled = fill_invalid(signal, classes)
    assert (filled[:, :48] == -3.5).all()
    assert (filled[:, 48:] == 0).all()


@pytest.mark.parametrize(
    ("signal_shape", "classes_shape", "origin"),
    [((8, 8), (8, 8), (8, 0)), ((8, 8), (8, 8), (0, -1)), ((8, 8), (8, 9), (0, 0)), ((8,), (8,), (0, 0))],
)
def test_window_off_the_block_grid_or_of_another_shape_is_refused(signal_shape, classes_shape, origin):
    with pytest.raises(DimensionError):
        fill_invalid(np.zeros(signal_shape), np.ones(classes_shape, np.uint8), origin=origin)
