"""The domain of a model: usual ranges of the statistics of its training planes, with a margin.

Encoders compare their input with it (`xsarcomp.radiometry.domain`). It is an entry of the model's JSON file.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsarcomp.radiometry.domain import Domain
from xsarcomp.radiometry.speckle_statistics import (
    COMMON_LOOKS,
    DISTINCT,
    LEVEL,
    LOOKS,
    STATISTICS,
    cut_windows,
    plane_statistics,
)
from xsarcomp.training.planes import Plane

BLOCK_PIXELS = 256
"""Edge of the blocks that planes are cut into, hardly larger than a verdict needs: larger blocks would vary less than the
inputs that are judged later."""
FEWEST_BLOCKS = 20
"""Fewest blocks that a range can be estimated from."""
TAIL_SHARE = 0.1
"""Share of the blocks on each side that counts as a tail."""
FALSE_ALARMS = 1 / 500
"""Share of blocks like those of the training data that may lie beyond an end of a range."""
LEAST_DISTINCT = 0.75
"""Share of distinct values that is never a reason to warn, for any training data: decibels in float16 come near to it."""
SPACING_TOLERANCE = 1.2
"""Factor by which the pixel spacing may differ from that of the training data before a correlation is out of range."""


def domain_entry(planes: Sequence[Plane], gain_db: float = 0.0) -> dict[str, dict[str, Any]]:
    """Describe the domain of a model for its JSON file.

    Parameters
    ----------
    planes : sequence of Plane
        Training split.
    gain_db : float, dB
        Largest gain, up or down, of the augmentation.

    Returns
    -------
    dict
        ``domain`` and its JSON object; empty if the planes have fewer than `FEWEST_BLOCKS` blocks with enough windows.
    """
    domain = fitted_domain(plane_statistics(_blocks(planes)), gain_db)
    return {} if domain is None else {"domain": domain.to_json()}


def _blocks(planes: Sequence[Plane]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Cut planes into blocks of about `BLOCK_PIXELS`; gives the polarization and the windows of each."""
    for plane in planes:
        rows, columns = (np.array_split(np.arange(size), max(1, size // BLOCK_PIXELS)) for size in plane.decibel.shape)
        for y in rows:
            for x in columns:
                block = (slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1))
                yield plane.polarization, cut_windows(plane.decibel[block][None], plane.valid[block][None])


def fitted_domain(blocks: Sequence[tuple[str | None, Mapping[str, float]]], gain_db: float = 0.0) -> Domain | None:
    """Estimate the usual ranges from the statistics of blocks of training data.

    Each end lies where the tail of the blocks, taken as exponential, leaves `FALSE_ALARMS` of them outside, and never
    inside the outermost block: the mean excess over a threshold is the scale of such a tail (peaks over threshold).
    Correlations may differ as much as another pixel spacing would make them, for a Gaussian impulse response, and levels
    by the gain of augmentation.

    Parameters
    ----------
    blocks : sequence of (polarization, statistics)
        From `plane_statistics`; blocks of training data have a polarization.
    gain_db : float, dB
        Largest gain, up or down, of the augmentation.

    Returns
    -------
    Domain or None
        None if fewer than `FEWEST_BLOCKS` blocks have all statistics.

    References
    ----------
    Coles (2001), *An Introduction to Statistical Modeling of Extreme Values*, chapter 4.
    """
    complete = [statistics for _, statistics in blocks if set(statistics) == set(STATISTICS)]
    if len(complete) < FEWEST_BLOCKS:
        return None
    ranges = {}
    for statistic in STATISTICS:
        values = np.array([statistics[statistic] for statistics in complete])
        if statistic in (LOOKS, COMMON_LOOKS):
            ranges[statistic] = _rounded(*np.exp(tolerance_interval(np.log(values))))
        elif statistic == DISTINCT:
            ranges[statistic] = _rounded(min(LEAST_DISTINCT, tolerance_interval(values)[0]), 1.0)
        elif statistic != LEVEL:
            low, high = np.tanh(tolerance_interval(np.arctanh(np.clip(values, 0.01, 0.99))))
            # a Gaussian falls with the square of the distance in its exponent
            ranges[statistic] = _rounded(low**SPACING_TOLERANCE**2, high**SPACING_TOLERANCE**-2)
    levels = {}
    for polarization in sorted({name for name, _ in blocks if name is not None}):
        of_polarization = [statistics[LEVEL] for name, statistics in blocks if name == polarization]
        low, high = tolerance_interval(np.array(of_polarization))
        levels[polarization] = _rounded(low - gain_db, high + gain_db)
    return Domain(ranges=ranges, levels_db=levels, blocks=len(complete))


def tolerance_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Estimate the lowest and the highest value to expect.

    Parameters
    ----------
    values : ndarray of float64, shape (block,)
        At least one.

    Returns
    -------
    lowest, highest : float
        Each is exceeded by `FALSE_ALARMS` of further values if both tails are exponential.
    """
    ends = []
    for sign in (-1, 1):
        ordered = np.sort(sign * values)
        count = max(1, round(TAIL_SHARE * len(ordered)))
        threshold = ordered[max(0, len(ordered) - count - 1)]
        mean_excess = (ordered[-count:] - threshold).mean()
        scales = max(0.0, math.log(count / len(ordered) / FALSE_ALARMS))
        ends.append(float(sign * max(ordered[-1], threshold + mean_excess * scales)))
    return ends[0], ends[1]


def _rounded(low: float, high: float) -> tuple[float, float]:
    """Round a range to the digits of the JSON file."""
    return round(float(low), 4), round(float(high), 4)
