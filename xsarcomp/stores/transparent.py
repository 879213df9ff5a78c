"""Encoding of transparent stores: a codec of Zarr codes each chunk by itself, and readers need no call to xsarcomp."""

import math
import warnings
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import xarray as xr

from xsarcomp.codec.frame import check_stored_dtype
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.target import Target
from xsarcomp.errors import ConfigurationError, DimensionError, caller_stacklevel
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.plan import PlanOptions, make_plan
from xsarcomp.radiometry.scales import check_dtype
from xsarcomp.scenes.times import time_encodings
from xsarcomp.scenes.variables import spatial_dimensions
from xsarcomp.stores.codec_settings import BackscatterSettings

CHUNK_EDGE = 512
"""Pixels of a chunk along y and x, about, where the array has no chunks."""
SMALLEST_EDGE = 64
"""Pixels of a chunk along y and x, below which a warning says that bits are wasted."""
METADATA_BYTES = 12_000
"""Approximate size of metadata, coordinates and manifest of a store of any size."""
LARGEST_EDGE = 1024
"""Pixels along y and x above which the chunks of a Dask array are divided."""


class TransparentEncoding(dict[Hashable, dict[str, Any]]):
    """Encoding of variables for ``to_zarr``, which knows the request that it was made for."""

    target = ""
    """The request in words, see :class:`~xsarcomp.codec.target.Target`."""


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
    """Plan the encoding of variables in a transparent store; see ``.sarcomp.encoding``.

    Parameters
    ----------
    dataset : xarray.Dataset
    names : iterable of variable names
        Variables of sigma0 or gamma0 backscatter. In format 3, y and x may be any of their dimensions; in format 2, the last.
    target : Target
        Rate or error, and guarantees.
    model : str or None
        Name or id of a model; the default model if None.
    scale : {"auto", "power", "amplitude", "decibel"}
        Scale of the values.
    recompress : bool
        Accept data that was compressed with loss before.
    zarr_format : {3, 2}

    Returns
    -------
    dict
        Variable name to its encoding for ``to_zarr``.

    Raises
    ------
    ConfigurationError
        If there is no such Zarr format.
    DimensionError
        If chunks hold a few rows or columns only, or the order of the dimensions does not suit format 2.
    SarcompError
        As :func:`xsarcomp.latents.plan.make_plan` does.
    """
    if zarr_format not in (2, 3):
        raise ConfigurationError(f"zarr_format is {zarr_format!r}, expected 3 or 2")
    names = list(names)
    for name in names:
        check_dtype(dataset[name].dtype)
        check_stored_dtype(dataset[name].dtype)
        if zarr_format == 2:
            _refuse_other_order(dataset[name])
    chunks = {name: _chunks(dataset[name]) for name in names}
    chunk_pixels = min((math.prod(sizes) for sizes in chunks.values()), default=1)
    options = PlanOptions(
        model=model,
        scale=scale,
        recompress=recompress,
        chunk_pixels=max(1, chunk_pixels),
        metadata_bytes=METADATA_BYTES,
        coded_shapes={name: _rows_and_columns(dataset[name], chunks[name]) for name in names},
    )
    plan = make_plan(dataset, names, target, options)
    entries = time_encodings(dataset) | {
        # to_zarr replaces a variable's own encoding by this: what describes the data must be in it, or the CRS is lost
        name: {
            **(_format_3_codec(metadata, dataset[name]) if zarr_format == 3 else _format_2_codec(metadata)),
            "chunks": chunks[name],
            **_description(dataset[name]),
        }
        for name, metadata in plan.variables.items()
    }
    encoding = TransparentEncoding(entries)
    encoding.target = target.request
    return encoding


