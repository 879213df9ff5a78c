"""Pairs of planes of two scenes: variables and dimensions are matched by name, and grids must agree."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from xsarcomp.errors import DimensionError, RadiometryError
from xsarcomp.evaluation.plane_pair import AxisCoordinates, PlanePair, piece_areas
from xsarcomp.metrics import fidelity
from xsarcomp.radiometry.scales import infer_scale
from xsarcomp.scenes.choice import choose_variables

_SPATIAL_NAMES = (
    ("y", "x"),
    ("latitude", "longitude"),
    ("lat", "lon"),
    ("azimuth", "range"),
    ("line", "sample"),
    ("row", "column"),
)
_CHANNEL_NAMES = ("polarization", "polarisation", "pol", "band")  # files use both spellings
_MOST_CHANNELS = 4  # a longer band dimension is a stack of dates, since there are only four polarizations

_Areas = Callable[[tuple[int, int]], Iterable[tuple[slice, slice]]]
"""Function that cuts a plane of some rows and columns into areas to load one after the other."""


def array_pairs(
    original: ArrayLike, restored: ArrayLike, *, scale: str, nodata: float | None = None
) -> Iterator[PlanePair]:
    """Pair the planes of two arrays.

    Parameters
    ----------
    original, restored : array_like of real numbers, shape (..., y, x)
        Backscatter of equal shape and scale.
    scale : {"power", "amplitude", "decibel"}
        Scale of both.
    nodata : float, optional
        Declared nodata number of both.

    Yields
    ------
    PlanePair
        One for each index of the leading dimensions, in C order.

    Raises
    ------
    DimensionError
        If the shapes differ or have fewer than two dimensions.
    RadiometryError
        If ``scale`` is unknown or the values are not real numbers.
    """
    original, restored = np.asarray(original), np.asarray(restored)
    _check_shapes(original.shape, restored.shape)
    for index in np.ndindex(original.shape[:-2]):
        yield _pair(original[index], restored[index], scale, nodata, nodata)


def scene_pairs(
    original: xr.DataArray | xr.Dataset, restored: xr.DataArray | xr.Dataset, *, scale: str | None = None
) -> Iterator[PlanePair]:
    """Pair the planes of two xarray objects, loading one pair at a time.

    Parameters
    ----------
    original, restored : DataArray or Dataset
        Backscatter on the same grid, as :func:`xsarcomp.evaluation.compare.compare` takes it.
    scale : {"power", "amplitude", "decibel"}, optional
        Scale of both; inferred for each variable of ``original`` by default.

    Yields
    ------
    PlanePair

    Raises
    ------
    DimensionError
        If variables, dimensions, sizes or coordinates do not match.
    RadiometryError
        If the scale is unknown or cannot be inferred, or the values are not real numbers.
    """
    yield from _scene_pairs(original, restored, scale, _whole_area)


def scene_pieces(
    original: xr.DataArray | xr.Dataset, restored: xr.DataArray | xr.Dataset, *, scale: str | None = None
) -> Iterator[PlanePair]:
    """Pair the pieces of all planes of two xarray objects, loading one pair at a time.

    The pieces are those of :meth:`~xsarcomp.evaluation.plane_pair.PlanePair.pieces`, but only one is in memory at a time.

    Parameters and errors are those of :func:`scene_pairs`.

    Yields
    ------
    PlanePair
    """
    yield from _scene_pairs(original, restored, scale, piece_areas)


def _scene_pairs(
    original: xr.DataArray | xr.Dataset, restored: xr.DataArray | xr.Dataset, scale: str | None, areas: _Areas
) -> Iterator[PlanePair]:
    for original_variable, restored_variable in _matched_variables(original, restored):
        nodata = _declared_nodata(original_variable)
        restored_nodata = _declared_nodata(restored_variable, default=nodata)
        variable_scale = scale or _inferred_scale(original_variable, nodata)
        axes = _axes(original_variable)
        for area in _loaded_areas(original_variable, restored_variable, areas):
            name, label = _name_and_label(original_variable, area.index)
            yield replace(
                _pair(area.original, area.restored, variable_scale, nodata, restored_nodata),
                name=name,
                label=label,
                axes=axes,
                series=_series(original_variable, area.index),
                origin=area.origin,
                plane_shape=_plane_shape(original_variable),
            )


def _pair(
    original: NDArray, restored: NDArray, scale: str, nodata: float | None, restored_nodata: float | None
) -> PlanePair:
    original_power, original_valid = fidelity.power_and_validity(original, scale=scale, nodata=nodata)
    restored_power, restored_valid = fidelity.power_and_validity(restored, scale=scale, nodata=restored_nodata)
    return PlanePair(
        original_power=original_power,
        restored_power=restored_power,
        original_valid=original_valid,
        restored_valid=restored_valid,
        scale=scale,
    )


def _matched_variables(
    original: xr.DataArray | xr.Dataset, restored: xr.DataArray | xr.Dataset
) -> list[tuple[xr.DataArray, xr.DataArray]]:
    """Pair the variables of both sides; dimensions of both in the order of the original, (y, x) last."""
    originals, restoreds = _backscatter_variables(original), _backscatter_variables(restored)
    if len(originals) == len(restoreds) == 1:
        return [_aligned(*originals.values(), *restoreds.values())]
    missing = [str(name) for name in originals if name not in restoreds]
    if missing or not originals:
        raise DimensionError(
            f"found variables {[str(name) for name in restoreds]} in restored, expected "
            f"{[str(name) for name in originals]} as in original. Select or rename them before comparing."
        )
    return [_aligned(variable, restoreds[name]) for name, variable in originals.items()]


def _backscatter_variables(scene: xr.DataArray | xr.Dataset) -> dict[Hashable, xr.DataArray]:
    if isinstance(scene, xr.DataArray):
        return {scene.name: scene}
    if not isinstance(scene, xr.Dataset):
        raise DimensionError(
            f"found {type(scene).__name__}, expected xarray DataArray or Dataset. Use compare_arrays for NumPy arrays."
        )
    try:  # leaves out angles and noise
        names = set(choose_variables(scene).names)
    except DimensionError:
        names = set(scene.data_vars)
    # variables of one byte are masks and land cover classes, not backscatter
    return {
        name: variable
        for name, variable in scene.data_vars.items()
        if name in names and variable.ndim >= 2 and variable.dtype.kind in "fiu" and variable.dtype.itemsize > 1
    }


def _aligned(original: xr.DataArray, restored: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    if set(original.dims) != set(restored.dims):
        raise DimensionError(
            f"found dimensions {restored.dims} in restored, expected {original.dims} as in original. "
            "Rename or squeeze them before comparing."
        )
    spatial = next((pair for pair in _SPATIAL_NAMES if set(pair) <= set(original.dims)), original.dims[-2:])
    leading = [name for name in original.dims if name not in spatial]
    # time comes last, so that consecutive dates follow each other and a change needs only two of them in memory
    order = (*sorted(leading, key=lambda name: _is_time(original, name)), *spatial)
    original, restored = original.transpose(*order), restored.transpose(*order)
    _check_shapes(original.shape, restored.shape)
    for name in order:
        _check_coordinate(name, original, restored)
    return original, restored


def _is_time(variable: xr.DataArray, dimension: Hashable) -> bool:
    is_date = dimension in variable.coords and variable[dimension].dtype.kind == "M"
    return str(dimension).lower() == "time" or is_date


def _series(variable: xr.DataArray, index: tuple[int, ...]) -> tuple[str | int, ...]:
    """Identify the time series of a plane; empty unless the last leading dimension is time."""
    leading = variable.dims[:-2]
    return (str(variable.name), *index[:-1]) if leading and _is_time(variable, leading[-1]) else ()


def _check_coordinate(name: Hashable, original: xr.DataArray, restored: xr.DataArray) -> None:
    """Refuse a shifted, flipped or reordered axis, which would look like a large error of the codec."""
    if name not in original.indexes or name not in restored.indexes:
        return
    expected, found = original.indexes[name], restored.indexes[name]
    if expected.equals(found):
        return
    if expected.dtype.kind == found.dtype.kind == "f":
        spacing = float(np.min(np.abs(np.diff(expected)))) if len(expected) > 1 else 1.0
        if np.max(np.abs(expected.to_numpy() - found.to_numpy())) < 0.01 * spacing:
            return
    raise DimensionError(
        f"found other coordinates of {name!r} in restored than in original, expected the same grid in the "
        "same order. Align both before comparing, for example with restored.reindex_like(original)."
    )


def _check_shapes(original_shape: tuple[int, ...], restored_shape: tuple[int, ...]) -> None:
    if original_shape != restored_shape or len(original_shape) < 2:
        raise DimensionError(
            f"found shapes {original_shape} (original) and {restored_shape} (restored), expected two equal "
            "shapes (..., y, x). Compare the same window of both scenes."
        )


def _declared_nodata(variable: xr.DataArray, default: float | None = None) -> float | None:
    declared = [variable.attrs.get("_FillValue"), variable.attrs.get("nodata")]
    # with packing, the encoded fill value is a packed integer that means nothing among decoded values
    if not {"scale_factor", "add_offset"} & set(variable.encoding):
        declared.append(variable.encoding.get("_FillValue"))
    return next((float(number) for number in declared if number is not None), default)


@dataclass(frozen=True, slots=True, kw_only=True)
class _LoadedArea:
    """Values of both scenes in one area of a plane."""

    index: tuple[int, ...]
    """Index of the plane in the leading dimensions."""
    origin: tuple[int, int]
    """First row and column of the area in the plane."""
    original: NDArray
    """Original values, shape (y, x), in their own scale and dtype."""
    restored: NDArray
    """Restored values, shape (y, x)."""


def _loaded_areas(original: xr.DataArray, restored: xr.DataArray, areas: _Areas) -> Iterator[_LoadedArea]:
    """Load the areas of all planes of both variables, one after the other."""
    # both in one computation, because a lazy restored scene often depends on the original
    both = xr.Dataset({"original": original.variable, "restored": restored.variable})
    for index in np.ndindex(original.shape[:-2]):
        for rows, columns in areas(_plane_shape(original)):
            selected = both.isel(dict(zip(original.dims, (*index, rows, columns), strict=True))).compute()
            yield _LoadedArea(
                index=index,
                origin=(rows.start, columns.start),
                original=selected["original"].to_numpy(),
                restored=selected["restored"].to_numpy(),
            )


def _whole_area(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    rows, columns = shape
    yield slice(0, rows), slice(0, columns)


def _plane_shape(variable: xr.DataArray) -> tuple[int, int]:
    *_, rows, columns = variable.shape
    return rows, columns


def _inferred_scale(variable: xr.DataArray, nodata: float | None) -> str:
    """Infer the scale from the attributes and the first piece with a finite value."""
    if 0 in variable.shape:
        raise RadiometryError(
            f"found no pixels in {variable.name!r}, expected some to infer the scale. Pass scale=... instead."
        )
    for area in _loaded_areas(variable, variable, piece_areas):
        if np.isfinite(area.original).any():
            break
    name = None if variable.name is None else str(variable.name)
    return infer_scale(area.original, name=name, attributes=variable.attrs, nodata=nodata).scale


def _name_and_label(variable: xr.DataArray, index: tuple[int, ...]) -> tuple[str, str]:
    """Name of a plane, with its polarization or band, and its place in the stack."""
    names, labels = [str(variable.name or "backscatter")], []
    for dimension, position in zip(variable.dims[:-2], index, strict=True):
        size = variable.sizes[dimension]
        if dimension in _CHANNEL_NAMES and size <= _MOST_CHANNELS:
            band_names = variable.attrs.get("long_name")  # where rioxarray puts the names of bands
            if isinstance(band_names, tuple | list) and len(band_names) == size:
                names = [str(band_names[position])]
            elif size > 1:
                names.append(_coordinate_text(variable, dimension, position))
        elif size > 1:
            labels.append(_coordinate_text(variable, dimension, position))
    return " ".join(names), ", ".join(labels)


def _coordinate_text(variable: xr.DataArray, dimension: Hashable, position: int) -> str:
    """Dimension and coordinate of a plane; without a coordinate, its number."""
    if dimension not in variable.coords:
        return f"{dimension} {position}"
    value = variable[dimension].values[position]
    if np.issubdtype(np.asarray(value).dtype, np.datetime64):
        value = np.datetime_as_string(value, unit="m")
    return f"{dimension} {value}"


def _axes(variable: xr.DataArray) -> tuple[AxisCoordinates, ...]:
    """Coordinates along y and x; empty unless both are numbers."""
    axes = []
    for name in variable.dims[-2:]:
        if name not in variable.coords or variable[name].dtype.kind not in "fiu" or variable.sizes[name] < 2:
            return ()
        values = variable[name].to_numpy().astype(np.float64)
        spacing = float(values[-1] - values[0]) / (len(values) - 1)
        axes.append(AxisCoordinates(str(name), float(values[0]), spacing))
    return tuple(axes)
