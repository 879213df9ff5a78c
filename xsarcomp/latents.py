"""Datasets of backscatter to datasets of latents and back.

A variable ``vv`` becomes three: ``vv_latents``, integers that Zarr entropy codes without loss; ``vv_mask``, the class of
each pixel; and, where there may be any, ``vv_exact``, values that are no backscatter and are kept as they are (negative
power, for example). Coordinates and all other variables stay. What decoding needs is one JSON attribute of the latents.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp import pixel_classes
from xsarcomp.block import (
    Settings,
    backscatter_of,
    decode_window,
    encode_window,
    latent_count,
    latent_span,
    pixel_span,
    signal_of,
)
from xsarcomp.coder import LappedCoder
from xsarcomp.entropy_tables import CHANNELS
from xsarcomp.errors import DimensionError, NotEncodedError
from xsarcomp.lapped import BLOCK
from xsarcomp.plan import Plan
from xsarcomp.record import ATTRIBUTE, LOSS_ATTRIBUTE, Record
from xsarcomp.tiling import plane_groups
from xsarcomp.weights import load_coder

CHUNK_LATENTS = 64
"""Latents of a Zarr chunk along an axis: 512 pixels."""
CHUNK_PIXELS = (CHUNK_LATENTS * BLOCK) ** 2
"""Pixels of a Zarr chunk."""
LARGEST_BLOCK_PIXELS = 2048
"""Pixels of a Dask block along an axis at most."""
LARGEST_BLOCK_VALUES = 2 * LARGEST_BLOCK_PIXELS**2
"""Values of a Dask block at most, all planes together."""
STORAGE_ENCODING = {
    "chunks", "shards", "preferred_chunks", "compressor", "compressors", "filters", "serializer", "chunksizes", "source",
    "original_shape", "zlib", "szip", "zstd", "bzip2", "blosc", "shuffle", "complevel", "fletcher32", "contiguous",
}  # fmt: skip
"""Entries of a variable's encoding that say how a file stores it."""
CHECKED = [{"name": "zstd", "configuration": {"level": 9, "checksum": True}}]
"""Compressor of masks and exact values; Zarr's default would not notice a flipped bit."""
MASK_MEANINGS = "valid nan positive_infinity negative_infinity zero nodata exact"


def encode_dataset(dataset: xr.Dataset, plan: Plan) -> xr.Dataset:
    """Latents of the planned variables of a dataset; see ``.sarcomp.encode``."""
    encoded = dataset.drop_vars(list(plan.records)).copy()
    for variable in encoded.variables.values():
        # how another file stored a variable (chunks, codecs of another format) must not reach this one
        variable.encoding = {name: value for name, value in variable.encoding.items() if name not in STORAGE_ENCODING}
    for name, record in plan.records.items():
        encoded = encoded.assign(encode_variable(dataset[name], record, load_coder(record.model_id)))
    # what the original says of itself (history, source, ...) holds for the store as well
    return encoded.assign_attrs(dataset.attrs)


def encode_variable(array: xr.DataArray, record: Record, coder: LappedCoder) -> dict[str, xr.Variable]:
    """Variables that stand for one variable in a latents store, lazy where it is lazy."""
    y, x = record.spatial
    lead = tuple(name for name in record.dims if name not in record.spatial)
    values = array.transpose(*lead, y, x).data
    latents_shape = (*values.shape[:-2], CHANNELS, *(latent_count(size) for size in record.pixels))
    group = _plane_group(latents_shape)
    latents, classes, exact = (
        _encode_lazy(values, record, group) if _is_lazy(values) else _encode_now(values, record, coder)
    )
    codec = {"name": "xsarcomp.latents", "configuration": {"model": record.model_id, "anchor": record.anchor}}
    latents_chunks = (*group, CHANNELS, *(max(1, min(CHUNK_LATENTS, size)) for size in latents_shape[-2:]))
    pixel_chunks = (*group, *(max(1, min(CHUNK_LATENTS * BLOCK, size)) for size in record.pixels))
    variables = {
        f"{record.name}_latents": xr.Variable(
            (*lead, "latent", f"{y}_latent", f"{x}_latent"),
            latents,
            {"long_name": f"latents of {record.name}", "units": "1", ATTRIBUTE: record.to_attribute()},
            {"serializer": codec, "compressors": None, "chunks": latents_chunks},
        ),
        f"{record.name}_mask": xr.Variable(
            (*lead, y, x),
            classes,
            {
                "long_name": f"pixel classes of {record.name}",
                "flag_values": list(range(7)),
                "flag_meanings": MASK_MEANINGS,
            },
            {"chunks": pixel_chunks, "compressors": CHECKED},
        ),
    }
    if exact is not None:
        attributes = {"long_name": f"values of {record.name} that are no backscatter, where the mask is 6"}
        variables[f"{record.name}_exact"] = xr.Variable(
            (*lead, y, x), exact, attributes, {"chunks": pixel_chunks, "compressors": CHECKED, "_FillValue": None, "fill_value": 0}
        )
    return variables


