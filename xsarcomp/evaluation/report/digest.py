"""What pictures of a comparison need of a plane, and no more: thinned planes, histograms, maps, worst tiles.

A digest has a few megabytes whatever the size of the plane, and is made piece by piece, so that no scene has to be in
memory for its pictures.
"""

import math
from dataclasses import dataclass

import numpy as np

from xsarcomp.errors import DimensionError
from xsarcomp.evaluation import plane_pair
from xsarcomp.evaluation.matching import array_pairs
from xsarcomp.evaluation.report import histograms
from xsarcomp.metrics import distribution

QUICKLOOK_PIXELS = 512
"""Longest side of the thinned planes."""
TILE_PIXELS = 128
"""Largest side of the tiles among which the worst are looked for, and of the crops that show them."""
WORST_TILES = 4
"""Number of tiles that are kept."""

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
    """Where it begins, in words: pixels, and coordinates where they are known."""
    original_db: np.ndarray
    """Original: float32, shape (y, x), dB, NaN where invalid."""
    restored_db: np.ndarray
    """Restored, as `original_db`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What pictures need of one plane; arrays of dB are NaN where a pixel is invalid in either scene."""

    name: str
    """Name of the variable."""
    label: str
    """Which plane of a stack it is; empty where there is only one."""
    shape: tuple
    """Rows and columns of the whole plane."""
    step: int
    """Every how many pixels the thinned planes were taken, along y and x."""
    original_db: np.ndarray
    """Thinned original: float32, shape (thinned y, thinned x), dB."""
    restored_db: np.ndarray
    """Thinned restored plane, as `original_db`."""
    values: histograms.Histogram
    """dB of the original and of the restored plane."""
    errors: histograms.Histogram
    """Restored minus original in dB."""
    original_looks: np.ndarray
    """Number of looks in windows of 25 x 25 pixels: float64, shape (window y, window x), NaN where undefined."""
    restored_looks: np.ndarray
    """The same of the restored plane."""
    error_map_db: np.ndarray
    """Root mean square error in cells: float64, shape (cell y, cell x), dB, NaN without a valid pixel."""
    cell: int
    """Side of these cells in pixels."""
    worst_tiles: tuple
    """`Tile`s with the largest error, worst first."""


def digest_arrays(original, restored, *, scale, nodata=None, name="backscatter"):
    """Digest two planes for the figures of `xsarcomp.evaluation.report.digest_pictures`.

    Parameters
    ----------
    original, restored : array_like of real numbers, shape (y, x)
        Backscatter of equal shape and scale, one polarization and date.
    scale : {"power", "amplitude", "decibel"}
        Scale of both.
    nodata : float, optional
        Declared nodata number of both.
    name : str
        What the titles of the figures shall say.

    Returns
    -------
    Digest

    Raises
    ------
    DimensionError
        If the shapes differ, are not two-dimensional or hold no pixel.
    RadiometryError
        If `scale` is unknown or the values are not real numbers.
    """
    if np.ndim(original) != 2:
        raise DimensionError(
            f"found {np.ndim(original)} dimensions, expected (y, x). Pass one polarization and date at a time."
        )
    (pair,) = array_pairs(original, restored, scale=scale, nodata=nodata)
    return digest_pair(pair, name=name)


def digest_pair(pair, *, name=None):
    """Digest a pair of planes.

    Parameters
    ----------
    pair : PlanePair
        Whole planes.
    name : str, optional
        Name to use instead of that of the pair.

    Returns
    -------
    Digest

    Raises
    ------
    DimensionError
        If the planes hold no pixel.
    """
    digester = Digester(pair, name=name)
    for piece in pair.pieces():
        digester.add(piece)
    return digester.digest()


