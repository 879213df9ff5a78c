"""Grid of an overview: coordinates and reference system of blocks of pixels."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.scenes.variables import is_lazy
from xsarcomp.tiling import Span, Window, aligned_spans, whole_window, window_slices

READ_PIXELS = 2048
"""Pixels of the full grid along an axis that are read together; bounds the memory of an overview beside its result."""
_GRID_TOLERANCE = 0.001
"""Share of a pixel by which two descriptions of one grid may differ."""

LazyWrapper = Callable[[Callable[[Window], NDArray], tuple[int, ...], Any], Any]
"""Called with a function that reads a region, the shape and the data type; returns an array that xarray indexes lazily."""


def block_count(size: int, factor: int) -> int:
    """Blocks along an axis of ``size`` pixels; the last one may be smaller than ``factor``."""
    return -(-size // factor)


def block_pixels(span: Span, factor: int, size: int) -> Span:
    """Pixels of a range of blocks, on an axis of ``size`` pixels."""
    return Span(span.start * factor, min(span.stop * factor, size))


def split_blocks(blocks: Span, factor: int) -> list[Span]:
    """Split a range of blocks into parts of at most ``READ_PIXELS`` pixels of the full grid, or one block."""
    return aligned_spans(*blocks, max(1, READ_PIXELS // factor))


def block_chunks(size: int, factor: int) -> tuple[int, ...]:
    """Chunks along an axis of an overview whose full grid has ``size`` pixels."""
    return tuple(span.size for span in split_blocks(Span(0, block_count(size, factor)), factor)) or (0,)


def block_means(values: NDArray, axis: int, factor: int, *, is_longitude: bool = False) -> NDArray:
    """Compute the mean of each run of values along an axis; the last run may be shorter.

    Parameters
    ----------
    values : ndarray of numbers or times
    axis : int
    factor : int
        Values of a run.
    is_longitude : bool
        Whether the values are degrees of longitude, where -180 follows 180.

    Returns
    -------
    ndarray
        Times in ns, float32 from float32, float64 from other numbers; NaN or NaT where a run has one.
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
    if is_longitude:
        differences = (differences + 180) % 360 - 180
    shape = [counts.size if which == axis else 1 for which in range(values.ndim)]
    offsets = np.add.reduceat(differences, starts, axis=axis) / counts.reshape(shape)
    if is_time:
        means = (first + np.rint(offsets).astype(np.int64)).view(result)
        means[np.logical_or.reduceat(np.isnat(values), starts, axis=axis)] = "NaT"
        return means
    means = first + offsets
    if is_longitude and np.nanmax(np.abs(numbers), initial=0) <= 180:
        means = np.where(np.abs(means) > 180, means - np.copysign(360, means), means)
    return means.astype(result)


