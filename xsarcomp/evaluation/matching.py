"""Which planes of two scenes belong together: variables by name, dimensions by name, grids that must agree."""

import numpy as np
import xarray as xr

from xsarcomp.errors import DimensionError, RadiometryError
from xsarcomp.evaluation.plane_pair import PlanePair, piece_areas
from xsarcomp.metrics import fidelity
from xsarcomp.radiometry.scales import infer_scale
from xsarcomp.scenes.variables import backscatter_names

_SPATIAL_NAMES = (
    ("y", "x"),
    ("latitude", "longitude"),
    ("lat", "lon"),
    ("azimuth", "range"),
    ("line", "sample"),
    ("row", "column"),
)
_CHANNEL_NAMES = ("polarization", "polarization", "pol", "band")
_MOST_CHANNELS = 4  # more bands than polarizations are a stack of dates


def array_pairs(original, restored, *, scale, nodata=None):
    """Yield the planes of two arrays one after the other.

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

    Raises
    ------
    DimensionError
        If the shapes differ or have fewer than two dimensions.
    RadiometryError
        If `scale` is unknown or the values are not real numbers.
    """
    original, restored = np.asarray(original), np.asarray(restored)
    _check_shapes(original.shape, restored.shape)
    for index in np.ndindex(original.shape[:-2]):
        yield _pair(original[index], restored[index], scale, nodata, nodata)


def scene_pairs(original, restored, *, scale=None):
    """Yield the planes of two xarray objects, loaded one after the other.

    Parameters
    ----------
    original, restored : DataArray or Dataset
        Backscatter on the same grid, as `xsarcomp.evaluation.compare.compare` takes it.
    scale : {"power", "amplitude", "decibel"}, optional
        Scale of both; found out for each variable of `original` where it is not given.

    Yields
    ------
    PlanePair

    Raises
    ------
    DimensionError
        If variables, dimensions, sizes or coordinates do not match.
    RadiometryError
        If the scale is unknown or cannot be found out, or the values are not real numbers.
    """
    yield from _scene_pairs(original, restored, scale, _whole)


def scene_pieces(original, restored, *, scale=None):
    """Yield the pieces of all planes of two xarray objects, loaded one after the other.

    They are those of `PlanePair.pieces`, but only one of them is in memory at a time.

    Parameters and errors are those of `scene_pairs`.

    Yields
    ------
    PlanePair
    """
    yield from _scene_pairs(original, restored, scale, piece_areas)


def _scene_pairs(original, restored, scale, areas):
    for first, second in _matched_variables(original, restored):
        nodata = _declared_nodata(first)
        restored_nodata = _declared_nodata(second, default=nodata)
        found = scale or _inferred_scale(first, nodata)
        corner = _corner(first)
        for index, origin, original_plane, restored_plane in _planes(first, second, areas):
            name, label = _names(first, index)
            described = {"name": name, "label": label, "corner": corner}
            described |= {"origin": origin, "plane_shape": first.shape[-2:], "series": _series(first, index)}
            yield _pair(original_plane, restored_plane, found, nodata, restored_nodata, **described)


def _pair(original, restored, scale, nodata, restored_nodata, **described):
    original_power, original_valid = fidelity.power_and_validity(original, scale=scale, nodata=nodata)
    restored_power, restored_valid = fidelity.power_and_validity(restored, scale=scale, nodata=restored_nodata)
    return PlanePair(
        original_power=original_power,
        restored_power=restored_power,
        original_valid=original_valid,
        restored_valid=restored_valid,
        scale=scale,
        **described,
    )


def _matched_variables(original, restored):
    """Pair the variables of both sides, restored in the dimension order of original, (y, x) last."""
    originals, restoreds = _backscatter_variables(original), _backscatter_variables(restored)
    if len(originals) == len(restoreds) == 1:
        pairs = [(*originals.values(), *restoreds.values())]
    else:
        missing = [str(name) for name in originals if name not in restoreds]
        if missing or not originals:
            raise DimensionError(
                f"found variables {[str(name) for name in restoreds]} in restored, expected "
                f"{[str(name) for name in originals]} as in original. Select or rename them before comparing."
            )
        pairs = [(variable, restoreds[name]) for name, variable in originals.items()]
    return [_aligned(*pair) for pair in pairs]


def _backscatter_variables(scene):
    if isinstance(scene, xr.DataArray):
        return {scene.name: scene}
    if not isinstance(scene, xr.Dataset):
        raise DimensionError(
            f"found {type(scene).__name__}, expected xarray DataArray or Dataset. Use compare_arrays for NumPy arrays."
        )
    try:  # not angles or noise
        names = set(backscatter_names(scene))
    except DimensionError:
        names = set(scene.data_vars)
    # bytes are masks and land cover classes, not backscatter
    return {
        name: variable
        for name, variable in scene.data_vars.items()
        if name in names and variable.ndim >= 2 and variable.dtype.kind in "fiu" and variable.dtype.itemsize > 1
    }


