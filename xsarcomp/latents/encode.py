"""Encode datasets of backscatter to datasets of latents, lazily where they are lazy.

Each variable becomes the parts that :mod:`xsarcomp.latents.layout` describes; coordinates and all other variables stay.
Arrays in memory and Dask arrays go through the same functions of a window.
"""

import itertools
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.codec.entropy_tables import CHANNELS
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.mean_levels import channel_from_levels, compute_levels
from xsarcomp.codec.missed_fill import warn_of_missed_fill
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
from xsarcomp.latents.guarantees import encode_gains, encode_residual
from xsarcomp.latents.layout import (
    CHUNK_LATENTS,
    PIXEL_PARTS,
    ShardCounts,
    drop_storage_encoding,
    part_grids,
    plane_chunks,
    shard_counts,
    store_variables,
)
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.plan import Plan
from xsarcomp.latents.plane_steps import make_coding
from xsarcomp.latents.positions import position_coordinates
from xsarcomp.latents.windows import gains_pixel_window, latents_window
from xsarcomp.radiometry import pixel_classes
from xsarcomp.scenes.chunking import Sizes
from xsarcomp.scenes.sampling import SAMPLE_PIXELS
from xsarcomp.scenes.times import with_time_encoding
from xsarcomp.scenes.variables import is_lazy
from xsarcomp.tiling import Span, Window, aligned_spans, plane_groups, whole_window, window_shape, window_slices

LARGEST_BLOCK_PIXELS = 2048
"""Largest number of pixels of a Dask block along an axis."""
LARGEST_BLOCK_VALUES = 2 * LARGEST_BLOCK_PIXELS**2
"""Largest number of values of a Dask block, all planes together."""


def encode_dataset(dataset: xr.Dataset, plan: Plan, shards: Sizes | None = None) -> xr.Dataset:
    """Encode the planned variables of a dataset; see ``.sarcomp.encode``.

    Parameters
    ----------
    dataset : xarray.Dataset
    plan : Plan
    shards : int, mapping or sequence of int, optional
        Pixels of a stored object, see ``.sarcomp.encode``.

    Returns
    -------
    xarray.Dataset
        Latents in place of the planned variables; everything else stays.

    Raises
    ------
    DimensionError
        If the dataset has a variable or dimension whose name a part needs, or shards are no multiples of chunks.
    """
    encoded = with_time_encoding(drop_storage_encoding(dataset.drop_vars(list(plan.variables))))
    for name, metadata in plan.variables.items():
        _refuse_taken_names(dataset, encoded.variables, name, metadata)
        encoded = encoded.assign_coords(position_coordinates(encoded, metadata))
        encoded = encoded.assign(encode_variable(dataset[name], metadata, shards))
    return encoded


def _refuse_taken_names(
    dataset: xr.Dataset, variables: Iterable[Hashable], name: Hashable, metadata: LatentsMetadata
) -> None:
    """Refuse a dataset whose dimensions or variables have names that the parts of a variable need."""
    grids, names = part_grids(metadata), metadata.part_names
    part_dims = {dim for part in names if part not in PIXEL_PARTS for dim in grids[part]}
    taken = {
        "variables": ({*names.values()} & {*map(str, variables)}) | (part_dims & {*map(str, dataset.variables)}),
        "dimensions": part_dims & {*map(str, dataset.dims)},
    }
    for kind, conflicts in taken.items():
        if conflicts:
            raise DimensionError(
                f"the dataset has {kind} {', '.join(sorted(conflicts))}, names that encode() gives to the parts of {name!r}: "
                "rename them first, dataset.rename(...)"
            )


def encode_variable(
    array: xr.DataArray, metadata: LatentsMetadata, shards: Sizes | None = None
) -> dict[str, xr.Variable]:
    """Encode a variable to the variables that stand for it in a latents store; lazily if it is lazy.

    Parameters
    ----------
    array : xarray.DataArray
        Backscatter, of the dimensions and the data type that the metadata name.
    metadata : LatentsMetadata
    shards : int, mapping or sequence of int, optional

    Returns
    -------
    dict of str to xarray.Variable
        By name; see :mod:`xsarcomp.latents.layout`.
    """
    values = array.transpose(*metadata.leading, *metadata.spatial).data
    counts = shard_counts(array, metadata, shards)
    parts = _encode_lazily(values, metadata, counts) if is_lazy(values) else _encode_in_memory(values, metadata)
    if "coding" in metadata.required_parts:
        parts["coding"] = make_coding(metadata, values.shape[:-2])
    return store_variables(parts, metadata, counts)


