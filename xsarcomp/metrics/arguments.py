"""What measures ask of the planes that they are given; the one place that says what was wrong."""

import numpy as np

from xsarcomp.errors import DimensionError


def same_shape(original, restored, valid, *, planes=False):
    """Take the arrays as float64, float64 and bool, after checking that they fit.

    Parameters
    ----------
    original, restored : array_like of float, same shape
    valid : array_like of bool, same shape
    planes : bool
        Whether they must be planes, shape (y, x).

    Returns
    -------
    tuple of ndarray
        Of float64, float64 and bool.

    Raises
    ------
    DimensionError
        If the shapes differ, or are not two-dimensional where `planes` are asked for.
    """
    original = np.asarray(original, dtype=np.float64)
    restored = np.asarray(restored, dtype=np.float64)
    valid = np.asarray(valid, dtype=bool)
    if not original.shape == restored.shape == valid.shape:
        raise DimensionError(
            f"found shapes {original.shape} (original), {restored.shape} (restored) and {valid.shape} "
            "(valid), expected three equal ones. Compare the same window of both scenes."
        )
    if planes and original.ndim != 2:
        raise DimensionError(
            f"found {original.ndim} dimensions, expected (y, x). Pass one polarization and date at a time."
        )
    return original, restored, valid
