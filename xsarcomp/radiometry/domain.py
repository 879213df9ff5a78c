"""Does backscatter look like the data that a model was trained on? Statistics of flat windows, their usual range, a verdict.

Planes in dB are cut into windows of 12 x 12 pixels. The tenth of them that varies least shows speckle rather than
landscape, and speckle tells a product: how many looks it has, how fine it is sampled, whether it was filtered, averaged
over dates, resampled or quantized. Semivariances at short lags measure it, because the landscape adds least to those.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsarcomp.errors import ModelIntegrityError

FORMAT = 1
"""Version of the statistics; ranges of another version say nothing about these."""
WINDOW_PIXELS = 12
FEWEST_WINDOWS = 200
"""Windows that a verdict needs: 170 x 170 pixels without a gap."""
MOST_WINDOWS = 4096
"""Of more windows of a plane, so many are looked at, spread evenly."""
FLAT_SHARE = 0.1
LAG_PIXELS = 3
"""Speckle of 10 m products is nearly uncorrelated at this distance, and the landscape has changed little."""
NOISE_FLOOR_DB = -22.0
"""Windows with a lower mean are left out: there the instrument's noise shows, which is specified to lie below this level."""
COMMON_SHARPNESS, SHARPNESS_EXPONENT = 0.1, 0.35
"""Smoothing makes looks of fineness. Over the training planes of the shipped models the logarithm of the looks falls by
0.35 of that of the sharpness; looks at common sharpness are what is left to differ: averaging."""
OFF_SHARE = 0.25
"""A statistic is off where it is so in this share of the planes: one odd date of a long stack is no other product."""

LOOKS, COMMON_LOOKS, CORRELATION_Y, CORRELATION_X, DISTINCT, LEVEL = STATISTICS = (
    "looks", "looks_at_common_sharpness", "correlation_y", "correlation_x", "distinct_values", "level_db",
)  # fmt: skip
"""Keys of the statistics. The last has a range for each polarization."""
_DECIBEL_VARIANCE = (10.0 / math.log(10.0)) ** 2  # of the logarithm of gamma speckle, times looks, about

