"""One plane of two scenes, and the pieces in which it is measured."""

import itertools
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from xsarcomp.metrics import fidelity

PIECE_PIXELS = 2048
"""Side of the pieces in which large planes are measured, so that memory does not grow with the scene. It is a multiple of
the usual chunks, which are then loaded once."""


@dataclass(frozen=True, kw_only=True)
class PlanePair:
    """One plane (y, x) of both scenes, as power and validity."""

    original_power: np.ndarray
    """Power of the original (linear, m2 m-2): float64, shape (y, x), 1 where invalid."""
    restored_power: np.ndarray
    """The same of the restored scene."""
    original_valid: np.ndarray
    """Valid pixels of the original: bool, shape (y, x)."""
    restored_valid: np.ndarray
    """The same of the restored scene."""
    scale: str = "power"
    """Scale in which both were given."""
    name: str = "backscatter"
    """Name of the variable, and of the polarization or band where these are a dimension: "vv", "band_data band 1"."""
    label: str = ""
    """Which plane of a stack: "time 2024-01-13T05:30"; empty where there is only one."""
    corner: tuple = ()
    """Name and value of the first y and x coordinate of the plane and their spacing, ((name, first, spacing), ...), where
    known."""
    series: tuple = ()
    """What planes of the same place at other times have in common, and no other plane; empty without a time."""
    origin: tuple = (0, 0)
    """First row and column in the plane, where this is a piece of one."""
    plane_shape: tuple = ()
    """Rows and columns of the plane, where this is a piece of one; see `whole_shape`."""

    @property
    def whole_shape(self):
        """Rows and columns of the plane that this is, or that it is a piece of."""
        return self.plane_shape or self.original_valid.shape

    @property
    def is_middle(self):
        """Whether this is a whole plane, or the piece in the middle of one."""
        areas = list(piece_areas(self.whole_shape))
        return self.origin == tuple(part.start for part in areas[len(areas) // 2])

    @cached_property
    def valid(self):
        """Pixels that are valid in both: ndarray of bool, shape (y, x)."""
        return self.original_valid & self.restored_valid

    @cached_property
    def original_db(self):
        """Original in dB: ndarray of float64, shape (y, x), 0 where invalid."""
        return fidelity.decibel_from_power(self.original_power)

    @cached_property
    def restored_db(self):
        """Restored in dB, as `original_db`."""
        return fidelity.decibel_from_power(self.restored_power)

    def pieces(self):
        """Yield the pieces in which the plane is measured: PlanePairs of at most 3071 x 3071 pixels, without a copy."""
        planes = ("original_power", "restored_power", "original_valid", "restored_valid")
        for area in piece_areas(self.original_valid.shape):
            place = {"origin": tuple(part.start for part in area), "plane_shape": self.original_valid.shape}
            yield replace(self, **place, **{name: getattr(self, name)[area] for name in planes})


def piece_areas(shape):
    """Cut a plane into pieces; a remainder of less than half a piece goes to its neighbor, so that none is a sliver.

    Parameters
    ----------
    shape : tuple of two int
        Rows and columns.

    Returns
    -------
    iterable of tuple of two slice
        Rows and columns of each piece.
    """
    cuts = []
    for length in shape:
        starts = range(0, max(length - PIECE_PIXELS // 2 + 1, 1), PIECE_PIXELS)
        cuts.append([slice(start, stop) for start, stop in itertools.pairwise([*starts, length])])
    return itertools.product(*cuts)
