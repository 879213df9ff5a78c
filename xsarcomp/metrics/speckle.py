"""Effects of compression on speckle: equivalent number of looks (ENL), its ratio, and the ratio image.

All statistics are of linear power. The number of looks of decibel or normalized values has no meaning, though it is
often reported.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xsarcomp.errors import RadiometryError
from xsarcomp.metrics.arguments import checked_pair, checked_plane

WINDOW_PIXELS = 25
"""Side of the windows in which looks are estimated, in pixels; the window that Sentinel-1 normalized products use."""

_HOMOGENEOUS_FRACTION = 0.1
_MIN_WINDOWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioImageStatistics:
    """Statistics of original power over restored power; a perfect copy has 1, 0, NaN, NaN."""

    mean: float
    """Mean of the ratio; 1 where the mean level is preserved."""
    variance: float
    """Variance of the ratio; 0 for a copy, 1/looks where all speckle was removed."""
    correlation_y: float
    """Correlation of the ratio in dB between neighbors along y; high where structure was removed."""
    correlation_x: float
    """Correlation of the ratio in dB between neighbors along x."""


def equivalent_number_of_looks(power: ArrayLike) -> float:
    """Estimate the equivalent number of looks (ENL) of a homogeneous area.

    Parameters
    ----------
    power : array_like of float, any shape
        Backscatter power (sigma0 or gamma0, linear, m2 m-2). Values that are not finite are left out. Decibel input gives a
        meaningless number and cannot be detected here.

    Returns
    -------
    float
        Squared mean over variance: 1 for single-look intensity, infinite for constant power.

    Raises
    ------
    RadiometryError
        If fewer than two finite values are given.

    References
    ----------
    Oliver and Quegan (2004), *Understanding Synthetic Aperture Radar Images*, chapter 4.
    """
    values = np.asarray(power, dtype=np.float64)
    values = values[np.isfinite(values)]
    if values.size < 2:
        raise RadiometryError(
            f"found {values.size} finite values, expected at least 2 to estimate the number of looks. "
            "Choose an area inside the scene."
        )
    variance = values.var()
    return math.inf if variance == 0 else float(values.mean() ** 2 / variance)


def homogeneous_windows(
    original_power: NDArray[np.floating],
    valid: NDArray[np.bool_],
    window: int = WINDOW_PIXELS,
    count: int | None = None,
) -> NDArray[np.int64]:
    """Find the most homogeneous windows of a scene.

    The plane is cut into windows that do not overlap. Of those without an invalid pixel, the ones with the lowest
    coefficient of variation are taken. Only the *original* decides: choosing with the restored scene would favor
    places that compression has smoothed.

    Parameters
    ----------
    original_power : ndarray of float, shape (y, x)
        Backscatter power of the original (sigma0 or gamma0, linear, m2 m-2).
    valid : ndarray of bool, shape (y, x)
        Pixels that are valid in all scenes to be compared.
    window : int
        Side of a window in pixels.
    count : int, optional
        Number of windows; by default the lowest tenth, but at least 8 if there are as many.

    Returns
    -------
    ndarray of int64, shape (window, 2)
        First row and first column of each window, most homogeneous first. Windows of constant power hold no
        speckle and are left out, so there may be none.

    Raises
    ------
    DimensionError
        If the arrays are not two-dimensional or their shapes differ.
    """
    corners, variation = window_variations(original_power, valid, window)
    count = homogeneous_count(len(corners)) if count is None else count
    return corners[np.argsort(variation, kind="stable")[:count]]


def homogeneous_count(windows: int) -> int:
    """Number of windows that count as homogeneous: the lowest tenth, but at least 8."""
    return max(_MIN_WINDOWS, math.ceil(_HOMOGENEOUS_FRACTION * windows))


def window_variations(
    power: NDArray[np.floating], valid: NDArray[np.bool_], window: int = WINDOW_PIXELS
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Compute the coefficient of variation of windows that do not overlap.

    Parameters
    ----------
    power, valid, window
        As for :func:`homogeneous_windows`.

    Returns
    -------
    corners : ndarray of int64, shape (window, 2)
        First row and first column of each window without an invalid pixel and not of constant power.
    variations : ndarray of float64, shape (window,)

    Raises
    ------
    DimensionError
        If the arrays are not two-dimensional or their shapes differ.
    """
    power, is_valid = checked_plane(power, valid)
    window_rows, window_columns = power.shape[0] // window, power.shape[1] // window
    whole = np.s_[: window_rows * window, : window_columns * window]
    tiled = np.where(is_valid[whole], power[whole], 0.0).reshape(window_rows, window, window_columns, window)
    complete = is_valid[whole].reshape(tiled.shape).all(axis=(1, 3))
    mean, deviation = tiled.mean(axis=(1, 3)), tiled.std(axis=(1, 3))
    # rounding leaves a tiny deviation in constant windows
    corners = np.argwhere(complete & (deviation > 1e-9 * mean))
    return corners * window, deviation[tuple(corners.T)] / mean[tuple(corners.T)]


