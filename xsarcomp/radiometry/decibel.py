"""Conversion of backscatter (sigma0, gamma0) to the signal of the codec and back.

The signal is decibels minus an offset, in steps of 1/512 dB. The scale of the values is inferred in
:mod:`xsarcomp.radiometry.scales`, invalid pixels are classified in :mod:`xsarcomp.radiometry.pixel_classes`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from xsarcomp.errors import RadiometryError
from xsarcomp.radiometry.filling import SIGNAL_STEPS_PER_DB
from xsarcomp.radiometry.pixel_classes import DECIBEL_LIMIT, VALID, classify
from xsarcomp.radiometry.scales import check_dtype, check_scale

_DECIBEL_PER_DECADE = {"power": 10.0, "amplitude": 20.0}


def decibel_from_backscatter(
    backscatter: ArrayLike, scale: str, *, classes: NDArray[np.uint8] | None = None
) -> NDArray[np.float64]:
    """Convert backscatter to decibels: 10 log10(power), 20 log10(amplitude), or the values themselves.

    Computed on a C-contiguous native float64 copy: vectorized logarithms may differ in the last bit between
    memory layouts, and the result must not depend on layout or byte order.

    Parameters
    ----------
    backscatter : ndarray of real numbers, any shape
        sigma0 or gamma0 in ``scale``.
    scale : {"power", "decibel", "amplitude"}
        Scale of the values.
    classes : ndarray of uint8, same shape, optional
        Result of :func:`~xsarcomp.radiometry.pixel_classes.classify`; computed without nodata if not given.

    Returns
    -------
    ndarray of float64, same shape, dB
        0 at invalid pixels; no warning is raised for them.

    Raises
    ------
    RadiometryError
        If the scale is unknown, or the dtype cannot hold backscatter.
    """
    classes = classify(backscatter, scale) if classes is None else np.asarray(classes)
    with np.errstate(all="ignore"):
        decibel = np.array(backscatter, dtype=np.float64, order="C")
    decibel[classes != VALID] = 0.0 if scale == "decibel" else 1.0  # the logarithm of one is zero
    if scale != "decibel":
        check_scale(scale)
        np.log10(decibel, out=decibel)
        decibel *= _DECIBEL_PER_DECADE[scale]
    return decibel


def to_signal(
    backscatter: ArrayLike, classes: NDArray[np.uint8], scale: str, offset_db: float | NDArray[np.floating]
) -> NDArray[np.float64]:
    """Convert backscatter to the signal: decibels minus an offset, in exact steps of 1/512 dB.

    The signal is a multiple of 1/512 dB, of at most 2**22 steps. Weighted sums with fixed-point coefficients are
    therefore exact in float64: the linear transform gives the same latents in any order of summation, on every
    machine. The step is far below speckle (about 2 dB) and adds 0.0006 dB of RMSE.

    Parameters
    ----------
    backscatter : ndarray of real numbers, shape (..., y, x)
        sigma0 or gamma0 in ``scale``.
    classes : ndarray of uint8, same shape
        Result of :func:`~xsarcomp.radiometry.pixel_classes.classify`.
    scale : {"power", "decibel", "amplitude"}
        Scale of the values.
    offset_db : float, or ndarray that broadcasts to the shape
        Level in dB that becomes zero, from the model card.

    Returns
    -------
    ndarray of float64, same shape, dB above the offset
        0 at invalid pixels: pass it to :func:`~xsarcomp.radiometry.filling.fill_invalid` next.

    Raises
    ------
    RadiometryError
        If the scale is unknown.
    """
    signal = decibel_from_backscatter(backscatter, scale, classes=classes)
    signal -= np.asarray(offset_db, dtype=np.float64)
    signal *= SIGNAL_STEPS_PER_DB
    np.rint(signal, out=signal)
    signal /= SIGNAL_STEPS_PER_DB
    signal[np.asarray(classes) != VALID] = 0.0
    return signal


def from_signal(
    signal_db: ArrayLike,
    scale: str,
    dtype: DTypeLike,
    *,
    offset_db: float | NDArray[np.floating],
    correction_db: float | NDArray[np.floating] = 0.0,
) -> NDArray[Any]:
    """Convert a decoded signal to backscatter, the inverse of :func:`to_signal`.

    Valid values stay valid: they are limited to the range of ``dtype`` (largest finite value instead of infinity, no
    wrap of integers), and power and amplitude never fall to zero, which would read as invalid.

    Parameters
    ----------
    signal_db : ndarray of float, any shape, dB above the offset
        Decoded signal, finite.
    scale : {"power", "decibel", "amplitude"}
        Scale to return.
    dtype : dtype
        float16, float32, float64 or integer, any byte order; integers are rounded.
    offset_db : float, or ndarray that broadcasts to the shape
        The offset given to :func:`to_signal`, dB.
    correction_db : float, or ndarray that broadcasts to the shape
        Added to keep the mean power, dB, see :func:`mean_power_correction_db`.

    Returns
    -------
    ndarray of ``dtype``, same shape

    Raises
    ------
    RadiometryError
        If the signal holds NaN, or the dtype or scale is not supported.
    """
    dtype = np.dtype(dtype)
    check_dtype(dtype)
    check_scale(scale)
    level_db = np.asarray(offset_db, dtype=np.float64) + np.asarray(correction_db, dtype=np.float64)
    # one array, changed in place; the outer asarray keeps a zero-dimensional sum an array
    values = np.asarray(np.asarray(signal_db, dtype=np.float64) + level_db)
    if np.isnan(values).any():
        raise RadiometryError("signal_db holds NaN; expected finite decibels. Check model and input of the decoder.")
    lowest, highest = _valid_limits(scale, dtype)
    with np.errstate(all="ignore"):
        if scale != "decibel":
            values /= _DECIBEL_PER_DECADE[scale]
            np.power(10.0, values, out=values)
        if dtype.kind in "iu":
            np.rint(values, out=values)
        return np.clip(values, lowest, highest, out=values).astype(dtype, copy=False)


def _valid_limits(scale: str, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the smallest and the largest valid value of a scale that the dtype can hold."""
    if dtype.kind == "f":
        native = dtype.newbyteorder("=").type
        lowest, highest = float(np.nextafter(native(0), native(1))), float(np.finfo(dtype).max)
    else:
        lowest, highest = 1.0, float(np.iinfo(dtype).max)
        if int(highest) > np.iinfo(dtype).max:  # 2**63 - 1 is no float64, and 2**63 would wrap
            highest = math.nextafter(highest, 0.0)
    if dtype.kind == "f" and scale != "decibel":  # float64 holds numbers that classify does not take as valid
        exponent = DECIBEL_LIMIT / _DECIBEL_PER_DECADE[scale]
        lowest, highest = max(lowest, 10.0**-exponent), min(highest, 10.0**exponent)
    if scale == "decibel":
        lowest = -DECIBEL_LIMIT if dtype.kind == "f" else max(float(np.iinfo(dtype).min), -DECIBEL_LIMIT)
        highest = min(highest, DECIBEL_LIMIT)
    return lowest, highest