def _encode_in_memory(backscatter: Any, metadata: LatentsMetadata) -> dict[str, NDArray]:
    """Parts of an array in memory, computed in windows that bound the memory beside it."""
    values = np.asarray(backscatter)
    if values.size > SAMPLE_PIXELS:  # a smaller array was its own sample
        _warn_of_missed_fill(values, metadata)
    classes = classify_backscatter(values, metadata.settings)
    counts = [latent_count(size) for size in metadata.pixels]
    latents = np.zeros((*values.shape[:-2], metadata.channels, *counts), np.int32)
    spans = [aligned_spans(0, count, LARGEST_BLOCK_PIXELS // BLOCK) for count in counts]
    planes = whole_window(values.shape[:-2])
    for rows, columns in itertools.product(*spans) if values.size else ():
        window = (*planes, Span(0, metadata.channels), rows, columns)
        pixels = window_slices(_pixels_to_read(window, metadata))
        pieces = {"backscatter": values[pixels], "classes": classes[pixels]}
        latents[window_slices(window)] = encode_latents(window, pieces, metadata)
    parts = {"latents": latents, "mask": classes}
    # a stack always has them, so that dates with exact values can be appended
    if metadata.leading or (classes == pixel_classes.EXACT).any():
        parts["exact"] = _keep_exact(values, classes)
    return parts | _guarantee_parts_in_memory(values, classes, latents, metadata)


def _guarantee_parts_in_memory(
    values: NDArray, classes: NDArray[np.uint8], latents: NDArray[np.int32], metadata: LatentsMetadata
) -> dict[str, NDArray]:
    """Residuals and gains of an array in memory; empty without guarantees."""
    tiles = tuple(tile_count(size) for size in metadata.pixels)
    shapes = {"residual": values.shape, "gains": (*values.shape[:-2], 2, *tiles)}
    parts = {part: np.zeros(shapes[part], np.int32) for part in metadata.required_parts if part in shapes}
    if not parts:
        return parts
    reach, planes = load_coder(metadata.model_id).latent_reach, whole_window(values.shape[:-2])
    spans = [aligned_spans(0, count, LARGEST_BLOCK_PIXELS // TILE) for count in tiles]
    for rows, columns in itertools.product(*spans) if values.size else ():
        window = (*planes, Span(0, 2), rows, columns)
        pixels = gains_pixel_window(window, metadata)
        place = window_slices(pixels)
        window_latents = latents[window_slices(latents_window(pixels, metadata, reach))]
        pieces = {"backscatter": values[place], "classes": classes[place], "latents": window_latents}
        if "residual" in parts:
            parts["residual"][place] = encode_residual(pixels, pieces, metadata)
        if "gains" in parts:
            parts["gains"][window_slices(window)] = encode_gains(window, pieces, metadata)
    return parts


def _encode_lazily(values: Any, metadata: LatentsMetadata, shards: ShardCounts) -> dict[str, Any]:
    """Parts as Dask arrays, aligned with each other and with the chunks and shards in Zarr."""
    from xsarcomp.scenes.windows import Source, map_windows, same_window

    edges = [_block_pixels(max(sizes), count) for sizes, count in zip(values.chunks[-2:], shards.plane, strict=True)]
    latent_counts = [latent_count(size) for size in metadata.pixels]
    shape = (*values.shape[:-2], metadata.channels, *latent_counts)
    leading = _leading_chunks(values, tuple(map(int.__mul__, plane_chunks(shape), shards.planes)), edges)
    sizes = list(zip(metadata.pixels, edges, strict=True))
    pixels = (*leading, *(_regular_chunks(size, edge) for size, edge in sizes))
    arguments = (metadata,)
    same = {"backscatter": Source(values, same_window)}
    latents = map_windows(
        encode_latents,
        {"backscatter": Source(values, lambda window: _pixels_to_read(window, metadata))},
        (*leading, (metadata.channels,), *(_regular_chunks(latent_count(size), edge // BLOCK) for size, edge in sizes)),
        np.int32,
        name="sarcomp-encode",
        arguments=arguments,
    )
    parts = {
        "latents": latents,
        "mask": map_windows(_classes, same, pixels, np.uint8, name="sarcomp-mask", arguments=arguments),
        "exact": map_windows(_exact_values, same, pixels, values.dtype, name="sarcomp-exact", arguments=arguments),
    }
    if not metadata.settings.guarantees.need_decoding:
        return parts
    reach = load_coder(metadata.model_id).latent_reach
    if "residual" in metadata.required_parts:
        sources = same | {"latents": Source(latents, lambda window: latents_window(window, metadata, reach))}
        parts["residual"] = map_windows(
            encode_residual, sources, pixels, np.int32, name="sarcomp-residual", arguments=arguments
        )
    if "gains" in metadata.required_parts:
        sources = {
            "backscatter": Source(values, lambda window: gains_pixel_window(window, metadata)),
            "latents": Source(
                latents, lambda window: latents_window(gains_pixel_window(window, metadata), metadata, reach)
            ),
        }
        tiles = (*leading, (2,), *(_regular_chunks(tile_count(size), edge // TILE) for size, edge in sizes))
        parts["gains"] = map_windows(encode_gains, sources, tiles, np.int32, name="sarcomp-gains", arguments=arguments)
    return parts


def _pixels_to_read(window: Window, metadata: LatentsMetadata) -> Window:
    """Pixels that encoding a window of latents (..., latent, y_latent, x_latent) reads."""
    spans = (pixel_span(*span, size) for span, size in zip(window[-2:], metadata.pixels, strict=True))
    return (*window[:-3], *spans)


def _block_pixels(source_chunk: int, chunks: int) -> int:
    """Pixels of a Dask block along an axis: near the chunk of the source, whole objects of some Zarr chunks, bounded."""
    unit = chunks * CHUNK_LATENTS * BLOCK
    return max(unit, min(-(-source_chunk // unit) * unit, LARGEST_BLOCK_PIXELS // unit * unit))


def _leading_chunks(values: Any, units: tuple[int, ...], edges: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Dask chunks of the leading dimensions: whole stored objects, near the chunks of the source, bounded."""
    planes = max(1, LARGEST_BLOCK_VALUES // math.prod(edges))
    chunks = []
    for sizes, unit in reversed(list(zip(values.chunks[:-2], units, strict=True))):
        chunk = max(1, min(max(sizes), planes) // unit) * unit
        planes = max(1, planes // chunk)
        chunks.append(_regular_chunks(sum(sizes), chunk))
    return tuple(reversed(chunks))


def _regular_chunks(size: int, chunk: int) -> tuple[int, ...]:
    """Chunks of one size along an axis; the last one may be smaller."""
    return (*(chunk for _ in range(size // chunk)), *((size % chunk,) if size % chunk else ()))


def encode_latents(window: Window, pieces: Mapping[str, NDArray], metadata: LatentsMetadata) -> NDArray[np.int32]:
    """Encode a window of latents.

    Parameters
    ----------
    window : Window
        Latents, on each axis of (..., latent, y_latent, x_latent).
    pieces : mapping of str to ndarray
        ``backscatter``, of the original data type, shape (..., y, x), of the window and the pixels around it that are in the
        scene; optionally ``classes``, uint8, of the same pixels, where they are known already.
    metadata : LatentsMetadata

    Returns
    -------
    ndarray of int32, shape (..., latent, y_latent, x_latent)
        64 symbols of each block; as the 65th, where means are kept by levels, the level of each tile at its first block.
    """
    coder, settings = load_coder(metadata.model_id), metadata.settings
    rows, columns = (
        Axis(*span, size, pixel_span(*span, size).start)
        for span, size in zip(window[-2:], metadata.pixels, strict=True)
    )
    backscatter = pieces["backscatter"]
    planes = backscatter.reshape(-1, *backscatter.shape[-2:])
    classes = pieces["classes"].reshape(planes.shape) if "classes" in pieces else None
    latents = np.empty((len(planes), metadata.channels, rows.latents.size, columns.latents.size), np.int32)
    inside = [
        slice(axis.start * BLOCK - axis.first, min(axis.stop * BLOCK, axis.size) - axis.first)
        for axis in (rows, columns)
    ]
    for group in plane_groups(len(planes), planes[0].size):
        known = classify_backscatter(planes[group], settings) if classes is None else classes[group]
        signal = signal_from_backscatter(planes[group], known, settings, coder, (rows.first, columns.first))
        symbols = encode_window(signal, coder, settings.step_db, rows, columns)
        latents[group, :CHANNELS] = symbols
        if settings.guarantees.mean_levels:
            levels = compute_levels(
                planes[group][:, *inside], settings.scale, known[:, *inside], symbols, coder, settings.step_db
            )
            latents[group, CHANNELS] = channel_from_levels(levels, (symbols.shape[2], symbols.shape[3]))
    return latents.reshape(window_shape(window))


def _classes(_window: Window, pieces: Mapping[str, NDArray], metadata: LatentsMetadata) -> NDArray[np.uint8]:
    """Pixel classes of a window of pixels."""
    _warn_of_missed_fill(pieces["backscatter"], metadata)
    return classify_backscatter(pieces["backscatter"], metadata.settings)


def _warn_of_missed_fill(values: NDArray, metadata: LatentsMetadata) -> None:
    """Warn of areas of one number that is not nodata, unless the attribute nodata is NaN: it says that there are none."""
    declared = metadata.attributes.get("nodata")
    if not (isinstance(declared, float) and math.isnan(declared)):
        warn_of_missed_fill(values, metadata.settings, metadata.name)


def _exact_values(_window: Window, pieces: Mapping[str, NDArray], metadata: LatentsMetadata) -> NDArray:
    """Values of class EXACT of a window of pixels, and 0 elsewhere."""
    values = pieces["backscatter"]
    return _keep_exact(values, classify_backscatter(values, metadata.settings))


def _keep_exact(values: NDArray, classes: NDArray[np.uint8]) -> NDArray:
    """Values of class EXACT at their places, and 0 elsewhere."""
    is_exact = classes == pixel_classes.EXACT
    exact = np.zeros(values.shape, values.dtype)  # most windows have no value of this class
    if is_exact.any():
        exact[is_exact] = values[is_exact]
    return exact
