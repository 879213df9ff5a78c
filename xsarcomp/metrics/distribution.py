"""What compression does to the distribution of values, over the whole plane and window by window."""

import math

import numpy as np

from xsarcomp.errors import DimensionError
from xsarcomp.metrics.arguments import same_shape
from xsarcomp.metrics.speckle import WINDOW_PIXELS

_BIN_DB = 0.001
_LIMIT_DB = 100.0  # far beyond the dynamic range of the sensor; what lies outside falls into the last bins


def kolmogorov_smirnov_distance(original_db, restored_db, valid):
    """Compute the largest difference between the distributions of original and restored.

    Distributions are counted in bins of 0.001 dB from -100 to 100 dB, because sorting a whole scene costs more than
    all other measures together. The result is at most the share of pixels of one bin too small.

    Parameters
    ----------
    original_db, restored_db : ndarray of float, same shape
        Backscatter in dB.
    valid : ndarray of bool, same shape
        Pixels that are valid in both.

    Returns
    -------
    float
        Largest difference of the cumulative distributions, in 0..1: 0 for equal distributions, whatever the order of
        the pixels; NaN without a valid pixel.

    Raises
    ------
    DimensionError
        If the three shapes differ.

    References
    ----------
    Massey (1951), "The Kolmogorov-Smirnov test for goodness of fit", J. American Statistical Association 46(253).
    """
    original, restored, valid = same_shape(original_db, restored_db, valid)
    count = np.count_nonzero(valid)
    if not count:
        return math.nan
    difference = np.cumsum(_counts(restored[valid]) - _counts(original[valid]))
    return int(np.abs(difference).max()) / int(count)


def window_sums(values, size):
    """Add up the values of windows that do not overlap.

    Parameters
    ----------
    values : ndarray of numbers or bool, shape (y, x)
        At least one row and column.
    size : int or tuple of two int
        Side of a window in pixels, or its rows and columns; the last ones along y and x may be smaller.

    Returns
    -------
    ndarray of float64, shape (window y, window x)
        One sum for each window.
    """
    values = np.asarray(values, dtype=np.float64)
    sizes = np.broadcast_to(size, 2)
    rows, columns = (np.arange(0, length, side) for length, side in zip(values.shape, sizes, strict=True))
    return np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)


def window_biases_db(original_power, restored_power, valid, *, window=WINDOW_PIXELS):
    """Compute the radiometric bias of each window: how much its mean power has changed, in decibel.

    Parameters
    ----------
    original_power, restored_power : ndarray of float, shape (y, x)
        Backscatter power (linear, m2 m-2), positive where valid.
    valid : ndarray of bool, shape (y, x)
        Pixels that are valid in both.
    window : int
        Side of a window in pixels; the default is that of the number of looks.

    Returns
    -------
    ndarray of float64, shape (window y, window x)
        10 log10(mean restored / mean original) in dB; NaN in windows with an invalid pixel, and in incomplete ones
        at the far edges.

    Raises
    ------
    DimensionError
        If the shapes differ, are not two-dimensional or hold no pixel.
    """
    original, restored, valid = _planes(original_power, restored_power, valid)
    complete = window_sums(valid, window) == window**2
    before, after = (window_sums(np.where(valid, power, 0.0), window) for power in (original, restored))
    biases = np.full(complete.shape, np.nan)
    biases[complete] = 10.0 * np.log10(after[complete] / before[complete])
    return biases


def window_looks(power, valid, *, window=WINDOW_PIXELS):
    """Estimate the equivalent number of looks in each window.

    Parameters
    ----------
    power : ndarray of float, shape (y, x)
        Backscatter power (linear, m2 m-2), positive where valid.
    valid : ndarray of bool, shape (y, x)
        Pixels that count.
    window : int
        Side of a window in pixels.

    Returns
    -------
    ndarray of float64, shape (window y, window x)
        Squared mean over variance: at the level of the speckle (about 4.4 for IW GRD High) in homogeneous windows,
        lower where a window holds structure. NaN in windows with an invalid pixel, in incomplete ones, and where
        power is constant.

    Raises
    ------
    DimensionError
        If the shapes differ, are not two-dimensional or hold no pixel.

    References
    ----------
    Oliver and Quegan (2004), *Understanding Synthetic Aperture Radar Images*, chapter 4.
    """
    power, _, valid = _planes(power, power, valid)
    filled = np.where(valid, power, 0.0)
    squared_mean = (window_sums(filled, window) / window**2) ** 2
    variance = window_sums(filled**2, window) / window**2 - squared_mean
    # rounding leaves a tiny variance in constant windows
    speckled = (window_sums(valid, window) == window**2) & (variance > 1e-12 * squared_mean)
    return np.divide(squared_mean, variance, out=np.full(speckled.shape, np.nan), where=speckled)


def window_errors_db(original_db, restored_db, valid, *, window):
    """Compute the root mean square error of each window in decibel.

    Parameters
    ----------
    original_db, restored_db : ndarray of float, shape (y, x)
        Backscatter in dB.
    valid : ndarray of bool, shape (y, x)
        Pixels that are valid in both.
    window : int or tuple of two int
        Side of a window in pixels, or its rows and columns.

    Returns
    -------
    ndarray of float64, shape (window y, window x)
        Error in dB over the valid pixels of the window, also of incomplete ones; NaN where there is none.

    Raises
    ------
    DimensionError
        If the shapes differ, are not two-dimensional or hold no pixel.
    """
    original, restored, valid = _planes(original_db, restored_db, valid)
    errors = np.subtract(restored, original, where=valid, out=np.zeros(valid.shape))
    counts = window_sums(valid, window)
    sums = window_sums(errors**2, window)
    return np.sqrt(np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0))


def _counts(values_db):
    bins = round(2 * _LIMIT_DB / _BIN_DB)
    positions = np.clip((values_db + _LIMIT_DB) * (1 / _BIN_DB), 0, bins - 1).astype(np.int64)
    return np.bincount(positions, minlength=bins)


def _planes(original, restored, valid):
    original, restored, valid = same_shape(original, restored, valid, planes=True)
    if not valid.size:
        raise DimensionError(
            f"found shape {valid.shape}, expected (y, x) with pixels. Pass one polarization and date at a time."
        )
    return original, restored, valid
