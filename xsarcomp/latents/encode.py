"""Datasets of backscatter to datasets of latents; the way back is :mod:`xsarcomp.latents.decode`.

A variable ``vv`` becomes three: ``vv_latents``, integers that Zarr entropy codes without loss; ``vv_mask``, the class of
each pixel; and, where there may be any, ``vv_exact``, values that are no backscatter and are kept as they are (negative
power, for example). Coordinates and all other variables stay. What decoding needs is one JSON attribute of the latents, and
for stacks ``vv_coding``, what each plane was encoded with.
"""

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.codec.chunk import ABSENT
from xsarcomp.codec.entropy_tables import CHANNELS
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.tile_means import TILE, tile_count
from xsarcomp.codec.window import (
    Axis,
    classify_backscatter,
    encode_window,
    latent_count,
    pixel_span,
    signal_from_backscatter,
)
from xsarcomp.errors import DimensionError
from xsarcomp.latents.guarantees import GAIN, encode_gains, encode_residual, latents_window, pixels_of_gains, storage_of
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata
from xsarcomp.latents.plan import Plan
from xsarcomp.latents.plane_steps import CODING, coding_values
from xsarcomp.radiometry import pixel_classes
from xsarcomp.scenes.variables import is_lazy
from xsarcomp.tiling import Span, Window, aligned_spans, plane_groups, shape_of, slices, whole

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
    encoded = without_storage(dataset.drop_vars(list(plan.variables)))
    for name, metadata in plan.variables.items():
        taken = sorted(set(metadata.part_names.values()) & set(map(str, encoded.variables)))
        if taken:
            raise DimensionError(
                f"the dataset has variables {', '.join(taken)}, names that encode() gives to the parts of {name!r}: rename "
                "them first, dataset.rename(...)"
            )
        _refuse_taken_dimensions(dataset, name, metadata)
        encoded = encoded.assign(encode_variable(dataset[name], metadata))
    return encoded


def _refuse_taken_dimensions(dataset: xr.Dataset, name: Hashable, metadata: LatentsMetadata) -> None:
    """Refuse dimensions of the user's own that are called as those of the parts."""
    y, x = metadata.spatial
    made = {"latent", f"{y}_latent", f"{x}_latent"}
    if metadata.settings.guarantees.keep_means:
        made |= {GAIN, f"{y}_tile", f"{x}_tile"}
    if metadata.fingerprint is not None:
        made |= {CODING}
    if taken := sorted(made & {*map(str, dataset.dims)}):
        raise DimensionError(
            f"the dataset has dimensions {', '.join(taken)}, names that encode() gives to the parts of {name!r}: rename them "
            "first, dataset.rename(...)"
        )


def encode_variable(array: xr.DataArray, metadata: LatentsMetadata) -> dict[str, xr.Variable]:
    """Variables that stand for one variable in a latents store, lazy where it is lazy."""
    y, x = metadata.spatial
    lead = tuple(name for name in metadata.dims if name not in metadata.spatial)
    values = array.transpose(*lead, y, x).data
    latents_shape = (*values.shape[:-2], CHANNELS, *(latent_count(size) for size in metadata.pixels))
    group = _plane_group(latents_shape)
    parts = _encode_lazy(values, metadata, group) if is_lazy(values) else _encode_now(values, metadata)
    names = metadata.part_names
    codec = {"name": "xsarcomp.latents", "configuration": {"model": metadata.model_id, "anchor": metadata.anchor}}
    latents_chunks = (*group, CHANNELS, *(max(1, min(CHUNK_LATENTS, size)) for size in latents_shape[-2:]))
    pixel_chunks = (*group, *(max(1, min(CHUNK_LATENTS * BLOCK, size)) for size in metadata.pixels))
    variables = {
        names["latents"]: xr.Variable(
            (*lead, "latent", f"{y}_latent", f"{x}_latent"),
            parts["latents"],
            {"long_name": f"latents of {metadata.name}", "units": "1", ATTRIBUTE: metadata.to_attribute()},
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
                "long_name": f"pixel classes of {metadata.name}",
                "flag_values": list(range(7)),
                "flag_meanings": MASK_MEANINGS,
            },
            {"chunks": pixel_chunks, "compressors": CHECKED},
        ),
    }
    if "exact" in parts:
        attributes = {"long_name": f"values of {metadata.name} that are no backscatter, where the mask is 6"}
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
        variables[names[part]] = xr.Variable(dims, parts[part], *storage_of(part, metadata.name, chunks))
    if "coding" in metadata.needed_parts:
        # chunks as those of the latents, so that who writes these alone writes the coding alone
        attributes = {
            # the spelling of the first stores: bytes of stores do not change
            "long_name": f"quantisation step in dB of each plane of {metadata.name}, and the fingerprint of its record"
        }
        encoding = {"chunks": (*group, 2), "compressors": CHECKED, "_FillValue": None, "fill_value": math.nan}
        coding = coding_values(metadata, latents_shape[:-3])
        variables[names["coding"]] = xr.Variable((*lead, CODING), coding, attributes, encoding)
    return variables


