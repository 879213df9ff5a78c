"""Decode datasets of latents to datasets of backscatter, lazily where they are lazy."""

import functools
import itertools
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.codec.chunk import check_present
from xsarcomp.codec.entropy_tables import CHANNELS
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.sections import check_nodata
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.tile_means import TILE
from xsarcomp.codec.window import backscatter_from_signal
from xsarcomp.errors import DimensionError, NotEncodedError
from xsarcomp.latents.guarantees import GAIN, decode_signal, gains_window, guarantee_data_in_store, latents_window
from xsarcomp.latents.metadata import ATTRIBUTE, LOSS_ATTRIBUTE, PARTS, LatentsMetadata, corner_coordinates
from xsarcomp.latents.plane_steps import CODING, plane_runs
from xsarcomp.latents.speckle_keys import SpeckleKeys, speckle_keys
from xsarcomp.radiometry import pixel_classes
from xsarcomp.scenes.variables import is_lazy
from xsarcomp.tiling import Span, Window, aligned_spans, plane_groups, shape_of, slices, whole

REGION_PIXELS = 2048
"""Edge of the windows that a region in memory is decoded in, in pixels."""
ON_PIXELS = ("mask", "exact", "residual")
"""Parts that have the grid of the pixels."""


def encoded_variables(dataset: xr.Dataset) -> dict[Hashable, LatentsMetadata]:
    """Metadata of the latents variables of a dataset, by the name of the latents.

    Raises
    ------
    NotEncodedError
        If there is none, or a variable that belongs to one is missing.
    """
    variables = {
        name: LatentsMetadata.from_attribute(array.attrs[ATTRIBUTE])
        for name, array in dataset.variables.items()
        if ATTRIBUTE in array.attrs
    }
    if not variables:
        raise NotEncodedError(
            f"the dataset holds no latents (variables: {', '.join(map(str, dataset.data_vars)) or 'none'}): decode() takes what "
            "encode() made. A transparent store needs no decoding: its variables already are backscatter"
        )
    for name, metadata in variables.items():
        _check_complete(dataset, name, metadata)
    return variables


def _check_complete(dataset: xr.Dataset, name: Hashable, metadata: LatentsMetadata) -> None:
    """Refuse latents that were cut or flipped, or whose other parts are missing."""
    names = metadata.part_names
    for part in metadata.needed_parts:
        if names[part] not in dataset.variables:
            raise NotEncodedError(f"the {part} {names[part]!r} of the latents {name!r} is missing: keep both")
    lead = [dim for dim in dataset[names["mask"]].dims if dim in metadata.dims and dim not in metadata.spatial]
    for part, grid in _grids(metadata).items():
        if part not in names or names[part] not in dataset.variables:
            continue
        variable = dataset.variables[names[part]]
        found = {dim: size for dim, size in variable.sizes.items() if dim not in lead}
        if found != grid or not {*lead} <= {*variable.dims}:
            raise DimensionError(
                f"{names[part]!r} has the sizes {dict(variable.sizes)}, the metadata of {name!r} say {grid} beside {lead}: a part "
                "was cut out, or something put beside it. Decode first and cut then; it stays lazy"
            )
    corners = corner_coordinates(dataset, metadata.spatial)
    for axis, dim in enumerate(metadata.spatial):
        then, now = metadata.corners[2 * axis : 2 * axis + 2], corners[2 * axis : 2 * axis + 2]
        if None in then or None in now:
            continue
        # a thousandth of a pixel: what packing a coordinate may round
        tolerance = abs(then[1] - then[0]) / metadata.pixels[axis] / 1000
        if abs(then[0] - now[0]) > tolerance or abs(then[1] - now[1]) > tolerance:
            raise DimensionError(
                f"the coordinate {dim!r} of {name!r} runs from {now[0]:g} to {now[1]:g}, but ran from {then[0]:g} to "
                f"{then[1]:g} when it was encoded: flipping or sorting moves the mask and not the latents. Decode first; "
                "it stays lazy"
            )


