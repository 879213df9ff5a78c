"""The lapped transform against its defining equations and against arithmetic in Python integers."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.codec import lapped
from xsarcomp.tiling import reflect_indices

# Each coefficient is off by up to half of 2**-15, so a sum of 16 products by up to about sixteen such steps.
BASIS_TOLERANCE = 16 * 2.0**-15
BASIS = lapped.lapped_basis()


def random_signal(seed, shape, largest_steps=40 * 512):
    """Signal of random multiples of 1/512 dB, shape (plane, y, x)."""
    return np.random.default_rng(seed).integers(-largest_steps, largest_steps + 1, shape) / 512


def exact_latent(steps, basis, row, column, vertical, horizontal):
    """One latent in units of 2**-39 dB, by the definition and in integers without limits."""
    return sum(
        basis[i][vertical] * basis[j][horizontal] * steps[8 * row + i][8 * column + j]
        for i in range(16)
        for j in range(16)
    )


@given(angles=st.tuples(*[st.floats(-np.pi, np.pi)] * 6))
@settings(deadline=None, max_examples=50)
def test_basis_is_orthonormal_and_shifted_copies_cancel_whatever_the_angles(angles):
    first, second = np.split(lapped.lapped_basis(angles) / lapped.BASIS_STEPS, 2)
    unit, zero = np.eye(8), np.zeros((8, 8))
    np.testing.assert_allclose(first.T @ first + second.T @ second, unit, atol=BASIS_TOLERANCE)
    np.testing.assert_allclose(first.T @ second, zero, atol=BASIS_TOLERANCE)
    # perfect reconstruction: what overlapping blocks add to a pixel is the pixel, and its alias vanishes
    np.testing.assert_allclose(first @ first.T + second @ second.T, unit, atol=BASIS_TOLERANCE)
    np.testing.assert_allclose(second @ first.T, zero, atol=BASIS_TOLERANCE)


def test_basis_functions_are_even_and_odd_in_turn_to_the_last_bit():
    signs = np.where(np.arange(8) % 2, -1, 1)
    assert BASIS.shape == (16, 8)
    assert BASIS.dtype == np.int32
    np.testing.assert_array_equal(BASIS[::-1], BASIS * signs)


def test_no_sum_of_the_analysis_leaves_the_53_bits_of_a_float64():
    largest_sum = 1024 * 512 * int(np.abs(BASIS).sum(0).max()) ** 2
    assert largest_sum <= 2**53


@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(1, 2),
    columns=st.integers(1, 2),
    largest_steps=st.sampled_from([1, 3000, 30 * 512, 1024 * 512]),
)
@settings(deadline=None, max_examples=12)
def test_analysis_equals_arithmetic_in_integers_without_rounding(seed, rows, columns, largest_steps):
    signal = random_signal(seed, (1, 8 * rows + 8, 8 * columns + 8), largest_steps)
    assert_equals_exact_arithmetic(signal, lapped.analyze(signal, BASIS))


def test_analysis_is_exact_for_the_signal_that_fills_a_latent_most():
    loudest = 1024 * 512 - 1  # odd, so that the lowest bit of each product counts
    for vertical, horizontal in ((0, 0), (4, 4), (1, 6)):
        signs = np.sign(np.outer(BASIS[:, vertical], BASIS[:, horizontal])) | 1
        signal = (signs * loudest / 512)[None]
        assert_equals_exact_arithmetic(signal, lapped.analyze(signal, BASIS))


def assert_equals_exact_arithmetic(signal, latents):
    steps, basis = np.rint(signal[0] * 512).astype(int).tolist(), BASIS.tolist()
    for channel, row, column in np.ndindex(*latents.shape[1:]):
        expected = exact_latent(steps, basis, row, column, channel // 8, channel % 8)
        assert Fraction(float(latents[0, channel, row, column])) == Fraction(expected, 2**39)


@given(data=st.data(), seed=st.integers(0, 2**32), rows=st.integers(1, 7), columns=st.integers(1, 7))
@settings(deadline=None, max_examples=40)
def test_latents_of_a_window_are_those_of_the_whole_bit_for_bit(data, seed, rows, columns):
    signal = random_signal(seed, (2, 8 * rows + 8, 8 * columns + 8))
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    bottom, right = data.draw(st.integers(top + 1, rows)), data.draw(st.integers(left + 1, columns))
    window = signal[:, 8 * top : 8 * bottom + 8, 8 * left : 8 * right + 8]
    whole = lapped.analyze(signal, BASIS)
    np.testing.assert_array_equal(lapped.analyze(window, BASIS), whole[:, :, top:bottom, left:right])


@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_latents_do_not_depend_on_the_memory_layout_of_the_signal(axes):
    signal = random_signal(5, (3, 40, 56))
    expected = lapped.analyze(signal, BASIS)
    permuted = np.ascontiguousarray(signal.transpose(axes)).transpose(np.argsort(axes))
    backwards = np.ascontiguousarray(permuted[::-1, ::-1, ::-1])[::-1, ::-1, ::-1]
    sparse = np.repeat(permuted, 2, axis=2)[:, :, ::2]
    for layout in (permuted, backwards, sparse, np.asfortranarray(signal)):
        layout.setflags(write=False)
        latents = lapped.analyze(layout, BASIS)
        np.testing.assert_array_equal(latents, expected)
        assert latents.flags.c_contiguous


@given(seed=st.integers(0, 2**32), rows=st.integers(3, 8), columns=st.integers(3, 8))
@settings(deadline=None, max_examples=30)
def test_synthesis_inverts_analysis_within_a_hundredth_of_a_decibel(seed, rows, columns):
    signal = random_signal(seed, (2, 8 * rows + 8, 8 * columns + 8))
    synthesized = lapped.synthesize(lapped.analyze(signal, BASIS).astype(np.float32), BASIS)
    assert synthesized.dtype == np.float32
    np.testing.assert_allclose(synthesized, signal[:, 12:-12, 12:-12], atol=0.01)


@given(level_db=st.floats(-60, 60))
@settings(deadline=None, max_examples=20)
def test_constant_signal_fills_the_lowest_channel_alone(level_db):
    latents = lapped.analyze(np.full((1, 32, 40), np.rint(level_db * 512) / 512), BASIS)
    np.testing.assert_allclose(latents[:, 0], 8 * level_db, rtol=1e-4, atol=0.02)
    assert np.abs(latents[:, 1:]).max() <= 8 * abs(level_db) * BASIS_TOLERANCE


def test_channel_holds_vertical_times_eight_plus_horizontal_frequency():
    profile = random_signal(3, (1, 32, 1))
    down = np.abs(lapped.analyze(np.broadcast_to(profile, (1, 32, 32)), BASIS)).max((0, 2, 3)).reshape(8, 8)
    assert (down[:, 0] > 1).all()
    assert down[:, 1:].max() < 0.05


def symmetric_latents(signal):
    """Latents of a scene of whole blocks that continues as its mirror image."""
    around = ((0, 0), (lapped.OVERLAP,) * 2, (lapped.OVERLAP,) * 2)
    return lapped.analyze(np.pad(signal, around, mode="symmetric"), BASIS)


@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    beyond=st.tuples(*[st.integers(0, 6)] * 4),
)
@settings(deadline=None, max_examples=40)
def test_mirrored_latents_are_those_of_the_mirrored_signal_bit_for_bit(seed, rows, columns, beyond):
    signal = random_signal(seed, (1, 8 * rows, 8 * columns))
    above, below, before, after = beyond
    padded = np.pad(
        signal,
        ((0, 0), (8 * above + 4, 8 * below + 4), (8 * before + 4, 8 * after + 4)),
        mode="symmetric",
    )
    gathered = lapped.gather_mirrored(
        symmetric_latents(signal),
        reflect_indices(-above, rows + below, rows),
        reflect_indices(-before, columns + after, columns),
    )
    np.testing.assert_array_equal(gathered, lapped.analyze(padded, BASIS))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_mirrored_keeps_data_type_and_leaves_its_input_alone(dtype):
    latents = np.random.default_rng(2).integers(-9, 9, (2, 64, 3, 3)).astype(dtype)
    before = latents.copy()
    gathered = lapped.gather_mirrored(latents, reflect_indices(-2, 5, 3), reflect_indices(-1, 4, 3))
    assert gathered.dtype == dtype
    assert gathered.shape == (2, 64, 7, 5)
    np.testing.assert_array_equal(latents, before)
    np.testing.assert_array_equal(gathered[:, :, 2:5, 1:4], latents)


@pytest.mark.parametrize("constant", [1 / 512, -3.25, 1024.0])
def test_the_lowest_latent_of_a_constant_signal_is_its_gain(constant):
    latents = lapped.analyze(np.full((1, 24, 32), constant), BASIS)
    np.testing.assert_array_equal(latents[0, 0], constant * lapped.constant_gain(BASIS))
    gain = Fraction(sum(map(int, BASIS[:, 0])), lapped.BASIS_STEPS) ** 2
    assert Fraction(lapped.constant_gain(BASIS)) == gain
    assert abs(gain - 8) < Fraction(1, 1000)
