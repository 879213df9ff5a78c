"""Checks that the parts of a latents variable are what ``encode`` made: complete, in their places, of their data types."""

from collections.abc import Hashable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.errors import CorruptStreamError, DimensionError, NotEncodedError
from xsarcomp.latents.layout import part_grids
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata, corner_coordinates, part_names
from xsarcomp.latents.plane_steps import CODING, check_fingerprint, with_fingerprint
from xsarcomp.latents.positions import check_positions

PART_DTYPES = {"latents": "i4", "mask": "u1", "residual": "i4", "gains": "i4", "coding": "f8"}
"""Data types of the parts; exact values have that of the original."""
PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value")
"""Attributes that make xarray change numbers while it reads them."""
SHIFT_TOLERATED = 0.75
"""Shift of a coordinate that is no move of the scene, in pixels: from centers to edges, and rounding to float32 besides."""


def with_added_coding(dataset: xr.Dataset, metadata: LatentsMetadata) -> LatentsMetadata:
    """Add the fingerprint to metadata of a first store over which a later encoder wrote: attributes stay, a coding was added.

    Parameters
    ----------
    dataset : xarray.Dataset
    metadata : LatentsMetadata
        Of a variable of the dataset.

    Returns
    -------
    LatentsMetadata
        Unchanged where it has a fingerprint, or the dataset no coding.
    """
    coding = dataset.variables.get(part_names(metadata.name)["coding"])
    if metadata.fingerprint is not None or coding is None or CODING not in coding.dims:
        return metadata
    return with_fingerprint(metadata)


def check_parts(dataset: xr.Dataset, name: Hashable, metadata: LatentsMetadata) -> None:
    """Refuse latents of which a part is missing, was cut, moved, exchanged or computed with.

    Parameters
    ----------
    dataset : xarray.Dataset
    name : hashable
        Variable that holds the latents.
    metadata : LatentsMetadata

    Raises
    ------
    NotEncodedError
        If a part is missing, or is not what ``encode`` made.
    DimensionError
        If a part was cut or moved.
    """
    names, grids = metadata.part_names, part_grids(metadata)
    if name != names["latents"]:
        raise NotEncodedError(
            f"the variable {name!r} holds the latents of {metadata.name!r}, expected it under the name {names['latents']!r}: it was "
            "renamed, or exchanged with another. Decode first and rename then; it stays lazy"
        )
    check_fingerprint(metadata)
    for part in metadata.required_parts:
        if names[part] not in dataset.variables:
            raise NotEncodedError(f"the {part} {names[part]!r} of the latents {name!r} is missing: keep both")
    leading = [dim for dim in dataset[names["mask"]].dims if dim in metadata.leading]
    for part, part_name in names.items():
        if part_name not in dataset.variables:
            continue
        variable = dataset.variables[part_name]
        sizes = {dim: size for dim, size in variable.sizes.items() if dim not in leading}
        if sizes != grids[part] or not {*leading} <= {*variable.dims}:
            raise DimensionError(
                f"{part_name!r} has the sizes {dict(variable.sizes)}, the metadata of {name!r} expect {grids[part]} beside "
                f"{leading}: a part was cut out, or something was concatenated. Decode first and cut then; it stays lazy"
            )
        _check_dtype(variable, part_name, np.dtype(PART_DTYPES.get(part, metadata.dtype)))
        _check_stored_order(variable, part_name, [dim for dim in grids[part] if dim in variable.dims])
    _check_corners(dataset, name, metadata)
    check_positions(dataset, name, metadata)


