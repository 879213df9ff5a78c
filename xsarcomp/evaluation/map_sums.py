"""Maps of water and change in a comparison, as sums that add up piece by piece; :mod:`xsarcomp.metrics.maps` makes the maps.

Water is mapped where the name of a plane contains its polarization, with a fixed threshold for each. Change is mapped
between consecutive dates of a stack. Of planes larger than a piece, only the middle piece is mapped for change, because
two dates of it are in memory at once.
"""

import math
import re
from dataclasses import dataclass, replace

from xsarcomp.evaluation.plane_pair import PlanePair
from xsarcomp.evaluation.pooling import Sums
from xsarcomp.metrics.maps import compare_change_maps, compare_water_maps

WATER_THRESHOLDS_DB = {"vv": -15.0, "hh": -15.0, "vh": -21.5, "hv": -21.5}
"""Averaged backscatter below which a pixel is water, dB. These agree best with the hand-drawn masks of the training chips."""
LEAST_WATER_FRACTION = 0.01
"""Least share of water in the original for a comparison of its map. Below it, most mapped pixels are dark speckle, not water."""

_POLARIZATION = re.compile(r"(?:^|[^a-z])(vv|vh|hh|hv)(?=$|[^a-z])")


@dataclass(frozen=True, slots=True)
class MapSums(Sums):
    """Pixels of the maps of both scenes."""

    water_valid: int = 0
    """Valid pixels of planes with a known polarization."""
    water_original: int = 0
    """Water in the original."""
    water_both: int = 0
    """Water in both scenes."""
    water_either: int = 0
    """Water in at least one of the scenes."""
    changed: int = 0
    """Changed pixels of the original."""
    unchanged: int = 0
    """Unchanged pixels of the original."""
    false_alarms: int = 0
    """Unchanged pixels of the original that changed in the restored scene."""
    misses: int = 0
    """Changed pixels of the original that did not change in the restored scene."""

    def metrics(self) -> dict[str, float]:
        """Compute the metrics of everything that was added.

        Returns
        -------
        dict of str to float
            Water and change, see :func:`xsarcomp.evaluation.compare.compare`; NaN where undefined.
        """
        water_fraction = _share(self.water_original, self.water_valid)
        is_enough = water_fraction >= LEAST_WATER_FRACTION
        return {
            "water_fraction": water_fraction,
            "water_iou": _share(self.water_both, self.water_either) if is_enough else math.nan,
            "change_fraction": _share(self.changed, self.changed + self.unchanged),
            "change_false_alarm_rate": _share(self.false_alarms, self.unchanged),
            "change_miss_rate": _share(self.misses, self.changed),
        }


class MapComparer:
    """Compares the maps of pieces, one after the other.

    It holds one piece in memory: that of the previous date, for the change.
    """

    def __init__(self) -> None:
        self._previous: PlanePair | None = None

    def compare(self, piece: PlanePair) -> MapSums:
        """Compare the water maps of a piece, and the maps of the change since the previous date.

        Parameters
        ----------
        piece : PlanePair
            The dates of a time series must follow each other, as :func:`xsarcomp.evaluation.matching.scene_pieces` yields them.

        Returns
        -------
        MapSums
        """
        return _water(piece) + self._change(piece)

    def _change(self, piece: PlanePair) -> MapSums:
        if not piece.series or not piece.is_middle_piece:
            return MapSums()
        # a copy without the decibels that the piece caches, which would double the memory
        previous, self._previous = self._previous, replace(piece)
        if previous is None or previous.series != piece.series:
            return MapSums()
        agreement = compare_change_maps(
            (previous.original_power, piece.original_power),
            (previous.restored_power, piece.restored_power),
            previous.valid & piece.valid,
        )
        return MapSums(
            changed=agreement.changed_pixels,
            unchanged=agreement.unchanged_pixels,
            false_alarms=agreement.false_alarm_pixels,
            misses=agreement.missed_pixels,
        )


def _water(piece: PlanePair) -> MapSums:
    threshold_db = water_threshold_db(piece.name)
    if threshold_db is None or not piece.valid.any():
        return MapSums()
    agreement = compare_water_maps(piece.original_power, piece.restored_power, piece.valid, threshold_db=threshold_db)
    return MapSums(
        water_valid=agreement.valid_pixels,
        water_original=agreement.original_water_pixels,
        water_both=agreement.intersection_pixels,
        water_either=agreement.union_pixels,
    )


def water_threshold_db(name: str) -> float | None:
    """Look up the water threshold of the polarization in a name.

    Parameters
    ----------
    name : str
        "vv", "sigma0_vh", "band_data VV", ...

    Returns
    -------
    float or None
        Threshold in dB; None if the name contains no polarization.
    """
    match = _POLARIZATION.search(name.lower())
    return WATER_THRESHOLDS_DB[match[1]] if match else None


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
