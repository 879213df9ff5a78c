"""Digest of a compared plane: thinned planes, histograms, maps and worst tiles, all that its pictures need.

A digest takes a few megabytes, however large the plane is. It is built piece by piece, so that no scene has to be in memory for
its pictures.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xsarcomp.errors import DimensionError
from xsarcomp.evaluation import plane_pair
from xsarcomp.evaluation.matching import array_pairs
from xsarcomp.evaluation.plane_pair import AxisCoordinates, PlanePair
from xsarcomp.evaluation.report import histograms
from xsarcomp.metrics import distribution
from xsarcomp.metrics.speckle import WINDOW_PIXELS

QUICKLOOK_PIXELS = 512
"""Longest side of the thinned planes."""
TILE_PIXELS = 128
"""Longest side of a tile, the unit in which the largest errors are searched and drawn."""
WORST_TILES = 4
"""Number of tiles in a digest."""

_MAP_CELLS = 120
_LEAST_CELL_PIXELS = 4
_LEAST_VALID_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One tile of a plane at full resolution."""

    row: int
    """First row in the plane."""
    column: int
    """First column in the plane."""
    rmse_db: float
    """Root mean square error over its valid pixels, dB."""
    position: str
    """First row and column in words, with coordinates where they are known."""
    original_db: NDArray[np.float32]
    """Original, shape (y, x), dB; NaN where invalid in either scene."""
    restored_db: NDArray[np.float32]
    """Restored scene, as ``original_db``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """Data for the pictures of one plane; arrays of dB are NaN where a pixel is invalid in either scene."""

    name: str
    """Name of the variable."""
    label: str
    """Place of the plane in a stack; empty if there is only one plane."""
    shape: tuple[int, int]
    """Rows and columns of the whole plane."""
    thinning: int
    """Distance of the pixels of the thinned planes along y and x, in pixels of the plane."""
    original_db: NDArray[np.float32]
    """Thinned original, shape (thinned y, thinned x), dB."""
    restored_db: NDArray[np.float32]
    """Thinned restored plane, as ``original_db``."""
    value_histogram: histograms.Histogram
    """Values of the original and of the restored plane."""
    error_histogram: histograms.Histogram
    """Restored minus original."""
    original_looks: NDArray[np.float64]
    """Number of looks in windows of 25 x 25 pixels, shape (window y, window x); NaN where undefined."""
    restored_looks: NDArray[np.float64]
    """Number of looks of the restored plane, as ``original_looks``."""
    error_map_db: NDArray[np.float64]
    """Root mean square error in cells, shape (cell y, cell x), dB; NaN without a valid pixel."""
    cell_pixels: int
    """Side of these cells in pixels."""
    worst_tiles: tuple[Tile, ...]
    """Tiles with the largest error, worst first; empty without a valid pixel."""


def digest_arrays(
    original: ArrayLike,
    restored: ArrayLike,
    *,
    scale: str,
    nodata: float | None = None,
    name: str = "backscatter",
) -> Digest:
    """Digest two planes for the figures of :mod:`xsarcomp.evaluation.report.digest_pictures`.

    Parameters
    ----------
    original, restored : array_like of real numbers, shape (y, x)
        Backscatter of equal shape and scale, one polarization and date.
    scale : {"power", "amplitude", "decibel"}
        Scale of both.
    nodata : float, optional
        Declared nodata number of both.
    name : str
        Name of the planes.

    Returns
    -------
    Digest

    Raises
    ------
    DimensionError
        If the shapes differ, are not two-dimensional or contain no pixel.
    RadiometryError
        If ``scale`` is unknown or the values are not real numbers.
    """
    if np.ndim(original) != 2:
        raise DimensionError(
            f"found {np.ndim(original)} dimensions, expected (y, x). Pass one polarization and date at a time."
        )
    (pair,) = array_pairs(original, restored, scale=scale, nodata=nodata)
    return digest_pair(pair, name=name)


def digest_pair(pair: PlanePair, *, name: str | None = None) -> Digest:
    """Digest a pair of planes.

    Parameters
    ----------
    pair : PlanePair
        Whole planes.
    name : str, optional
        Name to use instead of the name of the pair.

    Returns
    -------
    Digest

    Raises
    ------
    DimensionError
        If the planes contain no pixel.
    """
    builder = DigestBuilder(pair, name=name)
    for piece in pair.pieces():
        builder.add(piece)
    return builder.build()


class DigestBuilder:
    """Builds the digest of a plane from its pieces, in any order.

    Parameters
    ----------
    piece : PlanePair
        Any piece of the plane, for its name and the size of the plane; it has to be added with :meth:`add` as well.
    name : str, optional
        Name to use instead of the name of the piece.

    Raises
    ------
    DimensionError
        If the plane contains no pixel.
    """

    def __init__(self, piece: PlanePair, *, name: str | None = None) -> None:
        self._shape = piece.whole_shape
        if 0 in self._shape:
            raise DimensionError(f"found shape {self._shape}, expected (y, x) with pixels. Leave the empty plane out.")
        self._name, self._label = piece.name if name is None else name, piece.label
        self._thinning = max(1, math.ceil(max(self._shape) / QUICKLOOK_PIXELS))
        self._cell_pixels = _cell_pixels(self._shape)
        thinned_shape = [-(-length // self._thinning) for length in self._shape]
        self._original_db = np.full(thinned_shape, np.nan, dtype=np.float32)
        self._restored_db = np.full(thinned_shape, np.nan, dtype=np.float32)
        self._error_map_db = np.full([-(-length // self._cell_pixels) for length in self._shape], np.nan)
        nothing = np.empty(0)
        self._value_counts = histograms.count_values(nothing, nothing)
        self._error_counts = histograms.count_errors(nothing)
        self._original_looks: dict[tuple[int, int], NDArray[np.float64]] = {}
        self._restored_looks: dict[tuple[int, int], NDArray[np.float64]] = {}
        self._worst_tiles: list[Tile] = []

    def add(self, piece: PlanePair) -> None:
        """Add a piece of the plane.

        Parameters
        ----------
        piece : PlanePair
            As :meth:`~xsarcomp.evaluation.plane_pair.PlanePair.pieces` or
            :func:`~xsarcomp.evaluation.matching.scene_pieces` yields it.
        """
        self._add_thinned(piece)
        cell = self._cell_pixels
        errors_db = distribution.window_errors_db(piece.original_db, piece.restored_db, piece.valid, window=cell)
        _paste(self._error_map_db, errors_db, row=piece.origin[0] // cell, column=piece.origin[1] // cell)
        original_db, restored_db = piece.original_db[piece.valid], piece.restored_db[piece.valid]
        self._value_counts += histograms.count_values(original_db, restored_db)
        self._error_counts += histograms.count_errors(restored_db - original_db)
        area = self._complete_windows(piece)
        self._original_looks[piece.origin] = distribution.window_looks(piece.original_power, piece.valid)[area]
        self._restored_looks[piece.origin] = distribution.window_looks(piece.restored_power, piece.valid)[area]
        tiles = [*self._worst_tiles, *_worst_tiles(piece)]
        self._worst_tiles = sorted(tiles, key=lambda tile: -tile.rmse_db)[:WORST_TILES]

    def build(self) -> Digest:
        """Build the digest of the pieces that were added.

        Returns
        -------
        Digest
        """
        return Digest(
            name=self._name,
            label=self._label,
            shape=self._shape,
            thinning=self._thinning,
            original_db=self._original_db,
            restored_db=self._restored_db,
            value_histogram=histograms.value_histogram(self._value_counts),
            error_histogram=histograms.error_histogram(self._error_counts),
            original_looks=_joined(self._original_looks),
            restored_looks=_joined(self._restored_looks),
            error_map_db=self._error_map_db,
            cell_pixels=self._cell_pixels,
            worst_tiles=tuple(self._worst_tiles),
        )

    def _add_thinned(self, piece: PlanePair) -> None:
        step = self._thinning
        # pixels of the piece before the first one whose row and column in the plane are multiples of the step
        skipped_rows, skipped_columns = (-start % step for start in piece.origin)
        row, column = (piece.origin[0] + skipped_rows) // step, (piece.origin[1] + skipped_columns) // step
        area = slice(skipped_rows, None, step), slice(skipped_columns, None, step)
        _paste(self._original_db, _nan_where_invalid(piece.original_db, piece.valid, area), row=row, column=column)
        _paste(self._restored_db, _nan_where_invalid(piece.restored_db, piece.valid, area), row=row, column=column)

    def _complete_windows(self, piece: PlanePair) -> tuple[slice, slice]:
        """Windows of looks without the incomplete ones between pieces, which would draw a grid of gaps."""
        rows, columns = (
            slice(None if start + length == whole else length // WINDOW_PIXELS)
            for start, length, whole in zip(piece.origin, piece.valid.shape, self._shape, strict=True)
        )
        return rows, columns


def _cell_pixels(shape: tuple[int, int]) -> int:
    """Side of the cells of the error map; in large planes it divides the pieces, so that no cell is cut."""
    wanted = max(_LEAST_CELL_PIXELS, math.ceil(max(shape) / _MAP_CELLS))
    piece = plane_pair.PIECE_PIXELS
    if max(shape) < piece + piece // 2:  # one piece
        return wanted
    return next((side for side in range(wanted, piece) if piece % side == 0), piece)


def _paste(canvas: NDArray, part: NDArray, *, row: int, column: int) -> None:
    canvas[row : row + part.shape[0], column : column + part.shape[1]] = part


def _joined(parts: dict[tuple[int, int], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Join the maps of pieces, which are keyed by the first row and column of each piece."""
    rows = sorted({row for row, _ in parts})
    columns = sorted({column for _, column in parts})
    return np.block([[parts[row, column] for column in columns] for row in rows])