def _grids(metadata: LatentsMetadata) -> dict[str, dict[str, int]]:
    """Last dimensions of each part and their sizes, in the order of decoding."""
    grids = {}
    for part in PARTS:
        ending, unit, first = {
            "latents": ("_latent", BLOCK, {"latent": CHANNELS}),
            "gains": ("_tile", TILE, {GAIN: 2}),
        }.get(part, ("", 1, {}))
        spatial = zip(metadata.spatial, metadata.pixels, strict=True)
        grids[part] = first | {f"{dim}{ending}": -(-size // unit) for dim, size in spatial}
    return grids | {"coding": {CODING: 2}}


def aligned_parts(dataset: xr.Dataset, metadata: LatentsMetadata) -> tuple[dict[str, xr.Variable], LatentsMetadata]:
    """Parts of a variable with the dimensions (..., y, x), and metadata that fit them.

    Dimensions may have been transposed, and a single time selected, since encoding.

    Parameters
    ----------
    dataset : xarray.Dataset
    metadata : LatentsMetadata
        Of a variable in it.

    Returns
    -------
    parts : dict of str to Variable
        Latents, mask and what else there is, by part; lazy ones stay lazy.
    metadata : LatentsMetadata
        With the dimensions that are still there.
    """
    names = metadata.part_names
    present = tuple(dim for dim in metadata.dims if dim in dataset[names["mask"]].dims)
    selected = replace(metadata, dims=present)
    lead = [dim for dim in present if dim not in metadata.spatial]
    last = _grids(metadata)
    stored = {part: dataset.variables[name] for part, name in names.items() if name in dataset.variables}
    return {part: variable.transpose(*lead, *last[part]) for part, variable in stored.items()}, selected


def decode_dataset(dataset: xr.Dataset, restore: str | None = None) -> xr.Dataset:
    """Decode all latents of a dataset to backscatter; see ``.sarcomp.decode``."""
    variables = encoded_variables(dataset)
    decoded = {}
    for metadata in variables.values():
        parts, selected = aligned_parts(dataset, metadata)
        decoded[metadata.name] = _decode_parts(parts, selected, speckle_keys(dataset, metadata, selected, restore))
    return with_decoded(dataset, decoded, variables)


def with_decoded(
    dataset: xr.Dataset, decoded: Mapping[str | None, xr.Variable], variables: Mapping[Hashable, LatentsMetadata]
) -> xr.Dataset:
    """Replace the parts in a dataset by the variables that were decoded from them, and restore its coordinates."""
    spent = [part for metadata in variables.values() for part in metadata.part_names.values()]
    result = dataset.drop_vars(spent, errors="ignore").assign({str(name): array for name, array in decoded.items()})
    grid_mappings = {metadata.encoding.get("grid_mapping") for metadata in variables.values()} | {"spatial_ref"}
    return result.set_coords([name for name in grid_mappings if name in result.data_vars])


def decoded_variable(values: Any, metadata: LatentsMetadata, speckle: SpeckleKeys | None = None) -> xr.Variable:
    """Variable with the dimensions, attributes and encoding of the original.

    Parameters
    ----------
    values : array-like, shape (..., y, x)
        Decoded backscatter.
    metadata : LatentsMetadata
    speckle : SpeckleKeys, optional
        Given if synthetic speckle was added, which the attributes then say.

    Returns
    -------
    xarray.Variable
    """
    lead = tuple(name for name in metadata.dims if name not in metadata.spatial)
    attributes = {**metadata.attributes, LOSS_ATTRIBUTE: metadata.loss(with_speckle=speckle is not None)}
    variable = xr.Variable((*lead, *metadata.spatial), values, attributes, dict(metadata.encoding))
    return variable.transpose(*metadata.dims)


def _decode_parts(
    parts: Mapping[str, xr.Variable], metadata: LatentsMetadata, speckle: SpeckleKeys | None = None
) -> xr.Variable:
    """Decode one variable, lazily where its latents are lazy; see :func:`aligned_parts`."""
    sources = {part: variable.data for part, variable in parts.items()}
    if is_lazy(sources["latents"]):
        return decoded_variable(_decode_lazy(sources, metadata, speckle), metadata, speckle)
    shape = (*sources["mask"].shape[:-2], *metadata.pixels)
    return decoded_variable(decode_region(parts, whole(shape), metadata, speckle), metadata, speckle)


def decode_region(
    parts: Mapping[str, Any], region: Window, metadata: LatentsMetadata, speckle: SpeckleKeys | None = None
) -> NDArray:
    """Decode a region, read in windows that bound the memory beside the result.

    Parameters
    ----------
    parts : mapping of str to array-like
        See :func:`aligned_parts`; indexed by slices and read where they are.
    region : Window
        Pixels, on each axis of (..., y, x).
    metadata : LatentsMetadata
    speckle : SpeckleKeys, optional
        Of all planes, to add synthetic speckle.

    Returns
    -------
    ndarray of the original data type, shape of the region
    """
    values = np.empty(shape_of(region), np.dtype(metadata.dtype))
    if values.size == 0:
        return values
    reach = load_coder(metadata.model_id).latent_reach
    for rows, columns in itertools.product(*(aligned_spans(*span, REGION_PIXELS) for span in region[-2:])):
        window = (*region[:-2], rows, columns)
        read = {
            part: np.asarray(stored[slices(part_window(window, part, metadata, reach))])
            for part, stored in parts.items()
        }
        place = (rows.within(region[-2].start), columns.within(region[-1].start))
        values[..., *place] = decode_window(window, read, metadata, speckle)
    return values


def part_window(window: Window, part: str, metadata: LatentsMetadata, reach: int) -> Window:
    """Window of a part that decoding a window of pixels (..., y, x) reads; ``reach`` is that of the coder."""
    if part == "latents":
        return latents_window(window, metadata, reach)
    if part == "coding":
        return (*window[:-2], Span(0, 2))
    return gains_window(window) if part == "gains" else window


def _decode_lazy(sources: Mapping[str, Any], metadata: LatentsMetadata, speckle: SpeckleKeys | None) -> Any:
    """Backscatter as a Dask array whose blocks are those of the latents."""
    from xsarcomp.scenes.windows import Source, from_numpy_or_dask, map_windows

    latents = sources["latents"]
    pixels = tuple(
        tuple(
            min(BLOCK * stop, size) - BLOCK * (stop - chunk)
            for chunk, stop in zip(sizes, np.cumsum(sizes).tolist(), strict=True)
        )
        for sizes, size in zip(latents.chunks[-2:], metadata.pixels, strict=True)
    )
    chunks = (*latents.chunks[:-3], *pixels)
    reach = load_coder(metadata.model_id).latent_reach
    windows = {}
    for part, values in sources.items():
        wanted = chunks if part in ON_PIXELS else _own_chunks(values)
        array = values if part == "latents" else from_numpy_or_dask(values, wanted)
        windows[part] = Source(array, functools.partial(part_window, part=part, metadata=metadata, reach=reach))
    return map_windows(
        decode_window,
        windows,
        chunks,
        np.dtype(metadata.dtype),
        name="sarcomp-decode",
        arguments=(metadata, speckle),
    )


def _own_chunks(values: Any) -> tuple[tuple[int, ...], ...]:
    """Chunks of gains or coding as they are, or one: to rechunk them would make each block wait for all of them."""
    return values.chunks if is_lazy(values) else tuple((size,) for size in values.shape)


def decode_window(
    window: Window, parts: Mapping[str, NDArray], metadata: LatentsMetadata, speckle: SpeckleKeys | None = None
) -> NDArray:
    """Decode a window of pixels.

    Parameters
    ----------
    window : Window
        Pixels, on each axis of (..., y, x).
    parts : mapping of str to ndarray
        The piece of each part that :func:`part_window` names: ``latents``, int32, shape (..., latent=64, y_latent,
        x_latent); ``mask``, uint8, shape (..., y, x); if there, ``exact``, the values where the mask is EXACT,
        ``residual``, int32, ``gains``, int32, shape (..., gain=2, y_tile, x_tile), and ``coding``, float64, (..., coding=2).
    metadata : LatentsMetadata
    speckle : SpeckleKeys, optional
        Of all planes, to add synthetic speckle.

    Returns
    -------
    ndarray of the original data type, shape (..., y, x)
    """
    shape, dtype = shape_of(window), np.dtype(metadata.dtype)
    coder = load_coder(metadata.model_id)
    symbols = parts["latents"].reshape(-1, *parts["latents"].shape[-3:])
    check_present(symbols, f"latents of {metadata.name!r}")
    classes = parts["mask"].reshape(-1, *shape[-2:])
    check_nodata(classes, dtype, metadata.settings.nodata)
    exact = parts["exact"].reshape(classes.shape) if "exact" in parts else None
    data = guarantee_data_in_store(window, parts.get("residual"), parts.get("gains"), metadata)
    values = np.empty(classes.shape, dtype)
    of_planes = None if speckle is None else speckle.of_window(window[:-2])
    for planes, settings in _plane_groups(parts.get("coding"), metadata, classes):
        signal = decode_signal(
            window,
            symbols[planes],
            metadata,
            coder,
            settings.step_db,
            None if of_planes is None else of_planes[planes],
        )
        values[planes] = backscatter_from_signal(
            signal,
            classes[planes],
            None if exact is None else exact[planes][classes[planes] == pixel_classes.EXACT],
            dtype,
            settings,
            coder,
            None if data is None else data.select_planes(planes),
        )
    return values.reshape(shape)


def _plane_groups(
    coding: NDArray | None, metadata: LatentsMetadata, classes: NDArray[np.uint8]
) -> Iterator[tuple[slice, Settings]]:
    """Planes that are decoded together, and their settings."""
    for run in plane_runs(coding, metadata, len(classes)):
        for group in plane_groups(run.planes.stop - run.planes.start, classes[0].size):
            yield slice(run.planes.start + group.start, run.planes.start + group.stop), run.settings
