"""Encoding of transparent stores: a codec of Zarr codes each chunk by itself, and readers need no call to xsarcomp."""

import math
import warnings
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xsarcomp.codec.frame import LARGEST_CHUNK, check_stored_dtype
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.target import Target
from xsarcomp.errors import ConfigurationError, DimensionError, caller_stacklevel
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.plan import PlanOptions, make_plan
from xsarcomp.radiometry.scales import check_dtype
from xsarcomp.scenes.chunking import Sizes, inner_ends, is_regular, nearest_divisor, requested_sizes
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
GOOD_EDGE = 128
"""Pixels of a chunk along y and x, below which irregular Dask blocks are not followed: 64 take 32 % more bits than 512, 128 8 %."""


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
    chunks: Sizes | None = None,
    shards: Sizes | None = None,
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
    chunks, shards : int, mapping or sequence of int, optional
        Sizes of chunks and of stored objects, see ``.sarcomp.encoding``.

    Returns
    -------
    dict
        Variable name to its encoding for ``to_zarr``.

    Raises
    ------
    ConfigurationError
        If there is no such Zarr format, it has no shards, or a size is no number of elements.
    DimensionError
        If chunks hold a few rows or columns only or too many values, shards are no multiples of chunks, or the order of the
        dimensions does not suit format 2.
    SarcompError
        As :func:`xsarcomp.latents.plan.make_plan` does.
    """
    if zarr_format not in (2, 3):
        raise ConfigurationError(f"zarr_format is {zarr_format!r}, expected 3 or 2")
    if zarr_format == 2 and shards is not None:
        raise ConfigurationError(
            f"shards={shards!r} and zarr_format=2: format 2 has none. Take zarr_format=3, or larger chunks"
        )
    names = list(names)
    for name in names:
        check_dtype(dataset[name].dtype)
        check_stored_dtype(dataset[name].dtype)
        if zarr_format == 2:
            _refuse_other_order(dataset[name])
    layouts = {name: _layout(dataset[name], chunks, shards) for name in names}
    chunk_pixels = min((math.prod(layout.chunks) for layout in layouts.values()), default=1)
    options = PlanOptions(
        model=model,
        scale=scale,
        recompress=recompress,
        chunk_pixels=max(1, chunk_pixels),
        metadata_bytes=METADATA_BYTES,
        coded_shapes={name: _rows_and_columns(dataset[name], layouts[name].chunks) for name in names},
    )
    plan = make_plan(dataset, names, target, options)
    entries = time_encodings(dataset) | {
        # to_zarr replaces a variable's own encoding by this: what describes the data must be in it, or the CRS is lost
        name: {
            **(_format_3_codec(metadata, dataset[name]) if zarr_format == 3 else _format_2_codec(metadata)),
            **layouts[name].entries,
            **_description(dataset[name]),
        }
        for name, metadata in plan.variables.items()
    }
    encoding = TransparentEncoding(entries)
    encoding.target = target.request
    return encoding


@dataclass(frozen=True, slots=True)
class _Layout:
    """Shapes of the chunks and shards of a variable."""

    chunks: tuple[int, ...]
    shards: tuple[int, ...]
    """The same as the chunks where no chunks share an object."""

    @property
    def entries(self) -> dict[str, tuple[int, ...]]:
        """Entries of an encoding."""
        return {"chunks": self.chunks} | ({"shards": self.shards} if self.shards != self.chunks else {})


def _layout(array: xr.DataArray, chunks: Sizes | None, shards: Sizes | None) -> _Layout:
    """Layout of a variable: as it is asked for, else chunks that suit its Dask blocks."""
    asked_chunks, asked_shards = (
        requested_sizes(option, request, array) for option, request in (("chunks", chunks), ("shards", shards))
    )
    spatial, found = set(spatial_dimensions(array)), _Layout((), ())
    for axis, (name, size) in enumerate(array.sizes.items()):
        blocks = (size,) if array.chunks is None else array.chunks[axis]
        edge, shard = asked_chunks.get(name), asked_shards.get(name)
        if edge is None and name in spatial:
            edge = _balanced(size) if array.chunks is None else _edge_for_blocks(blocks)
            if shard is not None and edge < size and shard % edge:  # nobody asked for these chunks
                edge = nearest_divisor(shard, CHUNK_EDGE, LARGEST_EDGE)
        edge = max(1, min(edge or 1, size))
        if shard is not None and edge < size and shard % edge:
            raise DimensionError(
                f"shards of {array.name!r} have {shard} elements along {name!r}, expected a multiple of its chunks of {edge}, "
                f"such as {max(1, round(shard / edge)) * edge}"
            )
        whole = -(-size // edge) * edge  # no shard is larger than the array
        found = _Layout((*found.chunks, edge), (*found.shards, max(edge, min(shard or edge, whole) // edge * edge)))
    _check_chunks(array, found.chunks)
    return found


def _edge_for_blocks(blocks: Sequence[int]) -> int:
    """Edge of chunks along y or x that suits the Dask blocks: no block ends inside a chunk, where that needs no small chunks."""
    if len(blocks) == 1:
        size = blocks[0]
        edge = nearest_divisor(size, LARGEST_EDGE, LARGEST_EDGE) if size else 1
        return edge if edge >= min(size, LARGEST_EDGE) // 4 else _balanced(size)
    common = math.gcd(*inner_ends(blocks))
    edge = nearest_divisor(common, LARGEST_EDGE, LARGEST_EDGE)
    if edge < min(common, LARGEST_EDGE) // 4:
        edge = common if common <= 2 * LARGEST_EDGE else 0
    if edge >= GOOD_EDGE or (edge and is_regular(blocks)):
        return edge
    return min(CHUNK_EDGE, _balanced(sum(blocks)))  # .sarcomp.to_zarr rechunks


def _check_chunks(array: xr.DataArray, chunks: tuple[int, ...]) -> None:
    """Refuse chunks that the codec cannot take, and warn of small ones."""
    edges = {name: edge for name, edge in zip(array.dims, chunks, strict=True) if name in spatial_dimensions(array)}
    found = (
        f"{array.name!r} has chunks of {' x '.join(f'{edge} ({name})' for name, edge in edges.items())} pixels, and each chunk "
        f"of a transparent store is coded by itself"
    )
    sizes = ", ".join(f"{name}={CHUNK_EDGE}" for name in edges)
    advice = (
        f"Take encoding(chunks={CHUNK_EDGE}) and .sarcomp.to_zarr, which rechunks, or rechunk first: .chunk({sizes})"
    )
    if any(edge < min(BLOCK, array.sizes[name]) for name, edge in edges.items()):
        raise DimensionError(
            f"{found}: expected at least {BLOCK} pixels along each axis, which are coded together. {advice}"
        )
    if math.prod(chunks) > LARGEST_CHUNK:
        raise DimensionError(
            f"{found}: found {math.prod(chunks)} values in a chunk, expected at most {LARGEST_CHUNK}. {advice}"
        )
    if any(edge < min(SMALLEST_EDGE, array.sizes[name]) for name, edge in edges.items()):
        warnings.warn(
            f"{found}: bits are wasted below about {SMALLEST_EDGE} pixels. {advice}", stacklevel=caller_stacklevel()
        )


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
