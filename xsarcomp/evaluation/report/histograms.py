"""Histograms of values and errors that are counted piece by piece, and get their bins when all is counted."""

import math
from dataclasses import dataclass

import numpy as np

_BINS = 160
_VALUE_BIN_DB, _ERROR_BIN_DB = 0.05, 0.01
_LIMIT_DB = 100.0
_OUTLIERS = 2e-4  # share of values on either side that the histogram of values leaves out


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts between edges."""

    edges: np.ndarray
    """Edges in dB: float64, shape (bin + 1,), ascending."""
    counts: tuple
    """One ndarray of int64, shape (bin,), for each of the compared quantities."""


def count_values(original_db, restored_db):
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
    bins = 2 * round(_LIMIT_DB / _VALUE_BIN_DB)
    return np.stack([_counted(values / _VALUE_BIN_DB + bins / 2, bins) for values in (original_db, restored_db)])


def count_errors(errors_db):
    """Count errors in fine bins, one of which has zero in its middle.

    Parameters
    ----------
    errors_db : ndarray of float, shape (pixel,)
        Restored minus original, dB.

    Returns
    -------
    ndarray of int64, shape (fine bin,)
        Counts; they add up over pieces.
    """
    bins = 2 * round(_LIMIT_DB / _ERROR_BIN_DB) + 1
    return _counted(errors_db / _ERROR_BIN_DB + bins / 2, bins)


def of_values(counts):
    """Choose bins for values: the same for both, without a few outliers, since one dark pixel must not squeeze the rest.

    Parameters
    ----------
    counts : ndarray of int64, shape (2, fine bin)
        Sum of what `count_values` gave.

    Returns
    -------
    Histogram
    """
    together = np.cumsum(counts.sum(axis=0))
    middle, margin = counts.shape[1] // 2, round(0.5 / _VALUE_BIN_DB)
    if together[-1]:
        first, last = np.searchsorted(together, [_OUTLIERS * together[-1], (1 - _OUTLIERS) * together[-1]])
        first, last = max(int(first) - margin, 0), min(int(last) + 1 + margin, counts.shape[1])
    else:
        first, last = middle - 30 * margin, middle + 30 * margin
    width = math.ceil((last - first) / _BINS)
    starts = np.arange(first, last, width)
    edges = (np.append(starts, last) - middle) * _VALUE_BIN_DB
    return Histogram(edges=edges, counts=tuple(np.add.reduceat(each[:last], starts) for each in counts))


def of_errors(counts):
    """Choose bins for errors: all of them, and an odd number, so that errors of zero lie in the middle of one.

    Parameters
    ----------
    counts : ndarray of int64, shape (fine bin,)
        Sum of what `count_errors` gave.

    Returns
    -------
    Histogram
    """
    middle = len(counts) // 2
    found = np.flatnonzero(counts)
    reach = int(np.abs(found - middle).max()) if found.size else 0
    half = math.ceil((2 * reach + 1) / _BINS) // 2
    width = 2 * half + 1
    sides = math.ceil((reach - half) / width) if reach > half else 0
    starts = middle - half + width * np.arange(-sides, sides + 2)
    padded = np.pad(counts, width)
    sums = np.add.reduceat(padded, starts + width)[:-1]
    return Histogram(edges=(starts - middle - 0.5) * _ERROR_BIN_DB, counts=(sums,))


def _counted(positions, bins):
    return np.bincount(np.clip(positions, 0, bins - 1).astype(np.int64), minlength=bins)
