"""Maps of water and of change in a comparison, piece by piece: what `xsarcomp.metrics.maps` measures, as sums.

Water is mapped where the name of a plane says its polarization, with a fixed threshold for each. Change is mapped between
dates that follow each other in a stack; of planes larger than a piece, in the piece in the middle, because two dates of it
are in memory at once.
"""

import math
import re
from dataclasses import dataclass, replace

from xsarcomp.evaluation.pooling import Sums
from xsarcomp.metrics.maps import compare_change_maps, compare_water_maps

WATER_THRESHOLDS_DB = {"vv": -15.0, "hh": -15.0, "vh": -21.5, "hv": -21.5}
"""Averaged backscatter below which a pixel is water: what agrees best with the masks drawn by hand of the training chips."""
LEAST_WATER = 0.01
"""Share of water in the original from which on its map is compared. What is less is mostly dark speckle, not water."""

_POLARIZATION = re.compile(r"(?:^|[^a-z])(vv|vh|hh|hv)(?=$|[^a-z])")


@dataclass(slots=True)
class MapSums(Sums):
    """Pixels of the maps seen so far."""

    water_valid: int = 0
    """Valid pixels of planes whose polarization is known."""
    water_original: int = 0
    water_both: int = 0
    water_either: int = 0
    changed: int = 0
    """Changed pixels of the originals."""
    unchanged: int = 0
    added: int = 0
    lost: int = 0

    def figures(self):
        """Return the figures as plain numbers, see `xsarcomp.evaluation.compare.compare`."""
        water = _share(self.water_original, self.water_valid)
        return {
            "water_fraction": water,
            "water_iou": _share(self.water_both, self.water_either) if water >= LEAST_WATER else math.nan,
            "change_fraction": _share(self.changed, self.changed + self.unchanged),
            "change_false_alarm_rate": _share(self.added, self.unchanged),
            "change_miss_rate": _share(self.lost, self.changed),
        }


class Mapper:
    """Maps the pieces of planes one after the other; remembers the last date of a stack, and no more."""

    def __init__(self):
        self._last = None

    def of(self, piece):
        """Compare the maps of a piece, and of the change since the date before.

        Parameters
        ----------
        piece : PlanePair
            Dates of one place follow each other, as `xsarcomp.evaluation.matching.scene_pieces` gives them.

        Returns
        -------
        MapSums
        """
        return _water(piece) + self._change(piece)

    def _change(self, piece):
        if not piece.series or not piece.is_middle:
            return MapSums()
        last, self._last = self._last, replace(piece)  # without the decibels that it remembers
        if last is None or last.series != piece.series:
            return MapSums()
        powers = [(pair.original_power, pair.restored_power) for pair in (last, piece)]
        found = compare_change_maps(*zip(*powers, strict=True), last.valid & piece.valid)
        return MapSums(
            changed=found.changed_pixels,
            unchanged=found.unchanged_pixels,
            added=found.false_alarm_pixels,
            lost=found.missed_pixels,
        )


def _water(piece):
    threshold_db = water_threshold_db(piece.name)
    if threshold_db is None or not piece.valid.any():
        return MapSums()
    found = compare_water_maps(piece.original_power, piece.restored_power, piece.valid, threshold_db=threshold_db)
    return MapSums(
        water_valid=found.valid_pixels,
        water_original=found.original_water_pixels,
        water_both=found.intersection_pixels,
        water_either=found.union_pixels,
    )


def water_threshold_db(name):
    """Return the threshold for the polarization that a name says, in dB; None if it says none.

    Parameters
    ----------
    name : str
        "vv", "sigma0_vh", "band_data VV", ...
    """
    found = _POLARIZATION.search(str(name).lower())
    return WATER_THRESHOLDS_DB[found[1]] if found else None


def _share(part, whole):
    return part / whole if whole else math.nan
