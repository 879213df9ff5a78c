"""The bound on the error of each pixel: how finely residuals are quantized so that it holds, on every device."""

import math

import numpy as np
from numpy.typing import NDArray

from xsarcomp.errors import BoundError, RateError
from xsarcomp.radiometry.pixel_classes import EXACT, VALID

SMALLEST_BOUND_DB, LARGEST_BOUND_DB = 0.02, 100.0
DECODERS_DIFFER_DB = 0.0065
"""By how much two conforming decoders may differ: twice the tolerance of the format (0.002 dB, and 1e-6 of signals of up to
1000 dB), and what float32 rounds."""
SMALLEST_HALF_DB = 0.004
MEANS_DIFFER_DB = 0.011
"""What quantizing the gain of a tile adds to an error, see :mod:`xsarcomp.codec.tile_means`."""


def residual_spacing_db(
    max_error_db: float, dtype: np.dtype, nodata: float | None = None, *, keep_means: bool = False
) -> float:
    """Spacing of residuals that keeps a bound.

    A residual rounded to a multiple of the spacing leaves an error of at most half of it. The rest of the bound is for
    what comes after: decoders that differ, and rounding to the data type. A value of an integer type (or of float16,
    whose steps are coarse too) rounds to the nearest, and the original is one of its values, so that rounding at most
    doubles a difference. Where the result may not be nodata and moves on, it is doubled again.

    Parameters
    ----------
    max_error_db : float
        The bound, dB.
    dtype : dtype
        Data type of the backscatter.
    nodata : float, optional
        Declared fill value.
    keep_means : bool
        Whether gains of tiles follow, which move a pixel by at most what the residuals left.

    Returns
    -------
    float
        dB.

    Raises
    ------
    RateError
        If the bound is smaller than decoders may differ, or makes no sense.
    """
    if isinstance(max_error_db, bool) or not isinstance(max_error_db, int | float | np.number):
        raise RateError(f"max_error_db is {max_error_db!r}, expected a number of dB")
    if not SMALLEST_BOUND_DB <= max_error_db <= LARGEST_BOUND_DB:
        raise RateError(
            f"max_error_db is {max_error_db!r}, expected {SMALLEST_BOUND_DB} to {LARGEST_BOUND_DB} dB: decoders may differ by "
            f"{DECODERS_DIFFER_DB} dB, and less than that cannot be promised"
        )
    allowed = (float(max_error_db) - MEANS_DIFFER_DB) / 2 if keep_means else float(max_error_db)
    dtype = np.dtype(dtype)
    if dtype.kind != "f" or dtype.itemsize == 2:
        for _ in range(1 if nodata is None else 2):
            allowed = _error_whose_double_is(allowed)
    half = allowed - DECODERS_DIFFER_DB
    if half < SMALLEST_HALF_DB:
        raise RateError(
            f"max_error_db={max_error_db} is too small for {dtype}{' with the means of tiles kept' if keep_means else ''}: "
            "ask for at least 0.12 dB, or convert to float32"
        )
    return 2 * half


def _error_whose_double_is(bound_db: float) -> float:
    """Largest error in dB that stays within a bound if the difference of powers doubles.

    Downwards, in power, is the worst of all: of amplitudes, of decibels and upwards it may be larger.
    """
    return -10 * math.log10((1 + 10 ** (-bound_db / 10)) / 2)


def keep_unbounded(classes: NDArray[np.uint8], backscatter: NDArray) -> NDArray[np.uint8]:
    """Classes in which valid pixels whose rounding no bound covers are kept exactly.

    These are subnormal numbers of float32 and float64 and those near them, below -370 dB: their steps are coarse.

    Parameters
    ----------
    classes : ndarray of uint8, any shape
    backscatter : ndarray, same shape

    Returns
    -------
    ndarray of uint8, same shape
        The same array where there are none.
    """
    dtype = backscatter.dtype
    if dtype.kind != "f" or dtype.itemsize == 2:
        return classes
    coarse = (classes == VALID) & (np.abs(backscatter) < _FINE_FROM * np.finfo(dtype).tiny) & (backscatter != 0)
    return np.where(coarse, np.uint8(EXACT), classes) if coarse.any() else classes


_FINE_FROM = 1e12  # of the smallest normal number: an error of the largest bound does not lead below that


def residuals_of(
    decibel: NDArray[np.float64], restored: NDArray[np.floating], classes: NDArray[np.uint8], spacing_db: float
) -> NDArray[np.int32]:
    """Residuals in units of their spacing; 0 at pixels that are not valid.

    Parameters
    ----------
    decibel : ndarray of float64, shape (plane, y, x), dB
        The original.
    restored : ndarray of float, same shape, dB
        What the decoder has without residuals.
    classes : ndarray of uint8, same shape
    spacing_db : float
    """
    residuals = np.rint((decibel - restored) / spacing_db)
    return np.where(classes == VALID, residuals, 0).astype(np.int32)


def check_bound(
    decibel: NDArray[np.float64], restored: NDArray[np.float64], classes: NDArray[np.uint8], max_error_db: float
) -> None:
    """Refuse a result that breaks its bound: the encoder's last look, at what its own decoder returns.

    Parameters
    ----------
    decibel, restored : ndarray of float64, same shape, dB
    classes : ndarray of uint8, same shape
    max_error_db : float

    Raises
    ------
    BoundError
        If a valid pixel is off by more than the bound.
    """
    errors = np.abs(restored - decibel)[classes == VALID]
    largest = float(errors.max(initial=0.0))
    if not largest <= max_error_db:
        raise BoundError(
            f"a pixel is off by {largest:.6g} dB, but max_error_db={max_error_db} was promised: nothing was written. This is "
            "a fault of xsarcomp, please report it with the data"
        )
