"""The grid of an overview: coordinates and reference system of blocks of pixels."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.scenes.variables import is_lazy
from xsarcomp.tiling import Span, Window, aligned_spans, slices, whole

BLOCK_PIXELS = 2048
"""Pixels of the full grid along an axis that are read together: bounds what an overview needs beside its result."""
_SAME_GRID = 0.001
"""Share of a pixel that two descriptions of one grid may differ by."""

Lazily = Callable[[Callable[[Window], NDArray], tuple[int, ...], Any], Any]
"""From a function that reads a region, a shape and a data type to something that xarray indexes lazily."""


def block_count(size: int, factor: int) -> int:
    """Blocks along an axis of so many pixels; the last one may hold fewer."""
    return -(-size // factor)


def pixels_of(span: Span, factor: int, size: int) -> Span:
    """Pixels of a range of blocks, on an axis of so many."""
    return Span(span.start * factor, min(span.stop * factor, size))


def pieces(start: int, stop: int, factor: int) -> list[Span]:
    """Parts of a range of blocks that hold at most ``BLOCK_PIXELS`` pixels of the full grid each, or one block."""
    return aligned_spans(start, stop, max(1, BLOCK_PIXELS // factor))


def block_chunks(size: int, factor: int) -> tuple[int, ...]:
    """Chunks of the blocks of an axis of so many pixels."""
    return tuple(stop - start for start, stop in pieces(0, block_count(size, factor), factor)) or (0,)


def block_means(values: NDArray, axis: int, factor: int, *, turns: bool = False) -> NDArray:
    """Mean of each run of values along an axis; what is left over at the end is a run of its own.

    Parameters
    ----------
    values : ndarray of numbers or times
    axis : int
    factor : int
        Values of a run.
    turns : bool
        Whether these are degrees of longitude, where -180 follows 180.

    Returns
    -------
    ndarray
        Times in ns, float32 for itself, float64 for other numbers; NaN or NaT where a run holds one.
    """
    result = mean_dtype(values.dtype)
    starts = np.arange(0, values.shape[axis], factor)
    if not starts.size:
        return np.empty(values.shape, result)
    counts = np.diff([*starts, values.shape[axis]])
    is_time = values.dtype.kind in "Mm"
    numbers = values.astype(result).view(np.int64) if is_time else values.astype(np.float64)
    # differences within a run are small: their mean loses nothing, and times stay whole
    first = np.take(numbers, starts, axis=axis)
    differences = (numbers - np.repeat(first, counts, axis=axis)).astype(np.float64)
    if turns:
        differences = (differences + 180) % 360 - 180
    shape = [counts.size if which == axis else 1 for which in range(values.ndim)]
    offsets = np.add.reduceat(differences, starts, axis=axis) / counts.reshape(shape)
    if is_time:
        means = (first + np.rint(offsets).astype(np.int64)).view(result)
        means[np.logical_or.reduceat(np.isnat(values), starts, axis=axis)] = "NaT"
        return means
    means = first + offsets
    if turns and np.nanmax(np.abs(numbers), initial=0) <= 180:
        means = np.where(np.abs(means) > 180, means - np.copysign(360, means), means)
    return means.astype(result)


def mean_dtype(dtype: np.dtype) -> np.dtype:
    """Data type of :func:`block_means`."""
    if dtype.kind in "Mm":
        return np.dtype(f"{dtype.kind}8[ns]")
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize == 4 else np.float64)


def coarse_coordinate(
    variable: xr.Variable, spatial: set, factor: int, *, name: Any = None, lazily: Lazily | None = None
) -> xr.Variable:
    """Coordinate of the blocks: the mean of those of their pixels, lazy where the coordinate is lazy.

    Parameters
    ----------
    variable : Variable of numbers or times
    spatial : set of dimension names
        Along which blocks are formed.
    factor : int
        Pixels of a block along each of them.
    name : str, optional
        Of the coordinate; tells a longitude.
    lazily : callable, optional
        How an array of more than one dimension becomes lazy; it is read at once or by Dask without.
    """
    axes = tuple(axis for axis, dim in enumerate(variable.dims) if dim in spatial)
    turns = _is_longitude(name, variable.attrs)
    shape = tuple(block_count(n, factor) if axis in axes else n for axis, n in enumerate(variable.shape))
    dtype = mean_dtype(variable.dtype)
    if lazily is not None and variable.ndim > 1:
        values = lazily(partial(_read_means, variable, axes, factor, turns), shape, dtype)
    elif is_lazy(variable.data):
        values = _lazy_means(variable.data, axes, factor, turns, dtype)
    else:
        values = _read_means(variable, axes, factor, turns, whole(shape))
    return xr.Variable(variable.dims, values, variable.attrs)


def _read_means(variable: xr.Variable, axes: tuple[int, ...], factor: int, turns: bool, region: Window) -> NDArray:
    """Means of a region of blocks, from values that are read for it."""
    pixels = _pixels_of_region(region, axes, factor, variable.shape)
    return _means(region, {"values": np.asarray(variable[slices(pixels)])}, axes, factor, turns)


def _pixels_of_region(region: Window, axes: tuple[int, ...], factor: int, shape: tuple[int, ...]) -> Window:
    """Values that the means of a region of blocks are computed from."""
    return tuple(pixels_of(span, factor, shape[axis]) if axis in axes else span for axis, span in enumerate(region))


def _means(_window: Window, pieces: Mapping[str, NDArray], axes: tuple[int, ...], factor: int, turns: bool) -> NDArray:
    """Means over blocks along some axes."""
    values = pieces["values"]
    for axis in axes:
        values = block_means(values, axis, factor, turns=turns)
    return values


def _lazy_means(array: Any, axes: tuple[int, ...], factor: int, turns: bool, dtype: np.dtype) -> Any:
    """Means over blocks as a Dask array."""
    from xsarcomp.scenes.windows import Source, map_windows

    chunks = tuple(
        block_chunks(array.shape[axis], factor) if axis in axes else sizes for axis, sizes in enumerate(array.chunks)
    )
    source = Source(array, partial(_pixels_of_region, axes=axes, factor=factor, shape=array.shape))
    return map_windows(_means, {"values": source}, chunks, dtype, name="sarcomp-grid", arguments=(axes, factor, turns))


def _is_longitude(name: Any, attributes: Mapping[Any, Any]) -> bool:
    words = {str(name).lower(), str(attributes.get("standard_name", "")).lower()}
    return bool(words & {"lon", "longitude"}) or str(attributes.get("units", "")).lower().startswith("degrees_e")


def coarse_attributes(attributes: Mapping[str, Any], factor: int) -> dict:
    """Attributes of a variable for blocks: ``transform``, the six numbers that rasterio gives, in steps of blocks."""
    affine = attributes.get("transform")
    if not isinstance(affine, tuple | list) or len(affine) < 6:
        return dict(attributes)
    steps = (factor, factor, 1, factor, factor, 1, 1, 1, 1)
    scaled = type(affine)(number * step for number, step in zip(affine, steps, strict=False))
    return {**attributes, "transform": scaled}


def coarse_reference(attributes: Mapping[str, Any], y: NDArray | None, x: NDArray | None, factor: int) -> dict:
    """Attributes of a reference system for blocks: its transform, ground control points in rows and columns of blocks.

    Parameters
    ----------
    attributes : mapping
        Of the grid mapping variable of the full grid.
    y, x : ndarray or None
        Coordinates of the full grid. Where they are even and not those of ``GeoTransform``, they win: a part that was cut
        from a scene often keeps the transform of the whole.
    factor : int
        Pixels of a block along each axis.

    Returns
    -------
    dict
    """
    result = dict(attributes)
    transform = _transform(attributes, y, x)
    if transform is not None:
        origin_x, step_x, shear_x, origin_y, shear_y, step_y = transform
        coarse = (origin_x, step_x * factor, shear_x * factor, origin_y, shear_y * factor, step_y * factor)
        result["GeoTransform"] = " ".join(map(repr, coarse))
    if "gcps" in attributes:
        points = json.loads(attributes["gcps"])
        for point in points["features"]:
            for name in ("row", "col"):
                point["properties"][name] /= factor
        result["gcps"] = json.dumps(points)
    return result


def _transform(attributes: Mapping[str, Any], y: NDArray | None, x: NDArray | None) -> tuple[float, ...] | None:
    """Numbers of a GDAL transform of the full grid: from its attribute, or measured; None if nothing says it."""
    stored = _numbers(attributes.get("GeoTransform"))
    steps = _even_step(y), _even_step(x)
    if None in steps or (stored and (stored[2] or stored[4])):  # a rotated grid has no coordinates of its axes
        return stored
    measured = (float(x[0]) - steps[1] / 2, steps[1], 0.0, float(y[0]) - steps[0] / 2, 0.0, steps[0])
    return stored if stored and _is_same(stored, measured, y.size, x.size) else measured


def _numbers(text: Any) -> tuple[float, ...] | None:
    """Six numbers with spaces between; None if it is something else."""
    try:
        numbers = tuple(map(float, str(text).split()))
    except ValueError:
        return None
    return numbers if len(numbers) == 6 else None


def _is_same(stored: tuple[float, ...], measured: tuple[float, ...], rows: int, columns: int) -> bool:
    """Whether both transforms put the first and the last pixel at the same place."""
    for origin, step, size in ((0, 1, columns), (3, 5, rows)):
        off = stored[origin] - measured[origin]
        tolerance = _SAME_GRID * abs(measured[step])
        if abs(off) > tolerance or abs(off + (stored[step] - measured[step]) * size) > tolerance:
            return False
    return True


def _even_step(values: NDArray | None) -> float | None:
    """Spacing of a coordinate; None if it has none or is uneven."""
    if values is None or values.ndim != 1 or values.size < 2 or values.dtype.kind not in "fiu":
        return None
    values = values.astype(np.float64)
    step = (values[-1] - values[0]) / (values.size - 1)
    even = values[0] + step * np.arange(values.size)
    return float(step) if step and np.abs(values - even).max() <= 0.1 * abs(step) else None
