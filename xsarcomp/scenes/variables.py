"""Which variables of a dataset hold backscatter, and along which dimensions; from names and attributes alone."""

import math
import re
from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr

from xsarcomp.errors import AlreadyLossyError, DimensionError

ATTRIBUTE = "sarcomp"
"""Attribute of a latents variable that holds its metadata."""

SPATIAL_DIMENSIONS = (
    ("y", "x"),
    ("latitude", "longitude"),
    ("lat", "lon"),
    ("azimuth_time", "ground_range"),
    ("azimuth_time", "slant_range_time"),
    ("northing", "easting"),
    ("line", "sample"),
    ("row", "column"),
    ("row", "col"),
)
"""Names of the vertical and horizontal dimension, in lower case."""

_POLARIZATION = re.compile(r"(?:^|[_\-. ])(vv|vh|hh|hv)(?=$|[_\-. ])", re.IGNORECASE)
_UNNAMED = re.compile(r"dim_\d+")
_NO_BACKSCATTER = re.compile(
    r"angle|incidence|mask|shadow|layover|elevation|optical|spatial_ref|(?<![a-z])(lia|dem|lat|lon|area|lut|noise|crs)(?![a-z])",
    re.IGNORECASE,
)


def is_lazy(values: Any) -> bool:
    """Whether values are a Dask array with something in it; asked without importing Dask."""
    return hasattr(values, "__dask_graph__") and 0 not in values.shape


def spatial_dimensions(array: xr.DataArray) -> tuple[Hashable, Hashable]:
    """Vertical and horizontal dimension of an array.

    Raises
    ------
    DimensionError
        If the array has no known pair of dimension names and more than two dimensions.
    """
    by_name = {str(name).lower(): name for name in array.dims}
    for vertical, horizontal in SPATIAL_DIMENSIONS:
        if vertical in by_name and horizontal in by_name:
            return by_name[vertical], by_name[horizontal]
    if array.ndim == 2 or (array.ndim > 2 and all(_UNNAMED.fullmatch(str(name)) for name in array.dims)):
        return array.dims[-2], array.dims[-1]
    raise DimensionError(
        f"array {array.name!r} has dimensions {array.dims}: expected two that are called y and x (or latitude and longitude, "
        "azimuth_time and ground_range, ...). Rename them: array.rename(...)"
    )


def has_spatial_dimensions(array: xr.DataArray) -> bool:
    """Whether :func:`spatial_dimensions` finds a pair."""
    try:
        return array.ndim >= 2 and bool(spatial_dimensions(array))
    except DimensionError:
        return False


def backscatter_names(dataset: xr.Dataset) -> list[Hashable]:
    """Variables of a dataset that hold backscatter.

    Those named after a polarization (``vv``, ``VH``, ``sigma0_vv``, ...) if there are any; otherwise every real variable
    with spatial dimensions whose name does not say that it is something else (angle, mask, elevation, ...).

    Raises
    ------
    DimensionError
        If there is none.
    """
    candidates = [
        name
        for name, array in dataset.data_vars.items()
        if array.dtype.kind in "fiuc" and has_spatial_dimensions(array) and not _NO_BACKSCATTER.search(str(name))
    ]
    named = [name for name in candidates if _POLARIZATION.search(str(name))]
    chosen = named or [name for name in candidates if dataset[name].dtype.kind in "fc"] or candidates
    if any(ATTRIBUTE in array.attrs for array in dataset.data_vars.values()):
        raise AlreadyLossyError("the dataset holds latents already: restore them with .sarcomp.decode()")
    if not chosen:
        found = ", ".join(f"{name} {array.dims}" for name, array in dataset.data_vars.items()) or "no variable"
        raise DimensionError(
            f"no variable with backscatter was found among: {found}. Expected variables named after a polarization (vv, vh) with "
            "dimensions y and x, or call .sarcomp on the DataArray itself"
        )
    return chosen


def plane_polarizations(array: xr.DataArray) -> list[str | None]:
    """Polarization of each plane of an array, in lower case; None where names and attributes do not tell.

    Planes are counted in the order of the dimensions that are not spatial. Bands are told by a ``long_name`` for each of
    them, as rioxarray gives it, or by the values of their coordinate.
    """
    spatial = spatial_dimensions(array)
    texts = (array.name, array.attrs.get("polarization"), array.attrs.get("polarisation"))
    whole = next((found for found in map(_polarization, texts) if found), None)
    sizes = {name: size for name, size in array.sizes.items() if name not in spatial}
    found: list[str | None] = [whole] * math.prod(sizes.values())
    for name, size in sizes.items():
        labels = array.attrs.get("long_name")
        if not isinstance(labels, tuple | list) or len(labels) != size:
            is_text = name in array.coords and array[name].ndim == 1 and array[name].dtype.kind in "UOT"
            labels = array[name].values.tolist() if is_text else []
        named = [_polarization(label) for label in labels]
        if any(named):
            indices = np.indices(tuple(sizes.values()))[list(sizes).index(name)].ravel()
            return [named[index] or whole for index in indices]
    return found


def _polarization(text: Any) -> str | None:
    match = _POLARIZATION.search(text) if isinstance(text, str) else None
    return match[1].lower() if match else None


def declared_nodata(array: xr.DataArray) -> float | None:
    """Fill value that still stands among the values: declared in the attributes; None for NaN or none.

    A fill value in ``encoding`` was already replaced by NaN when the array was opened.
    """
    for attribute in ("_FillValue", "missing_value", "nodata", "nodatavals"):
        value = array.attrs.get(attribute)
        if isinstance(value, list | tuple | np.ndarray):
            value = np.ravel(value)[0] if np.unique(np.ravel(value)).size == 1 else None
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if is_number and np.isreal(value) and np.isfinite(float(value)):
            return float(value)
    return None