class Digester:
    """Makes the digest of a plane from its pieces, in any order.

    Parameters
    ----------
    piece : PlanePair
        Any piece of the plane, for its name and the size of the whole; `add` it as well.
    name : str, optional
        Name to use instead of that of the piece.

    Raises
    ------
    DimensionError
        If the plane holds no pixel.
    """

    def __init__(self, piece, *, name=None):
        self.shape = tuple(piece.whole_shape)
        if 0 in self.shape:
            raise DimensionError(f"found shape {self.shape}, expected (y, x) with pixels. Leave the empty plane out.")
        self.name, self.label = piece.name if name is None else name, piece.label
        self.step = max(1, math.ceil(max(self.shape) / QUICKLOOK_PIXELS))
        self.cell = _cell(self.shape)
        thinned = tuple(-(-length // self.step) for length in self.shape)
        self.thinned = tuple(np.full(thinned, np.nan, dtype=np.float32) for _ in range(2))
        self.error_map = np.full([-(-length // self.cell) for length in self.shape], np.nan)
        self.value_counts, self.error_counts = 0, 0
        self.looks, self.tiles = {}, []

    def add(self, piece):
        """Add a piece, as `PlanePair.pieces` or `scene_pieces` gives it."""
        decibels = piece.original_db, piece.restored_db
        first = tuple(-start % self.step for start in piece.origin)
        part = tuple(slice(start, None, self.step) for start in first)
        place = [(start + skipped) // self.step for start, skipped in zip(piece.origin, first, strict=True)]
        for canvas, plane in zip(self.thinned, decibels, strict=True):
            _paste(canvas, _gapped(plane, piece.valid, part), place)
        errors = distribution.window_errors_db(*decibels, piece.valid, window=self.cell)
        _paste(self.error_map, errors, [start // self.cell for start in piece.origin])
        original, restored = (plane[piece.valid] for plane in decibels)
        self.value_counts = self.value_counts + histograms.count_values(original, restored)
        self.error_counts = self.error_counts + histograms.count_errors(restored - original)
        self.looks[piece.origin] = self._looks(piece)
        self.tiles = sorted([*self.tiles, *_worst_tiles(piece)], key=lambda tile: -tile.rmse_db)[:WORST_TILES]

    def digest(self):
        """Return the digest of the pieces that were added: `Digest`."""
        rows = sorted({row for row, _ in self.looks})
        columns = sorted({column for _, column in self.looks})
        looks = [np.block([[self.looks[row, column][side] for column in columns] for row in rows]) for side in (0, 1)]
        return Digest(
            name=self.name,
            label=self.label,
            shape=self.shape,
            step=self.step,
            original_db=self.thinned[0],
            restored_db=self.thinned[1],
            values=histograms.of_values(self.value_counts),
            errors=histograms.of_errors(self.error_counts),
            original_looks=looks[0],
            restored_looks=looks[1],
            error_map_db=self.error_map,
            cell=self.cell,
            worst_tiles=tuple(self.tiles),
        )

    def _looks(self, piece):
        """Looks of both sides; without incomplete windows between pieces, which would draw a grid of gaps."""
        inner = tuple(
            slice(None if start + length == whole else length // distribution.WINDOW_PIXELS)
            for start, length, whole in zip(piece.origin, piece.valid.shape, self.shape, strict=True)
        )
        powers = piece.original_power, piece.restored_power
        return tuple(distribution.window_looks(power, piece.valid)[inner] for power in powers)


def _cell(shape):
    """Side of the cells of the error map; of large planes one that divides the pieces, so that no cell is cut."""
    wanted = max(_LEAST_CELL_PIXELS, math.ceil(max(shape) / _MAP_CELLS))
    piece = plane_pair.PIECE_PIXELS
    if max(shape) < piece + piece // 2:  # one piece
        return wanted
    return next((side for side in range(wanted, piece) if piece % side == 0), piece)


def _paste(canvas, part, place):
    row, column = place
    canvas[row : row + part.shape[0], column : column + part.shape[1]] = part


def _gapped(plane_db, valid, part):
    return np.where(valid[part], plane_db[part], np.nan).astype(np.float32)


def _worst_tiles(pair):
    # tiles of even size, because the last row and column of fixed ones would be slivers, and the worst by chance
    sizes = tuple(math.ceil(length / math.ceil(length / TILE_PIXELS)) for length in pair.valid.shape)
    errors = distribution.window_errors_db(pair.original_db, pair.restored_db, pair.valid, window=sizes)
    enough = distribution.window_sums(pair.valid, sizes) >= _LEAST_VALID_SHARE * sizes[0] * sizes[1]
    if enough.any():  # the same holds for the few pixels of a tile at the border of the valid area
        errors = np.where(enough, errors, np.nan)
    order = np.argsort(np.where(np.isnan(errors), -1.0, errors), axis=None, kind="stable")[::-1]
    tiles = []
    for position in zip(*np.unravel_index(order[:WORST_TILES], errors.shape), strict=True):
        if math.isnan(errors[position]):
            break
        row, column = (int(index) * size for index, size in zip(position, sizes, strict=True))
        area = np.s_[row : row + sizes[0], column : column + sizes[1]]
        row, column = row + pair.origin[0], column + pair.origin[1]
        tiles.append(
            Tile(
                row=row,
                column=column,
                rmse_db=float(errors[position]),
                position=_position(row, column, pair.corner),
                original_db=_gapped(pair.original_db, pair.valid, area),
                restored_db=_gapped(pair.restored_db, pair.valid, area),
            )
        )
    return tuple(tiles)


def _position(row, column, corner):
    text = f"row {row}, column {column}"
    if corner:
        steps = zip(corner, (row, column), strict=True)
        text += (
            " (" + ", ".join(f"{name} {first + index * spacing:.10g}" for (name, first, spacing), index in steps) + ")"
        )
    return text
