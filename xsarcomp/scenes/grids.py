"""Comparison of the grids of two scenes: pixels of one must lie on pixels of the other before they can share a store."""

from collections.abc import Hashable, Sequence

import numpy as np
import xarray as xr

TOLERANCE = 0.01
"""Share of a pixel by which coordinates may differ: rounding of files, not another grid."""


def describe_grid_difference(scene: xr.Dataset, other: xr.Dataset, spatial: Sequence[Hashable]) -> str:
    """Describe the difference between the grids of two scenes.

    Parameters
    ----------
    scene, other : xarray.Dataset
        Their sizes, coordinates along the spatial dimensions and reference systems are compared, as far as both have them.
    spatial : sequence of dimension names
        Vertical and horizontal dimension.

    Returns
    -------
    str
        Such as ``y begins at 5400000 instead of 5430000``; empty if the grids are the same.
    """
    sizes, others = ([one.sizes.get(dim) for dim in spatial] for one in (scene, other))
    if sizes != others:
        return f"{' x '.join(map(str, sizes))} pixels instead of {' x '.join(map(str, others))}"
    for name in scene.coords.keys() & other.coords.keys():
        values, expected = scene.coords[name], other.coords[name]
        if not values.dims or not {*values.dims} <= {*spatial} or values.dims != expected.dims:
            continue
        if values.dtype.kind not in "iufM" or (values.dtype.kind != expected.dtype.kind and "M" in values.dtype.kind):
            continue
        if difference := _describe_coordinate(name, _numbers(values), _numbers(expected)):
            return difference
    return _describe_reference(scene, other)


def _numbers(coordinate: xr.DataArray) -> np.ndarray:
    """Values of a coordinate as float64; times in seconds."""
    values = coordinate.values
    return values.astype("datetime64[ns]").astype(np.int64) / 1e9 if values.dtype.kind == "M" else values.astype("f8")


def _describe_coordinate(name: Hashable, values: np.ndarray, expected: np.ndarray) -> str:
    """Difference of a coordinate, in words; empty within the tolerance."""
    steps = np.concatenate([np.abs(np.diff(expected, axis=axis)).ravel() for axis in range(expected.ndim)])
    spacing = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    # float32 holds seven digits: coordinates of either file may have been stored so
    rounding = 2e-7 * float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
    is_near = np.abs(values - expected) <= max(TOLERANCE * spacing, rounding)
    is_near |= np.isnan(values) & np.isnan(expected)
    if is_near.all():
        return ""
    place = tuple(int(index[0]) for index in np.nonzero(~is_near))
    where = "begins at" if not any(place) else f"has at position {', '.join(map(str, place))}"
    return f"coordinate {name!r} {where} {values[place]:.10g} instead of {expected[place]:.10g}"


def _describe_reference(scene: xr.Dataset, other: xr.Dataset) -> str:
    """Difference of the coordinate reference systems, in words; empty if they are the same or one is unknown."""
    import rioxarray  # noqa: F401  registers .rio

    systems = [one.rio.crs for one in (scene, other)]
    if None in systems or systems[0] == systems[1]:
        return ""
    names = [system.to_string()[:60] for system in systems]
    return f"reference system {names[0]} instead of {names[1]}"