def _aligned(original, restored):
    if set(original.dims) != set(restored.dims):
        raise DimensionError(
            f"found dimensions {restored.dims} in restored, expected {original.dims} as in original. "
            "Rename or squeeze them before comparing."
        )
    spatial = next((pair for pair in _SPATIAL_NAMES if set(pair) <= set(original.dims)), original.dims[-2:])
    lead = [name for name in original.dims if name not in spatial]
    # dates of one place follow each other, so that a change needs no more than two of them
    order = (*sorted(lead, key=lambda name: _is_time(original, name)), *spatial)
    original, restored = original.transpose(*order), restored.transpose(*order)
    _check_shapes(original.shape, restored.shape)
    for name in order:
        _check_coordinate(name, original, restored)
    return original, restored


def _is_time(variable, dimension):
    is_date = dimension in variable.coords and variable[dimension].dtype.kind == "M"
    return str(dimension).lower() == "time" or is_date


def _series(variable, index):
    """Name of the variable and index of all but the last leading dimension, if that one is time."""
    lead = variable.dims[:-2]
    return (str(variable.name), *index[:-1]) if lead and _is_time(variable, lead[-1]) else ()


def _check_coordinate(name, original, restored):
    """Refuse a shifted, flipped or reordered axis: it would pass for a large error of the codec."""
    if name not in original.indexes or name not in restored.indexes:
        return
    first, second = original.indexes[name], restored.indexes[name]
    if first.equals(second):
        return
    if first.dtype.kind == second.dtype.kind == "f":
        spacing = float(np.min(np.abs(np.diff(first)))) if len(first) > 1 else 1.0
        if np.max(np.abs(first.to_numpy() - second.to_numpy())) < 0.01 * spacing:
            return
    raise DimensionError(
        f"found other coordinates of {name!r} in restored than in original, expected the same grid in the "
        "same order. Align both before comparing, for example with restored.reindex_like(original)."
    )


def _check_shapes(original_shape, restored_shape):
    if original_shape != restored_shape or len(original_shape) < 2:
        raise DimensionError(
            f"found shapes {original_shape} (original) and {restored_shape} (restored), expected two equal "
            "shapes (..., y, x). Compare the same window of both scenes."
        )


def _declared_nodata(variable, default=None):
    declared = [variable.attrs.get("_FillValue"), variable.attrs.get("nodata")]
    # with packing, the encoded fill value is a packed integer that means nothing among decoded values
    if not {"scale_factor", "add_offset"} & set(variable.encoding):
        declared.append(variable.encoding.get("_FillValue"))
    return next((float(number) for number in declared if number is not None), default)


def _whole(shape):
    """The plane as one area."""
    return [tuple(slice(0, length) for length in shape)]


def _planes(original, restored, areas=_whole):
    """Load area after area of both: index in the leading dimensions, first row and column, two arrays of shape (y, x)."""
    # both sides in one computation: a lazy restored scene often depends on the original
    both = xr.Dataset({"original": original.variable, "restored": restored.variable})
    shape = original.shape[-2:]
    for index in np.ndindex(original.shape[:-2]):
        for area in areas(shape):
            part = both.isel(dict(zip(original.dims, (*index, *area), strict=True))).compute()
            origin = tuple(piece.start for piece in area)
            yield index, origin, part["original"].to_numpy(), part["restored"].to_numpy()


def _inferred_scale(variable, nodata):
    """Ask the radiometry for the scale, with the first piece that holds any number as a sample."""
    if 0 in variable.shape:
        raise RadiometryError(
            f"found no pixels in {variable.name!r}, expected some to infer the scale. Pass scale=... instead."
        )
    for _, _, sample, _ in _planes(variable, variable, piece_areas):
        if np.isfinite(sample).any():
            break
    name = None if variable.name is None else str(variable.name)
    return infer_scale(sample, name=name, attributes=variable.attrs, nodata=nodata).scale


def _names(variable, index):
    """Name of a plane, with its polarization or band, and which one of the stack it is."""
    names, labels = [str(variable.name or "backscatter")], []
    for dimension, position in zip(variable.dims[:-2], index, strict=True):
        size = variable.sizes[dimension]
        if dimension in _CHANNEL_NAMES and size <= _MOST_CHANNELS:
            described = variable.attrs.get("long_name")  # rioxarray puts the names of bands there
            if isinstance(described, tuple | list) and len(described) == size:
                names = [str(described[position])]
            elif size > 1:
                names.append(_coordinate(variable, dimension, position))
        elif size > 1:
            labels.append(_coordinate(variable, dimension, position))
    return " ".join(names), ", ".join(labels)


def _coordinate(variable, dimension, position):
    """Dimension and coordinate of a plane, or its number where it has no coordinate."""
    value = variable[dimension].values[position] if dimension in variable.coords else position
    if np.issubdtype(np.asarray(value).dtype, np.datetime64):
        value = np.datetime_as_string(value, unit="m")
    return f"{dimension} {value}"


def _corner(variable):
    """First coordinate and spacing along y and x, where both are evenly spaced numbers."""
    axes = []
    for name in variable.dims[-2:]:
        if name not in variable.coords or variable[name].dtype.kind not in "fiu" or variable.sizes[name] < 2:
            return ()
        values = variable[name].to_numpy().astype(np.float64)
        axes.append((str(name), float(values[0]), float(values[-1] - values[0]) / (len(values) - 1)))
    return tuple(axes)
