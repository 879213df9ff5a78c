"""Layout of a latents store: dimensions, chunks, codecs and attributes of the variables that stand for one variable.

A variable ``vv`` becomes ``vv_latents``, integers that Zarr entropy codes without loss; ``vv_mask``, the class of each pixel;
and, where there may be any, ``vv_exact``, values that are no backscatter and are kept as they are (negative power, for
example). Guarantees add ``vv_residual`` and ``vv_gains``. ``vv_coding`` holds the step of each plane.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xsarcomp.codec.chunk import ABSENT
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.tile_means import TILE, tile_count
from xsarcomp.codec.window import latent_count
from xsarcomp.errors import DimensionError
from xsarcomp.latents.metadata import ATTRIBUTE, PARTS, LatentsMetadata
from xsarcomp.latents.plane_steps import CODING
from xsarcomp.scenes.chunking import Sizes, requested_sizes

CHUNK_LATENTS = 64
"""Latents of a Zarr chunk along an axis: 512 pixels."""
CODING_CHUNK_LATENTS = 256
"""Latents along an axis of a chunk of the coding of a plane without leading dimensions; a chunk is two numbers, repeated."""
CHUNK_PIXELS = (CHUNK_LATENTS * BLOCK) ** 2
"""Pixels of a Zarr chunk."""
METADATA_BYTES = 25_000
"""Approximate size of metadata, coordinates and manifest of a store of any size."""
GAIN = "gain"
"""Dimension of a gain and its level."""
MANIFEST_GROUP = "sarcomp_manifest"
"""Group in which a store holds its manifest; no part of the data."""
PIXEL_PARTS = ("mask", "exact", "residual")
"""Parts that have the grid of the pixels."""
STORAGE_ENCODING = {
    "chunks", "shards", "preferred_chunks", "compressor", "compressors", "filters", "serializer", "fill_value",
    "chunksizes", "source",
    "original_shape", "zlib", "szip", "zstd", "bzip2", "blosc", "shuffle", "complevel", "fletcher32", "contiguous",
}  # fmt: skip
"""Entries of a variable's encoding that say how a file stores it."""
CHECKSUM_COMPRESSORS = [{"name": "zstd", "configuration": {"level": 19, "checksum": True}}]
"""Compressor of masks and exact values; Zarr's default would not notice a flipped bit."""
MASK_MEANINGS = "valid nan positive_infinity negative_infinity zero nodata exact"


def drop_storage_encoding(dataset: xr.Dataset) -> xr.Dataset:
    """Copy a dataset without the encoding by which another file stored it: chunks, codecs of another format.

    Parameters
    ----------
    dataset : xarray.Dataset
        Not changed.

    Returns
    -------
    xarray.Dataset
        Shallow copy; encoding that describes the data, such as ``grid_mapping``, stays.
    """
    result = dataset.copy()
    for variable in result.variables.values():
        # floats packed into floats save nothing: xee notes the size of a pixel as scale_factor, and its extent as bounds, which
        # by CF names a variable
        dtype = np.dtype(variable.encoding.get("dtype") or variable.dtype)
        packing = {"scale_factor", "add_offset"} if dtype.kind == "f" and variable.dtype.kind == "f" else set()
        bounds = set() if isinstance(variable.encoding.get("bounds"), str) else {"bounds"}
        dropped = STORAGE_ENCODING | packing | bounds
        variable.encoding = {name: value for name, value in variable.encoding.items() if name not in dropped}
    return result