def _is_lazy(values: Any) -> bool:
    from xsarcomp import windows

    return windows.is_lazy(values) and 0 not in values.shape


def _plane_group(latents_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Chunk sizes of the leading dimensions: small scenes share a chunk, so that headers stay small beside the data."""
    lead = latents_shape[:-3]
    in_plane = math.prod(min(CHUNK_LATENTS, size) for size in latents_shape[-2:])
    room = max(1, CHUNK_LATENTS**2 // max(1, in_plane))
    return (*(1 for _ in lead[:-1]), min(room, max(1, lead[-1]))) if lead else ()


def _encode_now(values: Any, record: Record, coder: LappedCoder) -> tuple[NDArray, NDArray, NDArray | None]:
    """Latents, classes and exact values of an array in memory."""
    values = np.asarray(values)
    classes = pixel_classes.classify(values, record.scale, record.nodata)
    latents = np.zeros((*values.shape[:-2], CHANNELS, *(latent_count(size) for size in record.pixels)), np.int32)
    if 0 not in values.shape:
        latents = _encode_block(tuple((0, size) for size in latents.shape), values, record)
    has_exact = bool((classes == pixel_classes.EXACT).any())
    return latents, classes, _exact_block((), values, record) if has_exact else None


def _encode_lazy(values: Any, record: Record, group: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Latents, classes and exact values as Dask arrays, aligned with each other and with the chunks in Zarr."""
    from xsarcomp.windows import Source, map_windows

    size_y, size_x = record.pixels
    edges = [_block_pixels(max(sizes)) for sizes in values.chunks[-2:]]
    lead = _lead_chunks(values, group, edges)
    pixels = tuple(_regular(size, edge) for size, edge in zip(record.pixels, edges, strict=True))
    latents = tuple(
        _regular(latent_count(size), edge // BLOCK) for size, edge in zip(record.pixels, edges, strict=True)
    )

    def read(block):
        return (*block[:-3], pixel_span(*block[-2], size_y), pixel_span(*block[-1], size_x))

    shared = {"arguments": (record,)}
    same = Source(values, _same)
    return (
        map_windows(
            _encode_block,
            [Source(values, read)],
            (*lead, (CHANNELS,), *latents),
            np.int32,
            name="sarcomp-encode",
            **shared,
        ),
        map_windows(_classes_block, [same], (*lead, *pixels), np.uint8, name="sarcomp-mask", **shared),
        map_windows(_exact_block, [same], (*lead, *pixels), values.dtype, name="sarcomp-exact", **shared),
    )


def _same(block):
    return block


def _block_pixels(source_chunk: int) -> int:
    """Pixels of a block along an axis: about the source's chunk, whole Zarr chunks, bounded."""
    unit = CHUNK_LATENTS * BLOCK
    return min(max(unit, -(-source_chunk // unit) * unit), LARGEST_BLOCK_PIXELS)


def _lead_chunks(values: Any, group: tuple[int, ...], edges: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Chunks of the leading dimensions: whole Zarr chunks, about the source's chunks, bounded."""
    room = max(1, LARGEST_BLOCK_VALUES // math.prod(edges))
    chunks = []
    for sizes, unit in reversed(list(zip(values.chunks[:-2], group, strict=True))):
        wanted = max(1, min(max(sizes), room) // unit) * unit
        room = max(1, room // wanted)
        chunks.append(_regular(sum(sizes), wanted))
    return tuple(reversed(chunks))


def _regular(size: int, chunk: int) -> tuple[int, ...]:
    return (*(chunk for _ in range(size // chunk)), *((size % chunk,) if size % chunk else ()))


def _settings(record: Record) -> Settings:
    return Settings(step_db=record.step_db, scale=record.scale, nodata=record.nodata)


def _encode_block(block: tuple, values: NDArray, record: Record) -> NDArray[np.int32]:
    """Latents of a block; ``values`` are its pixels and those around that are in the scene, shape (..., y, x)."""
    coder = load_coder(record.model_id)
    (rows, columns), (size_y, size_x) = block[-2:], record.pixels
    first_y, first_x = pixel_span(*rows, size_y)[0], pixel_span(*columns, size_x)[0]
    planes = values.reshape(-1, *values.shape[-2:])
    latents = np.empty((len(planes), CHANNELS, rows[1] - rows[0], columns[1] - columns[0]), np.int32)
    place = ((*rows, size_y, first_y), (*columns, size_x, first_x))
    for group in plane_groups(len(planes), planes[0].size):
        signal, _ = signal_of(planes[group], _settings(record), coder, (first_y, first_x))
        latents[group] = encode_window(signal, coder, record.step_db, *place)
    return latents.reshape(*(stop - start for start, stop in block))


def _classes_block(_block: tuple, values: NDArray, record: Record) -> NDArray[np.uint8]:
    return pixel_classes.classify(values, record.scale, record.nodata)


def _exact_block(_block: tuple, values: NDArray, record: Record) -> NDArray:
    classes = pixel_classes.classify(values, record.scale, record.nodata)
    return np.where(classes == pixel_classes.EXACT, values, np.zeros((), values.dtype)).astype(values.dtype, copy=False)


def encoded_names(dataset: xr.Dataset) -> dict[Hashable, Record]:
    """Latents variables of a dataset and their records.

    Raises
    ------
    NotEncodedError
        If there is none, or a variable that belongs to one is missing.
    """
    records = {
        name: Record.from_attribute(array.attrs[ATTRIBUTE])
        for name, array in dataset.variables.items()
        if ATTRIBUTE in array.attrs
    }
    if not records:
        raise NotEncodedError(
            f"the dataset holds no latents (variables: {', '.join(map(str, dataset.data_vars)) or 'none'}): decode() takes what "
            "encode() made. A transparent store needs no decoding: its variables already are backscatter"
        )
    for name, record in records.items():
        mask = f"{record.name}_mask"
        if mask not in dataset.variables:
            raise NotEncodedError(f"the mask {mask!r} of the latents {name!r} is missing: keep both")
        expected = (CHANNELS, *(latent_count(size) for size in record.pixels))
        grid = tuple(dataset[name].sizes.get(dim) for dim in _grid_dimensions(record))
        sizes = tuple(dataset[mask].sizes.get(dim) for dim in record.spatial)
        if grid != expected or sizes != record.pixels:
            raise DimensionError(
                f"the latents {name!r} have shape {grid} and their mask {sizes}, the record says {expected} and "
                f"{record.pixels}: a part was cut out. Decode first and cut then; it stays lazy"
            )
    return records


def _grid_dimensions(record: Record) -> tuple[str, str, str]:
    return "latent", *(f"{dim}_latent" for dim in record.spatial)


def decode_dataset(dataset: xr.Dataset) -> xr.Dataset:
    """Backscatter of all latents in a dataset; see ``.sarcomp.decode``."""
    records = encoded_names(dataset)
    decoded = {}
    for name, record in records.items():
        # dimensions may have been transposed, and a single time selected, since encoding
        there = replace(record, dims=tuple(dim for dim in record.dims if dim in dataset[f"{record.name}_mask"].dims))
        lead = [dim for dim in there.dims if dim not in record.spatial]
        parts = [dataset[name].variable.transpose(*lead, *_grid_dimensions(record))]
        held = [part for part in (f"{record.name}_mask", f"{record.name}_exact") if part in dataset.variables]
        parts += [dataset[part].variable.transpose(*lead, *record.spatial) for part in held]
        decoded[record.name] = decode_values(parts[:2], parts[2] if len(parts) > 2 else None, there)
    return with_decoded(dataset, decoded, records)


def with_decoded(dataset: xr.Dataset, decoded: dict[str, xr.Variable], records: dict[Hashable, Record]) -> xr.Dataset:
    """Dataset with decoded variables in the place of latents, masks and exact values; coordinates restored."""
    spent = [part for name, record in records.items() for part in (name, f"{record.name}_mask", f"{record.name}_exact")]
    result = dataset.drop_vars(spent, errors="ignore").assign(decoded)
    grid_mappings = {record.encoding.get("grid_mapping") for record in records.values()} | {"spatial_ref"}
    return result.set_coords([name for name in grid_mappings if name in result.data_vars])


def decoded_variable(values: Any, record: Record) -> xr.Variable:
    """Variable with the dimensions, attributes and encoding of the original."""
    lead = tuple(name for name in record.dims if name not in record.spatial)
    attributes = {**record.attributes, LOSS_ATTRIBUTE: record.loss()}
    variable = xr.Variable((*lead, *record.spatial), values, attributes, dict(record.encoding))
    return variable.transpose(*record.dims)


def decode_values(parts: Sequence[xr.Variable], exact: xr.Variable | None, record: Record) -> xr.Variable:
    """Backscatter of one variable, lazy where its latents are lazy."""
    latents, mask = (part.data for part in parts)
    sources = [latents, mask] + ([] if exact is None else [exact.data])
    if _is_lazy(latents):
        return decoded_variable(_decode_lazy(sources, record), record)
    shape = (*mask.shape[:-2], *record.pixels)
    if 0 in shape:
        return decoded_variable(np.empty(shape, np.dtype(record.dtype)), record)
    block = tuple((0, size) for size in shape)
    return decoded_variable(decode_block(block, *map(np.asarray, sources), record=record), record)


def _decode_lazy(sources: Sequence[Any], record: Record) -> Any:
    from xsarcomp.windows import Source, from_numpy_or_dask, map_windows

    coder = load_coder(record.model_id)
    latents = sources[0]
    counts = [latent_count(size) for size in record.pixels]
    pixels = tuple(
        tuple(
            min(BLOCK * stop, size) - BLOCK * (stop - chunk)
            for chunk, stop in zip(sizes, np.cumsum(sizes).tolist(), strict=True)
        )
        for sizes, size in zip(latents.chunks[-2:], record.pixels, strict=True)
    )
    chunks = (*latents.chunks[:-3], *pixels)

    def read(block):
        spans = (
            latent_span(*latent_range(*span), count, coder) for span, count in zip(block[-2:], counts, strict=True)
        )
        return (*block[:-2], (0, CHANNELS), *spans)

    windows = [Source(latents, read), *(Source(from_numpy_or_dask(values, chunks), _same) for values in sources[1:])]
    return map_windows(
        _decode_positional, windows, chunks, np.dtype(record.dtype), name="sarcomp-decode", arguments=(record,)
    )


def latent_range(start: int, stop: int) -> tuple[int, int]:
    """Latents whose blocks hold the pixels of a range."""
    return start // BLOCK, latent_count(stop)


def _decode_positional(block: tuple, *windows_and_record: Any) -> NDArray:
    return decode_block(block, *windows_and_record[:-1], record=windows_and_record[-1])


def decode_block(
    block: tuple,
    latents: NDArray[np.int32],
    classes: NDArray[np.uint8],
    exact: NDArray | None = None,
    *,
    record: Record,
) -> NDArray:
    """Backscatter of a block of pixels.

    Parameters
    ----------
    block : tuple of (start, stop)
        On each axis of (..., y, x).
    latents : ndarray of int32, shape (..., latent=64, y_latent, x_latent)
        Those of the block and around it that are in the scene, see :func:`xsarcomp.block.latent_span`.
    classes : ndarray of uint8, shape (..., y, x)
    exact : ndarray, same shape, optional
        Values where ``classes`` is EXACT.
    record : Record

    Returns
    -------
    ndarray of the original data type, shape (..., y, x)
    """
    coder = load_coder(record.model_id)
    axes, cuts = [], []
    for (start, stop), size in zip(block[-2:], record.pixels, strict=True):
        first, last = latent_range(start, stop)
        count = latent_count(size)
        axes.append((first, last, count, latent_span(first, last, count, coder)[0]))
        cuts.append(slice(start - first * BLOCK, stop - first * BLOCK))
    shape = tuple(stop - start for start, stop in block)
    symbols = latents.reshape(-1, *latents.shape[-3:])
    planes = classes.reshape(-1, *shape[-2:])
    held = None if exact is None else exact.reshape(planes.shape)
    values = np.empty(planes.shape, np.dtype(record.dtype))
    for group in plane_groups(len(planes), planes[0].size):
        signal = decode_window(symbols[group], coder, record.step_db, *axes)[:, *cuts]
        exact_values = None if held is None else held[group][planes[group] == pixel_classes.EXACT]
        values[group] = backscatter_of(signal, planes[group], exact_values, values.dtype, _settings(record), coder)
    return values.reshape(shape)


def describe(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """What is known about encoded or decoded variables; see ``.sarcomp.info``."""
    described = {}
    for name, array in dataset.variables.items():
        if ATTRIBUTE in array.attrs:
            record = Record.from_attribute(array.attrs[ATTRIBUTE])
            left_out = ("attributes", "encoding", "name")
            described[str(record.name)] = {"store": "latents"} | {
                key: value for key, value in asdict(record).items() if key not in left_out
            }
        elif LOSS_ATTRIBUTE in array.attrs:
            described[str(name)] = {"store": "decoded", "loss": array.attrs[LOSS_ATTRIBUTE]}
        else:
            configuration = transparent_configuration(array)
            if configuration is not None:
                described[str(name)] = {"store": "transparent", **configuration}
    return described


def transparent_configuration(variable: xr.Variable) -> dict[str, Any] | None:
    """Configuration of the transparent codec that a variable was opened from; None without one."""
    codec = variable.encoding.get("serializer")
    for candidate in [codec, *(variable.encoding.get("compressors") or ())]:
        record = candidate if isinstance(candidate, dict) else None
        if hasattr(candidate, "to_dict"):
            record = candidate.to_dict()
        elif hasattr(candidate, "get_config"):
            settings = candidate.get_config()
            record = {"name": settings.pop("id"), "configuration": settings}
        if record and record.get("name") == "xsarcomp.backscatter":
            return dict(record["configuration"])
    return None
