"""Domain of a model: usual ranges of the speckle statistics of its training data, and deviations from them.

The statistics are computed in :mod:`xsarcomp.radiometry.speckle_statistics`. The ranges are stored in the JSON file of a
model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xsarcomp.errors import ModelIntegrityError
from xsarcomp.radiometry.speckle_statistics import (
    COMMON_LOOKS,
    CORRELATION_X,
    CORRELATION_Y,
    DISTINCT,
    LEVEL,
    LOOKS,
    STATISTICS,
)

FORMAT = 1
"""Version of the statistics; ranges of another version cannot be compared with them."""
DEVIATING_SHARE = 0.25
"""A statistic deviates where it does so in this share of the planes: one odd date of a long stack is not another product."""

_LABELS = {
    LOOKS: "equivalent number of looks of flat windows",
    COMMON_LOOKS: "number of looks of flat windows at common sharpness",
    CORRELATION_Y: "correlation of neighbors along y",
    CORRELATION_X: "correlation of neighbors along x",
    DISTINCT: "share of distinct values in flat windows",
    LEVEL: "median level in dB",
}
_CAUSES_IF_BELOW = {
    LOOKS: "single-look, another sensor, or power taken for amplitude",
    COMMON_LOOKS: "filtered or resampled, with few looks",
    CORRELATION_Y: "a wider pixel spacing, or another product",
    CORRELATION_X: "a wider pixel spacing, or another product",
    DISTINCT: "quantized to few levels, or pixels repeated",
    LEVEL: "not calibrated, or another unit or scale",
}
_CAUSES_IF_ABOVE = {
    LOOKS: "averaged over dates, filtered, resampled, or decibels of amplitude",
    COMMON_LOOKS: "averaged over dates or multilooked",
    CORRELATION_Y: "oversampled, resampled or filtered",
    CORRELATION_X: "oversampled, resampled or filtered",
    LEVEL: "not calibrated, or another unit or scale",
}  # a share of distinct values cannot exceed its range, which ends at 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """One statistic outside its usual range."""

    statistic: str
    """One of ``STATISTICS``."""
    value: float
    """Median over the planes that deviate."""
    expected: tuple[float, float]
    """Usual range of the statistic, lowest and highest value."""

    @property
    def label(self) -> str:
        """Name of the statistic, for messages."""
        return _LABELS[self.statistic]

    @property
    def likely_cause(self) -> str:
        """Usual reason for such a value, for messages."""
        is_above = self.value > self.expected[1]
        return (_CAUSES_IF_ABOVE if is_above else _CAUSES_IF_BELOW)[self.statistic]


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Usual ranges of the statistics of the training data of a model: the entry ``domain`` of its JSON file."""

    ranges: Mapping[str, tuple[float, float]]
    """Lowest and highest value of each statistic except the level."""
    levels_db: Mapping[str, tuple[float, float]]
    """Lowest and highest median level in dB, by polarization in lower case."""
    blocks: int
    """Number of blocks of training data from which the ranges were fitted."""

    @classmethod
    def from_json(cls, entry: Any) -> "Domain | None":
        """Read a domain from its JSON object.

        Parameters
        ----------
        entry : any
            Parsed JSON: keys ``format``, ``blocks`` and the names of the statistics.

        Returns
        -------
        Domain or None
            None for a newer version of the statistics.

        Raises
        ------
        ModelIntegrityError
            If a key is missing or unknown, or a range is not a pair of ascending finite numbers.
        """
        version = entry.get("format") if isinstance(entry, dict) else None
        if type(version) is int and version > FORMAT:
            return None
        expected = {"format", "blocks", *STATISTICS}
        if type(version) is not int or version != FORMAT or set(entry) != expected:
            raise ModelIntegrityError(
                f"domain of the model's JSON file is {_shortened(entry)}, expected format {FORMAT} and the keys "
                f"{', '.join(sorted(expected))}. Install the model again"
            )
        levels = entry[LEVEL]
        if not isinstance(levels, dict) or not levels or type(entry["blocks"]) is not int:
            raise ModelIntegrityError(
                f"domain of the model's JSON file has {LEVEL} {_shortened(levels)} and blocks "
                f"{_shortened(entry['blocks'])}, expected ranges by polarization and a number. Install the model again"
            )
        return cls(
            ranges={name: _checked_range(name, entry[name]) for name in STATISTICS if name != LEVEL},
            levels_db={str(name): _checked_range(LEVEL, limits) for name, limits in levels.items()},
            blocks=entry["blocks"],
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, the inverse of :meth:`from_json`."""
        ranges = {name: list(limits) for name, limits in self.ranges.items()}
        levels = {name: list(limits) for name, limits in self.levels_db.items()}
        return {"format": FORMAT, "blocks": self.blocks, **ranges, LEVEL: levels}

    def expected_range(self, statistic: str, polarization: str | None) -> tuple[float, float]:
        """Return the usual range of a statistic.

        Parameters
        ----------
        statistic : str
            One of ``STATISTICS``.
        polarization : str or None
            Polarization of the plane in lower case. If it is unknown, the levels of all polarizations are usual.

        Returns
        -------
        tuple of two float
            Lowest and highest value.
        """
        if statistic != LEVEL:
            return self.ranges[statistic]
        if polarization is not None and polarization in self.levels_db:
            return self.levels_db[polarization]
        return min(low for low, _ in self.levels_db.values()), max(high for _, high in self.levels_db.values())

    def deviations(self, planes: Sequence[tuple[str | None, Mapping[str, float]]]) -> list[Deviation]:
        """List the statistics of a variable that lie outside their usual range.

        Parameters
        ----------
        planes : sequence of (polarization or None, statistics)
            Result of :func:`~xsarcomp.radiometry.speckle_statistics.plane_statistics`.

        Returns
        -------
        list of Deviation
            In the order of ``STATISTICS``; empty where all is usual, or where there are too few pixels.
        """
        deviations = []
        for statistic in STATISTICS:
            measured = [
                (values[statistic], self.expected_range(statistic, polarization))
                for polarization, values in planes
                if statistic in values
            ]
            above = [(value, limits) for value, limits in measured if value > limits[1]]
            below = [(value, limits) for value, limits in measured if value < limits[0]]
            for outside in (above, below):
                if outside and len(outside) >= DEVIATING_SHARE * len(measured):
                    value, limits = sorted(outside)[len(outside) // 2]
                    deviations.append(Deviation(statistic=statistic, value=value, expected=limits))
        # looks at common sharpness are derived from looks and correlation, which are easier to understand
        has_clearer = {deviation.statistic for deviation in deviations} & {LOOKS, CORRELATION_Y, CORRELATION_X}
        return [deviation for deviation in deviations if deviation.statistic != COMMON_LOOKS or not has_clearer]


def _checked_range(name: str, limits: Any) -> tuple[float, float]:
    """Return a range of the JSON file as two floats, or refuse it."""
    is_pair = isinstance(limits, list) and len(limits) == 2 and all(type(value) in (int, float) for value in limits)
    if not is_pair or not all(map(math.isfinite, limits)) or limits[0] > limits[1]:
        raise ModelIntegrityError(
            f"{name} in domain of the model's JSON file is {_shortened(limits)}, expected two finite ascending numbers. "
            "Install the model again"
        )
    return float(limits[0]), float(limits[1])


def _shortened(value: Any) -> str:
    """Return at most 80 characters of the representation of a value, for messages."""
    return repr(value)[:80]
