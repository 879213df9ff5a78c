"""The domain of a model: usual ranges of the statistics of its training planes, with a margin.

Encoders compare their input with it (`xsarcomp.radiometry.domain`). It stands in the model's JSON file.
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
"""Planes are cut into blocks hardly larger than a verdict needs: larger ones would vary less than what is judged later."""
FEWEST_BLOCKS = 20
"""Blocks below which no range can be told."""
TAIL_SHARE = 0.1
"""Share of the blocks on each side that counts as its tail."""
FALSE_ALARMS = 1 / 500
"""Share of blocks like those of the training data that may lie beyond an end of a range."""
LEAST_DISTINCT = 0.75
"""Share of distinct values that is no reason to warn whatever the training data: decibels in float16 come near to it."""
SPACING_TOLERANCE = 1.2
"""Factor by which the pixel spacing may differ from that of the training data before a correlation is out of range."""


def domain_entry(planes: Sequence[Plane], gain_db: float = 0.0) -> dict[str, dict[str, Any]]:
    """What the JSON file of a model says of its domain.

    Parameters
    ----------
    planes : sequence of Plane
        What it is trained on.
    gain_db : float, dB
        Largest gain that augmentation adds or takes away.

    Returns
    -------
    dict
        ``domain`` and its JSON object; empty where the planes give less than `FEWEST_BLOCKS` blocks with enough windows.
    """
    found = fitted_domain(plane_statistics(_blocks(planes)), gain_db)
    return {} if found is None else {"domain": found.to_json()}


def _blocks(planes: Sequence[Plane]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Polarization and windows of each block; what is left at the end of an axis belongs to its last block."""
    for plane in planes:
        rows, columns = (np.array_split(np.arange(size), max(1, size // BLOCK_PIXELS)) for size in plane.decibel.shape)
        for y in rows:
            for x in columns:
                block = (slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1))
                yield plane.polarization, cut_windows(plane.decibel[block][None], plane.valid[block][None])


def fitted_domain(blocks: Sequence[tuple[str, Mapping[str, float]]], gain_db: float = 0.0) -> Domain | None:
    """Ranges from the statistics of blocks of training data.

    Each end lies where the tail of the blocks, taken as exponential, leaves `FALSE_ALARMS` of them outside, and never
    inside the outermost block: the mean excess over a threshold tells the scale of such a tail (peaks over threshold).
    Correlations may differ as much as another pixel spacing would make them, for a Gaussian impulse response, and levels
    by the gain of augmentation.

    Parameters
    ----------
    blocks : sequence of (polarization, statistics)
        As `plane_statistics` gives them.
    gain_db : float, dB
        Largest gain that augmentation adds or takes away.

    Returns
    -------
    Domain or None
        None with less than `FEWEST_BLOCKS` blocks that have all statistics.

    References
    ----------
    Coles (2001), *An Introduction to Statistical Modeling of Extreme Values*, chapter 4.
    """
    complete = [one for _, one in blocks if set(one) == set(STATISTICS)]
    if len(complete) < FEWEST_BLOCKS:
        return None
    ranges = {}
    for statistic in STATISTICS:
        values = np.array([one[statistic] for one in complete])
        if statistic in (LOOKS, COMMON_LOOKS):
            ranges[statistic] = _rounded(*np.exp(tolerance_interval(np.log(values))))
        elif statistic == DISTINCT:
            ranges[statistic] = _rounded(min(LEAST_DISTINCT, tolerance_interval(values)[0]), 1.0)
        elif statistic != LEVEL:
            low, high = np.tanh(tolerance_interval(np.arctanh(np.clip(values, 0.01, 0.99))))
            # a Gaussian falls with the square of the distance in its exponent
            ranges[statistic] = _rounded(low**SPACING_TOLERANCE**2, high**SPACING_TOLERANCE**-2)
    levels = {}
    for polarization in sorted({name for name, _ in blocks}):
        low, high = tolerance_interval(np.array([one[LEVEL] for name, one in blocks if name == polarization]))
        levels[polarization] = _rounded(low - gain_db, high + gain_db)
    return Domain(ranges=ranges, levels_db=levels, blocks=len(complete))


def tolerance_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Lowest and highest value to expect.

    Parameters
    ----------
    values : ndarray of float64, shape (block,)
        At least one.

    Returns
    -------
    tuple of two float
        Ends that `FALSE_ALARMS` of further values exceed, each, if both tails are exponential.
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
    return round(float(low), 4), round(float(high), 4)
