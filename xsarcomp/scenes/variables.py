"""Dimensions, labels of bands, polarizations and nodata of variables, from names and attributes."""

import math
import re
from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr

from xsarcomp.errors import DimensionError

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

CHANNEL_NAMES = ("polarization", "polarisation", "pol", "band")
"""Names of dimensions of polarizations; files use both spellings."""
_POLARIZATION = re.compile(r"(?:^|[_\-. ])(vv|vh|hh|hv)(?=$|[_\-. ])", re.IGNORECASE)
_UNNAMED = re.compile(r"dim_\d+")


def is_lazy(values: Any) -> bool:
    """Check if values are a Dask array with at least one element, without importing Dask."""
    return hasattr(values, "__dask_graph__") and 0 not in values.shape


def spatial_dimensions(array: xr.DataArray) -> tuple[Hashable, Hashable]:
    """Return the vertical and the horizontal dimension of an array.

    Parameters
    ----------
    array : xarray.DataArray
        Dimensions in any order.

    Returns
    -------
    tuple of two dimension names

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
        f"found dimensions {array.dims} of array {array.name!r}, expected two named y and x (or latitude and longitude, "
        "azimuth_time and ground_range, ...). Rename them: array.rename(...)"
    )


def has_spatial_dimensions(array: xr.DataArray) -> bool:
    """Check if :func:`spatial_dimensions` finds a pair."""
    try:
        return array.ndim >= 2 and bool(spatial_dimensions(array))
    except DimensionError:
        return False


def band_labels(array: xr.DataArray) -> tuple[Hashable, list[str]] | None:
    """Find the dimension of bands of an array, and the text that describes each band.

    Texts are one ``long_name`` for each band, as rioxarray gives it, or the values of a coordinate.

    Parameters
    ----------
    array : xarray.DataArray

    Returns
    -------
    tuple of dimension and list of str, or None
        None where no dimension has such texts. If several have, the first that names a polarization.
    """
    found = []
    spatial = set(spatial_dimensions(array)) if has_spatial_dimensions(array) else set()
    for name, size in array.sizes.items():
        labels = array.attrs.get("long_name")
        if name in spatial or not size:
            continue
        if (
            not isinstance(labels, tuple | list)
            or len(labels) != size
            or not all(isinstance(each, str) for each in labels)
        ):
            is_text = name in array.coords and array[name].ndim == 1 and array[name].dtype.kind in "UOT"
            labels = array[name].values.tolist() if is_text else []
        if labels and all(isinstance(label, str) for label in labels):
            found.append((name, list(labels)))
    named = [each for each in found if any(map(_polarization, each[1]))]
    return next(iter(named or found), None)


def plane_polarizations(array: xr.DataArray) -> list[str | None]:
    """Infer the polarization of each plane of an array.

    The polarization of bands is read from one ``long_name`` for each of them, as rioxarray gives it, or from the values
    of their coordinate; otherwise the name and the attributes of the array decide.

    Parameters
    ----------
    array : xarray.DataArray
        Dimensions in any order.

    Returns
    -------
    list of str or None
        One for each plane, in the order of the dimensions that are not spatial, in lower case; None where unknown.
    """
    spatial = spatial_dimensions(array)
    # products write the attribute in both spellings
    texts = (array.name, *(array.attrs.get(key) for key in ("polarization", "polarisation", "long_name")))
    of_array = next(filter(None, map(_polarization, texts)), None)
    sizes = {name: size for name, size in array.sizes.items() if name not in spatial}
    found = band_labels(array)
    of_bands = [_polarization(label) for label in found[1]] if found else []
    if found and any(of_bands):
        band_of_plane = np.indices(tuple(sizes.values()))[list(sizes).index(found[0])].ravel()
        return [of_bands[band] or of_array for band in band_of_plane]
    return [of_array] * math.prod(sizes.values())


def _polarization(text: Any) -> str | None:
    """Return the polarization in a text, in lower case; None if there is none, or it is no text."""
    match = _POLARIZATION.search(text) if isinstance(text, str) else None
    return match[1].lower() if match else None


def declared_nodata(array: xr.DataArray) -> float | None:
    """Return the fill value that is still among the values of an array.

    It is declared in the attributes. A fill value in ``encoding`` was already replaced by NaN when the array was opened.

    Parameters
    ----------
    array : xarray.DataArray

    Returns
    -------
    float or None
        None if no finite number is declared, or bands declare different ones.
    """
    for attribute in ("_FillValue", "missing_value", "nodata", "nodatavals"):
        value = array.attrs.get(attribute)
        if isinstance(value, list | tuple | np.ndarray):
            value = np.ravel(value)[0] if np.unique(np.ravel(value)).size == 1 else None
        if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
            number = float(value)
            if np.isfinite(number):
                return number
    return None


def declares_no_nodata(array: xr.DataArray) -> bool:
    """Check if an array declares that no number among its values stands for no data: its attribute ``nodata`` is NaN."""
    value = array.attrs.get("nodata")
    return isinstance(value, float | np.floating) and bool(np.isnan(value)) and declared_nodata(array) is None
