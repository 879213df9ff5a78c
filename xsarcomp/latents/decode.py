"""Datasets of latents to datasets of backscatter, lazy where they are lazy."""

import functools
import itertools
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.codec.chunk import check_nodata, check_present
from xsarcomp.codec.entropy_tables import CHANNELS
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.tile_means import TILE
from xsarcomp.codec.window import backscatter_of
from xsarcomp.errors import DimensionError, NotEncodedError
from xsarcomp.latents.guarantees import GAIN, decode_signal, gains_window, guarantee_data_in_store, latents_window
from xsarcomp.latents.metadata import ATTRIBUTE, LOSS_ATTRIBUTE, PARTS, LatentsMetadata, corner_coordinates
from xsarcomp.latents.plane_steps import CODING, own_records
from xsarcomp.latents.speckle_keys import SpeckleKeys, speckle_keys
from xsarcomp.radiometry import pixel_classes
from xsarcomp.scenes.variables import is_lazy
from xsarcomp.tiling import aligned_spans, plane_groups

REGION_PIXELS = 2048
"""Edge of the blocks that a region in memory is decoded in."""
ON_PIXELS = ("mask", "exact", "residual")
"""Parts that have the grid of the pixels."""


def encoded_names(dataset: xr.Dataset) -> dict[Hashable, LatentsMetadata]:
    """Latents variables of a dataset and their records.

    Raises
    ------
    NotEncodedError
        If there is none, or a variable that belongs to one is missing.
    """
    records = {
        name: LatentsMetadata.from_attribute(array.attrs[ATTRIBUTE])
        for name, array in dataset.variables.items()
        if ATTRIBUTE in array.attrs
    }
    if not records:
        raise NotEncodedError(
            f"the dataset holds no latents (variables: {', '.join(map(str, dataset.data_vars)) or 'none'}): decode() takes what "
            "encode() made. A transparent store needs no decoding: its variables already are backscatter"
        )
    for name, record in records.items():
        _check_complete(dataset, name, record)
    return records


def _check_complete(dataset: xr.Dataset, name: Hashable, record: LatentsMetadata) -> None:
    """Refuse latents that were cut, flipped or separated from what belongs to them."""
    names = record.part_names
    for part in record.needed_parts:
        if names[part] not in dataset.variables:
            raise NotEncodedError(f"the {part} {names[part]!r} of the latents {name!r} is missing: keep both")
    lead = [dim for dim in dataset[names["mask"]].dims if dim in record.dims and dim not in record.spatial]
    for part, grid in _grids(record).items():
        if part not in names or names[part] not in dataset.variables:
            continue
        variable = dataset.variables[names[part]]
        found = {dim: size for dim, size in variable.sizes.items() if dim not in lead}
        if found != grid or not {*lead} <= {*variable.dims}:
            raise DimensionError(
                f"{names[part]!r} has the sizes {dict(variable.sizes)}, the record of {name!r} says {grid} beside {lead}: a part "
                "was cut out, or something put beside it. Decode first and cut then; it stays lazy"
            )
    corners = corner_coordinates(dataset, record.spatial)
    for axis, dim in enumerate(record.spatial):
        then, now = record.corners[2 * axis : 2 * axis + 2], corners[2 * axis : 2 * axis + 2]
        if None in then or None in now:
            continue
        # a thousandth of a pixel: what packing a coordinate may round
        tolerance = abs(then[1] - then[0]) / record.pixels[axis] / 1000
        if abs(then[0] - now[0]) > tolerance or abs(then[1] - now[1]) > tolerance:
            raise DimensionError(
                f"the coordinate {dim!r} of {name!r} runs from {now[0]:g} to {now[1]:g}, but ran from {then[0]:g} to "
                f"{then[1]:g} when it was encoded: flipping or sorting moves the mask and not the latents. Decode first; "
                "it stays lazy"
            )


