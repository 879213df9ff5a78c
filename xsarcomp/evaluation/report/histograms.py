"""Histograms of values and errors: counted piece by piece in fine bins, then merged into the bins of a picture."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LIMIT_DB = 100.0  # beyond any backscatter; values outside it are counted in the outermost bins
_VALUE_BIN_DB, _ERROR_BIN_DB = 0.05, 0.01
_VALUE_BINS = 2 * round(_LIMIT_DB / _VALUE_BIN_DB)
_ERROR_BINS = 2 * round(_LIMIT_DB / _ERROR_BIN_DB) + 1  # odd, so that errors of zero are in the middle of one

_MOST_BINS = 160
_OUTLIER_SHARE = 2e-4  # share of values on either side that the histogram of values leaves out
_MARGIN_BINS = round(0.5 / _VALUE_BIN_DB)
_EMPTY_MARGINS = 30  # margins on either side of 0 dB where there is no value


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts of one or more quantities in common bins."""

    edges: NDArray[np.float64]
    """Edges of the bins in dB, shape (bin + 1,), ascending."""
    counts: tuple[NDArray[np.int64], ...]
    """Counts of each quantity, shape (bin,)."""


def count_values(original_db: NDArray[np.floating], restored_db: NDArray[np.floating]) -> NDArray[np.int64]:
    """Count values in fine bins.

    Parameters
    ----------
    original_db, restored_db : ndarray of float, shape (pixel,)
        Valid pixels in dB.

    Returns
    -------
    ndarray of int64, shape (2, fine bin)
        Counts of the original and of the restored scene; they add up over pieces.
    """
    edge = _VALUE_BINS / 2 * _VALUE_BIN_DB
    return np.stack([_clipped_histogram(values_db, _VALUE_BINS, edge) for values_db in (original_db, restored_db)])


def count_errors(errors_db: NDArray[np.floating]) -> NDArray[np.int64]:
    """Count errors in fine bins.

    Parameters
    ----------
    errors_db : ndarray of float, shape (pixel,)
        Restored minus original, dB.

    Returns
    -------
    ndarray of int64, shape (fine bin,)
        Counts; they add up over pieces.
    """
    return _clipped_histogram(errors_db, _ERROR_BINS, _ERROR_BINS / 2 * _ERROR_BIN_DB)


def value_histogram(counts: NDArray[np.int64]) -> Histogram:
    """Merge the fine bins of values into the bins of a picture, the same for both scenes.

    A few outliers are left out, because one dark pixel would squeeze the rest.

    Parameters
    ----------
    counts : ndarray of int64, shape (2, fine bin)
        Sum of the results of :func:`count_values`.

    Returns
    -------
    Histogram
        Counts of the original and of the restored scene.
    """
    cumulative = np.cumsum(counts.sum(axis=0))
    middle = _VALUE_BINS // 2
    if cumulative[-1]:
        shares = np.array([_OUTLIER_SHARE, 1 - _OUTLIER_SHARE])
        low, high = np.searchsorted(cumulative, shares * cumulative[-1])
        first, last = max(int(low) - _MARGIN_BINS, 0), min(int(high) + 1 + _MARGIN_BINS, _VALUE_BINS)
    else:
        first, last = middle - _EMPTY_MARGINS * _MARGIN_BINS, middle + _EMPTY_MARGINS * _MARGIN_BINS
    boundaries = np.append(np.arange(first, last, math.ceil((last - first) / _MOST_BINS)), last)
    return Histogram(
        edges=(boundaries - middle) * _VALUE_BIN_DB, counts=tuple(_merged(each, boundaries) for each in counts)
    )


def error_histogram(counts: NDArray[np.int64]) -> Histogram:
    """Merge the fine bins of errors into the bins of a picture, which cover all errors.

    The number of bins is odd, so that errors of zero are in the middle of one.

    Parameters
    ----------
    counts : ndarray of int64, shape (fine bin,)
        Sum of the results of :func:`count_errors`.

    Returns
    -------
    Histogram
    """
    middle = _ERROR_BINS // 2
    occupied = np.flatnonzero(counts)
    reach = int(np.abs(occupied - middle).max()) if occupied.size else 0
    half = math.ceil((2 * reach + 1) / _MOST_BINS) // 2
    width = 2 * half + 1
    bins_per_side = math.ceil((reach - half) / width) if reach > half else 0
    boundaries = middle - half + width * np.arange(-bins_per_side, bins_per_side + 2)
    edges = (boundaries.astype(np.float64) - middle - 0.5) * _ERROR_BIN_DB
    return Histogram(edges=edges, counts=(_merged(counts, boundaries),))


def _clipped_histogram(values_db: NDArray[np.floating], bins: int, edge: float) -> NDArray[np.int64]:
    return np.histogram(np.clip(values_db, -edge, edge), bins, (-edge, edge))[0]


def _merged(counts: NDArray[np.int64], boundaries: NDArray[np.int64]) -> NDArray[np.int64]:
    """Add up the fine bins between boundaries, which are numbers of fine bins."""
    centers = np.arange(len(counts)) + 0.5
    return np.histogram(centers, boundaries, weights=counts)[0]
