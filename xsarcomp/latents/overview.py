"""Overviews of latents stores: quicklooks from the lowest latent of each block, without network and synthesis.

The lowest latent is coded first, so the rest of a store's chunks is not decoded. It is a weighted mean in decibels over the
16 x 16 pixels around a block of 8 x 8. The value of a larger block is the mean over its blocks of 8 x 8, weighted with their
valid pixels.
"""

import itertools
import warnings
from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.codec import lapped
from xsarcomp.codec.chunk import check_present
from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.quantization import dequantize
from xsarcomp.codec.settings import NO_GUARANTEES
from xsarcomp.errors import ConfigurationError, caller_stacklevel
from xsarcomp.latents.decode import (
    align_parts,
    make_decoded_variable,
    read_latents_metadata,
    replace_parts,
    settle_plane_coding,
)
from xsarcomp.latents.loss import LOSS_ATTRIBUTE
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.overview_grid import (
    READ_PIXELS,
    LazyWrapper,
    block_chunks,
    block_count,
    block_pixels,
    coarsen_attributes,
    coarsen_coordinate,
    coarsen_grid_mapping,
    split_blocks,
)
from xsarcomp.latents.part_checks import select_exact
from xsarcomp.latents.plane_steps import runs_of_parts
from xsarcomp.latents.positions import drop_positions
from xsarcomp.radiometry import pixel_classes
from xsarcomp.radiometry.decibel import from_signal
from xsarcomp.radiometry.pixel_classes import reinsert_invalid
from xsarcomp.scenes.variables import is_lazy
from xsarcomp.tiling import Span, Window, whole_window, window_shape, window_slices

FACTORS = (8, 16, 32, 64, 128, 256, 512)
"""Pixels of a block of an overview along each axis; the last is the edge of a chunk in a store."""


def check_factor(overview: Any, *, restore: Any = None) -> int:
    """Check the requested factor of an overview.

    Parameters
    ----------
    overview : int
        Pixels of a block along each axis, one of ``FACTORS``.
    restore : {"speckle"}, optional
        Refused beside an overview, which averages speckle away.

    Returns
    -------
    int

    Raises
    ------
    ConfigurationError
        If there is no such overview, or synthetic speckle is requested too.
    """
    is_whole = isinstance(overview, int | np.integer) and not isinstance(overview, bool)
    if not is_whole or int(overview) not in FACTORS:
        raise ConfigurationError(
            f"an overview of {overview!r} was asked for, expected one of {', '.join(map(str, FACTORS))}, the pixels of a block "
            "along each axis: take one of them and coarsen the result, or decode the whole"
        )
    if restore is not None:
        raise ConfigurationError(
            f"overview={overview} and restore={restore!r} were given together: an overview is a mean over speckle and shows "
            "none. Leave one of them out"
        )
    return int(overview)


def overview_dataset(dataset: xr.Dataset, factor: int, *, make_lazy: LazyWrapper | None = None) -> xr.Dataset:
    """Decode an overview of all latents in a dataset; see ``.sarcomp.decode``.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of ``encode``, or an opened latents store.
    factor : int
        Pixels of a block along each axis, see :func:`check_factor`.
    make_lazy : callable, optional
        Wraps a function that reads a region as a lazy array, see :data:`xsarcomp.latents.overview_grid.LazyWrapper`. Without
        it the result is lazy where the latents are Dask arrays.

    Returns
    -------
    xarray.Dataset
    """
    variables = read_latents_metadata(dataset)
    dataset = drop_positions(dataset, variables)
    decoded = {
        metadata.name: _overview_variable(dataset, metadata, factor, make_lazy, dataset.variables[name].encoding)
        for name, metadata in variables.items()
    }
    return replace_parts(coarsen_others(dataset, variables, factor, make_lazy), decoded, variables)


