"""Planes of an original and a restored scene, and the pieces in which they are measured."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsarcomp.metrics import fidelity

PIECE_PIXELS = 2048
"""Side of the square pieces in which large planes are measured, so that memory does not grow with the scene. It is a multiple
of the usual chunk sizes, so that each chunk is loaded once."""


class AxisCoordinates(NamedTuple):
    """Coordinates of one axis of a plane, taken as evenly spaced."""

    name: str
    """Name of the coordinate, for example "y"."""
    first: float
    """Coordinate of the first pixel."""
    spacing: float
    """Mean difference between neighboring pixels, negative for descending coordinates."""


@dataclass(frozen=True, kw_only=True)
class PlanePair:
    """Power and validity of one plane of both scenes, or of a piece of one."""

    original_power: NDArray[np.float64]
    """Power of the original (linear, m2 m-2), shape (y, x); 1 where invalid."""
    restored_power: NDArray[np.float64]
    """Power of the restored scene, as ``original_power``."""
    original_valid: NDArray[np.bool_]
    """Valid pixels of the original, shape (y, x)."""
    restored_valid: NDArray[np.bool_]
    """Valid pixels of the restored scene, shape (y, x)."""
    scale: str = "power"
    """Scale in which both were given."""
    name: str = "backscatter"
    """Name of the variable, and of the polarization or band where these are a dimension: "vv", "band_data band 1"."""
    label: str = ""
    """Place of the plane in a stack: "time 2024-01-13T05:30"; empty if there is only one plane."""
    axes: tuple[AxisCoordinates, ...] = ()
    """Coordinates of the plane (not of the piece) along y and x; empty unless both are numbers."""
    series: tuple[str | int, ...] = ()
    """Identifier that only the planes of one time series share: variable and leading indices; empty without a time dimension."""
    origin: tuple[int, int] = (0, 0)
    """First row and column of a piece in its plane."""
    plane_shape: tuple[int, int] | None = None
    """Rows and columns of the plane that a piece belongs to; None for a whole plane. See :attr:`whole_shape`."""

    @property
    def whole_shape(self) -> tuple[int, int]:
        """Rows and columns of the whole plane."""
        if self.plane_shape is not None:
            return self.plane_shape
        rows, columns = self.original_valid.shape
        return rows, columns

    @property
    def is_middle_piece(self) -> bool:
        """True for the middle piece of a plane, and for a plane of one piece."""
        areas = list(piece_areas(self.whole_shape))
        rows, columns = areas[len(areas) // 2]
        return self.origin == (rows.start, columns.start)

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Pixels that are valid in both scenes, shape (y, x)."""
        return self.original_valid & self.restored_valid

    @cached_property
    def original_db(self) -> NDArray[np.float64]:
        """Original in dB, shape (y, x); 0 where invalid."""
        return fidelity.decibel_from_power(self.original_power)

    @cached_property
    def restored_db(self) -> NDArray[np.float64]:
        """Restored scene in dB, as ``original_db``."""
        return fidelity.decibel_from_power(self.restored_power)

    def pieces(self) -> Iterator["PlanePair"]:
        """Cut the plane into the pieces in which it is measured.

        Yields
        ------
        PlanePair
            Views, without a copy, of at most 3071 x 3071 pixels, row by row.
        """
        shape = self.original_valid.shape
        for area in piece_areas((shape[0], shape[1])):
            rows, columns = area
            yield replace(
                self,
                original_power=self.original_power[area],
                restored_power=self.restored_power[area],
                original_valid=self.original_valid[area],
                restored_valid=self.restored_valid[area],
                origin=(rows.start, columns.start),
                plane_shape=(shape[0], shape[1]),
            )


def piece_areas(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """Cut a plane into pieces of :data:`PIECE_PIXELS`.

    A remainder of less than half a piece is joined to its neighbor, so that no piece is too small to be measured.

    Parameters
    ----------
    shape : tuple of two int
        Rows and columns of the plane.

    Returns
    -------
    iterator of tuple of two slice
        Rows and columns of each piece, row by row.
    """
    rows, columns = (_spans(length) for length in shape)
    return itertools.product(rows, columns)


def _spans(length: int) -> list[slice]:
    starts = range(0, max(length - PIECE_PIXELS // 2 + 1, 1), PIECE_PIXELS)
    return [slice(start, stop) for start, stop in itertools.pairwise([*starts, length])]