_MEANING = {
    (LOOKS, "above"): (
        "equivalent number of looks of flat windows",
        "averaged over dates, filtered, resampled, or decibels of amplitude",
    ),
    (LOOKS, "below"): ("equivalent number of looks of flat windows", "single-look, another sensor, or power taken for amplitude"),
    (COMMON_LOOKS, "above"): ("number of looks of flat windows at common sharpness", "averaged over dates or multilooked"),
    (COMMON_LOOKS, "below"): ("number of looks of flat windows at common sharpness", "filtered or resampled, with few looks"),
    (CORRELATION_Y, "above"): ("correlation of neighbors along y", "oversampled, resampled or filtered"),
    (CORRELATION_Y, "below"): ("correlation of neighbors along y", "a wider pixel spacing, or another product"),
    (CORRELATION_X, "above"): ("correlation of neighbors along x", "oversampled, resampled or filtered"),
    (CORRELATION_X, "below"): ("correlation of neighbors along x", "a wider pixel spacing, or another product"),
    (DISTINCT, "below"): ("share of distinct values in flat windows", "quantized to few levels, or pixels repeated"),
    (LEVEL, "above"): ("median level in dB", "not calibrated, or another unit or scale"),
    (LEVEL, "below"): ("median level in dB", "not calibrated, or another unit or scale"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """One statistic outside its range."""

    statistic: str
    """One of `STATISTICS`."""
    value: float
    """Median over the planes that are off."""
    expected: tuple[float, float]
    """Range of that statistic."""

    @property
    def words(self) -> tuple[str, str]:
        """The statistic, and what its value often means."""
        return _MEANING[self.statistic, "above" if self.value > self.expected[1] else "below"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """What is usual in the training data of a model: the entry ``domain`` of its JSON file."""

    ranges: Mapping[str, tuple[float, float]]
    """Lowest and highest value of each statistic but the level."""
    levels_db: Mapping[str, tuple[float, float]]
    """The same of the median level in dB, by polarization in lower case."""
    blocks: int
    """Blocks of training data that the ranges were found on."""

    @classmethod
    def from_record(cls, record: Any) -> "Domain | None":
        """Domain from its JSON object; None for a newer version of the statistics.

        Raises
        ------
        ModelIntegrityError
            If a key is missing or unknown, or a range is no pair of ascending finite numbers.
        """
        version = record.get("format") if isinstance(record, dict) else None
        if type(version) is int and version > FORMAT:
            return None
        expected = {"format", "blocks", *STATISTICS}
        if type(version) is not int or version != FORMAT or set(record) != expected:
            raise ModelIntegrityError(
                f"domain of the model's JSON file is {_short(record)}, expected format {FORMAT} and the keys "
                f"{', '.join(sorted(expected))}. Install the model again"
            )
        levels = record[LEVEL]
        if not isinstance(levels, dict) or not levels or type(record["blocks"]) is not int:
            raise ModelIntegrityError(
                f"domain of the model's JSON file has {LEVEL} {_short(levels)} and blocks {_short(record['blocks'])}, "
                "expected ranges by polarization and a number. Install the model again"
            )
        return cls(
            ranges={name: _checked_range(name, record[name]) for name in STATISTICS if name != LEVEL},
            levels_db={str(name): _checked_range(LEVEL, found) for name, found in levels.items()},
            blocks=record["blocks"],
        )

    def record(self) -> dict[str, Any]:
        """JSON object, the inverse of :meth:`from_record`."""
        ranges = {name: list(found) for name, found in self.ranges.items()}
        levels = {name: list(found) for name, found in self.levels_db.items()}
        return {"format": FORMAT, "blocks": self.blocks, **ranges, LEVEL: levels}

    def expected(self, statistic: str, polarization: str | None) -> tuple[float, float]:
        """Range of a statistic; of the level over all polarizations where the plane's is not known."""
        if statistic != LEVEL:
            return self.ranges[statistic]
        if polarization in self.levels_db:
            return self.levels_db[polarization]
        return min(low for low, _ in self.levels_db.values()), max(high for _, high in self.levels_db.values())

    def deviations(self, planes: Sequence[tuple[str | None, Mapping[str, float]]]) -> list[Deviation]:
        """What is off in a variable.

        Parameters
        ----------
        planes : sequence of (polarization or None, statistics)
            What `plane_statistics` gave.

        Returns
        -------
        list of Deviation
            In the order of `STATISTICS`; empty where all is usual, or there is too little to tell.
        """
        found = []
        for statistic in STATISTICS:
            known = [(one[statistic], self.expected(statistic, name)) for name, one in planes if statistic in one]
            for sign in (1, -1):
                off = [(value, limits) for value, limits in known if sign * (value - limits[(1 + sign) // 2]) > 0]
                if off and len(off) >= OFF_SHARE * len(known):
                    value, limits = sorted(off)[len(off) // 2]
                    found.append(Deviation(statistic=statistic, value=value, expected=limits))
        # looks and correlation say more than what is derived from both
        says_more = {one.statistic for one in found} & {LOOKS, CORRELATION_Y, CORRELATION_X}
        return [one for one in found if one.statistic != COMMON_LOOKS or not says_more]


def flat_window_statistics(windows: NDArray[np.float32]) -> dict[str, float]:
    """Statistics of the windows of a plane.

    Parameters
    ----------
    windows : ndarray of float32, shape (window, y=12, x=12), dB
        Without an invalid pixel.

    Returns
    -------
    dict of str to float
        ``level_db``, the median; and, where `FEWEST_WINDOWS` are neither dark nor constant: ``looks``, the number of looks
        whose speckle has the semivariance of the flat windows at 3 pixels; ``correlation_y`` and ``correlation_x``,
        one less the ratio of the semivariances at 1 and 3 pixels; ``looks_at_common_sharpness``;
        ``distinct_values``, 0 to 1. Empty with less than `FEWEST_WINDOWS`.
    """
    if len(windows) < FEWEST_WINDOWS:
        return {}
    windows = _thinned(windows)
    found = {LEVEL: float(np.median(windows))}
    windows = windows[(windows.mean((1, 2)) > NOISE_FLOOR_DB) & (np.ptp(windows, axis=(1, 2)) > 0)]
    if len(windows) < FEWEST_WINDOWS:
        return found
    far = np.stack([_semivariances(windows, LAG_PIXELS, axis) for axis in (1, 2)])
    count = math.ceil(FLAT_SHARE * len(windows))
    flat = np.argpartition(far.sum(0), count - 1)[:count]
    windows, far = windows[flat], far[:, flat].mean(1)
    if far.min() <= 0:  # lines, not speckle
        return found
    # for L looks the variance in dB is that of the logarithm, 1/L + 1/(2 L^2), in the unit of dB
    variance = far.mean() / _DECIBEL_VARIANCE
    looks = (1 + math.sqrt(1 + 2 * variance)) / (2 * variance)
    detail = (windows[:, 1:, 1:] - windows[:, :-1, 1:] - windows[:, 1:, :-1] + windows[:, :-1, :-1]) / 2
    sharpness = float((detail**2).mean() / far.mean())
    near = [_semivariances(windows, 1, axis).mean() for axis in (1, 2)]
    return found | {
        LOOKS: float(looks),
        COMMON_LOOKS: float(looks * (sharpness / COMMON_SHARPNESS) ** SHARPNESS_EXPONENT),
        CORRELATION_Y: float(1 - near[0] / far[0]),
        CORRELATION_X: float(1 - near[1] / far[1]),
        DISTINCT: _distinct_share(windows),
    }


def cut_windows(decibel: NDArray, valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Windows of planes that hold no invalid pixel.

    Parameters
    ----------
    decibel : ndarray of float, shape (plane, y, x), dB
    valid : ndarray of bool, same shape

    Returns
    -------
    ndarray of float32, shape (window, y=12, x=12), dB
    """
    planes, rows, columns = decibel.shape[0], *(size // WINDOW_PIXELS for size in decibel.shape[1:])

    def cut(values: NDArray) -> NDArray:
        whole = values[:, : rows * WINDOW_PIXELS, : columns * WINDOW_PIXELS]
        tiled = whole.reshape(planes, rows, WINDOW_PIXELS, columns, WINDOW_PIXELS).swapaxes(2, 3)
        return tiled.reshape(-1, WINDOW_PIXELS, WINDOW_PIXELS)

    return cut(decibel)[cut(valid).all((1, 2))].astype(np.float32)


def plane_statistics(
    planes: Iterable[tuple[str | None, NDArray[np.float32]]],
) -> list[tuple[str | None, dict[str, float]]]:
    """Statistics plane by plane; small planes of one polarization are taken together.

    Parameters
    ----------
    planes : iterable of (polarization or None, windows)
        Windows as `cut_windows` gives them.

    Returns
    -------
    list of (polarization or None, dict of str to float)
        What `flat_window_statistics` gave, where it gave anything.
    """
    found: list[tuple[str | None, dict[str, float]]] = []
    waiting: dict[str | None, list[NDArray[np.float32]]] = {}
    for polarization, windows in planes:
        together = [*waiting.get(polarization, ()), _thinned(windows)]
        if sum(map(_bright_count, together)) < FEWEST_WINDOWS:
            waiting[polarization] = together
            continue
        waiting.pop(polarization, None)
        found.append((polarization, flat_window_statistics(np.concatenate(together))))
    rest = [(name, flat_window_statistics(np.concatenate(together))) for name, together in waiting.items()]
    return [(name, one) for name, one in [*found, *rest] if one]


def _semivariances(windows: NDArray[np.float32], lag: int, axis: int) -> NDArray[np.float64]:
    """Half the mean squared difference of pixels at a distance along an axis, for each window."""
    first, second = (windows[:, :-lag], windows[:, lag:]) if axis == 1 else (windows[:, :, :-lag], windows[:, :, lag:])
    return ((second - first) ** 2).mean((1, 2), dtype=np.float64) / 2


def _distinct_share(windows: NDArray[np.float32]) -> float:
    """Share of distinct values among the pixels that do not repeat their neighbor along one axis.

    A grid of degrees repeats pixels along x away from the equator, which is no quantization: the axis counts along which
    more is distinct.
    """
    shares = []
    for axis in (1, 2):
        repeated = np.zeros(windows.shape, bool)
        repeated[(slice(None),) * axis + (slice(1, None),)] = np.diff(windows, axis=axis) == 0
        ordered = np.sort(np.where(repeated, np.float32(np.inf), windows).reshape(len(windows), -1), axis=1)
        distinct = (ordered[:, 1:] > ordered[:, :-1]).sum() + len(windows) - repeated.any((1, 2)).sum()
        shares.append(distinct / np.count_nonzero(~repeated))
    return float(max(shares))


def _thinned(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most `MOST_WINDOWS` of the windows, spread evenly."""
    if len(windows) <= MOST_WINDOWS:
        return windows
    return windows[np.linspace(0, len(windows) - 1, MOST_WINDOWS).astype(np.int64)]


def _bright_count(windows: NDArray[np.float32]) -> int:
    return int(np.count_nonzero(windows.mean((1, 2)) > NOISE_FLOOR_DB))


def _checked_range(name: str, found: Any) -> tuple[float, float]:
    numbers = isinstance(found, list) and len(found) == 2 and all(type(value) in (int, float) for value in found)
    if not numbers or not all(map(math.isfinite, found)) or found[0] > found[1]:
        raise ModelIntegrityError(
            f"{name} in domain of the model's JSON file is {_short(found)}, expected two finite ascending numbers. "
            "Install the model again"
        )
    return float(found[0]), float(found[1])


def _short(value: Any) -> str:
    return repr(value)[:80]
