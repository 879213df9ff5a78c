"""Fidelity of restored backscatter to the original, pixel by pixel: errors, bias, PSNR, edges, SSIM.

Every function takes two arrays and the mask of the pixels that are valid in both; values under invalid pixels are
never read. Without a valid pixel the result is NaN, not an error, so that empty tiles need no special case. Sums
run in float64 for any input. Nothing here calls the conversions of the codec: a metric should not share the faults of
the codec that it measures.

Edge preservation is the *Pearson* correlation of gradient magnitudes. The uncentered (cosine) form that part of the
literature uses gives pi/4 to two independent speckle fields and is of no use here.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage import metrics

from xsarcomp.errors import RadiometryError
from xsarcomp.metrics.arguments import checked_pair

SCALES = ("power", "amplitude", "decibel")
"""Scales of backscatter."""
DECIBEL_RANGE = 50.0
"""Fixed signal range of PSNR and SSIM, in dB: about -35 to +15 dB, the values of a Sentinel-1 scene over land."""

_SSIM_WINDOW = 7


def power_and_validity(
    values: ArrayLike, *, scale: str, nodata: float | None = None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Convert backscatter of any scale to power, and mark its valid pixels.

    Parameters
    ----------
    values : array_like of real numbers, any shape
        Backscatter (sigma0, gamma0 or beta0) in ``scale``.
    scale : {"power", "amplitude", "decibel"}
        Scale of ``values``; amplitude is squared, decibel is 10 log10 of power.
    nodata : float, optional
        Declared nodata number. NaN and infinite values are invalid in any case.

    Returns
    -------
    power : ndarray of float64, same shape
        Linear power (m2 m-2); 1 where invalid, so that its logarithm is harmless.
    valid : ndarray of bool, same shape
        True where the value is finite, not nodata, and (power, amplitude) above zero.

    Raises
    ------
    RadiometryError
        If ``scale`` is unknown or the values are not real numbers.
    """
    stored = np.asarray(values)
    if scale not in SCALES:
        raise RadiometryError(f"found scale {scale!r}, expected one of {SCALES}. Name the scale of the values.")
    if stored.dtype.kind not in "fiu":
        raise RadiometryError(
            f"found values of dtype {stored.dtype}, expected real numbers. "
            "Take the squared magnitude of complex data first."
        )
    numbers = stored.astype(np.float64)
    valid = np.isfinite(numbers)
    if nodata is not None and math.isfinite(nodata):
        with np.errstate(over="ignore"):
            # a nodata number written as text is only equal to the stored one after rounding to its dtype
            valid &= stored != (stored.dtype.type(nodata) if stored.dtype.kind == "f" else nodata)
    if scale == "decibel":
        with np.errstate(over="ignore"):
            power = 10.0 ** (np.where(valid, numbers, 0.0) / 10.0)
        valid &= np.isfinite(power) & (power > 0)
    else:
        valid &= numbers > 0
        power = np.where(valid, numbers, 1.0)
        if scale == "amplitude":
            power = power**2
            valid &= np.isfinite(power) & (power > 0)
    return np.where(valid, power, 1.0), valid


def decibel_from_power(power: ArrayLike) -> NDArray[np.float64]:
    """Convert positive power to decibels, 10 log10(power).

    Parameters
    ----------
    power : array_like of float, any shape
        Linear power (m2 m-2), above zero, as :func:`power_and_validity` gives it.

    Returns
    -------
    ndarray of float64, same shape, dB
    """
    return 10.0 * np.log10(np.asarray(power, dtype=np.float64))


def rmse_db(original_db: NDArray[np.floating], restored_db: NDArray[np.floating], valid: NDArray[np.bool_]) -> float:
    """Compute the root mean square error in decibels.

    Parameters
    ----------
    original_db, restored_db : ndarray of float, same shape
        Backscatter (sigma0 or gamma0) in dB.
    valid : ndarray of bool, same shape
        Pixels that are valid in both.

    Returns
    -------
    float
        Error in dB, at least 0; NaN without a valid pixel.

    Raises
    ------
    DimensionError
        If the three shapes differ.
    """
    errors = _absolute_errors(original_db, restored_db, valid)
    return float(np.sqrt(np.mean(errors**2))) if errors.size else math.nan


def max_error_db(
    original_db: NDArray[np.floating], restored_db: NDArray[np.floating], valid: NDArray[np.bool_]
) -> float:
    """Compute the largest absolute error in decibels.

    Parameters
    ----------
    original_db, restored_db, valid
        As for :func:`rmse_db`.

    Returns
    -------
    float
        Error in dB, at least 0; NaN without a valid pixel.

    Raises
    ------
    DimensionError
        If the three shapes differ.
    """
    errors = _absolute_errors(original_db, restored_db, valid)
    return float(errors.max()) if errors.size else math.nan


def percentile_error_db(
    original_db: NDArray[np.floating],
    restored_db: NDArray[np.floating],
    valid: NDArray[np.bool_],
    percentile: float = 99,
) -> float:
    """Compute a percentile of the absolute error in decibels.

    Parameters
    ----------
    original_db, restored_db, valid
        As for :func:`rmse_db`.
    percentile : float, 0..100

    Returns
    -------
    float
        Error in dB, at least 0; NaN without a valid pixel.

    Raises
    ------
    DimensionError
        If the three shapes differ.
    """
    errors = _absolute_errors(original_db, restored_db, valid)
    return float(np.percentile(errors, percentile)) if errors.size else math.nan