def _chunks(array: xr.DataArray) -> tuple[int, ...]:
    """Shape of a chunk of the store: that of the Dask array, divided where it is large; else about 512 x 512 pixels of one plane."""
    spatial = set(spatial_dimensions(array))
    chunks = []
    for axis, (name, size) in enumerate(array.sizes.items()):
        if array.chunks is None:
            chunks.append(_balanced(size) if name in spatial else 1)
        else:
            chunks.append(_divided(max(1, array.chunks[axis][0]), LARGEST_EDGE if name in spatial else 1))
    edges = {name: edge for name, edge in zip(array.dims, chunks, strict=True) if name in spatial}
    found = (
        f"{array.name!r} has chunks of {' x '.join(f'{edge} ({name})' for name, edge in edges.items())} pixels, and each chunk "
        f"of a transparent store is coded by itself"
    )
    advice = f"Rechunk first: .chunk({', '.join(f'{name}={CHUNK_EDGE}' for name in edges)})"
    if any(edge < min(BLOCK, array.sizes[name]) for name, edge in edges.items()):
        raise DimensionError(
            f"{found}: expected at least {BLOCK} pixels along each axis, which are coded together. {advice}"
        )
    if any(edge < min(SMALLEST_EDGE, array.sizes[name]) for name, edge in edges.items()):
        warnings.warn(
            f"{found}: bits are wasted below about {SMALLEST_EDGE} pixels. {advice}", stacklevel=caller_stacklevel()
        )
    return tuple(chunks)


def _refuse_other_order(array: xr.DataArray) -> None:
    """Refuse a variable whose last two dimensions are not y and x: format 2 has no codec that transposes chunks."""
    spatial = spatial_dimensions(array)
    if {*array.dims[-2:]} != {*spatial}:
        order = ", ".join(repr(str(name)) for name in spatial)
        raise DimensionError(
            f"{array.name!r} has dimensions {array.dims}, expected {spatial} at the end for Zarr format 2, which codes chunks as "
            f"they lie. Transpose it first, .transpose(..., {order}), or take zarr_format=3"
        )


def _rows_and_columns(array: xr.DataArray, chunks: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a chunk."""
    sizes = dict(zip(array.dims, chunks, strict=True))
    rows, columns = spatial_dimensions(array)
    return sizes[rows], sizes[columns]


def _balanced(size: int) -> int:
    """Edge of chunks of about ``CHUNK_EDGE`` that fill an axis to whole blocks: Zarr fills up the last one, which costs bits."""
    count = max(1, round(size / CHUNK_EDGE))
    edge = -(-size // count)
    return max(1, edge if count == 1 else -(-edge // BLOCK) * BLOCK)


def _divided(size: int, limit: int) -> int:
    """Largest divisor of a size within a limit, so that no task writes half a chunk; the size itself if that is tiny."""
    divisor = next(candidate for candidate in range(min(size, limit), 0, -1) if size % candidate == 0)
    return divisor if divisor >= min(size, limit) // 4 else size


def _configuration(metadata: LatentsMetadata) -> dict[str, Any]:
    """Configuration of the codec of a variable."""
    settings = metadata.settings
    codec = BackscatterSettings(
        metadata.model_id, settings.step_db, settings.scale, settings.nodata, **settings.guarantees.request
    )
    return codec.configuration


def _format_3_codec(metadata: LatentsMetadata, array: xr.DataArray) -> dict[str, Any]:
    """Entries of an encoding that set the codec, for Zarr format 3; chunks are transposed where y and x are not the last axes."""
    codec = {"name": "xsarcomp.backscatter", "configuration": _configuration(metadata)}
    spatial = [array.dims.index(name) for name in spatial_dimensions(array)]
    order = [axis for axis in range(array.ndim) if axis not in spatial] + spatial
    transpose = {"name": "transpose", "configuration": {"order": order}}
    return {"filters": [transpose] if order != sorted(order) else None, "serializer": codec, "compressors": None}


def _format_2_codec(metadata: LatentsMetadata) -> dict[str, Any]:
    """Entries of an encoding that set the codec, for Zarr format 2."""
    from xsarcomp.stores.codec_numcodecs import BackscatterCodec

    return {"compressors": [BackscatterCodec(**_configuration(metadata))], "filters": None}


def _description(array: xr.DataArray) -> dict[str, Any]:
    """Entries of the encoding that describe the data; a fill value that would turn NaN into numbers is left out."""
    entries = {name: array.encoding[name] for name in ("grid_mapping",) if name in array.encoding}
    if array.dtype.kind == "f" and "_FillValue" not in array.attrs:
        entries["_FillValue"] = np.array(np.nan, array.dtype)[()]
    return entries
