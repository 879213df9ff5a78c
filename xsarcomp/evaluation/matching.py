"""Pairs of planes of two scenes: variables and dimensions are matched by name, and grids must agree."""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from xsarcomp.errors import RadiometryError
from xsarcomp.evaluation.pairing import check_shapes, is_time, match_variables
from xsarcomp.evaluation.plane_pair import AxisCoordinates, PlanePair, piece_areas
from xsarcomp.latents.info import transparent_configuration
from xsarcomp.latents.loss import LOSS_ATTRIBUTE
from xsarcomp.metrics import fidelity
from xsarcomp.radiometry.scales import claimed_scale, infer_scale, negative_share
from xsarcomp.scenes.variables import CHANNEL_NAMES

_RECORDED_SCALE = re.compile(r", scale (power|amplitude|decibel)\b")
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
    check_shapes(original.shape, restored.shape)
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
    for original_variable, restored_variable in match_variables(original, restored):
        nodata = _declared_nodata(original_variable)
        restored_nodata = _declared_nodata(restored_variable, default=nodata)
        variable_scale = scale or _told_scale(original_variable, restored_variable)
        variable_scale = variable_scale or _inferred_scale(original_variable, nodata)
        checks_values = True
        axes = _axes(original_variable)
        for area in _loaded_areas(original_variable, restored_variable, areas):
            if checks_values:
                shares = negative_share(area.original, nodata), negative_share(area.restored, restored_nodata)
                checks_values = None in shares
                _refuse_other_values(original_variable, restored_variable, variable_scale, *shares)
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


def _series(variable: xr.DataArray, index: tuple[int, ...]) -> tuple[str | int, ...]:
    """Identify the time series of a plane; empty unless the last leading dimension is time."""
    leading = variable.dims[:-2]
    return (str(variable.name), *index[:-1]) if leading and is_time(variable, leading[-1]) else ()


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


def _told_scale(original: xr.DataArray, restored: xr.DataArray) -> str | None:
    """Scale that codec or record of one of two variables tell; None without a record. Refuse two that claim different scales."""
    records = [_recorded_scale(variable) for variable in (original, restored)]
    claims = [
        record or claimed_scale(None if variable.name is None else str(variable.name), variable.attrs)
        for record, variable in zip(records, (original, restored), strict=True)
    ]
    if None not in claims and claims[0] != claims[1]:
        raise _other_scale(original, claims[0], restored, claims[1])
    return records[0] or records[1]


def _recorded_scale(variable: xr.DataArray) -> str | None:
    """Scale of the codec of a variable, or that of the record of its loss."""
    configuration = transparent_configuration(variable.variable)
    if configuration is not None:
        return str(configuration["scale"])
    recorded = _RECORDED_SCALE.findall(str(variable.attrs.get(LOSS_ATTRIBUTE, "")))
    return recorded[-1] if recorded else None


def _refuse_other_values(original: xr.DataArray, restored: xr.DataArray, scale: str, *shares: float | None) -> None:
    """Refuse values of which one side is mostly negative, as decibels are, and the other is not, or the scale is another."""
    if None in shares:
        return
    kinds = ["decibel" if share > 0.5 else "linear" if share < 0.1 else None for share in shares if share is not None]
    if {*kinds} == {"decibel", "linear"}:
        raise _other_scale(original, kinds[0], restored, kinds[1])
    if kinds == ["decibel"] * 2 and scale != "decibel":
        raise RadiometryError(
            f"the values of {original.name!r} and {restored.name!r} are mostly negative, as decibels are, and cannot be {scale}. "
            "Pass scale='decibel'"
        )


def _other_scale(
    original: xr.DataArray, expected: str | None, restored: xr.DataArray, found: str | None
) -> RadiometryError:
    """Return the error for two scales."""
    words = {"decibel": "decibels", "linear": "power or amplitude"}
    return RadiometryError(
        f"original {original.name!r} is in {words.get(str(expected), expected)}, and restored {restored.name!r} in "
        f"{words.get(str(found), found)}: expected the same scale. Convert one of them, decibels = 10 * log10(power) = "
        "20 * log10(amplitude), and correct its units"
    )


def _name_and_label(variable: xr.DataArray, index: tuple[int, ...]) -> tuple[str, str]:
    """Name of a plane, with its polarization or band, and its place in the stack."""
    names, labels = [str(variable.name or "backscatter")], []
    for dimension, position in zip(variable.dims[:-2], index, strict=True):
        size = variable.sizes[dimension]
        if dimension in CHANNEL_NAMES and size <= _MOST_CHANNELS:
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
