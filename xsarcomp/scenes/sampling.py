"""Windows that represent a variable, for inferring its scale and choosing a quantization step."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

SAMPLE_PIXELS = 4 * 2**20
"""Largest number of values of a variable that is taken as a whole."""
SPREAD_PIXELS = 2**21
"""Number of values, about, in the windows of a larger variable."""
WINDOW_PIXELS = 64
"""Side of the windows in pixels, about. Many small windows meet a rate more closely than few large ones with four times as many
values, where textures lie in patches; smaller ones would be mostly border."""
BLOCK_PIXELS = 8
"""Side of the blocks that are coded together, of which windows have a whole number."""
STACK_PIXELS = 2**19
"""Number of values, about, of a stack of windows of one size: fewer calls, bounded memory."""


def sample_windows(
    array: xr.DataArray,
    spatial: tuple[Hashable, Hashable],
    load: Callable[[Sequence[Any]], list[NDArray[Any]]],
    limit: int = SAMPLE_PIXELS,
) -> list[NDArray[Any]]:
    """Load windows of a variable, the same ones every time.

    Parameters
    ----------
    array : xarray.DataArray
        Dimensions in any order.
    spatial : tuple of dimension names
        Vertical and horizontal dimension.
    load : callable
        Function that returns the values of several arrays at once.
    limit : int
        Number of values at most, unless the windows of one plane exceed it.

    Returns
    -------
    list of ndarray, shape (window, y, x)
        Stacks of windows. A small variable is returned whole, one window a plane; of a larger one, about 500 windows of about
        64 x 64 pixels, spread evenly over all of it.
    """
    windows = _choose_windows(array, spatial, limit)
    if not windows:
        return []
    leading = [name for name in array.dims if name not in spatial]
    ordered = array.transpose(*leading, *spatial).data
    sizes = [array.sizes[name] for name in leading]
    values = np.stack(load([ordered[(*np.unravel_index(plane, sizes), *area)] for plane, *area in windows]))
    stack = max(1, min(STACK_PIXELS // (values.shape[1] * values.shape[2]), -(-len(values) // 4)))
    return [values[start : start + stack] for start in range(0, len(values), stack)]


def sampled_planes(array: xr.DataArray, spatial: tuple[Hashable, Hashable], limit: int = SAMPLE_PIXELS) -> list[int]:
    """List the number of the plane of each window that :func:`sample_windows` loads.

    Parameters
    ----------
    array, spatial, limit
        As for :func:`sample_windows`.

    Returns
    -------
    list of int
        Planes are counted in the order of the dimensions that are not spatial.
    """
    return [plane for plane, *_ in _choose_windows(array, spatial, limit)]


def _choose_windows(
    array: xr.DataArray, spatial: tuple[Hashable, Hashable], limit: int
) -> list[tuple[int, slice, slice]]:
    """Choose plane, rows and columns of each window."""
    height, width = (array.sizes[name] for name in spatial)
    planes = math.prod(size for name, size in array.sizes.items() if name not in spatial)
    if 0 in (height, width, planes):
        return []
    if planes * height * width <= limit:
        return [(plane, slice(0, height), slice(0, width)) for plane in range(planes)]
    return _spread_windows(planes, height, width, min(limit, SPREAD_PIXELS))


def _spread_windows(planes: int, height: int, width: int, limit: int) -> list[tuple[int, slice, slice]]:
    """Choose some windows of a grid that covers every plane, so that each pixel has the same chance: borders matter."""
    rows, columns = _spread_spans(height), _spread_spans(width)
    area = (rows[0].stop - rows[0].start) * (columns[0].stop - columns[0].start)
    share = limit / (area * len(rows) * len(columns) * planes)
    # multiples of irrational numbers spread evenly in every direction
    windows = [
        (plane, y, x)
        for plane in range(planes)
        for i, y in enumerate(rows)
        for j, x in enumerate(columns)
        if (0.5 + plane * 0.6180339887 + i * 0.7548776662 + j * 0.5698402910) % 1.0 < share
    ]
    return windows or [(0, rows[0], columns[0])]


def _spread_spans(size: int) -> list[slice]:
    """Divide an axis into spans of one size; of whole blocks, because a codec fills up others, and their rate misleads."""
    if size <= 1.5 * WINDOW_PIXELS:
        return [slice(0, size)]
    count = round(size / WINDOW_PIXELS)
    edge = min(WINDOW_PIXELS, size // count // BLOCK_PIXELS * BLOCK_PIXELS)
    starts = [round(number * (size - edge) / (count - 1)) for number in range(count)]
    return [slice(start, start + edge) for start in starts]
