"""Datasets of backscatter to datasets of latents; the way back is :mod:`xsarcomp.latents.decode`.

A variable ``vv`` becomes three: ``vv_latents``, integers that Zarr entropy codes without loss; ``vv_mask``, the class of
each pixel; and, where there may be any, ``vv_exact``, values that are no backscatter and are kept as they are (negative
power, for example). Coordinates and all other variables stay. What decoding needs is one JSON attribute of the latents, and
for stacks ``vv_coding``, what each plane was encoded with.
"""

import itertools
import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.codec.chunk import ABSENT
from xsarcomp.codec.entropy_tables import CHANNELS
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.tile_means import TILE, tile_count
from xsarcomp.codec.window import classes_of, encode_window, latent_count, pixel_span, signal_of
from xsarcomp.errors import DimensionError
from xsarcomp.latents.guarantees import GAIN, gains_block, latents_window, pixels_of_gains, residual_block, storage_of
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata
from xsarcomp.latents.plan import Plan
from xsarcomp.latents.plane_steps import CODING, coding_values
from xsarcomp.radiometry import pixel_classes
from xsarcomp.scenes.variables import is_lazy
from xsarcomp.tiling import aligned_spans, plane_groups

CHUNK_LATENTS = 64
"""Latents of a Zarr chunk along an axis: 512 pixels."""
METADATA_BYTES = 34_000
"""Metadata, coordinates and manifest of a store, about, whatever its size."""
CHUNK_PIXELS = (CHUNK_LATENTS * BLOCK) ** 2
"""Pixels of a Zarr chunk."""
LARGEST_BLOCK_PIXELS = 2048
"""Pixels of a Dask block along an axis at most."""
LARGEST_BLOCK_VALUES = 2 * LARGEST_BLOCK_PIXELS**2
"""Values of a Dask block at most, all planes together."""
STORAGE_ENCODING = {
    "chunks", "shards", "preferred_chunks", "compressor", "compressors", "filters", "serializer", "fill_value",
    "chunksizes", "source",
    "original_shape", "zlib", "szip", "zstd", "bzip2", "blosc", "shuffle", "complevel", "fletcher32", "contiguous",
}  # fmt: skip
"""Entries of a variable's encoding that say how a file stores it."""
CHECKED = [{"name": "zstd", "configuration": {"level": 19, "checksum": True}}]
"""Compressor of masks and exact values; Zarr's default would not notice a flipped bit."""
MASK_MEANINGS = "valid nan positive_infinity negative_infinity zero nodata exact"


def without_storage(dataset: xr.Dataset) -> xr.Dataset:
    """Copy of a dataset whose variables forget how another file stored them: chunks, codecs of another format."""
    result = dataset.copy()
    for variable in result.variables.values():
        # floats packed into floats save nothing: xee notes the size of a pixel as scale_factor, and its extent as bounds, which
        # by CF names a variable
        dtype = np.dtype(variable.encoding.get("dtype") or variable.dtype)
        no_packing = {"scale_factor", "add_offset"} if dtype.kind == "f" and variable.dtype.kind == "f" else set()
        no_name = set() if isinstance(variable.encoding.get("bounds"), str) else {"bounds"}
        left_out = STORAGE_ENCODING | no_packing | no_name
        variable.encoding = {name: value for name, value in variable.encoding.items() if name not in left_out}
    return result


def encode_dataset(dataset: xr.Dataset, plan: Plan) -> xr.Dataset:
    """Latents of the planned variables of a dataset; see ``.sarcomp.encode``."""
    encoded = without_storage(dataset.drop_vars(list(plan.records)))
    for name, record in plan.records.items():
        taken = sorted(set(record.part_names.values()) & set(map(str, encoded.variables)))
        if taken:
            raise DimensionError(
                f"the dataset has variables {', '.join(taken)}, names that encode() gives to the parts of {name!r}: rename "
                "them first, dataset.rename(...)"
            )
        _refuse_taken_dimensions(dataset, name, record)
        encoded = encoded.assign(encode_variable(dataset[name], record))
    return encoded


def _refuse_taken_dimensions(dataset: xr.Dataset, name: Hashable, record: LatentsMetadata) -> None:
    """Refuse dimensions of the user's own that are called as those of the parts."""
    y, x = record.spatial
    made = {"latent", f"{y}_latent", f"{x}_latent"}
    if record.keep_means:
        made |= {GAIN, f"{y}_tile", f"{x}_tile"}
    if record.fingerprint is not None:
        made |= {CODING}
    if taken := sorted(made & {*map(str, dataset.dims)}):
        raise DimensionError(
            f"the dataset has dimensions {', '.join(taken)}, names that encode() gives to the parts of {name!r}: rename them "
            "first, dataset.rename(...)"
        )


