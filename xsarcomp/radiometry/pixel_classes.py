"""Pixel classes: which pixels hold no backscatter, of what kind, and their exact return after decoding."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xsarcomp.errors import DimensionError, RadiometryError
from xsarcomp.radiometry.scales import check_dtype, check_scale

VALID, NAN, POSITIVE_INFINITY, NEGATIVE_INFINITY, ZERO, NODATA, EXACT = range(7)
"""Pixel classes (uint8). EXACT: any other invalid value, kept by the caller as `exact_values`."""

DECIBEL_LIMIT = 500.0
"""Beyond +-500 dB a number is no backscatter (float32 power ends at -448 dB) but a fill: class EXACT. The transform would no
longer be exact there, and decoders limit to it."""


def check_unmasked(values: object) -> None:
    """Refuse a masked array with masked pixels: what lies under the mask would be coded as backscatter.

    Raises
    ------
    RadiometryError
        If a pixel is masked.
    """
    if np.ma.is_masked(values):
        raise RadiometryError(
            "the array has masked pixels, and a chunk keeps values and no mask: fill them first, array.filled(numpy.nan)"
        )


def classify(backscatter: ArrayLike, scale: str, nodata: float | None = None) -> NDArray[np.uint8]:
    """Give each pixel its class: valid, or the kind of invalid value it holds.

    Invalid are NaN, infinities, declared nodata, in power and amplitude everything <= 0, and what is
    beyond +-500 dB. Declared nodata wins over the other classes but NaN. Zero is valid in decibel
    unless declared as nodata. A negative zero that is invalid becomes EXACT, so that its sign survives.

    Parameters
    ----------
    backscatter : ndarray of float16, float32, float64 or integer, any shape and byte order
        Values in `scale`.
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
        If the dtype or the scale is none of the above.
    """
    values = np.asarray(backscatter)
    check_dtype(values.dtype)
    check_scale(scale)
    classes = np.zeros(values.shape, dtype=np.uint8)
    fill_value = _nodata_in_dtype(nodata, values.dtype)
    with np.errstate(all="ignore"):  # comparing signalling NaN sets the invalid flag
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


def _all_valid(values: NDArray, scale: str, fill_value) -> bool:
    """Whether it is certain, from the smallest and the largest value, that all pixels are valid."""
    if values.size == 0:
        return True
    lowest, highest = values.min(), values.max()  # NaN if there is one, which compares with nothing
    if scale == "decibel":
        inside = lowest >= -DECIBEL_LIMIT and highest <= DECIBEL_LIMIT
    elif values.dtype.kind == "f":
        smallest, largest = _limits(scale, values.dtype)
        inside = lowest > 0 and lowest >= smallest and highest <= largest
    else:
        inside = lowest > 0
    return bool(inside and (fill_value is None or not (values == fill_value).any()))


def _limits(scale: str, dtype: np.dtype) -> tuple[np.floating, np.floating]:
    """Power or amplitude at +-500 dB, or the last finite number of a dtype that does not reach so far."""
    exponent = DECIBEL_LIMIT / {"power": 10, "amplitude": 20}[scale]
    limits = np.finfo(dtype)
    return limits.dtype.type(10.0**-exponent), limits.dtype.type(min(10.0**exponent, float(limits.max)))


def present_classes(classes: NDArray[np.uint8]) -> list[int]:
    """Classes that occur, ascending; 20 times as fast as sorting all of them."""
    return [name for name in range(int(classes.max(initial=0)) + 1) if (classes == name).any()]


def exact_values(backscatter: ArrayLike, classes: NDArray[np.uint8]) -> NDArray:
    """Return the values of the EXACT pixels, 1-d in C order, in the dtype of `backscatter`."""
    return np.asarray(backscatter)[np.asarray(classes) == EXACT]


def restore_invalid(
    backscatter: ArrayLike,
    classes: NDArray[np.uint8],
    nodata: float | None = None,
    exact: ArrayLike | None = None,
) -> NDArray:
    """Put the invalid values back, bit for bit (every NaN as the default quiet NaN).

    A valid pixel whose decoded value happens to equal nodata moves to the next number of its dtype, so that
    `classify` finds the same classes after decoding as before encoding.

    Parameters
    ----------
    backscatter : ndarray, any shape
        Decoded backscatter, from `from_signal`.
    classes : ndarray of uint8, same shape
        Result of `classify` on the original.
    nodata : float, optional
        Declared fill value that was given to `classify`.
    exact : ndarray, 1-d, optional
        Result of `exact_values` on the original.

    Returns
    -------
    ndarray, same shape and dtype as `backscatter`
        A copy.

    Raises
    ------
    RadiometryError
        If a class is unknown or cannot be held by the dtype, or nodata is missing.
    DimensionError
        If the shapes differ, or `exact` has another number of values than there are EXACT pixels.
    """
    restored, classes = np.array(backscatter), np.asarray(classes)
    if classes.shape != restored.shape:
        raise DimensionError(f"classes have shape {classes.shape}, backscatter {restored.shape}: give one each.")
    special = _special_values(classes, restored.dtype, nodata)
    for name, value in special.items():
        restored[classes == name] = value
    expected = int(np.count_nonzero(classes == EXACT))
    exact = np.empty(0, restored.dtype) if exact is None else np.asarray(exact)
    if exact.size != expected:
        raise DimensionError(f"{exact.size} exact values for {expected} EXACT pixels: pass exact_values(...).")
    restored[classes == EXACT] = exact
    fill_value = _nodata_in_dtype(nodata, restored.dtype)
    if fill_value is not None:
        restored[(classes == VALID) & (restored == fill_value)] = _beside(fill_value, restored.dtype)
    return restored


def can_hold_nodata(dtype: np.dtype, nodata: float | None) -> bool:
    """Whether some pixel of a dtype can be of class NODATA: nodata is declared, is no NaN, and the dtype holds it."""
    return _nodata_in_dtype(nodata, dtype) is not None


def _special_values(classes: NDArray[np.uint8], dtype: np.dtype, nodata: float | None) -> dict:
    """Value of each class that is present and has one value for all its pixels."""
    present = set(present_classes(classes)) - {VALID, EXACT}
    special = {ZERO: 0, NODATA: _nodata_in_dtype(nodata, dtype)}
    if dtype.kind == "f":
        special |= {NAN: np.nan, POSITIVE_INFINITY: np.inf, NEGATIVE_INFINITY: -np.inf}
    unknown = sorted(name for name in present if special.get(name) is None)
    if unknown:
        raise RadiometryError(
            f"pixel classes {unknown} cannot be restored in {dtype} with nodata={nodata}; expected the "
            "classes, dtype and nodata of the encoder. Pass the same nodata as to classify."
        )
    return {name: special[name] for name in present}


def _nodata_in_dtype(nodata: float | None, dtype: np.dtype):
    """Return nodata as a scalar of `dtype`, or None where no pixel of that dtype can equal it."""
    if nodata is None or nodata != nodata:
        return None
    if dtype.kind == "f":
        with np.errstate(all="ignore"):  # -3.4e38 in a float16 array means its -infinity
            return np.asarray(nodata, dtype=np.float64).astype(dtype.newbyteorder("="))[()]
    limits = np.iinfo(dtype)
    if not math.isfinite(nodata) or int(nodata) != nodata or not limits.min <= int(nodata) <= limits.max:
        return None
    return dtype.newbyteorder("=").type(int(nodata))


def _beside(value, dtype: np.dtype):
    """Return a number of the dtype next to `value` that is no less valid than it."""
    if dtype.kind == "f":
        return np.nextafter(value, value.dtype.type(0 if abs(value) >= 1 else 1))
    return value - 1 if value == np.iinfo(dtype).max else value + 1
