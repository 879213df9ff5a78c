"""Rate-distortion curves: error in dB against stored bits per pixel, and how to compare two of them.

Curves are nearly straight where both axes are logarithmic, so everything between measured points is
interpolated there. Nothing is extrapolated.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from xsarcomp.errors import DimensionError, RateError

RATES = (0.25, 0.5, 1.0, 2.0)
"""Bits per pixel at which codecs are tabulated."""

_SAMPLES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class RatePoint:
    """One measured point of a codec."""

    setting: float
    """Setting of the codec."""
    bits_per_pixel: float
    """Stored bits, headers included, over all pixels of all planes, valid or not."""
    rmse_db: float
    """Root mean square error over the valid pixels of all planes, dB."""


def filled_from_nearest(plane_db):
    """Fill the invalid pixels of a plane with the value of the nearest valid one.

    Parameters
    ----------
    plane_db : ndarray of float, shape (y, x)
        Backscatter in dB; not finite where invalid.

    Returns
    -------
    ndarray of float32, shape (y, x)
        Finite everywhere; 0 where no pixel is valid. The input is not changed.

    Raises
    ------
    DimensionError
        If the plane is not two-dimensional.
    """
    plane_db = np.asarray(plane_db, dtype=np.float32)
    if plane_db.ndim != 2:
        raise DimensionError(
            f"found {plane_db.ndim} dimensions, expected (y, x). Pass one polarization and date at a time."
        )
    invalid = ~np.isfinite(plane_db)
    if invalid.all():
        return np.zeros_like(plane_db)
    if not invalid.any():
        return plane_db.copy()
    nearest = ndimage.distance_transform_edt(invalid, return_distances=False, return_indices=True)
    return plane_db[tuple(nearest)]


def curve(codec, planes):
    """Measure a codec at all of its settings.

    Bits and squared errors are summed over the planes before dividing, so that a large plane counts for more.

    Parameters
    ----------
    codec : xsarcomp.evaluation.classical.Codec
        Codec with its grid of settings.
    planes : sequence of ndarray of float, shape (y, x)
        Backscatter in dB, not finite where invalid. Invalid pixels are filled from their neighbours for the
        codec and left out of the error; their mask is not part of the rate.

    Returns
    -------
    list of RatePoint
        One for each setting, by ascending rate.

    Raises
    ------
    RateError
        If there is no plane with a valid pixel.
    """
    originals = [np.asarray(plane, dtype=np.float32) for plane in planes]
    valids = [np.isfinite(plane) for plane in originals]
    valid_pixels = sum(int(np.count_nonzero(valid)) for valid in valids)
    if not valid_pixels:
        raise RateError(
            f"found no valid pixel in {len(originals)} planes, expected some to measure a rate. Choose other scenes."
        )
    pixels = sum(plane.size for plane in originals)
    filled = [filled_from_nearest(plane) for plane in originals]
    points = []
    for setting in codec.settings:
        size, squared_error = 0, 0.0
        for plane, valid in zip(filled, valids, strict=True):
            data = codec.encode(plane, setting)
            size += len(data)
            error = codec.decode(data, plane.shape)[valid].astype(np.float64) - plane[valid]
            squared_error += float(np.sum(error**2))
        points.append(
            RatePoint(
                setting=float(setting),
                bits_per_pixel=8 * size / pixels,
                rmse_db=math.sqrt(squared_error / valid_pixels),
            )
        )
    return sorted(points, key=lambda point: (point.bits_per_pixel, -point.rmse_db))


def rmse_at_rates(points, rates=RATES):
    """Interpolate the error of a codec at given rates.

    Parameters
    ----------
    points : iterable of RatePoint
        Curve of the codec, in any order.
    rates : sequence of float
        Bits per pixel.

    Returns
    -------
    ndarray of float64, shape (rate,)
        RMSE in dB; NaN at rates that the codec does not reach.

    Raises
    ------
    RateError
        If fewer than two points can be used.
    """
    log_rate, log_rmse = _frontier(points)
    wanted = np.log(np.asarray(rates, dtype=np.float64))
    return np.exp(np.interp(wanted, log_rate, log_rmse, left=np.nan, right=np.nan))


def bd_rate(test, reference, rates=(0.25, 2.0)):
    """Compute the mean difference in rate of two codecs at equal error (Bjontegaard delta rate).

    Parameters
    ----------
    test, reference : iterable of RatePoint
        Curves of the two codecs, in any order.
    rates : tuple of two float
        Lowest and highest bits per pixel of the reference that count.

    Returns
    -------
    float
        Per cent; negative where `test` needs fewer bits. Averaged over the logarithm of the errors that both
        codecs reach and that the reference has between the two rates.

    Raises
    ------
    RateError
        If the curves have no error in common there, or fewer than two usable points.

    References
    ----------
    Bjontegaard (2001), VCEG-M33; here with piecewise linear interpolation, which cannot oscillate.
    """
    test_rate, test_rmse = _frontier(test)
    reference_rate, reference_rmse = _frontier(reference)
    limits = np.clip(np.log(np.asarray(rates, dtype=np.float64)), reference_rate[0], reference_rate[-1])
    highest, lowest = np.interp(limits, reference_rate, reference_rmse)
    lowest, highest = max(lowest, test_rmse[-1]), min(highest, test_rmse[0])
    if not lowest < highest:
        raise RateError(
            f"found no common error of the two curves between {rates[0]} and {rates[1]} bits per pixel, "
            "expected an overlap. Measure both codecs at settings that cover the same errors."
        )
    errors = np.linspace(lowest, highest, _SAMPLES)
    # np.interp wants ascending abscissae: errors fall along a curve, so both are turned round
    difference = np.interp(errors, test_rmse[::-1], test_rate[::-1])
    difference -= np.interp(errors, reference_rmse[::-1], reference_rate[::-1])
    return float(100.0 * np.expm1(np.trapezoid(difference, errors) / (highest - lowest)))


def _frontier(points):
    """Return log rate (ascending) and log RMSE (strictly descending) of the points that no cheaper one beats.

    Points without error or rate have no logarithm and are left out.
    """
    ordered = sorted((point.bits_per_pixel, point.rmse_db) for point in points)
    log_rate, log_rmse = [], []
    for bits_per_pixel, rmse_db in ordered:
        better = not log_rmse or math.log(max(rmse_db, 1e-300)) < log_rmse[-1]
        if bits_per_pixel > 0 and 0 < rmse_db < math.inf and better:
            log_rate.append(math.log(bits_per_pixel))
            log_rmse.append(math.log(rmse_db))
    if len(log_rate) < 2:
        raise RateError(
            f"found {len(log_rate)} usable points among {len(ordered)}, expected at least 2 with falling "
            "error. Measure the codec at more settings."
        )
    return np.array(log_rate), np.array(log_rmse)