def encode_variable(array: xr.DataArray, record: LatentsMetadata) -> dict[str, xr.Variable]:
    """Variables that stand for one variable in a latents store, lazy where it is lazy."""
    y, x = record.spatial
    lead = tuple(name for name in record.dims if name not in record.spatial)
    values = array.transpose(*lead, y, x).data
    latents_shape = (*values.shape[:-2], CHANNELS, *(latent_count(size) for size in record.pixels))
    group = _plane_group(latents_shape)
    parts = _encode_lazy(values, record, group) if is_lazy(values) else _encode_now(values, record)
    names = record.part_names
    codec = {"name": "xsarcomp.latents", "configuration": {"model": record.model_id, "anchor": record.anchor}}
    latents_chunks = (*group, CHANNELS, *(max(1, min(CHUNK_LATENTS, size)) for size in latents_shape[-2:]))
    pixel_chunks = (*group, *(max(1, min(CHUNK_LATENTS * BLOCK, size)) for size in record.pixels))
    variables = {
        names["latents"]: xr.Variable(
            (*lead, "latent", f"{y}_latent", f"{x}_latent"),
            parts["latents"],
            {"long_name": f"latents of {record.name}", "units": "1", ATTRIBUTE: record.to_attribute()},
            # no chunk holds this fill value, so one that is lost or was never written is not taken for latents of 0
            {
                "serializer": codec,
                "compressors": None,
                "chunks": latents_chunks,
                "_FillValue": None,
                "fill_value": ABSENT,
            },
        ),
        names["mask"]: xr.Variable(
            (*lead, y, x),
            parts["mask"],
            {
                "long_name": f"pixel classes of {record.name}",
                "flag_values": list(range(7)),
                "flag_meanings": MASK_MEANINGS,
            },
            {"chunks": pixel_chunks, "compressors": CHECKED},
        ),
    }
    if "exact" in parts:
        attributes = {"long_name": f"values of {record.name} that are no backscatter, where the mask is 6"}
        variables[names["exact"]] = xr.Variable(
            (*lead, y, x),
            parts["exact"],
            attributes,
            {"chunks": pixel_chunks, "compressors": CHECKED, "_FillValue": None, "fill_value": 0},
        )
    tiles = (*group, 2, *(tile_count(size) for size in pixel_chunks[-2:]))
    shapes = {"residual": ((*lead, y, x), pixel_chunks), "gains": ((*lead, GAIN, f"{y}_tile", f"{x}_tile"), tiles)}
    for part in shapes.keys() & parts.keys():
        dims, chunks = shapes[part]
        variables[names[part]] = xr.Variable(dims, parts[part], *storage_of(part, record.name, chunks))
    if "coding" in record.needed_parts:
        # chunks as those of the latents, so that who writes these alone writes the coding alone
        attributes = {
            "long_name": f"quantization step in dB of each plane of {record.name}, and the fingerprint of its record"
        }
        encoding = {"chunks": (*group, 2), "compressors": CHECKED, "_FillValue": None, "fill_value": math.nan}
        coding = coding_values(record, latents_shape[:-3])
        variables[names["coding"]] = xr.Variable((*lead, CODING), coding, attributes, encoding)
    return variables


