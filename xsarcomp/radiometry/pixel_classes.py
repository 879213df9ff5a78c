"""Pixel classes: valid backscatter (sigma0, gamma0), the kinds of invalid values, and their exact return after decoding."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xsarcomp.errors import DimensionError, RadiometryError
from xsarcomp.radiometry.scales import check_dtype, check_scale

VALID, NAN, POSITIVE_INFINITY, NEGATIVE_INFINITY, ZERO, NODATA, EXACT = range(7)
"""Pixel classes (uint8). EXACT is any other invalid value, which the caller keeps, see :func:`exact_values`."""

DECIBEL_LIMIT = 500.0
"""Largest magnitude of valid backscatter in dB. A number beyond it is a fill value (float32 power ends at -448 dB) and gets
the class EXACT. The transform would no longer be exact there, and decoders limit their output to it."""

NativeScalar = np.floating | np.integer
"""Number of the dtype of an array, in native byte order."""


def check_unmasked(values: object) -> None:
    """Refuse a masked array with masked pixels: values under the mask would be coded as backscatter.

    Raises
    ------
    RadiometryError
        If a pixel is masked.
    """
    if np.ma.is_masked(values):
        raise RadiometryError(
            "the array has masked pixels, but a chunk stores values without a mask. Fill them first: array.filled(numpy.nan)"
        )


def classify(backscatter: ArrayLike, scale: str, nodata: float | None = None) -> NDArray[np.uint8]:
    """Classify each pixel: valid, or the kind of invalid value it holds.

    Invalid are NaN, infinities, declared nodata, in power and amplitude everything <= 0, and values beyond +-500 dB.
    Declared nodata takes precedence over all other classes except NaN. Zero is valid in decibel unless declared as
    nodata. A negative zero that is invalid becomes EXACT, so that its sign survives.

    Parameters
    ----------
    backscatter : ndarray of float16, float32, float64 or integer, any shape and byte order
        sigma0 or gamma0 in ``scale``.
    scale : {"power", "decibel", "amplitude"}
        Scale of the values.
    nodata : float, optional
        Declared fill value, compared in the dtype of the array; NaN and None add nothing.

    Returns
    -------
    ndarray of uint8, same shape
        0 valid, 1 NaN, 2 +infinity, 3 -infinity, 4 zero, 5 nodata, 6 exact.

    Raises
    ------
    RadiometryError
        If the dtype or the scale is not supported.
    """
    values = np.asarray(backscatter)
    check_dtype(values.dtype)
    check_scale(scale)
    classes = np.zeros(values.shape, dtype=np.uint8)
    fill_value = _nodata_in_dtype(nodata, values.dtype)
    with np.errstate(all="ignore"):  # comparing a signaling NaN sets the invalid flag
        if _all_valid(values, scale, fill_value):  # most chunks; three passes over the values instead of ten
            return classes
        if scale == "decibel":
            classes[(values < -DECIBEL_LIMIT) | (values > DECIBEL_LIMIT)] = EXACT
        else:
            if values.dtype.kind == "f":
                lowest, highest = _limits(scale, values.dtype)
                classes[(values < lowest) | (values > highest)] = EXACT
            classes[values < 0] = EXACT
            classes[values == 0] = ZERO
        if values.dtype.kind == "f":
            classes[np.isnan(values)] = NAN
            classes[values == np.inf] = POSITIVE_INFINITY
            classes[values == -np.inf] = NEGATIVE_INFINITY
        if fill_value is not None:
            classes[values == fill_value] = NODATA
        if values.dtype.kind == "f":
            other_sign = np.signbit(values) != (np.signbit(fill_value) if fill_value is not None else False)
            classes[(classes == NODATA) & other_sign] = EXACT
            classes[(classes == ZERO) & np.signbit(values)] = EXACT
    return classes


def _all_valid(values: NDArray[Any], scale: str, fill_value: NativeScalar | None) -> bool:
    """Check from the smallest and the largest value that all pixels are valid; False if that is not certain."""
    if values.size == 0:
        return True
    lowest, highest = values.min(), values.max()  # NaN if there is one, and every comparison with NaN is False
    if scale == "decibel":
        inside = lowest >= -DECIBEL_LIMIT and highest <= DECIBEL_LIMIT
    elif values.dtype.kind == "f":
        smallest, largest = _limits(scale, values.dtype)
        inside = lowest > 0 and lowest >= smallest and highest <= largest
    else:
        inside = lowest > 0
    return bool(inside and (fill_value is None or not (values == fill_value).any()))


def _limits(scale: str, dtype: np.dtype[Any]) -> tuple[np.floating, np.floating]:
    """Return power or amplitude at -500 and +500 dB; the largest finite number of a dtype that ends before."""
    exponent = DECIBEL_LIMIT / {"power": 10, "amplitude": 20}[scale]
    limits = np.finfo(dtype)
    return limits.dtype.type(10.0**-exponent), limits.dtype.type(min(10.0**exponent, float(limits.max)))


def present_classes(classes: NDArray[np.uint8]) -> list[int]:
    """List the classes that occur, ascending; 20 times as fast as :func:`numpy.unique`."""
    return [number for number in range(int(classes.max(initial=0)) + 1) if (classes == number).any()]


def exact_values(backscatter: ArrayLike, classes: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the values of the EXACT pixels, 1-d in C order, in the dtype of ``backscatter``."""
    return np.asarray(backscatter)[np.asarray(classes) == EXACT]