def _nan_where_invalid(
    plane_db: NDArray[np.float64], valid: NDArray[np.bool_], area: tuple[slice, slice]
) -> NDArray[np.float32]:
    return np.where(valid[area], plane_db[area], np.nan).astype(np.float32)


def _worst_tiles(piece: PlanePair) -> Iterator[Tile]:
    # tiles of even size, because the last row and column of fixed ones would be slivers, and the worst by chance
    height, width = (math.ceil(length / math.ceil(length / TILE_PIXELS)) for length in piece.valid.shape)
    errors_db = distribution.window_errors_db(piece.original_db, piece.restored_db, piece.valid, window=(height, width))
    valid_counts = distribution.window_sums(piece.valid, (height, width))
    is_measured = valid_counts >= _LEAST_VALID_SHARE * height * width
    if is_measured.any():  # for the same reason, tiles with few valid pixels do not count if there are others
        errors_db = np.where(is_measured, errors_db, np.nan)
    order = np.argsort(np.where(np.isnan(errors_db), -1.0, errors_db), axis=None, kind="stable")[::-1]
    for position in order[:WORST_TILES]:
        tile_row, tile_column = (int(index) for index in np.unravel_index(position, errors_db.shape))
        rmse_db = float(errors_db[tile_row, tile_column])
        if math.isnan(rmse_db):
            return
        top, left = tile_row * height, tile_column * width
        area = slice(top, top + height), slice(left, left + width)
        row, column = piece.origin[0] + top, piece.origin[1] + left
        yield Tile(
            row=row,
            column=column,
            rmse_db=rmse_db,
            position=_position(row, column, piece.axes),
            original_db=_nan_where_invalid(piece.original_db, piece.valid, area),
            restored_db=_nan_where_invalid(piece.restored_db, piece.valid, area),
        )


def _position(row: int, column: int, axes: tuple[AxisCoordinates, ...]) -> str:
    text = f"row {row}, column {column}"
    if not axes:
        return text
    coordinates = [
        f"{axis.name} {axis.first + index * axis.spacing:.10g}" for axis, index in zip(axes, (row, column), strict=True)
    ]
    return f"{text} ({', '.join(coordinates)})"