def radiometric_bias_db(
    original_power: NDArray[np.floating], restored_power: NDArray[np.floating], valid: NDArray[np.bool_]
) -> float:
    """Compute the change of the mean power, in decibels.

    Parameters
    ----------
    original_power, restored_power : ndarray of float, same shape
        Backscatter power (sigma0 or gamma0, linear, m2 m-2), positive where valid.
    valid : ndarray of bool, same shape
        Pixels that are valid in both.

    Returns
    -------
    float
        10 log10(mean restored / mean original) in dB; negative where the restored scene is too dark. NaN without a
        valid pixel.

    Raises
    ------
    DimensionError
        If the three shapes differ.
    """
    original, restored, is_valid = checked_pair(original_power, restored_power, valid)
    if not is_valid.any():
        return math.nan
    return float(10.0 * np.log10(restored[is_valid].mean() / original[is_valid].mean()))


def peak_signal_to_noise_ratio(
    original_db: NDArray[np.floating],
    restored_db: NDArray[np.floating],
    valid: NDArray[np.bool_],
    range_db: float = DECIBEL_RANGE,
) -> float:
    """Compute the peak signal-to-noise ratio (PSNR) over a stated range of decibel values.

    Parameters
    ----------
    original_db, restored_db, valid
        As for :func:`rmse_db`.
    range_db : float
        Range in dB that stands for the peak.

    Returns
    -------
    float
        20 log10(range / RMSE) in dB; infinite for identical planes, NaN without a valid pixel.

    Raises
    ------
    DimensionError
        If the three shapes differ.
    """
    return psnr_from_rmse(rmse_db(original_db, restored_db, valid), range_db)


def psnr_from_rmse(rmse: float, range_db: float = DECIBEL_RANGE) -> float:
    """Convert an RMSE in dB to the peak signal-to-noise ratio over ``range_db``; infinite for an RMSE of 0."""
    return math.inf if rmse == 0 else 20.0 * math.log10(range_db / rmse)


def edge_preservation(
    original_db: NDArray[np.floating], restored_db: NDArray[np.floating], valid: NDArray[np.bool_]
) -> float:
    """Correlate the gradient magnitudes of original and restored (Pearson).

    Gradients are Sobel gradients. Pixels whose 3 x 3 support leaves the plane or touches an invalid pixel do not count:
    they would show the gradient of the fill value.

    Parameters
    ----------
    original_db, restored_db : ndarray of float, shape (y, x)
        Backscatter (sigma0 or gamma0) in dB.
    valid : ndarray of bool, shape (y, x)
        Pixels that are valid in both.

    Returns
    -------
    float
        -1..1: 1 for identical planes, near 0 for independent speckle. NaN where it is undefined: fewer than two usable
        pixels, or no variation of the gradient in one of the planes.

    Raises
    ------
    DimensionError
        If the shapes differ or are not two-dimensional.

    References
    ----------
    Sattar et al. (1997), IEEE Trans. Image Processing 6(6), edge preservation index: the same correlation,
    with a Laplacian in place of the Sobel gradients.
    """
    original, restored, is_valid = checked_pair(original_db, restored_db, valid, planes=True)
    usable = ndimage.binary_erosion(is_valid, structure=np.ones((3, 3), dtype=bool), border_value=0)
    if np.count_nonzero(usable) < 2:
        return math.nan
    deviations = [_gradient_magnitude(plane, is_valid)[usable] for plane in (original, restored)]
    for magnitude in deviations:
        magnitude -= magnitude.mean()
    norms = [float(np.sqrt(np.sum(magnitude**2))) for magnitude in deviations]
    # a perfectly even ramp has equal gradients up to rounding: the correlation is undefined
    if min(norms) <= 1e-9 * math.sqrt(deviations[0].size):
        return math.nan
    return float(np.clip(np.sum(deviations[0] * deviations[1]) / (norms[0] * norms[1]), -1.0, 1.0))


def structural_similarity(
    original_db: NDArray[np.floating], restored_db: NDArray[np.floating], valid: NDArray[np.bool_]
) -> float:
    """Compute the mean structural similarity (SSIM) of decibel values over a fixed range of 50 dB.

    Parameters
    ----------
    original_db, restored_db : ndarray of float, shape (y, x)
        Backscatter (sigma0 or gamma0) in dB.
    valid : ndarray of bool, shape (y, x)
        Pixels that are valid in both; only 7 x 7 windows without an invalid pixel count.

    Returns
    -------
    float
        -1..1, 1 for identical planes; NaN where no window is fully valid.

    Raises
    ------
    DimensionError
        If the shapes differ or are not two-dimensional.

    References
    ----------
    Wang et al. (2004), IEEE Trans. Image Processing 13(4), as implemented in scikit-image.
    """
    original, restored, is_valid = checked_pair(original_db, restored_db, valid, planes=True)
    window = np.ones((_SSIM_WINDOW, _SSIM_WINDOW), dtype=bool)
    usable = ndimage.binary_erosion(is_valid, structure=window, border_value=0)
    if not usable.any():
        return math.nan
    similarity = metrics.structural_similarity(
        np.where(is_valid, original, 0.0),
        np.where(is_valid, restored, 0.0),
        win_size=_SSIM_WINDOW,
        data_range=DECIBEL_RANGE,
        full=True,
    )[1]
    return float(similarity[usable].mean())


def _absolute_errors(
    original_db: NDArray[np.floating], restored_db: NDArray[np.floating], valid: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the absolute errors of the valid pixels in dB, shape (pixel,)."""
    original, restored, is_valid = checked_pair(original_db, restored_db, valid)
    return np.abs(restored[is_valid] - original[is_valid])


def _gradient_magnitude(plane_db: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute the magnitude of the Sobel gradient, with invalid pixels set to 0 dB."""
    filled = np.where(valid, plane_db, 0.0)
    return np.hypot(ndimage.sobel(filled, axis=0), ndimage.sobel(filled, axis=1))
