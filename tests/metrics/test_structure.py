"""Texture and structure against naive computations and cases with a known answer."""

import math

import numpy as np
import pytest
from scipy import ndimage, signal
from skimage import metrics

from xsarcomp.errors import DimensionError
from xsarcomp.metrics import structure
from xsarcomp.scenes.simulation import simulate_speckle

SHAPE = (190, 200)


def speckle_db(seed, shape=SHAPE):
    return 10 * np.log10(simulate_speckle(shape, rng=np.random.default_rng(seed)).astype(np.float64)) - 12


def everywhere(plane):
    return np.ones(plane.shape, dtype=bool)


def power(plane_db):
    return 10 ** (plane_db / 10)


def window_statistics(first, second):
    """Means, variances and covariance in all complete Gaussian windows of 11 x 11, with the definition of Wang."""
    offsets = np.arange(-5, 6)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    kernel /= kernel.sum()

    def mean(values):
        return signal.convolve2d(values, kernel, mode="valid")

    means = mean(first), mean(second)
    return (
        *means,
        mean(first**2) - means[0] ** 2,
        mean(second**2) - means[1] ** 2,
        mean(first * second) - means[0] * means[1],
    )


def naive_multiscale_similarity(first, second):
    product, constants = 1.0, ((0.01 * 50) ** 2, (0.03 * 50) ** 2)
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale:
            first, second = (
                signal.convolve2d(each, np.full((2, 2), 0.25), "valid")[::2, ::2] for each in (first, second)
            )
        mean_1, mean_2, variance_1, variance_2, covariance = window_statistics(first, second)
        similarity = (2 * covariance + constants[1]) / (variance_1 + variance_2 + constants[1])
        if scale == 4:
            similarity *= (2 * mean_1 * mean_2 + constants[0]) / (mean_1**2 + mean_2**2 + constants[0])
        product *= similarity.mean() ** weight
    return product


def test_multiscale_similarity_agrees_with_the_definition_written_out():
    original = speckle_db(1)
    restored = 0.8 * original + 0.3 * speckle_db(2) + 1
    measured = structure.multiscale_structural_similarity(original, restored, everywhere(original))
    assert measured == pytest.approx(naive_multiscale_similarity(original, restored), rel=1e-9)


def test_one_scale_agrees_with_scikit_image():
    original, restored = speckle_db(1), speckle_db(2)
    level, contrast = structure._similarity_maps(original, restored)
    expected = metrics.structural_similarity(
        original, restored, data_range=50, gaussian_weights=True, use_sample_covariance=False, full=True
    )[1]
    np.testing.assert_allclose((level * contrast)[5:-5, 5:-5], expected[5:-5, 5:-5], rtol=1e-9)


def test_multiscale_similarity_falls_with_noise_and_is_one_for_a_copy():
    original, noise = speckle_db(1), speckle_db(2) + 12
    valid = everywhere(original)
    scores = [
        structure.multiscale_structural_similarity(original, original + part * noise, valid) for part in (0, 0.3, 1)
    ]
    assert scores[0] == pytest.approx(1)
    assert 1 > scores[1] > scores[2] > 0


def test_planes_without_a_window_at_the_coarsest_scale_have_no_multiscale_similarity():
    small, large = speckle_db(1, (175, 176)), speckle_db(1, (176, 176))
    assert math.isnan(structure.multiscale_structural_similarity(small, small, everywhere(small)))
    assert structure.multiscale_structural_similarity(large, large, everywhere(large)) == pytest.approx(1)


def test_planes_of_opposite_structure_have_no_multiscale_similarity():
    original = speckle_db(1)
    assert structure.multiscale_structural_similarity(original, -original - 24, everywhere(original)) == 0


@pytest.mark.parametrize("axis", [0, 1])
def test_semivariogram_agrees_with_a_loop_over_pairs(axis):
    values = np.random.default_rng(1).normal(-12, 2, (7, 9))
    valid = np.random.default_rng(2).random((7, 9)) > 0.3
    expected = []
    for lag in (1, 3):
        squares = []
        for y, x in np.ndindex(7, 9):
            other = (y + lag, x) if axis == 0 else (y, x + lag)
            if other[0] < 7 and other[1] < 9 and valid[y, x] and valid[other]:
                squares.append((values[y, x] - values[other]) ** 2)
        expected.append(np.mean(squares) / 2)
    values[~valid] = np.nan
    np.testing.assert_allclose(structure.semivariogram(values, valid, axis=axis, lags=(1, 3)), expected)