def mean_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Data type of :func:`block_means`."""
    if dtype.kind in "Mm":
        return np.dtype(f"{dtype.kind}8[ns]")
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize == 4 else np.float64)


def coarsen_coordinate(
    variable: xr.Variable, spatial: set[str], factor: int, *, name: Any = None, make_lazy: LazyWrapper | None = None
) -> xr.Variable:
    """Average a coordinate over blocks, lazily where the coordinate is lazy.

    Parameters
    ----------
    variable : xarray.Variable of numbers or times
    spatial : set of dimension names
        Dimensions along which blocks are formed.
    factor : int
        Pixels of a block along each of these dimensions.
    name : str, optional
        Name of the coordinate, from which a longitude is recognized.
    make_lazy : callable, optional
        Makes arrays of more than one dimension lazy; without it, they are read at once or by Dask.

    Returns
    -------
    xarray.Variable
        With the attributes of the coordinate and no encoding.
    """
    axes = tuple(axis for axis, dim in enumerate(variable.dims) if dim in spatial)
    is_longitude = _is_longitude(name, variable.attrs)
    shape = tuple(block_count(n, factor) if axis in axes else n for axis, n in enumerate(variable.shape))
    dtype = mean_dtype(variable.dtype)
    if make_lazy is not None and variable.ndim > 1:
        values = make_lazy(partial(_read_means, variable, axes, factor, is_longitude), shape, dtype)
    elif is_lazy(variable.data):
        values = _lazy_means(variable.data, axes, factor, is_longitude, dtype)
    else:
        values = _read_means(variable, axes, factor, is_longitude, whole_window(shape))
    return xr.Variable(variable.dims, values, variable.attrs)


def _read_means(
    variable: xr.Variable, axes: tuple[int, ...], factor: int, is_longitude: bool, region: Window
) -> NDArray:
    """Means of a region of blocks; reads only the values that these need."""
    pixels = _pixels_of_region(region, axes, factor, variable.shape)
    return _means(region, {"values": np.asarray(variable[window_slices(pixels)])}, axes, factor, is_longitude)


def _pixels_of_region(region: Window, axes: tuple[int, ...], factor: int, shape: tuple[int, ...]) -> Window:
    """Window of the values from which the means of a region of blocks are computed."""
    return tuple(block_pixels(span, factor, shape[axis]) if axis in axes else span for axis, span in enumerate(region))


def _means(
    _window: Window, pieces: Mapping[str, NDArray], axes: tuple[int, ...], factor: int, is_longitude: bool
) -> NDArray:
    """Means over blocks along some axes."""
    values = pieces["values"]
    for axis in axes:
        values = block_means(values, axis, factor, is_longitude=is_longitude)
    return values


def _lazy_means(array: Any, axes: tuple[int, ...], factor: int, is_longitude: bool, dtype: np.dtype[Any]) -> Any:
    """Means over blocks as a Dask array."""
    from xsarcomp.scenes.windows import Source, map_windows

    chunks = tuple(
        block_chunks(array.shape[axis], factor) if axis in axes else sizes for axis, sizes in enumerate(array.chunks)
    )
    source = Source(array, partial(_pixels_of_region, axes=axes, factor=factor, shape=array.shape))
    return map_windows(
        _means, {"values": source}, chunks, dtype, name="sarcomp-grid", arguments=(axes, factor, is_longitude)
    )


def _is_longitude(name: Any, attributes: Mapping[Any, Any]) -> bool:
    """Recognize a longitude by its name or CF attributes."""
    words = {str(name).lower(), str(attributes.get("standard_name", "")).lower()}
    return bool(words & {"lon", "longitude"}) or str(attributes.get("units", "")).lower().startswith("degrees_e")


def coarsen_attributes(attributes: Mapping[str, Any], factor: int) -> dict[str, Any]:
    """Adapt the attributes of a variable to blocks: ``transform``, the six numbers of rasterio, gets steps of blocks."""
    affine = attributes.get("transform")
    if not isinstance(affine, tuple | list) or len(affine) < 6:
        return dict(attributes)
    steps = (factor, factor, 1, factor, factor, 1, 1, 1, 1)
    scaled = type(affine)(number * step for number, step in zip(affine, steps, strict=False))
    return {**attributes, "transform": scaled}


def coarsen_grid_mapping(
    attributes: Mapping[str, Any], y: NDArray | None, x: NDArray | None, factor: int
) -> dict[str, Any]:
    """Adapt the attributes of a grid mapping to blocks: its transform, and ground control points in rows and columns.

    Parameters
    ----------
    attributes : mapping
        Attributes of the grid mapping variable of the full grid.
    y, x : ndarray or None
        Coordinates of the full grid. Where they are evenly spaced and contradict ``GeoTransform``, they win: a part that was
        cut from a scene often keeps the transform of the whole.
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
    """Numbers of a GDAL transform of the full grid, from its attribute or the coordinates; None if neither gives one."""
    stored = _parse_transform(attributes.get("GeoTransform"))
    step_y, step_x = _uniform_spacing(y), _uniform_spacing(x)
    is_rotated = stored is not None and bool(stored[2] or stored[4])  # such a grid has no coordinates of its axes
    if y is None or x is None or step_y is None or step_x is None or is_rotated:
        return stored
    measured = (float(x[0]) - step_x / 2, step_x, 0.0, float(y[0]) - step_y / 2, 0.0, step_y)
    return stored if stored and _is_same_grid(stored, measured, y.size, x.size) else measured


def _parse_transform(text: Any) -> tuple[float, ...] | None:
    """Six numbers separated by spaces, as GDAL writes a transform; None from any other text."""
    try:
        numbers = tuple(map(float, str(text).split()))
    except ValueError:
        return None
    return numbers if len(numbers) == 6 else None


def _is_same_grid(stored: tuple[float, ...], measured: tuple[float, ...], rows: int, columns: int) -> bool:
    """Check that two transforms put the first and the last pixel at the same place."""
    for origin, step, size in ((0, 1, columns), (3, 5, rows)):
        off = stored[origin] - measured[origin]
        tolerance = _GRID_TOLERANCE * abs(measured[step])
        if abs(off) > tolerance or abs(off + (stored[step] - measured[step]) * size) > tolerance:
            return False
    return True


def _uniform_spacing(values: NDArray | None) -> float | None:
    """Spacing of a coordinate; None where it is not uniform or unknown."""
    if values is None or values.ndim != 1 or values.size < 2 or values.dtype.kind not in "fiu":
        return None
    values = values.astype(np.float64)
    step = (values[-1] - values[0]) / (values.size - 1)
    even = values[0] + step * np.arange(values.size)
    return float(step) if step and np.abs(values - even).max() <= 0.1 * abs(step) else None
