"""Pieces of a variable that stand for all of it: to recognise its scale and to find a step."""

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
        The whole variable, plane by plane, if it is small; else windows of 256 x 256 pixels on a grid that is shifted from
        plane to plane, spread over all planes.
    """
    height, width = (array.sizes[name] for name in spatial)
    lead = [name for name in array.dims if name not in spatial]
    planes = math.prod(array.sizes[name] for name in lead)
    if 0 in (height, width, planes):
        return []
    ordered = array.transpose(*lead, *spatial).data
    places = [np.unravel_index(i, [array.sizes[name] for name in lead]) for i in range(planes)] if lead else [()]
    if planes * height * width <= limit:
        windows = [ordered[place] for place in places]
    else:
        windows = _spread(ordered, places, height, width, limit)
    values = np.stack(load(windows))
    stack = max(1, min(PIECE_PIXELS // (values.shape[1] * values.shape[2]), -(-len(values) // 4)))
    return [values[start : start + stack] for start in range(0, len(values), stack)]


def _spread(ordered: Any, places: Sequence[tuple], height: int, width: int, limit: int) -> list[Any]:
    """Windows on a regular grid over the planes and within them."""
    rows, columns = min(WINDOW_PIXELS, height), min(WINDOW_PIXELS, width)
    count = max(1, limit // (rows * columns))
    chosen = [
        places[i] for i in np.unique(np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int))
    ]
    per_plane = max(1, count // len(chosen))
    down = max(1, min(height // rows, per_plane, round(math.sqrt(per_plane * height / width))))
    across = max(1, min(width // columns, round(per_plane / down)))
    windows = []
    for number, place in enumerate(chosen):
        # the golden ratio never repeats: windows of different planes fall on different places of their cells
        shift = (0.5 + number * 0.6180339887) % 1.0
        for top in _places(height, rows, down, shift):
            for left in _places(width, columns, across, shift):
                windows.append(ordered[(*place, slice(top, top + rows), slice(left, left + columns))])
    return windows


def _places(size: int, window: int, count: int, shift: float) -> list[int]:
    """First positions of windows, one in each of ``count`` equal cells of an axis."""
    cell = size / count
    return [int(number * cell + shift * (cell - window)) for number in range(count)]