def test_the_semivariogram_of_noise_is_its_variance_at_every_lag():
    noise = np.random.default_rng(1).normal(-12, 2, (400, 400))
    np.testing.assert_allclose(structure.semivariogram(noise, everywhere(noise), axis=0), 4, rtol=0.03)


def test_semivariogram_ratio_is_one_for_a_copy_above_one_for_added_noise_and_below_for_smoothing():
    original = speckle_db(1)
    valid = everywhere(original)
    noisy = original + np.random.default_rng(3).normal(0, 1, SHAPE)
    for axis in (0, 1):
        np.testing.assert_allclose(structure.semivariogram_ratio(original, original + 3, valid, axis=axis), 1)
        ratios = structure.semivariogram_ratio(original, noisy, valid, axis=axis, lags=(1, 8))
        # independent noise of variance 1 adds 1 to the semivariance at every lag
        expected = 1 + 1 / structure.semivariogram(original, valid, axis=axis, lags=(1, 8))
        np.testing.assert_allclose(ratios, expected, rtol=0.05)
        assert ratios[0] > ratios[1] > 1
        smoothed = ndimage.uniform_filter(original, 3)
        assert structure.semivariogram_ratio(original, smoothed, valid, axis=axis, lags=(1,))[0] < 0.5


def test_semivariograms_without_a_pair_or_without_variation_are_nan():
    flat = np.zeros((5, 5))
    assert np.isnan(structure.semivariogram(flat, everywhere(flat), axis=0, lags=(5,))).all()
    assert np.isnan(structure.semivariogram_ratio(flat, flat, everywhere(flat), axis=0, lags=(1, 5))).all()
    with pytest.raises(DimensionError, match="found lag 0"):
        structure.semivariogram(flat, everywhere(flat), axis=0, lags=(0,))


@pytest.mark.parametrize("axis", [0, 1])
def test_ratio_edge_preservation_agrees_with_a_loop(axis):
    original, restored = np.random.default_rng(1).gamma(4, 0.1, (2, 6, 7))
    sums = [0.0, 0.0]
    for y, x in np.ndindex(6 - (axis == 0), 7 - (axis == 1)):
        after = (y + 1, x) if axis == 0 else (y, x + 1)
        sums[0] += original[y, x] / original[after]
        sums[1] += restored[y, x] / restored[after]
    measured = structure.ratio_edge_preservation(original, restored, everywhere(original), axis=axis)
    assert measured == pytest.approx(sums[1] / sums[0])


def test_ratio_edge_preservation_is_one_for_a_copy_whatever_its_gain_and_lower_for_smoothing():
    original = power(speckle_db(1))
    valid = everywhere(original)
    for axis in (0, 1):
        assert structure.ratio_edge_preservation(original, 2 * original, valid, axis=axis) == pytest.approx(1)
        assert structure.ratio_edge_preservation(original, ndimage.uniform_filter(original, 5), valid, axis=axis) < 0.95
        constant = structure.ratio_edge_preservation(original, np.ones(SHAPE), valid, axis=axis)
        assert constant == pytest.approx(1 / np.mean(original[:-1] / original[1:]), rel=0.05)


MEASURES = {
    "multiscale": structure.multiscale_structural_similarity,
    "semivariogram": lambda *planes: structure.semivariogram_ratio(*planes, axis=1, lags=(1,))[0],
    "ratio edges": lambda original, restored, valid: structure.ratio_edge_preservation(
        np.where(valid, 10 ** (original / 10), original),
        np.where(valid, 10 ** (restored / 10), restored),
        valid,
        axis=0,
    ),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_values_under_invalid_pixels_do_not_matter(measure):
    original, restored = speckle_db(1, (300, 310)), speckle_db(2, (300, 310))
    valid = everywhere(original)
    valid[:40, :30] = False
    valid[:, -5:] = False
    expected = measure(original, restored, valid)
    original[~valid], restored[~valid] = np.nan, 1e3
    assert math.isfinite(expected)
    assert measure(original, restored, valid) == expected


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_no_valid_pixel_gives_nan_and_shapes_that_differ_are_refused(measure):
    empty = np.full(SHAPE, np.nan)
    assert math.isnan(measure(empty, empty, np.isfinite(empty)))
    with pytest.raises(DimensionError, match="one polarization"):
        measure(np.ones((2, 9, 9)), np.ones((2, 9, 9)), np.ones((2, 9, 9), dtype=bool))
