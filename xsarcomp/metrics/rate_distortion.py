"""Rate-distortion curves: error in dB against stored bits per pixel, interpolated and compared.

Curves are smooth and bent on two logarithmic axes, so values between measured points are interpolated on these axes
with monotone cubics (PCHIP). Straight lines between points would cut the bend: with seven points from 0.1 to 2
bits per pixel they make a codec look 1 to 2 % cheaper than it is. Nothing is extrapolated.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from xsarcomp.errors import RateError

LOWEST_RATE, HIGHEST_RATE = 0.1, 2.0
"""Bits per pixel between which codecs are compared."""
TABLE_RATES = (0.25, 0.5, 1.0, 2.0)
"""Bits per pixel at which tables list the errors of codecs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatePoint:
    """One measured point of a codec."""

    setting: float
    """Setting of the codec that was measured."""
    bits_per_pixel: float
    """Stored bits, headers included, over all pixels of all planes, valid or not."""
    rmse_db: float
    """Root mean square error over the valid pixels of all planes, dB."""
    enl_ratio: float = math.nan
    """Median of the ENL ratios of the planes; NaN where unknown."""
    edge_preservation: float = math.nan
    """Mean over the planes, weighted with their valid pixels; NaN where unknown."""
    bias_db: float = math.nan
    """Change of the mean power of all valid pixels, dB; NaN where unknown."""


class RateDistortionCurve:
    """Curve of a codec through its measured points, monotone in the logarithms of rate and error.

    Points are left out if a cheaper one has a smaller error, or if their error or rate is 0, which has no logarithm.

    Parameters
    ----------
    points : iterable of RatePoint
        In any order.

    Raises
    ------
    RateError
        If fewer than two points can be used.
    """

    def __init__(self, points: Iterable[RatePoint]) -> None:
        ordered = sorted((point.bits_per_pixel, point.rmse_db) for point in points)
        log_rate: list[float] = []
        log_rmse: list[float] = []
        for bits_per_pixel, rmse_db in ordered:
            usable = bits_per_pixel > 0 and 0 < rmse_db < math.inf
            if usable and (not log_rmse or math.log(rmse_db) < log_rmse[-1]):
                log_rate.append(math.log(bits_per_pixel))
                log_rmse.append(math.log(rmse_db))
        if len(log_rate) < 2:
            raise RateError(
                f"found {len(log_rate)} usable points among {len(ordered)}, expected at least 2 with falling "
                "error. Measure the codec at more settings."
            )
        self._rates = (log_rate[0], log_rate[-1])
        self._errors = (log_rmse[-1], log_rmse[0])
        self._error_of_rate = PchipInterpolator(log_rate, log_rmse, extrapolate=False)
        # abscissae must ascend, and errors fall along a curve
        self._rate_of_error = PchipInterpolator(log_rmse[::-1], log_rate[::-1], extrapolate=False)

    def rmse_db(self, rates: Sequence[float]) -> NDArray[np.float64]:
        """Interpolate the error at given rates.

        Parameters
        ----------
        rates : sequence of float
            Bits per pixel.

        Returns
        -------
        ndarray of float64, shape (rate,)
            RMSE in dB; NaN at rates that the codec does not reach.
        """
        return np.exp(self._error_of_rate(np.log(np.asarray(rates, dtype=np.float64))))

    def bd_rate(self, reference: "RateDistortionCurve", rates: tuple[float, float]) -> tuple[float, float]:
        """Compute the Bjontegaard delta rate of this curve, see :func:`bd_rate`, and its coverage.

        Parameters
        ----------
        reference : RateDistortionCurve
        rates : tuple of two float
            Lowest and highest bits per pixel of the reference that count.

        Returns
        -------
        percent : float
            Mean difference in rate at equal error, per cent; negative where this curve needs fewer bits.
        coverage : float, 0..1
            Share of the reference's errors between the two rates that both curves reach.

        Raises
        ------
        RateError
            If the curves have no error in common there.
        """
        # the second clip removes the rounding errors of the interpolation at the ends of the curve
        limits = reference._error_of_rate(np.clip(np.log(rates), *reference._rates))
        highest, lowest = np.clip(limits, *reference._errors)
        low, high = max(lowest, self._errors[0]), min(highest, self._errors[1])
        if not low < high:
            raise RateError(
                f"found no common error of the two curves between {rates[0]} and {rates[1]} bits per pixel, "
                "expected an overlap. Measure both codecs at settings that cover the same errors."
            )
        mean, reference_mean = (curve._rate_of_error.integrate(low, high) / (high - low) for curve in (self, reference))
        return float(100.0 * np.expm1(mean - reference_mean)), float((high - low) / (highest - lowest))


def rmse_at_rates(points: Iterable[RatePoint], rates: Sequence[float] = TABLE_RATES) -> NDArray[np.float64]:
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
    return RateDistortionCurve(points).rmse_db(rates)


def metric_at_rate(points: Iterable[RatePoint], name: str, bits_per_pixel: float) -> float:
    """Interpolate a metric other than the error, linearly over the logarithm of the rate.

    Parameters
    ----------
    points : iterable of RatePoint
        Curve of the codec, in any order.
    name : {"enl_ratio", "edge_preservation", "bias_db"}
        Field of :class:`RatePoint`.
    bits_per_pixel : float
        Rate.

    Returns
    -------
    float
        NaN at a rate that the codec does not reach, or where the metric is unknown.
    """
    by_rate = {point.bits_per_pixel: getattr(point, name) for point in points if point.bits_per_pixel > 0}
    rates = sorted(by_rate)
    if not rates:
        return math.nan
    values = [by_rate[rate] for rate in rates]
    return float(np.interp(math.log(bits_per_pixel), np.log(rates), values, left=math.nan, right=math.nan))


def bd_rate(
    test: Iterable[RatePoint],
    reference: Iterable[RatePoint],
    rates: tuple[float, float] = (LOWEST_RATE, HIGHEST_RATE),
) -> float:
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
        Per cent; negative where ``test`` needs fewer bits. Averaged over the logarithm of the errors that both
        codecs reach and that the reference has between the two rates.

    Raises
    ------
    RateError
        If the curves have no error in common there, or fewer than two usable points.

    References
    ----------
    Bjontegaard (2001), VCEG-M33; here with monotone piecewise cubics, which cannot oscillate, as in the common test
    conditions of JVET.
    """
    return RateDistortionCurve(test).bd_rate(RateDistortionCurve(reference), rates)[0]
