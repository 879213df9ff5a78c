"""Spans and windows of arrays, tiles, symmetric extension and blending.

There are two ways to avoid seams. Models with a finite reach read a *halo* around a tile and discard it; their tiles are
anchored to absolute multiples, so that a pixel always goes through the same computation. Models that are not local
(normalization over space, attention) produce an *overlap* twice, and :func:`blended` mixes the two.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsarcomp.errors import DimensionError


class Span(NamedTuple):
    """Positions of an axis from ``start`` to before ``stop``."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of positions."""
        return self.stop - self.start

    def relative_to(self, origin: int) -> slice:
        """Slice of the span in an array whose first element is position ``origin``."""
        return slice(self.start - origin, self.stop - origin)


Window = tuple[Span, ...]
"""A rectangular part of an array: a span on each axis."""


def whole_window(shape: Iterable[int]) -> Window:
    """Window that covers an array of the given shape."""
    return tuple(Span(0, size) for size in shape)


def window_shape(window: Window) -> tuple[int, ...]:
    """Shape of a window."""
    return tuple(span.size for span in window)


def window_slices(window: Window) -> tuple[slice, ...]:
    """Slices that select a window from the array of which it is a part."""
    return tuple(slice(*span) for span in window)


def round_up(value: int, multiple: int) -> int:
    """Round up to a multiple of a number.

    Parameters
    ----------
    value : int
    multiple : int
        1 or more.

    Returns
    -------
    int
        Smallest multiple of ``multiple`` that is not below ``value``.

    Raises
    ------
    DimensionError
        If ``multiple`` is below 1.
    """
    if multiple < 1:
        raise DimensionError(f"multiple is {multiple}, expected 1 or more.")
    return -(-value // multiple) * multiple


def reflect_indices(start: int, stop: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Map positions on an endless axis to the points of a grid that is mirrored at its ends repeatedly.

    The extension is half-sample symmetric, ``... 1 0 | 0 1 2 | 2 1 ...``: the edge point is repeated (``numpy.pad`` calls it
    "symmetric", Dask "reflect").

    Parameters
    ----------
    start, stop : int
        Range of positions; point 0 of the grid is position 0. May lie outside the grid on either side.
    size : int
        Number of grid points.

    Returns
    -------
    indices : ndarray of intp, shape (stop - start,)
        Grid point at each position, 0 to ``size - 1``.
    reversed : ndarray of bool, shape (stop - start,)
        True where the number of reflections is odd: there the axis runs backwards, and the odd basis functions of a lapped
        transform change their sign.

    Raises
    ------
    DimensionError
        If ``stop`` is before ``start``, or the grid has no points.
    """
    if stop < start:
        raise DimensionError(f"range from {start} to {stop}: expected a stop at or after the start.")
    if size < 1:
        raise DimensionError(f"size is {size}, expected a grid of at least one point.")
    turn, within = np.divmod(np.arange(start, stop, dtype=np.intp), size)
    is_reversed = turn % 2 == 1
    return np.where(is_reversed, size - 1 - within, within), is_reversed


def equal_spans(size: int, largest: int) -> list[Span]:
    """Divide positions 0 to ``size`` into the fewest spans of at most ``largest`` positions, of nearly equal size."""
    count = -(-size // largest)
    edges = [size * index // count if count else 0 for index in range(count + 1)]
    return list(map(Span._make, itertools.pairwise(edges)))


def aligned_spans(start: int, stop: int, multiple: int) -> list[Span]:
    """Divide ``start`` to ``stop`` at the multiples of a number, so that the cuts do not depend on the start.

    Parameters
    ----------
    start, stop : int
        Range of positions; may be empty.
    multiple : int
        Largest size of a span, 1 or more.

    Returns
    -------
    list of Span
    """
    if start >= stop:
        return []
    edges = [start, *range(start // multiple * multiple + multiple, stop, multiple), stop]
    return list(map(Span._make, itertools.pairwise(edges)))


def plane_groups(planes: int, pixels: int, limit: int = 2**20) -> list[slice]:
    """Divide a stack of planes into groups that bound the memory of intermediate results.

    Parameters
    ----------
    planes : int
        Number of planes.
    pixels : int
        Pixels of a plane.
    limit : int
        Largest number of pixels of a group; a group has at least one plane.

    Returns
    -------
    list of slice
    """
    group = max(1, limit // max(1, pixels))
    return [slice(start, min(start + group, planes)) for start in range(0, planes, group)]


def raised_cosine_weights(length: int, overlap: int) -> NDArray[np.float64]:
    """Compute weights that rise along the overlap, stay at one, and fall along the overlap.

    Copies shifted by ``length - overlap`` sum to one, exactly in float64 (the rising weight at a position is one minus the
    falling one), so that blending needs no division.

    Parameters
    ----------
    length : int
        Length of a tile, 1 or more.
    overlap : int
        Points shared with each neighbor, 0 to half the length.

    Returns
    -------
    ndarray of float64, shape (length,)
        Weights in (0, 1].

    Raises
    ------
    DimensionError
        If the overlap is negative or more than half the length: three tiles would meet in a point.
    """
    if length < 1 or not 0 <= 2 * overlap <= length:
        raise DimensionError(
            f"overlap {overlap} in a tile of {length}: expected 0 to half a tile. Take a smaller overlap."
        )
    weights = np.ones(length)
    half = (overlap + 1) // 2
    rise = np.sin(np.pi / 2 * (np.arange(half) + 0.5) / max(overlap, 1)) ** 2
    if overlap % 2:
        rise[-1] = 0.5  # the middle point; sin(pi / 4)**2 is off by one bit
    weights[:half] = rise
    weights[overlap - half : overlap] = 1.0 - rise[::-1]
    weights[length - overlap :] = weights[:overlap][::-1]
    return weights


def blended(
    function: Callable[[NDArray], NDArray],
    image: NDArray,
    *,
    tile: int,
    overlap: int,
    scale: int = 1,
    stride: int = 1,
) -> NDArray:
    """Apply a function that is not local to overlapping tiles, and blend the results without visible seams.

    Tiles start one overlap before the first pixel and end one overlap or more behind the last; pixels outside the image come
    from the symmetric extension, so that the edges of the function's own padding lie outside the image or under small
    weights. Each point is weighted by 2-D raised cosines that sum to one.

    Parameters
    ----------
    function : callable
        Maps an array of shape (plane, tile, tile) to (plane, tile * scale / stride, tile * scale / stride); the number of
        planes may change.
    image : ndarray, shape (plane, y, x)
        Any size, also smaller than a tile.
    tile : int
        Rows and columns of a tile, in pixels of ``image``.
    overlap : int
        Pixels that two neighboring tiles share, 0 to half a tile.
    scale : int
        Output pixels per input pixel and axis: the stride of the latents if the function decodes them, else 1.
    stride : int
        Input pixels per output pixel and axis: the stride of the latents if the function computes them, else 1. Divides the
        tile, the overlap, and both sizes of the image.

    Returns
    -------
    ndarray, shape (plane, y * scale / stride, x * scale / stride)
        Of the dtype of the function's results if that is a float, else float64. Blended in float64.

    Raises
    ------
    DimensionError
        If the image does not have three dimensions or has no pixels, the stride does not divide a size, or the function
        returns an unexpected shape.
    """
    image = np.asarray(image)
    if image.ndim != 3 or 0 in image.shape[1:]:
        raise DimensionError(f"image has the shape {image.shape}, expected (plane, y, x) with at least one pixel.")
    if scale < 1:
        raise DimensionError(f"scale {scale}: expected 1 or more output pixels per input pixel.")
    if stride < 1 or any(size % stride for size in (tile, overlap, *image.shape[1:])):
        raise DimensionError(
            f"stride {stride} for tiles of {tile}, overlap {overlap} and an image of {image.shape[1:]}: expected 1 or more, "
            "and a divisor of all these sizes. Pad the image."
        )
    weights = raised_cosine_weights(tile * scale // stride, overlap * scale // stride)
    weights = weights[:, None] * weights[None, :]
    rows, columns = image.shape[1:]
    total: NDArray[np.float64] | None = None
    dtype = np.dtype(np.float64)
    for top in _overlapping_starts(rows, tile, overlap):
        row_indices, _ = reflect_indices(top, top + tile, rows)
        for left in _overlapping_starts(columns, tile, overlap):
            column_indices, _ = reflect_indices(left, left + tile, columns)
            result = np.asarray(function(image[:, row_indices[:, None], column_indices[None, :]]))
            if total is None:
                dtype = result.dtype if result.dtype.kind == "f" else dtype
                total = np.zeros((*result.shape[:1], rows * scale // stride, columns * scale // stride))
            if result.shape != (total.shape[0], *weights.shape):
                raise DimensionError(
                    f"the function returned shape {result.shape} for a tile of {tile} pixels; expected "
                    f"(plane, {len(weights)}, {len(weights)}) with scale {scale} and stride {stride}. Check both, and the "
                    "function."
                )
            _add_inside(total, result * weights, top * scale // stride, left * scale // stride)
    assert total is not None  # there is at least one tile
    return total.astype(dtype)


def _overlapping_starts(size: int, tile: int, overlap: int) -> range:
    """First positions of the tiles whose weights sum to one everywhere on an axis of ``size`` points."""
    return range(-overlap, size, tile - overlap)


def _add_inside(total: NDArray[np.float64], part: NDArray[np.float64], top: int, left: int) -> None:
    """Add a part to ``total`` in place, without the positions beyond the edges."""
    rows, columns = total.shape[1:]
    bottom, right = min(top + part.shape[1], rows), min(left + part.shape[2], columns)
    inside_top, inside_left = max(top, 0), max(left, 0)
    total[:, inside_top:bottom, inside_left:right] += part[
        :, inside_top - top : bottom - top, inside_left - left : right - left
    ]