def _check_dtype(variable: xr.Variable, name: str, expected: np.dtype) -> None:
    """Refuse a part of another data type, or one whose stored numbers xarray changes while it reads them."""
    if variable.dtype.newbyteorder("=") != expected.newbyteorder("="):
        raise NotEncodedError(
            f"{name!r} has the type {variable.dtype}, expected {expected}: it was computed with, such as by mean, shift or where, or "
            f"attributes ({', '.join(PACKING)}, dtype) were added to it. Decode first and compute then; it stays lazy"
        )
    # xarray gives floats the fill value NaN by itself, which changes nothing
    values = {key: variable.encoding.get(key) for key in PACKING}
    if packing := [key for key, value in values.items() if value is not None and value == value]:
        raise NotEncodedError(
            f"{name!r} has the attributes {', '.join(packing)}, which no encoder writes: they change the numbers. Remove them"
        )


def _check_stored_order(variable: xr.Variable, name: str, expected: list[str]) -> None:
    """Refuse a part whose dimensions stand in another order in the store than encoders write them: their names were exchanged."""
    stored = [dim for dim in variable.encoding.get("preferred_chunks", {}) if dim in expected]
    if len(stored) == len(expected) and stored != expected:
        raise DimensionError(
            f"the dimensions of {name!r} stand as {', '.join(stored)} in the store, expected {', '.join(expected)}: their names were "
            "exchanged, restore them from a copy. If it was written transposed, drop_encoding() first"
        )


def _check_corners(dataset: xr.Dataset, name: Hashable, metadata: LatentsMetadata) -> None:
    """Refuse a scene whose coordinates run otherwise than when it was encoded."""
    corners = corner_coordinates(dataset, metadata.spatial)
    for axis, dim in enumerate(metadata.spatial):
        first, last = metadata.corners[2 * axis : 2 * axis + 2]
        first_now, last_now = corners[2 * axis : 2 * axis + 2]
        if first is None or last is None or first_now is None or last_now is None or metadata.pixels[axis] < 2:
            continue
        tolerance = SHIFT_TOLERATED * abs(last - first) / (metadata.pixels[axis] - 1)
        if abs(first - first_now) > tolerance or abs(last - last_now) > tolerance:
            raise DimensionError(
                f"the coordinate {dim!r} of {name!r} runs from {first_now!r} to {last_now!r}, but ran from {first!r} to "
                f"{last!r} when it was encoded: flipping, sorting or rolling moves the mask and not the latents. Decode first and move "
                f"then; it stays lazy. If only the coordinate was changed, drop_vars({dim!r}), decode and assign it again"
            )


def select_exact(exact: NDArray, is_exact: NDArray[np.bool_], metadata: LatentsMetadata) -> NDArray:
    """Select the values of the pixels of class EXACT.

    Parameters
    ----------
    exact : ndarray of the original data type, any shape
        Values where the mask is EXACT, and 0 elsewhere.
    is_exact : ndarray of bool, same shape
        Where the mask is EXACT.
    metadata : LatentsMetadata

    Returns
    -------
    ndarray, one-dimensional

    Raises
    ------
    CorruptStreamError
        If one is +0, which has a class of its own: a chunk of exact values is missing.
    """
    values = exact[is_exact]
    if values.size and metadata.settings.nodata != 0 and ((values == 0) & ~np.signbit(values)).any():
        raise CorruptStreamError(
            f"the mask of {metadata.name!r} names pixels of exact values, and the exact values there are 0: a chunk of "
            f"{metadata.part_names['exact']!r} is missing. Restore it from a copy"
        )
    return values


def no_latents(dataset: xr.Dataset) -> NotEncodedError:
    """Return the error for a dataset without latents; it tells what the dataset is instead."""
    names = ", ".join(map(str, dataset.data_vars)) or "none"
    if bare := [name for name in dataset.variables if str(name).endswith("_latents")]:
        return NotEncodedError(
            f"{bare[0]!r} has lost the attribute {ATTRIBUTE!r}, without which latents cannot be decoded (variables: {names}): "
            "arithmetic and functions drop attributes. Decode first and compute then; it stays lazy"
        )
    return NotEncodedError(
        f"the dataset holds no latents (variables: {names}): expected what encode() made. A transparent store needs no "
        "decoding: its variables already are backscatter"
    )
