"""Confidence intervals of BD-rates by the bootstrap over scenes.

The scenes of a benchmark are a small sample of all that could have been acquired. Drawing as many of them again, with
replacement, shows how much the result depends on the choice of scenes. All planes of a file are drawn together: its
polarizations show the same ground and are not independent.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from xsarcomp.benchmarks.measurement import Sweep, pooled_curve
from xsarcomp.errors import RateError
from xsarcomp.metrics.rate_distortion import HIGHEST_RATE, LOWEST_RATE, RateDistortionCurve, RatePoint

RESAMPLES = 2000
SEED = 20141003
CONFIDENCE_PERCENT = 95.0


def bd_rate_intervals(
    sweeps: Mapping[str, Sweep],
    references: Sequence[str],
    *,
    rates: tuple[float, float] = (LOWEST_RATE, HIGHEST_RATE),
    resamples: int = RESAMPLES,
) -> dict[tuple[str, str], tuple[float, float]]:
    """Bootstrap the BD-rate of each codec against each reference over scenes.

    Parameters
    ----------
    sweeps : mapping of str to Sweep
        Measurements of each codec on the same scenes.
    references : sequence of str
        Names among `sweeps`.
    rates : tuple of two float
        Lowest and highest bits per pixel of the reference that count, as in `xsarcomp.metrics.rate_distortion.bd_rate`.
    resamples : int
        Number of draws.

    Returns
    -------
    dict of (str, str) to (float, float)
        Codec and reference to the 2.5 and 97.5 percentiles of the BD-rate, per cent. NaN where there are fewer than two
        scenes, or where the curves of some draw have no error in common.

    References
    ----------
    Efron and Tibshirani (1993), *An Introduction to the Bootstrap*, chapter 13, percentile intervals.
    """
    pairs = [(codec, reference) for reference in references for codec in sweeps if codec != reference]
    scenes = len(next(iter(next(iter(sweeps.values())).values())))
    if scenes < 2:
        return dict.fromkeys(pairs, (np.nan, np.nan))
    # not scipy.stats.bootstrap: it gives the same numbers from the same seed, but can only resample the numbers of the scenes,
    # computes equal draws again, of which few scenes have many, and warns of BCa where a pair has no interval
    drawn = np.random.default_rng(SEED).integers(scenes, size=(resamples, scenes))
    draws, counts = np.unique(np.sort(drawn, axis=1), axis=0, return_counts=True)
    bd_rates = np.empty((len(pairs), len(draws)))
    for column, draw in enumerate(draws):
        curves = {name: _curve_or_none(pooled_curve(sweep, draw)) for name, sweep in sweeps.items()}
        for row, (codec, reference) in enumerate(pairs):
            bd_rates[row, column] = _bd_rate_or_nan(curves[codec], curves[reference], rates)
    tail = (100.0 - CONFIDENCE_PERCENT) / 2.0
    limits = np.percentile(np.repeat(bd_rates, counts, axis=1), (tail, 100.0 - tail), axis=1)
    return {pair: (float(low), float(high)) for pair, low, high in zip(pairs, *limits, strict=True)}


def _curve_or_none(points: Sequence[RatePoint]) -> RateDistortionCurve | None:
    """Curve through points; None if too few can be used."""
    try:
        return RateDistortionCurve(points)
    except RateError:
        return None


def _bd_rate_or_nan(
    test: RateDistortionCurve | None, reference: RateDistortionCurve | None, rates: tuple[float, float]
) -> float:
    """BD-rate in per cent; NaN if a curve is missing or the curves have no error in common."""
    if test is None or reference is None:
        return np.nan
    try:
        return test.bd_rate(reference, rates)[0]
    except RateError:
        return np.nan