def _overview_variable(
    dataset: xr.Dataset,
    metadata: LatentsMetadata,
    factor: int,
    make_lazy: LazyWrapper | None,
    stored_encoding: Mapping[Any, Any],
) -> xr.Variable:
    """Overview of one variable; lazy with ``make_lazy``, or where its latents are Dask arrays."""
    stored_parts, selected = align_parts(dataset, metadata)
    first = slice(None, None, factor)
    # basic indexing: the codec of a store then decodes no other channel
    indices: dict[str, Any] = {
        "latents": (..., slice(0, 1), slice(None), slice(None)),
        "mask": ...,
        "exact": (..., first, first),
        "coding": ...,
        "plane_coding": ...,
    }
    parts = {part: variable[indices[part]] for part, variable in stored_parts.items() if part in indices}
    shape = (*parts["mask"].shape[:-2], *(block_count(size, factor) for size in selected.pixels))
    if make_lazy is not None:
        values = make_lazy(
            partial(overview_region, parts, metadata=selected, factor=factor), shape, np.dtype(selected.dtype)
        )
    elif is_lazy(parts["latents"].data):
        values = _overview_lazily({part: variable.data for part, variable in parts.items()}, selected, factor)
    else:
        values = overview_region(parts, whole_window(shape), metadata=selected, factor=factor)
    # guarantees hold for pixels, not for means over blocks
    promised_nothing = replace(selected.settings, guarantees=NO_GUARANTEES)
    variable = make_decoded_variable(values, replace(selected, settings=promised_nothing))
    variable.attrs = coarsen_attributes(variable.attrs, factor)
    variable.attrs[LOSS_ATTRIBUTE] += (
        f"; overview of {factor} x {factor} pixels, their mean in decibels from the lowest latents alone"
    )
    if make_lazy is not None:
        chunks = stored_encoding.get("preferred_chunks", {})
        variable.encoding["preferred_chunks"] = {
            dim: min(max(1, READ_PIXELS // factor), size) if dim in selected.spatial else chunks.get(dim, 1)
            for dim, size in variable.sizes.items()
        }
    return variable


def overview_region(parts: Mapping[str, Any], region: Window, *, metadata: LatentsMetadata, factor: int) -> NDArray:
    """Compute a region of an overview, in windows that bound the memory beside the result.

    Parameters
    ----------
    parts : mapping of str to array-like
        ``latents``, only the lowest, (..., latent=1, y_latent, x_latent); ``mask`` (..., y, x); optionally ``exact``, each
        ``factor``-th value, and ``coding``, (..., coding=2), or ``plane_coding``. They are indexed by slices, and only read
        there.
    region : Window
        Blocks, on each axis of (..., y, x).
    metadata : LatentsMetadata
    factor : int
        Pixels of a block along each axis.

    Returns
    -------
    ndarray of the original data type, shape of the region
        Backscatter in the unit of the original.
    """
    values = np.empty(window_shape(region), np.dtype(metadata.dtype))
    for spans in itertools.product(*(split_blocks(span, factor) for span in region[-2:])):
        window = (*region[:-2], *spans)
        pieces = {
            part: np.asarray(stored[window_slices(overview_part_window(window, part, metadata, factor))])
            for part, stored in parts.items()
        }
        place = tuple(span.relative_to(first) for span, (first, _) in zip(window, region, strict=True))
        if values[place].size:
            values[place] = overview_window(window, pieces, metadata, factor)
    return values


def overview_part_window(window: Window, part: str, metadata: LatentsMetadata, factor: int) -> Window:
    """Window of a part that computing a window of an overview reads.

    Parameters
    ----------
    window : Window
        Blocks, on each axis of (..., y, x).
    part : {"latents", "mask", "exact", "coding", "plane_coding"}
    metadata : LatentsMetadata
        Size of the scene.
    factor : int
        Pixels of a block along each axis.

    Returns
    -------
    Window
        On each axis of the part, see :func:`overview_region`.
    """
    if part == "exact":
        return window
    if part == "coding":
        return (*window[:-2], Span(0, 2))
    unit = lapped.BLOCK if part in ("latents", "plane_coding") else 1
    spans = (
        block_pixels(span, factor // unit, -(-size // unit))
        for span, size in zip(window[-2:], metadata.pixels, strict=True)
    )
    first = {"latents": (Span(0, 1),), "plane_coding": (Span(0, 2),)}.get(part, ())
    return (*window[:-2], *first, *spans)


def _overview_lazily(sources: Mapping[str, Any], metadata: LatentsMetadata, factor: int) -> Any:
    """Overview as a Dask array."""
    from xsarcomp.scenes.windows import Source, from_numpy_or_dask, map_windows

    sources, metadata = settle_plane_coding(sources, metadata)
    chunks = (*sources["latents"].chunks[:-3], *(block_chunks(size, factor) for size in metadata.pixels))
    windows = {
        part: Source(
            from_numpy_or_dask(values, getattr(values, "chunks", values.shape)),
            partial(overview_part_window, part=part, metadata=metadata, factor=factor),
        )
        for part, values in sources.items()
    }
    dtype = np.dtype(metadata.dtype)
    return map_windows(overview_window, windows, chunks, dtype, name="sarcomp-overview", arguments=(metadata, factor))


def overview_window(window: Window, parts: Mapping[str, NDArray], metadata: LatentsMetadata, factor: int) -> NDArray:
    """Compute a window of an overview.

    Parameters
    ----------
    window : Window
        Blocks, on each axis of (..., y, x).
    parts : mapping of str to ndarray
        The piece of each part that :func:`overview_part_window` selects: ``latents``, int32, shape (..., latent=1, y_latent,
        x_latent); ``mask``, uint8, shape (..., y, x) of the pixels; optionally ``exact``, shape (..., y, x) of the blocks, the
        values of their first pixels; and ``coding``, float64, shape (..., coding=2), or ``plane_coding``, float64, shape
        (coding=2, y_latent, x_latent).
    metadata : LatentsMetadata
    factor : int
        Pixels of a block along each axis.

    Returns
    -------
    ndarray of the original data type, shape of the window
        Backscatter in the unit of the original. A block without a valid pixel has the value of its first pixel.

    Raises
    ------
    CorruptStreamError
        If a chunk is missing.
    NotEncodedError
        If planes were encoded with settings other than those of the metadata.
    """
    coder, settings = load_coder(metadata.model_id), metadata.settings
    lowest = parts["latents"].reshape(-1, *parts["latents"].shape[-2:])
    check_present(lowest, f"latents of {metadata.name!r}")
    runs = runs_of_parts(parts, metadata, len(lowest))
    signal = np.concatenate([signal_from_lowest(lowest[run.planes], coder, run.settings.step_db) for run in runs])
    classes = parts["mask"].reshape(-1, *parts["mask"].shape[-2:])
    signal, counts = _average_blocks(signal, count_valid_pixels(classes), factor)
    # a block without a valid pixel has the class of its first pixel
    kinds = np.where(counts > 0, pixel_classes.VALID, classes[:, ::factor, ::factor]).astype(np.uint8)
    exact = None
    if "exact" in parts:
        exact = select_exact(parts["exact"].reshape(kinds.shape), kinds == pixel_classes.EXACT, metadata)
    values = from_signal(signal, settings.scale, np.dtype(metadata.dtype), offset_db=coder.card.offset_db)
    return reinsert_invalid(values, kinds, settings.nodata, exact).reshape(window_shape(window))


def signal_from_lowest(symbols: NDArray[np.int32], coder: LappedCoder, step_db: float) -> NDArray[np.float64]:
    """Compute the signal of blocks of 8 x 8 pixels from their lowest symbols.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, y_latent, x_latent)
    coder : LappedCoder
    step_db : float
        Quantization step in dB.

    Returns
    -------
    ndarray of float64, same shape, dB above the offset
        For a constant signal it is this constant, up to the rounding of the latent.
    """
    shifts = coder.shifts[coder.anchor(step_db)][:1]
    latents = dequantize(symbols[:, None], shifts, np.array([step_db]))[:, 0]
    return latents.astype(np.float64) / lapped.constant_gain(coder.basis)


def count_valid_pixels(classes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Count the valid pixels of each block of 8 x 8; positions beyond the scene do not count.

    Parameters
    ----------
    classes : ndarray of uint8, shape (plane, y, x)

    Returns
    -------
    ndarray of float64, shape (plane, ceil(y / 8), ceil(x / 8)), 0 to 64
    """
    size = lapped.BLOCK
    planes, height, width = classes.shape
    valid = np.pad(classes == pixel_classes.VALID, ((0, 0), (0, -height % size), (0, -width % size)))
    rows = valid.reshape(planes, valid.shape[1] // size, size, valid.shape[2]).sum(axis=2, dtype=np.uint8)
    return rows.reshape(*rows.shape[:2], -1, size).sum(axis=3, dtype=np.uint8).astype(np.float64)


def _average_blocks(
    signal: NDArray[np.float64], counts: NDArray[np.float64], factor: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and numbers of valid pixels of blocks of ``factor`` pixels, from those of blocks of 8."""
    if factor == lapped.BLOCK:
        return signal, counts
    sums = signal * counts
    for _ in range((factor // lapped.BLOCK).bit_length() - 1):
        sums, counts = _sum_two_by_two(sums), _sum_two_by_two(counts)
    return sums / np.maximum(counts, 1.0), counts


def _sum_two_by_two(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of 2 x 2 values. Additions are explicit: a reduction would choose its order by the shape of the array."""
    padded = np.pad(values, ((0, 0), (0, values.shape[1] % 2), (0, values.shape[2] % 2)))
    upper, lower = padded[:, ::2], padded[:, 1::2]
    return (upper[:, :, ::2] + upper[:, :, 1::2]) + (lower[:, :, ::2] + lower[:, :, 1::2])


def coarsen_others(
    dataset: xr.Dataset, variables: dict[Hashable, LatentsMetadata], factor: int, make_lazy: LazyWrapper | None
) -> xr.Dataset:
    """Copy a dataset with coordinates and grid mappings of blocks, without latents and without what has no mean over pixels.

    Parameters
    ----------
    dataset : xarray.Dataset
    variables : dict of name to LatentsMetadata
        Latents on whose grid the dataset stands.
    factor : int
        Pixels of a block along each axis.
    make_lazy : callable or None
        As for :func:`overview_dataset`.

    Returns
    -------
    xarray.Dataset
    """
    spatial = {dim for metadata in variables.values() for dim in metadata.spatial}
    parts = {part for metadata in variables.values() for part in metadata.part_names.values()}
    on_grid = {name for name, variable in dataset.variables.items() if spatial & set(variable.dims)} - parts
    averaged = {name for name in on_grid & set(dataset.coords) if dataset[name].dtype.kind in "fiuMm"}
    if left_out := sorted(map(str, on_grid - averaged)):
        warnings.warn(
            f"left out of the overview: {', '.join(left_out)}. They stand on the full grid and are neither latents nor coordinates "
            "of numbers or times, so their values in a block of pixels are undefined. Coarsen them yourself",
            stacklevel=caller_stacklevel(),
        )
    coarse = {
        name: coarsen_coordinate(dataset.variables[name], spatial, factor, name=name, make_lazy=make_lazy)
        for name in averaged
    }
    for metadata in variables.values():
        name = metadata.encoding.get("grid_mapping", "spatial_ref")
        if name in dataset.variables:
            reference = dataset.variables[name].copy()
            y, x = (dataset[dim].values if dim in dataset.coords else None for dim in metadata.spatial)
            reference.attrs = coarsen_grid_mapping(reference.attrs, y, x, factor)
            coarse[name] = reference
    return dataset.drop_vars([*on_grid, *parts], errors="ignore").assign_coords(coarse)
