"""Effects of compression on texture and structure: similarity at several scales, semivariogram, ratios at edges.

Every function takes planes and the mask of the pixels that are valid in both; values under invalid pixels are never
read, and undefined results are NaN. Sums run in float64.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xsarcomp.errors import DimensionError
from xsarcomp.metrics.arguments import checked_pair, checked_plane
from xsarcomp.metrics.fidelity import DECIBEL_RANGE

LAGS = (1, 2, 4, 8, 16, 32)
"""Distances in pixels at which semivariograms are compared; speckle of IW GRD reaches to 2."""

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales of :func:`multiscale_structural_similarity`, finest first; from the paper."""

_WINDOW = 11
_SIGMA = 1.5
_STABILIZERS = ((0.01 * DECIBEL_RANGE) ** 2, (0.03 * DECIBEL_RANGE) ** 2)


def multiscale_structural_similarity(
    original_db: NDArray[np.floating], restored_db: NDArray[np.floating], valid: NDArray[np.bool_]
) -> float:
    """Compute the structural similarity over five scales (MS-SSIM), of decibel values over a fixed range of 50 dB.

    At each scale contrast and structure are compared in Gaussian windows of 11 x 11 pixels (sigma 1.5), at the
    coarsest also the level; from scale to scale planes are averaged over 2 x 2 pixels. The mean over windows is
    taken at each scale, negative means count as 0, and the means are multiplied with the exponents of the paper.

    Parameters
    ----------
    original_db, restored_db : ndarray of float, shape (y, x)
        Backscatter (sigma0 or gamma0) in dB.
    valid : ndarray of bool, shape (y, x)
        Pixels that are valid in both; only windows without an invalid pixel count.

    Returns
    -------
    float
        0..1, 1 for identical planes; NaN where a scale has no valid window (planes below 176 pixels a side).

    Raises
    ------
    DimensionError
        If the shapes differ or are not two-dimensional.

    References
    ----------
    Wang, Simoncelli and Bovik (2003), "Multiscale structural similarity for image quality assessment", Asilomar
    Conference on Signals, Systems and Computers, equation 7 and section 3.2.
    """
    original, restored, is_valid = checked_pair(original_db, restored_db, valid, planes=True)
    product = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            original, restored, is_valid = _mean_2x2(original), _mean_2x2(restored), _all_2x2(is_valid)
        # separable, therefore far faster than binary erosion
        usable = ndimage.minimum_filter(is_valid, _WINDOW, mode="constant", cval=0)
        if not usable.any():
            return math.nan
        level, contrast = _similarity_maps(np.where(is_valid, original, 0.0), np.where(is_valid, restored, 0.0))
        coarsest = scale == len(SCALE_WEIGHTS) - 1
        similarity = float((level * contrast if coarsest else contrast)[usable].mean())
        product *= max(similarity, 0.0) ** weight
    return product


def semivariogram(
    values_db: NDArray[np.floating], valid: NDArray[np.bool_], *, axis: int, lags: Sequence[int] = LAGS
) -> NDArray[np.float64]:
    """Compute half the mean squared difference of pixels a lag apart.

    Parameters
    ----------
    values_db : ndarray of float, shape (y, x)
        Backscatter (sigma0 or gamma0) in dB.
    valid : ndarray of bool, shape (y, x)
        Pixels that count; a pair counts where both are valid.
    axis : {0, 1}
        0 for pairs along y, 1 along x.
    lags : sequence of int
        Distances in pixels, at least 1.

    Returns
    -------
    ndarray of float64, shape (lag,)
        Semivariance in dB squared, at least 0; NaN without a pair.

    Raises
    ------
    DimensionError
        If the arrays are not two-dimensional, their shapes differ, or a lag is below 1.

    References
    ----------
    Matheron (1963), "Principles of geostatistics", Economic Geology 58(8).
    """
    values, is_valid = checked_plane(values_db, valid)
    semivariances = []
    for lag in lags:
        before, after = _pair_slices(axis, lag)
        pairs = is_valid[before] & is_valid[after]
        count = np.count_nonzero(pairs)
        difference = np.subtract(values[after], values[before], where=pairs, out=np.zeros(pairs.shape))
        semivariances.append(float(np.vdot(difference, difference)) / (2 * count) if count else math.nan)
    return np.array(semivariances)


