"""Checks of the arguments that metrics share, with one message for each mistake."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xsarcomp.errors import DimensionError


def checked_pair(
    original: ArrayLike, restored: ArrayLike, valid: ArrayLike, *, planes: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Convert two arrays and their mask to float64, float64 and bool, after checking that their shapes are equal.

    Parameters
    ----------
    original, restored : array_like of real numbers, same shape
        Any quantity before and after compression.
    valid : array_like of bool, same shape
        Pixels that are valid in both.
    planes : bool
        Require two dimensions (y, x).

    Returns
    -------
    original, restored : ndarray of float64, same shape
    valid : ndarray of bool, same shape

    Raises
    ------
    DimensionError
        If the shapes differ, or ``planes`` is True and they are not two-dimensional.
    """
    before = np.asarray(original, dtype=np.float64)
    after = np.asarray(restored, dtype=np.float64)
    is_valid = np.asarray(valid, dtype=bool)
    if not before.shape == after.shape == is_valid.shape:
        raise DimensionError(
            f"found shapes {before.shape} (original), {after.shape} (restored) and {is_valid.shape} "
            "(valid), expected three equal ones. Compare the same window of both scenes."
        )
    if planes and before.ndim != 2:
        raise DimensionError(
            f"found {before.ndim} dimensions, expected (y, x). Pass one polarization and date at a time."
        )
    return before, after, is_valid


def checked_plane(values: ArrayLike, valid: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Convert a plane and its mask to float64 and bool, after checking that their shapes are equal.

    Parameters
    ----------
    values : array_like of real numbers, shape (y, x)
        Any quantity.
    valid : array_like of bool, shape (y, x)
        Pixels that count.

    Returns
    -------
    values : ndarray of float64, shape (y, x)
    valid : ndarray of bool, shape (y, x)

    Raises
    ------
    DimensionError
        If the shapes differ or are not two-dimensional.
    """
    plane, is_valid = np.asarray(values, dtype=np.float64), np.asarray(valid, dtype=bool)
    if plane.ndim != 2 or plane.shape != is_valid.shape:
        raise DimensionError(
            f"found shapes {plane.shape} and {is_valid.shape} (valid), expected two equal shapes (y, x). "
            "Pass one polarization and date at a time."
        )
    return plane, is_valid
