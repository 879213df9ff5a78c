"""The bound on the error of each pixel: the spacing of residuals that keeps it with every decoder, and its check.

An encoder decodes its own symbols and stores the residuals, which are the differences to the original, rounded to multiples
of a spacing. The smaller the spacing, the smaller the error that is left.
"""

import math

import numpy as np
from numpy.typing import NDArray

from xsarcomp.errors import BoundError, RateError
from xsarcomp.radiometry.pixel_classes import EXACT, VALID

SMALLEST_BOUND_DB, LARGEST_BOUND_DB = 0.02, 100.0
"""Smallest and largest bound that a user can request."""
DECODERS_DIFFER_DB = 0.0065
"""Largest difference of two conforming decoders: twice the tolerance of the format (0.002 dB, and 1e-6 of signals of up to
1000 dB), and the rounding of float32."""
SMALLEST_HALF_DB = 0.004
"""Smallest half of a spacing that is allowed, in dB."""
MEANS_DIFFER_DB = 0.011
"""Error that quantizing the gain of a tile adds, see :mod:`xsarcomp.codec.tile_means`."""
_FINE_FROM = 1e12  # times the smallest normal number: an error of the largest bound does not lead below that


def residual_spacing_db(
    max_error_db: float, dtype: np.dtype, nodata: float | None = None, *, keep_means: bool = False
) -> float:
    """Compute the spacing of residuals that keeps a bound.

    A residual rounded to a multiple of the spacing leaves an error of at most half of it. The rest of the bound is for
    errors that come after: differences between decoders, and rounding to the data type. Rounding to an integer type (or to
    float16, whose steps are coarse too) at most doubles a difference, because the original is one of the values of the type.
    A result that would equal nodata is moved to the next value, which doubles it again.

    Parameters
    ----------
    max_error_db : float
        Bound on the error of each valid pixel in dB.
    dtype : dtype
        Data type of the backscatter.
    nodata : float, optional
        Declared fill value.
    keep_means : bool
        Whether gains of tiles follow, which move a pixel by at most the error that residuals left.

    Returns
    -------
    float
        Spacing in dB.

    Raises
    ------
    RateError
        If the bound is smaller than the differences between decoders, or makes no sense.
    """
    if isinstance(max_error_db, bool) or not isinstance(max_error_db, int | float | np.number):
        raise RateError(f"max_error_db is {max_error_db!r}, expected a number of dB")
    if not SMALLEST_BOUND_DB <= max_error_db <= LARGEST_BOUND_DB:
        raise RateError(
            f"max_error_db is {max_error_db!r}, expected {SMALLEST_BOUND_DB} to {LARGEST_BOUND_DB} dB: decoders may differ by "
            f"{DECODERS_DIFFER_DB} dB, and less than that cannot be guaranteed"
        )
    allowed = (float(max_error_db) - MEANS_DIFFER_DB) / 2 if keep_means else float(max_error_db)
    dtype = np.dtype(dtype)
    if dtype.kind != "f" or dtype.itemsize == 2:
        for _ in range(1 if nodata is None else 2):
            allowed = _error_before_doubling(allowed)
    half = allowed - DECODERS_DIFFER_DB
    if half < SMALLEST_HALF_DB:
        raise RateError(
            f"max_error_db={max_error_db} is too small for {dtype}{' with the means of tiles kept' if keep_means else ''}: "
            "ask for at least 0.12 dB, or convert to float32"
        )
    return 2 * half


def _error_before_doubling(bound_db: float) -> float:
    """Largest error in dB that stays within a bound if rounding doubles the difference to the original.

    Computed for powers below the original, the worst case: for amplitudes, decibels and values above it may be larger.
    """
    return -10 * math.log10((1 + 10 ** (-bound_db / 10)) / 2)


def mark_unbounded_exact(classes: NDArray[np.uint8], backscatter: NDArray) -> NDArray[np.uint8]:
    """Change the class of valid pixels to EXACT where no bound covers their rounding.

    These are subnormal numbers of float32 and float64 and those near them, below -370 dB: their steps are coarse.

    Parameters
    ----------
    classes : ndarray of uint8, any shape
        Pixel classes.
    backscatter : ndarray, same shape
        In its own scale and data type.

    Returns
    -------
    ndarray of uint8, same shape
        ``classes`` itself if there are no such pixels.
    """
    dtype = backscatter.dtype
    if dtype.kind != "f" or dtype.itemsize == 2:
        return classes
    coarse = (classes == VALID) & (np.abs(backscatter) < _FINE_FROM * np.finfo(dtype).tiny) & (backscatter != 0)
    return np.where(coarse, np.uint8(EXACT), classes) if coarse.any() else classes


def compute_residuals(
    decibel: NDArray[np.float64], decoded: NDArray[np.floating], classes: NDArray[np.uint8], spacing_db: float
) -> NDArray[np.int32]:
    """Compute residuals in units of their spacing.

    Parameters
    ----------
    decibel : ndarray of float64, shape (plane, y, x), dB
        The original.
    decoded : ndarray of float, same shape, dB
        Decoded values without residuals.
    classes : ndarray of uint8, same shape
        Pixel classes.
    spacing_db : float
        Spacing in dB, see :func:`residual_spacing_db`.

    Returns
    -------
    ndarray of int32, same shape
        0 at pixels that are not valid.
    """
    residuals = np.rint((decibel - decoded) / spacing_db)
    return np.where(classes == VALID, residuals, 0).astype(np.int32)


def check_bound(
    decibel: NDArray[np.float64], decoded: NDArray[np.float64], classes: NDArray[np.uint8], max_error_db: float
) -> None:
    """Refuse a decoded result that breaks its bound; the last check of an encoder.

    Parameters
    ----------
    decibel, decoded : ndarray of float64, same shape, dB
        The original, and the values that the encoder's own decoder returns.
    classes : ndarray of uint8, same shape
        Pixel classes.
    max_error_db : float
        Bound in dB.

    Raises
    ------
    BoundError
        If a valid pixel is off by more than the bound.
    """
    errors = np.abs(decoded - decibel)[classes == VALID]
    largest = float(errors.max(initial=0.0))
    if not largest <= max_error_db:
        raise BoundError(
            f"a pixel is off by {largest:.6g} dB, expected at most max_error_db={max_error_db}: nothing was written. This is a "
            "fault of xsarcomp, please report it with the data"
        )