def mean_power_correction_db(mean_squared_error_db: float | NDArray[np.floating]) -> float | NDArray[np.float64]:
    """Compute the decibels to add after decoding to preserve the mean power.

    A decoder that returns the conditional mean in decibels returns too little power, because power is convex
    in decibels. For Gaussian errors of variance MSE the lost factor is ``exp((ln10 / 10)**2 * MSE / 2)``, in
    decibels ``ln10 / 20 * MSE``, about 0.115 MSE.

    Parameters
    ----------
    mean_squared_error_db : float or ndarray, dB squared, >= 0
        Mean squared error of the decoded decibels.

    Returns
    -------
    float, or ndarray of float64, dB

    Raises
    ------
    RadiometryError
        If an error is negative or not finite.

    References
    ----------
    Miller (1984), "Reducing transformation bias in curve fitting", The American Statistician 38(2), 124-126.
    """
    error = np.asarray(mean_squared_error_db, dtype=np.float64)
    if not (np.isfinite(error) & (error >= 0)).all():
        raise RadiometryError(
            f"found mean squared error {mean_squared_error_db} dB^2, expected a finite number of at least 0. "
            "Compute it over valid pixels only."
        )
    correction = math.log(10.0) / 20.0 * error
    return float(correction) if correction.ndim == 0 else correction


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeCounts:
    """Numbers of valid values inside and outside the range of the training data; counts of windows add up."""

    valid_count: int
    """Number of valid values."""
    below_count: int
    """Number of valid values below the lowest."""
    above_count: int
    """Number of valid values above the highest."""

    @property
    def outside_count(self) -> int:
        """Number of valid values outside the range."""
        return self.below_count + self.above_count

    @property
    def outside_share(self) -> float:
        """Share of valid values outside the range, 0 to 1; 0 where nothing is valid."""
        return self.outside_count / max(self.valid_count, 1)

    def __add__(self, other: "RangeCounts") -> "RangeCounts":
        return RangeCounts(
            valid_count=self.valid_count + other.valid_count,
            below_count=self.below_count + other.below_count,
            above_count=self.above_count + other.above_count,
        )


def count_out_of_range(
    signal_db: ArrayLike,
    lowest_db: float | NDArray[np.floating],
    highest_db: float | NDArray[np.floating],
    valid: ArrayLike,
) -> RangeCounts:
    """Count valid values outside a range; nothing is clipped.

    Parameters
    ----------
    signal_db : ndarray of float, shape (..., y, x), dB
        Signal or decibels, on the same level as the range.
    lowest_db, highest_db : float, or ndarray that broadcasts to the shape, dB
        Range of the training data, from the model card; its ends are inside.
    valid : ndarray of bool, same shape
        ``classes == VALID``.

    Returns
    -------
    RangeCounts
    """
    signal, is_valid = np.asarray(signal_db), np.asarray(valid, dtype=bool)
    return RangeCounts(
        valid_count=int(np.count_nonzero(is_valid)),
        below_count=int(np.count_nonzero(is_valid & (signal < lowest_db))),
        above_count=int(np.count_nonzero(is_valid & (signal > highest_db))),
    )