def _plane_group(latents_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Chunk sizes of the leading dimensions: small scenes share a chunk, so that headers stay small beside the data."""
    lead = latents_shape[:-3]
    in_plane = math.prod(min(CHUNK_LATENTS, size) for size in latents_shape[-2:])
    room = max(1, CHUNK_LATENTS**2 // max(1, in_plane))
    return (*(1 for _ in lead[:-1]), min(room, max(1, lead[-1]))) if lead else ()


def _encode_now(values: Any, record: LatentsMetadata) -> dict[str, NDArray]:
    """Parts of an array in memory, in blocks that bound what is needed beside it."""
    values = np.asarray(values)
    classes = classes_of(values, record.settings)
    counts = [latent_count(size) for size in record.pixels]
    latents = np.zeros((*values.shape[:-2], CHANNELS, *counts), np.int32)
    edges = [aligned_spans(0, count, LARGEST_BLOCK_PIXELS // BLOCK) for count in counts]
    lead = tuple((0, size) for size in values.shape[:-2])
    for rows, columns in itertools.product(*edges) if values.size else ():
        window = [slice(*pixel_span(*span, size)) for span, size in zip((rows, columns), record.pixels, strict=True)]
        block = (*lead, (0, CHANNELS), rows, columns)
        latents[..., slice(*rows), slice(*columns)] = _encode_block(block, values[..., *window], record)
    parts = {"latents": latents, "mask": classes}
    if (classes == pixel_classes.EXACT).any():
        parts["exact"] = _exact_block((), values, record)
    return parts | _correct_now(values, latents, record)


def _correct_now(values: NDArray, latents: NDArray[np.int32], record: LatentsMetadata) -> dict[str, NDArray]:
    """Residuals and gains of an array in memory, as far as they were promised."""
    tiles = tuple(tile_count(size) for size in record.pixels)
    shapes = {"residual": values.shape, "gains": (*values.shape[:-2], 2, *tiles)}
    parts = {part: np.zeros(shapes[part], np.int32) for part in record.needed_parts if part in shapes}
    lead = tuple((0, size) for size in values.shape[:-2])
    edges = [aligned_spans(0, count, LARGEST_BLOCK_PIXELS // TILE) for count in tiles]
    for rows, columns in itertools.product(*edges) if values.size and parts else ():
        block = (*lead, (0, 2), rows, columns)
        pixels = pixels_of_gains(block, record)
        place = tuple(slice(*span) for span in pixels)
        read = latents[tuple(slice(*span) for span in latents_window(pixels, record))]
        if "residual" in parts:
            parts["residual"][place] = residual_block(pixels, read, values[place], record)
        if "gains" in parts:
            parts["gains"][..., slice(*rows), slice(*columns)] = gains_block(block, read, values[place], record)
    return parts


def _encode_lazy(values: Any, record: LatentsMetadata, group: tuple[int, ...]) -> dict[str, Any]:
    """Parts as Dask arrays, aligned with each other and with the chunks in Zarr."""
    from xsarcomp.scenes.windows import Source, map_windows, same_window

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
    same = Source(values, same_window)
    encoded = map_windows(
        _encode_block, [Source(values, read)], (*lead, (CHANNELS,), *latents), np.int32, name="sarcomp-encode", **shared
    )
    parts = {
        "latents": encoded,
        "mask": map_windows(_classes_block, [same], (*lead, *pixels), np.uint8, name="sarcomp-mask", **shared),
        "exact": map_windows(_exact_block, [same], (*lead, *pixels), values.dtype, name="sarcomp-exact", **shared),
    }
    if "residual" in record.needed_parts:
        sources = [Source(encoded, lambda block: latents_window(block, record)), same]
        parts["residual"] = map_windows(
            residual_block, sources, (*lead, *pixels), np.int32, name="sarcomp-residual", **shared
        )
    if "gains" in record.needed_parts:
        sources = [
            Source(encoded, lambda block: latents_window(pixels_of_gains(block, record), record)),
            Source(values, lambda block: pixels_of_gains(block, record)),
        ]
        tiles = (_regular(tile_count(size), edge // TILE) for size, edge in zip(record.pixels, edges, strict=True))
        parts["gains"] = map_windows(
            gains_block, sources, (*lead, (2,), *tiles), np.int32, name="sarcomp-gains", **shared
        )
    return parts


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


def _encode_block(block: tuple, values: NDArray, record: LatentsMetadata) -> NDArray[np.int32]:
    """Latents of a block; ``values`` are its pixels and those around that are in the scene, shape (..., y, x)."""
    coder = load_coder(record.model_id)
    (rows, columns), (size_y, size_x) = block[-2:], record.pixels
    first_y, first_x = pixel_span(*rows, size_y)[0], pixel_span(*columns, size_x)[0]
    planes = values.reshape(-1, *values.shape[-2:])
    latents = np.empty((len(planes), CHANNELS, rows[1] - rows[0], columns[1] - columns[0]), np.int32)
    place = ((*rows, size_y, first_y), (*columns, size_x, first_x))
    for group in plane_groups(len(planes), planes[0].size):
        signal, _ = signal_of(planes[group], record.settings, coder, (first_y, first_x))
        latents[group] = encode_window(signal, coder, record.step_db, *place)
    return latents.reshape(*(stop - start for start, stop in block))


def _classes_block(_block: tuple, values: NDArray, record: LatentsMetadata) -> NDArray[np.uint8]:
    return classes_of(values, record.settings)


def _exact_block(_block: tuple, values: NDArray, record: LatentsMetadata) -> NDArray:
    classes = classes_of(values, record.settings)
    is_exact = classes == pixel_classes.EXACT
    exact = np.zeros(values.shape, values.dtype)  # nearly always all there is
    if is_exact.any():
        exact[is_exact] = values[is_exact]
    return exact