def semivariogram_ratio(
    original_db: NDArray[np.floating],
    restored_db: NDArray[np.floating],
    valid: NDArray[np.bool_],
    *,
    axis: int,
    lags: Sequence[int] = LAGS,
) -> NDArray[np.float64]:
    """Compare the semivariograms of restored and original.

    Parameters
    ----------
    original_db, restored_db : ndarray of float, shape (y, x)
        Backscatter (sigma0 or gamma0) in dB.
    valid : ndarray of bool, shape (y, x)
        Pixels that are valid in both.
    axis, lags
        As for :func:`semivariogram`.

    Returns
    -------
    ndarray of float64, shape (lag,)
        Semivariance of restored over semivariance of original: 1 where texture is preserved at this distance, below 1
        where it was smoothed, above 1 where noise was added. NaN without a pair, or where the original does not vary.

    Raises
    ------
    DimensionError
        If the arrays are not two-dimensional, their shapes differ, or a lag is below 1.
    """
    original, restored, is_valid = checked_pair(original_db, restored_db, valid, planes=True)
    before = semivariogram(original, is_valid, axis=axis, lags=lags)
    after = semivariogram(restored, is_valid, axis=axis, lags=lags)
    return np.divide(after, before, out=np.full(len(before), np.nan), where=before > 0)


def ratio_edge_preservation(
    original_power: NDArray[np.floating],
    restored_power: NDArray[np.floating],
    valid: NDArray[np.bool_],
    *,
    axis: int,
) -> float:
    """Compute the edge preservation degree based on the ratio of averages (EPD-ROA).

    The ratios of neighbors are summed, and the sum of restored is divided by the sum of original. Speckle makes these
    ratios large, smoothing draws them to 1. A ratio is taken in one sense only (first over second along the axis).

    Parameters
    ----------
    original_power, restored_power : ndarray of float, shape (y, x)
        Backscatter power (sigma0 or gamma0, linear, m2 m-2), positive where valid.
    valid : ndarray of bool, shape (y, x)
        Pixels that are valid in both; a pair of neighbors counts where both are.
    axis : {0, 1}
        0 for neighbors along y (vertical), 1 along x (horizontal).

    Returns
    -------
    float
        Above 0: 1 for identical planes, below 1 where edges and speckle were smoothed; NaN without a pair.

    Raises
    ------
    DimensionError
        If the shapes differ or are not two-dimensional.

    References
    ----------
    Feng, Hou and Gong (2011), "SAR image despeckling based on local homogeneous-region segmentation by using
    pixel-relativity measurement", IEEE Trans. Geoscience and Remote Sensing 49(7).
    """
    original, restored, is_valid = checked_pair(original_power, restored_power, valid, planes=True)
    first, second = _pair_slices(axis, 1)
    pairs = is_valid[first] & is_valid[second]
    if not pairs.any():
        return math.nan
    before, after = (float(np.sum(plane[first][pairs] / plane[second][pairs])) for plane in (original, restored))
    return after / before


def _similarity_maps(
    original: NDArray[np.float64], restored: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compare level, and contrast and structure together, in the window around each pixel."""

    def local_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return ndimage.gaussian_filter(values, _SIGMA, radius=_WINDOW // 2)

    level_constant, contrast_constant = _STABILIZERS
    original_mean, restored_mean = local_mean(original), local_mean(restored)
    product = original_mean * restored_mean
    squares = original_mean**2 + restored_mean**2
    covariance = local_mean(original * restored) - product
    variances = local_mean(original**2 + restored**2) - squares
    level = (2 * product + level_constant) / (squares + level_constant)
    return level, (2 * covariance + contrast_constant) / (variances + contrast_constant)


def _mean_2x2(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over 2 x 2 pixels. An odd last row or column is left out."""
    return _split_2x2(plane).mean(axis=(1, 3))


def _all_2x2(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the groups of 2 x 2 pixels that are all set. An odd last row or column is left out."""
    return np.asarray(_split_2x2(mask).all(axis=(1, 3)))


def _split_2x2(plane: NDArray[Any]) -> NDArray[Any]:
    """Split a plane into groups of pixels, shape (row, 2, column, 2)."""
    rows, columns = (length // 2 for length in plane.shape)
    return plane[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)


def _pair_slices(axis: int, lag: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the indices of the first and the second pixel of all pairs that are ``lag`` apart along an axis."""
    if lag < 1:
        raise DimensionError(f"found lag {lag}, expected a distance of at least 1 pixel. Leave it out.")
    before, after, everything = slice(None, -lag), slice(lag, None), slice(None)
    return ((before, everything), (after, everything)) if axis == 0 else ((everything, before), (everything, after))
