"""Pieces of a variable that stand for all of it: to recognize its scale and to find a step."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

SAMPLE_PIXELS = 4 * 2**20
"""A variable of at most so many values is looked at as a whole."""
WINDOW_PIXELS = 256
PIECE_PIXELS = 2**19
"""Windows of one size are handed on in stacks of about so many values: fewer calls, bounded memory."""


def sample_windows(
    array: xr.DataArray,
    spatial: tuple[Hashable, Hashable],
    load: Callable[[Sequence[Any]], list[NDArray]],
    limit: int = SAMPLE_PIXELS,
) -> list[NDArray]:
    """Pieces of a variable, the same ones every time.

    Parameters
    ----------
    array : xarray.DataArray
        Dimensions in any order.
    spatial : tuple of dimension names
        Vertical and horizontal dimension.
    load : callable
        Gives the values of several arrays at once.
    limit : int
        Values at most, unless the windows of one plane exceed it.

    Returns
    -------
    list of ndarray, shape (plane, y, x)
        The whole variable, plane by plane, if it is small; else tiles of about 256 x 256 pixels, spread evenly over all of it.
    """
    chosen = _chosen(array, spatial, limit)
    if not chosen:
        return []
    lead = [name for name in array.dims if name not in spatial]
    ordered = array.transpose(*lead, *spatial).data
    sizes = [array.sizes[name] for name in lead]
    values = np.stack(load([ordered[(*np.unravel_index(plane, sizes), *area)] for plane, *area in chosen]))
    stack = max(1, min(PIECE_PIXELS // (values.shape[1] * values.shape[2]), -(-len(values) // 4)))
    return [values[start : start + stack] for start in range(0, len(values), stack)]


def sampled_planes(array: xr.DataArray, spatial: tuple[Hashable, Hashable], limit: int = SAMPLE_PIXELS) -> list[int]:
    """Number of the plane, in the order of the other dimensions, of each piece that :func:`sample_windows` gives."""
    return [plane for plane, *_ in _chosen(array, spatial, limit)]


def _chosen(array: xr.DataArray, spatial: tuple[Hashable, Hashable], limit: int) -> list[tuple[int, slice, slice]]:
    """Plane, rows and columns of each piece."""
    height, width = (array.sizes[name] for name in spatial)
    planes = math.prod(size for name, size in array.sizes.items() if name not in spatial)
    if 0 in (height, width, planes):
        return []
    if planes * height * width <= limit:
        return [(plane, slice(0, height), slice(0, width)) for plane in range(planes)]
    return _spread(planes, height, width, limit)


def _spread(planes: int, height: int, width: int, limit: int) -> list[tuple[int, slice, slice]]:
    """Some tiles of a grid that covers every plane, so that each pixel has the same chance: borders matter."""
    down, across = max(1, round(height / WINDOW_PIXELS)), max(1, round(width / WINDOW_PIXELS))
    rows, columns = height // down, width // across
    share = limit / (rows * columns * down * across * planes)
    windows = []
    for plane in range(planes):
        for i in range(down):
            for j in range(across):
                # multiples of irrational numbers spread evenly in every direction
                if (0.5 + plane * 0.6180339887 + i * 0.7548776662 + j * 0.5698402910) % 1.0 < share:
                    y, x = i * rows, j * columns
                    windows.append((plane, slice(y, y + rows), slice(x, x + columns)))
    return windows or [(0, slice(0, rows), slice(0, columns))]
