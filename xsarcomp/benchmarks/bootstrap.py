"""How sure a BD-rate is: resample the scenes and look how far it moves.

A few scenes stand for all that could have been taken. Drawing as many of them again, with replacement, shows how much
the result hangs on which ones they happen to be. Both polarizations of a file are drawn together: they show the same
ground and are no two witnesses.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from xsarcomp.benchmarks.measurement import Sweep, pooled
from xsarcomp.errors import RateError
from xsarcomp.metrics.rate_distortion import HIGHEST_RATE, LOWEST_RATE, RateDistortionCurve, RatePoint

RESAMPLES = 2000
SEED = 20141003
CONFIDENCE_PERCENT = 95.0


def scene_curve(measured: Sweep, scenes: Sequence[int]) -> list[RatePoint]:
    """Pool some scenes of a sweep.

    Parameters
    ----------
    measured : Sweep
    scenes : sequence of int
        Numbers of the scenes; a scene that is named twice counts twice.

    Returns
    -------
    list of RatePoint
        One for each setting.
    """
    return [
        pooled(setting, [one for scene in scenes for one in by_scene[scene]]) for setting, by_scene in measured.items()
    ]


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
        As in `bd_rate`.
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
    drawn = np.random.default_rng(SEED).integers(scenes, size=(resamples, scenes))
    # few scenes have few different draws: each is worked out once
    draws, counts = np.unique(np.sort(drawn, axis=1), axis=0, return_counts=True)
    values = np.empty((len(pairs), len(draws)))
    for column, draw in enumerate(draws):
        curves = {name: _curve_or_none(scene_curve(measured, draw)) for name, measured in sweeps.items()}
        for row, (codec, reference) in enumerate(pairs):
            values[row, column] = _bd_rate_or_nan(curves[codec], curves[reference], rates)
    tail = (100.0 - CONFIDENCE_PERCENT) / 2.0
    limits = np.percentile(np.repeat(values, counts, axis=1), (tail, 100.0 - tail), axis=1)
    return {pair: (float(low), float(high)) for pair, low, high in zip(pairs, *limits, strict=True)}


def _curve_or_none(points):
    try:
        return RateDistortionCurve(points)
    except RateError:
        return None


def _bd_rate_or_nan(test, reference, rates):
    if test is None or reference is None:
        return np.nan
    try:
        return test.bd_rate(reference, rates)[0]
    except RateError:
        return np.nan