def _plane_group(latents_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Chunk sizes of the leading dimensions: small scenes share a chunk, so that headers stay small beside the data."""
    lead = latents_shape[:-3]
    in_plane = math.prod(min(CHUNK_LATENTS, size) for size in latents_shape[-2:])
    room = max(1, CHUNK_LATENTS**2 // max(1, in_plane))
    return (*(1 for _ in lead[:-1]), min(room, max(1, lead[-1]))) if lead else ()


def _encode_now(values: Any, metadata: LatentsMetadata) -> dict[str, NDArray]:
    """Parts of an array in memory, in windows that bound the memory beside it."""
    values = np.asarray(values)
    classes = classify_backscatter(values, metadata.settings)
    counts = [latent_count(size) for size in metadata.pixels]
    latents = np.zeros((*values.shape[:-2], CHANNELS, *counts), np.int32)
    edges = [aligned_spans(0, count, LARGEST_BLOCK_PIXELS // BLOCK) for count in counts]
    lead = whole(values.shape[:-2])
    for rows, columns in itertools.product(*edges) if values.size else ():
        window = (*lead, Span(0, CHANNELS), rows, columns)
        pixels = slices(_pixels_read(window, metadata))
        pieces = {"backscatter": values[pixels], "classes": classes[pixels]}
        latents[slices(window)] = encode_latents(window, pieces, metadata)
    parts = {"latents": latents, "mask": classes}
    if (classes == pixel_classes.EXACT).any():
        parts["exact"] = _where_exact(values, classes)
    return parts | _guarantees_now(values, classes, latents, metadata)


def _guarantees_now(
    values: NDArray, classes: NDArray[np.uint8], latents: NDArray[np.int32], metadata: LatentsMetadata
) -> dict[str, NDArray]:
    """Residuals and gains of an array in memory, as far as there are guarantees."""
    tiles = tuple(tile_count(size) for size in metadata.pixels)
    shapes = {"residual": values.shape, "gains": (*values.shape[:-2], 2, *tiles)}
    parts = {part: np.zeros(shapes[part], np.int32) for part in metadata.needed_parts if part in shapes}
    if not parts:
        return parts
    reach, lead = load_coder(metadata.model_id).latent_reach, whole(values.shape[:-2])
    edges = [aligned_spans(0, count, LARGEST_BLOCK_PIXELS // TILE) for count in tiles]
    for rows, columns in itertools.product(*edges) if values.size else ():
        window = (*lead, Span(0, 2), rows, columns)
        pixels = pixels_of_gains(window, metadata)
        place = slices(pixels)
        read = latents[slices(latents_window(pixels, metadata, reach))]
        pieces = {"backscatter": values[place], "classes": classes[place], "latents": read}
        if "residual" in parts:
            parts["residual"][place] = encode_residual(pixels, pieces, metadata)
        if "gains" in parts:
            parts["gains"][slices(window)] = encode_gains(window, pieces, metadata)
    return parts


def _encode_lazy(values: Any, metadata: LatentsMetadata, group: tuple[int, ...]) -> dict[str, Any]:
    """Parts as Dask arrays, aligned with each other and with the chunks in Zarr."""
    from xsarcomp.scenes.windows import Source, map_windows, same_window

    edges = [_block_pixels(max(sizes)) for sizes in values.chunks[-2:]]
    lead = _lead_chunks(values, group, edges)
    sizes = list(zip(metadata.pixels, edges, strict=True))
    pixels = (*lead, *(_regular(size, edge) for size, edge in sizes))
    arguments = (metadata,)
    same = {"backscatter": Source(values, same_window)}
    encoded = map_windows(
        encode_latents,
        {"backscatter": Source(values, lambda window: _pixels_read(window, metadata))},
        (*lead, (CHANNELS,), *(_regular(latent_count(size), edge // BLOCK) for size, edge in sizes)),
        np.int32,
        name="sarcomp-encode",
        arguments=arguments,
    )
    parts = {
        "latents": encoded,
        "mask": map_windows(_classes, same, pixels, np.uint8, name="sarcomp-mask", arguments=arguments),
        "exact": map_windows(_exact_values, same, pixels, values.dtype, name="sarcomp-exact", arguments=arguments),
    }
    if not metadata.settings.guarantees:
        return parts
    reach = load_coder(metadata.model_id).latent_reach
    if "residual" in metadata.needed_parts:
        sources = same | {"latents": Source(encoded, lambda window: latents_window(window, metadata, reach))}
        parts["residual"] = map_windows(
            encode_residual, sources, pixels, np.int32, name="sarcomp-residual", arguments=arguments
        )
    if "gains" in metadata.needed_parts:
        sources = {
            "backscatter": Source(values, lambda window: pixels_of_gains(window, metadata)),
            "latents": Source(
                encoded, lambda window: latents_window(pixels_of_gains(window, metadata), metadata, reach)
            ),
        }
        tiles = (*lead, (2,), *(_regular(tile_count(size), edge // TILE) for size, edge in sizes))
        parts["gains"] = map_windows(encode_gains, sources, tiles, np.int32, name="sarcomp-gains", arguments=arguments)
    return parts


def _pixels_read(window: Window, metadata: LatentsMetadata) -> Window:
    """Pixels that encoding a window of latents (..., latent, y_latent, x_latent) reads."""
    spans = (pixel_span(*span, size) for span, size in zip(window[-2:], metadata.pixels, strict=True))
    return (*window[:-3], *spans)


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


def encode_latents(window: Window, pieces: Mapping[str, NDArray], metadata: LatentsMetadata) -> NDArray[np.int32]:
    """Encode a window of latents.

    Parameters
    ----------
    window : Window
        Latents, on each axis of (..., latent, y_latent, x_latent).
    pieces : mapping of str to ndarray
        ``backscatter`` of the window and of the pixels around it that are in the scene, shape (..., y, x); ``classes`` of the
        same pixels where they are known already.
    metadata : LatentsMetadata

    Returns
    -------
    ndarray of int32, shape of the window
    """
    coder, settings = load_coder(metadata.model_id), metadata.settings
    rows, columns = (
        Axis(*span, size, pixel_span(*span, size).start)
        for span, size in zip(window[-2:], metadata.pixels, strict=True)
    )
    backscatter = pieces["backscatter"]
    planes = backscatter.reshape(-1, *backscatter.shape[-2:])
    classes = pieces["classes"].reshape(planes.shape) if "classes" in pieces else None
    latents = np.empty((len(planes), CHANNELS, rows.latents.size, columns.latents.size), np.int32)
    for group in plane_groups(len(planes), planes[0].size):
        known = classify_backscatter(planes[group], settings) if classes is None else classes[group]
        signal = signal_from_backscatter(planes[group], known, settings, coder, (rows.first, columns.first))
        latents[group] = encode_window(signal, coder, settings.step_db, rows, columns)
    return latents.reshape(shape_of(window))


def _classes(_window: Window, pieces: Mapping[str, NDArray], metadata: LatentsMetadata) -> NDArray[np.uint8]:
    """Pixel classes of a window of pixels."""
    return classify_backscatter(pieces["backscatter"], metadata.settings)


def _exact_values(_window: Window, pieces: Mapping[str, NDArray], metadata: LatentsMetadata) -> NDArray:
    """Values of a window of pixels where these are of class EXACT, else 0."""
    values = pieces["backscatter"]
    return _where_exact(values, classify_backscatter(values, metadata.settings))


def _where_exact(values: NDArray, classes: NDArray[np.uint8]) -> NDArray:
    """Values of class EXACT at their places, and 0 elsewhere."""
    is_exact = classes == pixel_classes.EXACT
    exact = np.zeros(values.shape, values.dtype)  # nearly always all there is
    if is_exact.any():
        exact[is_exact] = values[is_exact]
    return exact