def part_grids(metadata: LatentsMetadata) -> dict[str, dict[str, int]]:
    """Last dimensions of each part and their sizes, in the order of decoding.

    Parameters
    ----------
    metadata : LatentsMetadata

    Returns
    -------
    dict of str to dict
        By part: the dimensions that follow the leading ones, such as ``latent``, ``y_latent`` and ``x_latent``.
    """
    grids = {}
    for part in PARTS:
        ending, unit, first = {
            "latents": ("_latent", BLOCK, {"latent": metadata.channels}),
            "gains": ("_tile", TILE, {GAIN: 2}),
        }.get(part, ("", 1, {}))
        spatial = zip(metadata.spatial, metadata.pixels, strict=True)
        grids[part] = first | {f"{dim}{ending}": -(-size // unit) for dim, size in spatial}
    return grids | {"coding": {CODING: 2} if metadata.leading else {CODING: 2, **_without("latent", grids["latents"])}}


def _without(dim: str, grid: Mapping[str, int]) -> dict[str, int]:
    """Sizes by dimension without one of them."""
    return {name: size for name, size in grid.items() if name != dim}


def plane_chunks(latents_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Chunk sizes of the leading dimensions: small scenes share a chunk, so that headers stay small beside the data.

    Parameters
    ----------
    latents_shape : tuple of int
        Shape of the latents, (..., latent, y_latent, x_latent).

    Returns
    -------
    tuple of int
        One for each leading dimension; only the last can be above 1.
    """
    leading = latents_shape[:-3]
    latents_in_chunk = math.prod(min(CHUNK_LATENTS, size) for size in latents_shape[-2:])
    planes = max(1, CHUNK_LATENTS**2 // max(1, latents_in_chunk))
    return (*(1 for _ in leading[:-1]), min(planes, max(1, leading[-1]))) if leading else ()


@dataclass(frozen=True, slots=True)
class ShardCounts:
    """Chunks along each axis that share a stored object."""

    planes: tuple[int, ...]
    """Along the leading dimensions."""
    plane: tuple[int, int] = (1, 1)
    """Along the vertical and the horizontal dimension."""


def shard_counts(array: xr.DataArray, metadata: LatentsMetadata, shards: Sizes | None) -> ShardCounts:
    """Chunks that share a stored object, from a request in pixels.

    Parameters
    ----------
    array : xarray.DataArray
        Backscatter.
    metadata : LatentsMetadata
    shards : int, mapping or sequence of int, or None
        See ``.sarcomp.encode``.

    Returns
    -------
    ShardCounts
        No more chunks than the array has.

    Raises
    ------
    ConfigurationError, DimensionError
        If a size is no multiple of the chunks, or no size.
    """
    asked = requested_sizes("shards", shards, array)
    unit, latents = CHUNK_LATENTS * BLOCK, tuple(latent_count(size) for size in metadata.pixels)
    leading = tuple(array.sizes[dim] for dim in metadata.leading)
    units = (*plane_chunks((*leading, metadata.channels, *latents)), unit, unit)
    counts = []
    for dim, edge in zip((*metadata.leading, *metadata.spatial), units, strict=True):
        size = asked.get(dim, edge)
        if size % edge and edge < array.sizes[dim]:
            raise DimensionError(
                f"shards of {array.name!r} have {size} elements along {dim!r}, expected a multiple of the chunks of a latents store "
                f"of {edge}, such as {max(1, round(size / edge)) * edge}"
            )
        counts.append(max(1, min(size // edge, -(-array.sizes[dim] // edge))))
    return ShardCounts(tuple(counts[:-2]), (counts[-2], counts[-1]))


def store_variables(
    parts: Mapping[str, Any], metadata: LatentsMetadata, shards: ShardCounts | None = None
) -> dict[str, xr.Variable]:
    """Wrap the parts of a variable as variables with dimensions, attributes and encoding for a store.

    Parameters
    ----------
    parts : mapping of str to array
        NumPy or Dask arrays by part, with dimensions (..., then those of :func:`part_grids`).
    metadata : LatentsMetadata
    shards : ShardCounts, optional
        Chunks that share an object; each is one of its own if None.

    Returns
    -------
    dict of str to xarray.Variable
        By the names in ``metadata.part_names``.
    """
    latents_shape = parts["latents"].shape
    planes, grids, names = plane_chunks(latents_shape), part_grids(metadata), metadata.part_names
    latents = tuple(max(1, min(CHUNK_LATENTS, size)) for size in latents_shape[-2:])
    pixels = tuple(max(1, min(CHUNK_LATENTS * BLOCK, size)) for size in metadata.pixels)
    chunks: dict[str, tuple[int, ...]] = {
        "latents": (metadata.channels, *latents),
        "gains": (2, *map(tile_count, pixels)),
        # like the chunks of the latents, so that a writer of these planes writes their coding and no other
        "coding": (2,)
        if metadata.leading
        else (2, *(max(1, min(CODING_CHUNK_LATENTS, n)) for n in latents_shape[-2:])),
    }
    variables = {}
    for part, values in parts.items():
        attributes, encoding = _storage(part, metadata)
        encoding["chunks"] = (*planes, *chunks.get(part, pixels))
        if shards is not None and (counts := _part_counts(part, metadata, shards)).count(1) < len(counts):
            encoding["shards"] = tuple(map(int.__mul__, encoding["chunks"], counts))
        variables[names[part]] = xr.Variable((*metadata.leading, *grids[part]), values, attributes, encoding)
    return variables


def _part_counts(part: str, metadata: LatentsMetadata, shards: ShardCounts) -> tuple[int, ...]:
    """Chunks of a part along each axis that share an object."""
    if part == "coding":  # its chunks are larger than those of the others, or whole planes
        return (*shards.planes, 1) if metadata.leading else (1, 1, 1)
    return (*shards.planes, *((1,) if part in ("latents", "gains") else ()), *shards.plane)


def _storage(part: str, metadata: LatentsMetadata) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes and encoding of the variable that holds a part, without its chunks."""
    name = metadata.name
    checked = {"compressors": CHECKSUM_COMPRESSORS}
    # no chunk holds this fill value, so one that is lost or was never written is not taken for integers of 0
    coded = {"compressors": None, "_FillValue": None, "fill_value": ABSENT}
    if part == "latents":
        codec = {"name": "xsarcomp.latents", "configuration": {"model": metadata.model_id, "anchor": metadata.anchor}}
        attributes = {"long_name": f"latents of {name}", "units": "1", ATTRIBUTE: metadata.to_attribute()}
        return attributes, {"serializer": codec, **coded}
    if part in ("residual", "gains"):
        long_name = {
            "residual": f"residuals of {name}, in units of residual_spacing_db",
            "gains": f"gains of the tiles of {name}, and their levels",
        }[part]
        codec = {"name": "xsarcomp.integers", "configuration": {}}
        return {"long_name": long_name, "units": "1"}, {"serializer": codec, **coded}
    if part == "mask":
        flags = {"flag_values": list(range(7)), "flag_meanings": MASK_MEANINGS}
        return {"long_name": f"pixel classes of {name}", **flags}, checked
    if part == "exact":
        long_name = f"values of {name} that are no backscatter, where the mask is 6"
        return {"long_name": long_name}, checked | {"_FillValue": None, "fill_value": 0}
    # the spelling of the first stores: bytes of stores do not change
    long_name = f"quantisation step in dB of each plane of {name}, and the fingerprint of its record"
    return {"long_name": long_name}, checked | {"_FillValue": None, "fill_value": math.nan}