def enl_ratio(
    original_power: NDArray[np.floating], restored_power: NDArray[np.floating], valid: NDArray[np.bool_]
) -> float:
    """Compare the equivalent numbers of looks of restored and original in the most homogeneous windows.

    Parameters
    ----------
    original_power, restored_power : ndarray of float, shape (y, x)
        Backscatter power (sigma0 or gamma0, linear, m2 m-2), positive where valid.
    valid : ndarray of bool, shape (y, x)
        Pixels that are valid in both.

    Returns
    -------
    float
        Median over :func:`homogeneous_windows` of ENL restored over ENL original: 1 where speckle is preserved, above 1
        where it was smoothed. NaN where there is no window.

    Raises
    ------
    DimensionError
        If the arrays are not two-dimensional or their shapes differ.
    """
    original, restored, is_valid = checked_pair(original_power, restored_power, valid, planes=True)
    ratios = []
    for row, column in homogeneous_windows(original, is_valid):
        window = np.s_[row : row + WINDOW_PIXELS, column : column + WINDOW_PIXELS]
        ratios.append(equivalent_number_of_looks(restored[window]) / equivalent_number_of_looks(original[window]))
    return float(np.median(ratios)) if ratios else math.nan


def ratio_image_statistics(
    original_power: NDArray[np.floating], restored_power: NDArray[np.floating], valid: NDArray[np.bool_]
) -> RatioImageStatistics:
    """Compute statistics of the ratio image, original over restored power.

    It shows the part of the scene that compression removes, which should look like speckle: mean 1 and no structure.

    Parameters
    ----------
    original_power, restored_power : ndarray of float, shape (y, x)
        Backscatter power (sigma0 or gamma0, linear, m2 m-2), positive where valid.
    valid : ndarray of bool, shape (y, x)
        Pixels that are valid in both.

    Returns
    -------
    RatioImageStatistics
        Mean and variance of the ratio, and the correlation of neighbors of its decibel values. NaN where
        there is no valid pixel, or no variation to correlate.

    Raises
    ------
    DimensionError
        If the arrays are not two-dimensional or their shapes differ.

    References
    ----------
    Gomez, Ospina and Frery (2017), Remote Sensing 9(4) 389, on structure left in ratio images.
    """
    original, restored, is_valid = checked_pair(original_power, restored_power, valid, planes=True)
    if not is_valid.any():
        return RatioImageStatistics(mean=math.nan, variance=math.nan, correlation_y=math.nan, correlation_x=math.nan)
    ratio = np.divide(original, restored, out=np.ones_like(original), where=is_valid)
    ratio_db = 10.0 * np.log10(ratio)
    return RatioImageStatistics(
        mean=float(ratio[is_valid].mean()),
        variance=float(ratio[is_valid].var()),
        correlation_y=neighbor_correlation(ratio_db, is_valid, axis=0),
        correlation_x=neighbor_correlation(ratio_db, is_valid, axis=1),
    )


def neighbor_correlation(values: NDArray[np.floating], valid: NDArray[np.bool_], *, axis: int) -> float:
    """Compute the Pearson correlation of neighboring valid pixels along one axis.

    Parameters
    ----------
    values : ndarray of float, shape (y, x)
        Any quantity; the correlation of speckle is stated for dB.
    valid : ndarray of bool, shape (y, x)
        Pixels that count; a pair counts where both are valid.
    axis : {0, 1}
        0 for neighbors along y, 1 along x.

    Returns
    -------
    float
        In -1..1; NaN with fewer than two pairs or without variation.

    Raises
    ------
    DimensionError
        If the arrays are not two-dimensional or their shapes differ.
    """
    plane, is_valid = checked_plane(values, valid)
    before, after = (np.s_[:-1, :], np.s_[1:, :]) if axis == 0 else (np.s_[:, :-1], np.s_[:, 1:])
    pairs = is_valid[before] & is_valid[after]
    if np.count_nonzero(pairs) < 2:
        return math.nan
    first, second = plane[before][pairs], plane[after][pairs]
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])
