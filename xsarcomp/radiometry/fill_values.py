"""Fill values that nobody declared: one exact number in whole areas, which speckle never gives."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SUBSAMPLE = 2**17
"""Number of values in which repeated ones are looked for."""
SMALLEST_COUNT = 16
"""Number of equal values in the subsample that makes a candidate."""
SMALLEST_VARIETY = 8
"""Number of other different values that make it a scene, not a constant or classes."""
NEIGHBOR_SHARE = 0.5
"""Values next to a fill value, over those equal to it, at most."""
SMALL_NEIGHBOR_SHARE = 0.05
"""The same for integers, which repeat by nature, and for the lowest and the highest value: a limit to which data was clipped has
many just inside of it, 1 to 7 times as many in real scenes."""
SOLID_SHARE = 0.5
"""Share of the equal pixels whose eight neighbors are equal too: clipped targets are small, areas without data are not. In real
scenes 0.98 of zeros that are fill, and 0 to 0.34 of those to which bright targets were clipped."""
IMPOSSIBLE_DB = -90.0
"""No calibrated backscatter lies below (real scenes end at -57 dB), and no negative number is power: such values may be scattered."""

_DECIBEL_PER_DECADE = {"power": 10.0, "amplitude": 20.0}


@dataclass(frozen=True, slots=True)
class FillValue:
    """A number that stands for no data, though nobody declared it."""

    value: float
    """The number, as the data type holds it."""
    share: float
    """Share of the values that equal it, 0 to 1."""


def find_fill_values(windows: Sequence[NDArray], *, scale: str | None, nodata: float | None = None) -> list[FillValue]:
    """Find numbers that fill areas without data.

    A fill value is repeated exactly, has few values next to it, and covers whole areas. Numbers that no backscatter can
    have may also be scattered. Integers repeat by nature, so that the second condition decides for them. Zero, negative and
    infinite power needs no such search: it is no backscatter and kept exactly anyway.

    Parameters
    ----------
    windows : sequence of ndarray of real numbers, shape (window, y, x)
        Sample of a variable.
    scale : {"power", "amplitude", "decibel"} or None
        Scale of the values; None where it is not known yet: then only numbers that are impossible in every scale are found.
    nodata : float, optional
        Declared fill value, left out.

    Returns
    -------
    list of FillValue
        The most frequent one first.
    """
    with np.errstate(all="ignore"):  # limits beyond the range of the data type, and NaN
        fills = [
            FillValue(value, _count(windows, value) / sum(values.size for values in windows))
            for value in _candidates(windows, nodata)
            if _is_fill(windows, value, scale)
        ]
    return sorted(fills, key=lambda fill: -fill.share)


def _is_fill(windows: Sequence[NDArray], value: float, scale: str | None) -> bool:
    """Check if a frequent number stands for no data."""
    impossible = value < IMPOSSIBLE_DB
    if not impossible and (scale is None or (value <= 0 and scale != "decibel")):
        return False
    is_strict = windows[0].dtype.kind in "iu" or _is_extreme(windows, value)
    limit = (SMALL_NEIGHBOR_SHARE if is_strict else NEIGHBOR_SHARE) * _count(windows, value)
    if _count_neighbors(windows, value, scale) > limit:
        return False
    return impossible or _solid_share(windows, value) >= SOLID_SHARE


def _candidates(windows: Sequence[NDArray], nodata: float | None) -> list[float]:
    """List at most four finite numbers that are frequent in a scene of other values."""
    stride = max(1, int((sum(values.size for values in windows) / SUBSAMPLE) ** 0.5))
    parts = [values[:, stride // 2 :: stride, stride // 2 :: stride].ravel() for values in windows]
    numbers = np.concatenate(parts) if parts else np.empty(0)
    numbers = numbers[np.isfinite(numbers)].astype(np.float64)
    values, counts = np.unique(numbers, return_counts=True)
    frequent = [index for index in np.argsort(-counts)[:4] if counts[index] >= SMALLEST_COUNT]
    if len(values) - len(frequent) < SMALLEST_VARIETY:
        return []
    return [float(values[index]) for index in frequent if nodata is None or values[index] != nodata]


def _count(windows: Sequence[NDArray], value: float) -> int:
    return sum(int(np.count_nonzero(values == value)) for values in windows)


def _count_neighbors(windows: Sequence[NDArray], value: float, scale: str | None) -> int:
    """Count other values within 1 dB; within three units of integers in decibels."""
    if scale in _DECIBEL_PER_DECADE and value > 0:
        factor = 10 ** (1.0 / _DECIBEL_PER_DECADE[scale])
        low, high = value / factor, value * factor
    else:
        reach = 3.0 if all(values.dtype.kind in "iu" for values in windows) else 1.01  # steps of 1 dB are quantization
        low, high = value - reach, value + reach
    with np.errstate(invalid="ignore"):
        return sum(int(np.count_nonzero((values >= low) & (values <= high) & (values != value))) for values in windows)


def _is_extreme(windows: Sequence[NDArray], value: float) -> bool:
    """Check if hardly a value lies below, or above; those that are impossible do not count."""
    below = sum(int(np.count_nonzero((values < value) & (values >= IMPOSSIBLE_DB))) for values in windows)
    above = sum(int(np.count_nonzero(values > value)) for values in windows)
    return min(below, above) <= 1e-3 * (below + above)


def _solid_share(windows: Sequence[NDArray], value: float) -> float:
    """Share of the pixels with a value, off the edge of a window, whose eight neighbors have it too."""
    solid = equal = 0
    for values in windows:
        has_it = values == value
        if min(has_it.shape[-2:]) < 3 or not has_it.any():
            continue
        rows = has_it[:, :-2] & has_it[:, 1:-1] & has_it[:, 2:]
        solid += int(np.count_nonzero(rows[..., :-2] & rows[..., 1:-1] & rows[..., 2:]))
        equal += int(np.count_nonzero(has_it[:, 1:-1, 1:-1]))
    return solid / equal if equal else 0.0