def _grids(record: LatentsMetadata) -> dict[str, dict[str, int]]:
    """Last dimensions of each part and their sizes, in the order of decoding."""
    grids = {}
    for part in PARTS:
        ending, unit, first = {
            "latents": ("_latent", BLOCK, {"latent": CHANNELS}),
            "gains": ("_tile", TILE, {GAIN: 2}),
        }.get(part, ("", 1, {}))
        spatial = zip(record.spatial, record.pixels, strict=True)
        grids[part] = first | {f"{dim}{ending}": -(-size // unit) for dim, size in spatial}
    return grids | {"coding": {CODING: 2}}


def aligned_parts(dataset: xr.Dataset, record: LatentsMetadata) -> tuple[dict[str, xr.Variable], LatentsMetadata]:
    """Latents, mask and what else there is, by part, with the dimensions (..., y, x), and a record that fits them.

    Dimensions may have been transposed, and a single time selected, since encoding. Lazy variables stay lazy.
    """
    names = record.part_names
    there = replace(record, dims=tuple(dim for dim in record.dims if dim in dataset[names["mask"]].dims))
    lead = [dim for dim in there.dims if dim not in record.spatial]
    last = _grids(record)
    stored = {part: dataset.variables[name] for part, name in names.items() if name in dataset.variables}
    return {part: variable.transpose(*lead, *last[part]) for part, variable in stored.items()}, there


def decode_dataset(dataset: xr.Dataset, restore: str | None = None) -> xr.Dataset:
    """Backscatter of all latents in a dataset; see ``.sarcomp.decode``."""
    records = encoded_names(dataset)
    decoded = {}
    for record in records.values():
        parts, there = aligned_parts(dataset, record)
        decoded[record.name] = decode_parts(parts, there, speckle_keys(dataset, record, there, restore))
    return with_decoded(dataset, decoded, records)


def with_decoded(
    dataset: xr.Dataset, decoded: dict[str, xr.Variable], records: dict[Hashable, LatentsMetadata]
) -> xr.Dataset:
    """Dataset with decoded variables in the place of the parts they were made of; coordinates restored."""
    spent = [part for record in records.values() for part in record.part_names.values()]
    result = dataset.drop_vars(spent, errors="ignore").assign(decoded)
    grid_mappings = {record.encoding.get("grid_mapping") for record in records.values()} | {"spatial_ref"}
    return result.set_coords([name for name in grid_mappings if name in result.data_vars])


def decoded_variable(values: Any, record: LatentsMetadata, speckle: SpeckleKeys | None = None) -> xr.Variable:
    """Variable with the dimensions, attributes and encoding of the original; ``speckle`` if that was restored."""
    lead = tuple(name for name in record.dims if name not in record.spatial)
    attributes = {**record.attributes, LOSS_ATTRIBUTE: record.loss(speckle_restored=speckle is not None)}
    variable = xr.Variable((*lead, *record.spatial), values, attributes, dict(record.encoding))
    return variable.transpose(*record.dims)


def decode_parts(
    parts: Mapping[str, xr.Variable], record: LatentsMetadata, speckle: SpeckleKeys | None = None
) -> xr.Variable:
    """Backscatter of one variable, lazy where its latents are lazy; see :func:`aligned_parts`."""
    sources = {part: variable.data for part, variable in parts.items()}
    if is_lazy(sources["latents"]):
        return decoded_variable(_decode_lazy(sources, record, speckle), record, speckle)
    shape = (*sources["mask"].shape[:-2], *record.pixels)
    values = decode_region(parts, tuple((0, size) for size in shape), record, speckle)
    return decoded_variable(values, record, speckle)


def decode_region(
    parts: Mapping[str, Any], region: tuple, record: LatentsMetadata, speckle: SpeckleKeys | None = None
) -> NDArray:
    """Backscatter of a region, read and decoded in blocks that bound what is needed beside the result.

    Parameters
    ----------
    parts : mapping of str to array-like
        See :func:`aligned_parts`; indexed by slices and read where they are.
    region : tuple of (start, stop)
        On each axis of (..., y, x).
    record : LatentsMetadata
    speckle : SpeckleKeys, optional
        Of all planes, to restore speckle.

    Returns
    -------
    ndarray of the original data type, shape of the region
    """
    values = np.empty([stop - start for start, stop in region], np.dtype(record.dtype))
    if values.size == 0:
        return values
    for rows, columns in itertools.product(*(aligned_spans(*span, REGION_PIXELS) for span in region[-2:])):
        block = (*region[:-2], rows, columns)
        read = {
            part: np.asarray(stored[tuple(slice(*span) for span in part_window(part, block, record))])
            for part, stored in parts.items()
        }
        spans = zip((rows, columns), region[-2:], strict=True)
        cut = [slice(start - first, stop - first) for (start, stop), (first, _) in spans]
        values[..., *cut] = decode_block(block, read, record, speckle)
    return values


def part_window(part: str, block: tuple, record: LatentsMetadata) -> tuple:
    """What decoding a block of pixels (..., y, x) reads of a part: (start, stop) on each of its axes."""
    if part == "latents":
        return latents_window(block, record)
    if part == "coding":
        return (*block[:-2], (0, 2))
    return gains_window(block) if part == "gains" else block


def _decode_lazy(sources: Mapping[str, Any], record: LatentsMetadata, speckle: SpeckleKeys | None) -> Any:
    from xsarcomp.scenes.windows import Source, from_numpy_or_dask, map_windows

    latents = sources["latents"]
    pixels = tuple(
        tuple(
            min(BLOCK * stop, size) - BLOCK * (stop - chunk)
            for chunk, stop in zip(sizes, np.cumsum(sizes).tolist(), strict=True)
        )
        for sizes, size in zip(latents.chunks[-2:], record.pixels, strict=True)
    )
    chunks = (*latents.chunks[:-3], *pixels)

    windows = [
        Source(
            values
            if part == "latents"
            else from_numpy_or_dask(values, chunks if part in ON_PIXELS else _own_chunks(values)),
            functools.partial(part_window, part, record=record),
        )
        for part, values in sources.items()
    ]
    arguments = (tuple(sources), record, speckle)
    dtype = np.dtype(record.dtype)
    return map_windows(_decode_positional, windows, chunks, dtype, name="sarcomp-decode", arguments=arguments)


def _own_chunks(values: Any) -> tuple[tuple[int, ...], ...]:
    """Chunks of gains or coding as they are, or one: to rechunk them would make each block wait for all of them."""
    return values.chunks if is_lazy(values) else tuple((size,) for size in values.shape)


def _decode_positional(block: tuple, *windows: Any) -> NDArray:
    *read, names, record, speckle = windows
    return decode_block(block, dict(zip(names, read, strict=True)), record, speckle)


def decode_block(
    block: tuple, parts: Mapping[str, NDArray], record: LatentsMetadata, speckle: SpeckleKeys | None = None
) -> NDArray:
    """Backscatter of a block of pixels.

    Parameters
    ----------
    block : tuple of (start, stop)
        On each axis of (..., y, x).
    parts : mapping of str to ndarray
        What the block needs of each part, see :func:`part_window`: ``latents``, int32, shape (..., latent=64, y_latent,
        x_latent); ``mask``, uint8, shape (..., y, x); if there, ``exact``, the values where the mask is EXACT,
        ``residual``, int32, ``gains``, int32, shape (..., gain=2, y_tile, x_tile), and ``coding``, float64, (..., coding=2).
    record : LatentsMetadata
    speckle : SpeckleKeys, optional
        Of all planes, to restore speckle.

    Returns
    -------
    ndarray of the original data type, shape (..., y, x)
    """
    shape = tuple(stop - start for start, stop in block)
    symbols = parts["latents"].reshape(-1, *parts["latents"].shape[-3:])
    check_present(symbols, f"latents of {record.name!r}")
    planes = parts["mask"].reshape(-1, *shape[-2:])
    check_nodata(planes, np.dtype(record.dtype), record.nodata)
    held = parts["exact"].reshape(planes.shape) if "exact" in parts else None
    added = guarantee_data_in_store(block, parts.get("residual"), parts.get("gains"), record)
    values = np.empty(planes.shape, np.dtype(record.dtype))
    of_planes = None if speckle is None else speckle.of_block(block[:-2])
    for group, own in _groups(parts.get("coding"), record, planes):
        signal = decode_signal(block, symbols, own, group, None if of_planes is None else of_planes[group])
        values[group] = backscatter_of(
            signal,
            planes[group],
            None if held is None else held[group][planes[group] == pixel_classes.EXACT],
            values.dtype,
            own.settings,
            load_coder(record.model_id),
            None if added is None else added.of_planes(group),
        )
    return values.reshape(shape)


def _groups(
    coding: NDArray | None, record: LatentsMetadata, planes: NDArray
) -> Iterator[tuple[slice, LatentsMetadata]]:
    """Planes that are decoded together, and the record with their step."""
    for run, own in own_records(coding, record, len(planes)):
        for group in plane_groups(run.stop - run.start, planes[0].size):
            yield slice(run.start + group.start, run.start + group.stop), own