def reinsert_invalid(
    backscatter: ArrayLike,
    classes: NDArray[np.uint8],
    nodata: float | None = None,
    exact: ArrayLike | None = None,
) -> NDArray[Any]:
    """Put the invalid values back, bit for bit (every NaN as the default quiet NaN).

    A valid pixel whose decoded value happens to equal nodata moves to the next number of its dtype, so that
    :func:`classify` gives the same classes after decoding as before encoding.

    Parameters
    ----------
    backscatter : ndarray, any shape
        Decoded backscatter, from :func:`~xsarcomp.radiometry.decibel.from_signal`.
    classes : ndarray of uint8, same shape
        Result of :func:`classify` on the original.
    nodata : float, optional
        Declared fill value that was given to :func:`classify`.
    exact : ndarray, 1-d, optional
        Result of :func:`exact_values` on the original.

    Returns
    -------
    ndarray, same shape and dtype as ``backscatter``
        A copy.

    Raises
    ------
    RadiometryError
        If a class is unknown or the dtype cannot hold its value, or nodata is missing.
    DimensionError
        If the shapes differ, or there are not as many ``exact`` values as EXACT pixels.
    """
    values, classes = np.array(backscatter), np.asarray(classes)
    if classes.shape != values.shape:
        raise DimensionError(
            f"found shapes {classes.shape} (classes) and {values.shape} (backscatter), expected two equal ones. "
            "Pass the class of each pixel."
        )
    for number, value in _special_values(classes, values.dtype, nodata).items():
        values[classes == number] = value
    expected = int(np.count_nonzero(classes == EXACT))
    exact = np.empty(0, values.dtype) if exact is None else np.asarray(exact)
    if exact.size != expected:
        raise DimensionError(f"found {exact.size} exact values for {expected} EXACT pixels: pass exact_values(...).")
    values[classes == EXACT] = exact
    fill_value = _nodata_in_dtype(nodata, values.dtype)
    if fill_value is not None:
        values[(classes == VALID) & (values == fill_value)] = _next_number(fill_value, values.dtype)
    return values


def can_hold_nodata(dtype: np.dtype[Any], nodata: float | None) -> bool:
    """Check if a pixel of a dtype can have the class NODATA: nodata is declared, not NaN, and a number of the dtype."""
    return _nodata_in_dtype(nodata, dtype) is not None


def _special_values(
    classes: NDArray[np.uint8], dtype: np.dtype[Any], nodata: float | None
) -> dict[int, NativeScalar | float]:
    """Return the value of each class that occurs and has one value for all its pixels."""
    present = set(present_classes(classes)) - {VALID, EXACT}
    special: dict[int, NativeScalar | float | None] = {ZERO: 0, NODATA: _nodata_in_dtype(nodata, dtype)}
    if dtype.kind == "f":
        special |= {NAN: np.nan, POSITIVE_INFINITY: np.inf, NEGATIVE_INFINITY: -np.inf}
    known = {number: value for number, value in special.items() if value is not None}
    unknown = sorted(present - known.keys())
    if unknown:
        raise RadiometryError(
            f"pixel classes {unknown} cannot be put back in {dtype} with nodata={nodata}; expected the "
            "classes, dtype and nodata of the encoder. Pass the same nodata as to classify."
        )
    return {number: known[number] for number in present}


def _nodata_in_dtype(nodata: float | None, dtype: np.dtype[Any]) -> NativeScalar | None:
    """Return nodata as a scalar of ``dtype``, or None where no pixel of that dtype can equal it."""
    if nodata is None or nodata != nodata:
        return None
    if dtype.kind == "f":
        with np.errstate(all="ignore"):  # -3.4e38 in a float16 array means its -infinity
            return dtype.newbyteorder("=").type(np.float64(nodata))
    limits = np.iinfo(dtype)
    if not math.isfinite(nodata) or int(nodata) != nodata or not limits.min <= int(nodata) <= limits.max:
        return None
    return dtype.newbyteorder("=").type(int(nodata))


def _next_number(value: NativeScalar, dtype: np.dtype[Any]) -> NativeScalar:
    """Return a number of the dtype next to ``value`` that is no less valid."""
    if dtype.kind == "f":
        return np.nextafter(value, value.dtype.type(0 if abs(value) >= 1 else 1))
    return value - 1 if value == np.iinfo(dtype).max else value + 1
