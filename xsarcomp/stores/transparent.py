"""Encoding of transparent stores: each chunk codes itself, readers need no call to xsarcomp."""

import math
import warnings
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import xarray as xr

from xsarcomp.codec.frame import check_stored_dtype
from xsarcomp.codec.rate_control import Target
from xsarcomp.errors import ConfigurationError, caller_stacklevel
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.plan import PlanOptions, make_plan
from xsarcomp.radiometry.scales import check_dtype
from xsarcomp.scenes.variables import spatial_dimensions

CHUNK_EDGE = 512
"""Pixels of a chunk along an axis, where the array has no chunks of its own."""
SMALLEST_EDGE = 64
"""Smaller chunks are warned about."""
METADATA_BYTES = 20_000
"""Metadata, coordinates and manifest of a store, about, whatever its size."""
LARGEST_EDGE = 1024
"""Chunks of a Dask array are divided down to this."""


def plan_encoding(
    dataset: xr.Dataset,
    names: Iterable[Hashable],
    target: Target,
    *,
    model: str | None,
    scale: str,
    recompress: bool,
    zarr_format: int,
) -> dict[Hashable, dict[str, Any]]:
    """Encoding for ``to_zarr``; see ``.sarcomp.encoding``."""
    if zarr_format not in (2, 3):
        raise ConfigurationError(f"zarr_format is {zarr_format!r}, expected 3 or 2")
    names = list(names)
    for name in names:
        check_dtype(dataset[name].dtype)
        check_stored_dtype(dataset[name].dtype)
    chunks = {name: _chunks(dataset[name]) for name in names}
    chunk_pixels = min((math.prod(sizes) for sizes in chunks.values()), default=1)
    options = PlanOptions(
        model=model,
        scale=scale,
        recompress=recompress,
        chunk_pixels=max(1, chunk_pixels),
        metadata_bytes=METADATA_BYTES,
        coded_shapes={name: _edges(dataset[name], chunks[name]) for name in names},
    )
    plan = make_plan(dataset, names, target, options)
    codec = _codec_format_3 if zarr_format == 3 else _codec_format_2
    return {
        # to_zarr replaces a variable's own encoding by this: what describes the data must be in it, or the CRS is lost
        name: {**codec(metadata), "chunks": chunks[name], **_kept(dataset[name])}
        for name, metadata in plan.variables.items()
    }


def _chunks(array: xr.DataArray) -> tuple[int, ...]:
    """Chunks of the store: 512 pixels and one of each other dimension; those of a Dask array, large ones divided."""
    spatial = set(spatial_dimensions(array))
    chunks = []
    for axis, (name, size) in enumerate(array.sizes.items()):
        if array.chunks is None:
            chunks.append(max(1, min(CHUNK_EDGE, size) if name in spatial else 1))
        else:
            chunks.append(_divided(max(1, array.chunks[axis][0]), LARGEST_EDGE if name in spatial else 1))
    edges = {name: edge for name, edge in zip(array.dims, chunks, strict=True) if name in spatial}
    if any(edge < min(SMALLEST_EDGE, array.sizes[name]) for name, edge in edges.items()):
        warnings.warn(
            f"{array.name!r} has chunks of {' x '.join(map(str, edges.values()))} pixels, and each chunk of a transparent store "
            f"is coded alone: bits are wasted below about {SMALLEST_EDGE} pixels. Rechunk first: "
            f".chunk({', '.join(f'{name}={CHUNK_EDGE}' for name in edges)})",
            stacklevel=caller_stacklevel(),
        )
    return tuple(chunks)


def _edges(array: xr.DataArray, chunks: tuple[int, ...]) -> tuple[int, ...]:
    """Rows and columns of a chunk."""
    spatial = spatial_dimensions(array)
    return tuple(dict(zip(array.dims, chunks, strict=True))[name] for name in spatial)


def _divided(chunk: int, limit: int) -> int:
    """Largest divisor of a chunk within the limit, so that no task writes half a chunk; the chunk if it is tiny."""
    divisor = next(size for size in range(min(chunk, limit), 0, -1) if chunk % size == 0)
    return divisor if divisor >= min(chunk, limit) // 4 else chunk


def _configuration(metadata: LatentsMetadata) -> dict[str, Any]:
    settings = metadata.settings
    configuration = {
        "model": metadata.model_id, "step_db": settings.step_db, "scale": settings.scale, "nodata": settings.nodata,
    }  # fmt: skip
    return configuration | settings.guarantees.request


def _codec_format_3(metadata: LatentsMetadata) -> dict[str, Any]:
    codec = {"name": "xsarcomp.backscatter", "configuration": _configuration(metadata)}
    return {"serializer": codec, "compressors": None}


def _codec_format_2(metadata: LatentsMetadata) -> dict[str, Any]:
    from xsarcomp.stores.codec_numcodecs import BackscatterCodec

    return {"compressors": [BackscatterCodec(**_configuration(metadata))], "filters": None}


def _kept(array: xr.DataArray) -> dict[str, Any]:
    """Entries of the encoding that describe the data; a fill value that would turn NaN into numbers is left out."""
    kept = {name: array.encoding[name] for name in ("grid_mapping",) if name in array.encoding}
    if array.dtype.kind == "f" and "_FillValue" not in array.attrs:
        kept["_FillValue"] = np.array(np.nan, array.dtype)[()]
    return kept
