"""Overviews of latents stores: quicklooks from the lowest latent of each block, without network and synthesis.

The lowest latent is coded first, so a store's chunks are decoded no further. It is a weighted mean in decibels over the 16
x 16 pixels around a block of 8 x 8; of blocks that hold more, it is the mean over these, weighted with their valid pixels.
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
from xsarcomp.latents.decode import aligned_parts, decoded_variable, encoded_variables, with_decoded
from xsarcomp.latents.metadata import LOSS_ATTRIBUTE, LatentsMetadata
from xsarcomp.latents.overview_grid import (
    BLOCK_PIXELS,
    Lazily,
    block_chunks,
    block_count,
    coarse_attributes,
    coarse_coordinate,
    coarse_reference,
    pieces,
    pixels_of,
)
from xsarcomp.latents.plane_steps import plane_runs
from xsarcomp.radiometry import pixel_classes
from xsarcomp.radiometry.decibel import from_signal
from xsarcomp.radiometry.pixel_classes import reinsert_invalid
from xsarcomp.scenes.variables import is_lazy
from xsarcomp.tiling import Span, Window, shape_of, slices, whole

FACTORS = (8, 16, 32, 64, 128, 256, 512)
"""Pixels of a block of an overview along each axis; the last is the edge of a chunk in a store."""


def checked_factor(overview: Any, *, restore: Any = None) -> int:
    """The factor of an overview that was asked for.

    Raises
    ------
    ConfigurationError
        If there is no such overview, or something is asked for that only whole scenes have.
    """
    is_whole = isinstance(overview, int | np.integer) and not isinstance(overview, bool)
    if not is_whole or int(overview) not in FACTORS:
        raise ConfigurationError(
            f"an overview of {overview!r} was asked for, expected one of {', '.join(map(str, FACTORS))}, the pixels of a block "
            "along each axis: take one of them and coarsen the result, or decode the whole"
        )
    if restore is not None:
        raise ConfigurationError(
            f"overview={overview} and restore={restore!r} were asked for together: an overview is a mean over speckle and has "
            "none to restore. Leave one of them out"
        )
    return int(overview)


def overview_dataset(dataset: xr.Dataset, factor: int, *, lazily: Lazily | None = None) -> xr.Dataset:
    """Overview of all latents in a dataset; see ``.sarcomp.decode``.

    Parameters
    ----------
    dataset : Dataset
        As ``encode`` made it.
    factor : int
        Pixels of a block along each axis, see :func:`checked_factor`.
    lazily : callable, optional
        How arrays that are read where they are indexed become lazy, see :data:`xsarcomp.latents.overview_grid.Lazily`. Without, the
        result is lazy where Dask holds the latents.

    Returns
    -------
    Dataset
    """
    variables = encoded_variables(dataset)
    decoded = {
        metadata.name: _overview_variable(dataset, metadata, factor, lazily, dataset.variables[name].encoding)
        for name, metadata in variables.items()
    }
    return with_decoded(_coarse_rest(dataset, variables, factor, lazily), decoded, variables)


def _overview_variable(
    dataset: xr.Dataset, metadata: LatentsMetadata, factor: int, lazily: Lazily | None, stored: dict
) -> xr.Variable:
    stored_parts, selected = aligned_parts(dataset, metadata)
    # guarantees hold for pixels, not for means over blocks
    selected = replace(selected, settings=replace(selected.settings, guarantees=NO_GUARANTEES))
    first = slice(None, None, factor)
    # a plain selection: the codec of a store decodes no other channel for it
    indices = {
        "latents": (..., slice(0, 1), slice(None), slice(None)),
        "mask": ...,
        "exact": (..., first, first),
        "coding": ...,
    }
    parts = {part: variable[indices[part]] for part, variable in stored_parts.items() if part in indices}
    shape = (*parts["mask"].shape[:-2], *(block_count(size, factor) for size in selected.pixels))
    if lazily is not None:
        values = lazily(
            partial(overview_region, parts, metadata=selected, factor=factor), shape, np.dtype(selected.dtype)
        )
    elif is_lazy(parts["latents"].data):
        values = _overview_lazy({part: variable.data for part, variable in parts.items()}, selected, factor)
    else:
        values = overview_region(parts, whole(shape), metadata=selected, factor=factor)
    variable = decoded_variable(values, selected)
    variable.attrs = coarse_attributes(variable.attrs, factor)
    variable.attrs[LOSS_ATTRIBUTE] += (
        f"; overview of {factor} x {factor} pixels, their mean in decibels from the lowest latents alone"
    )
    if lazily is not None:
        chunks = stored.get("preferred_chunks", {})
        variable.encoding["preferred_chunks"] = {
            dim: min(max(1, BLOCK_PIXELS // factor), size) if dim in selected.spatial else chunks.get(dim, 1)
            for dim, size in variable.sizes.items()
        }
    return variable


def overview_region(parts: Mapping[str, Any], region: Window, *, metadata: LatentsMetadata, factor: int) -> NDArray:
    """Region of an overview, read and computed in windows that bound the memory beside the result.

    Parameters
    ----------
    parts : mapping of str to array-like
        ``latents``, the lowest of them (..., latent=1, y_latent, x_latent); ``mask`` (..., y, x); if there, ``exact``, each
        ``factor``-th value, and ``coding``, (..., coding=2). They are indexed by slices and read where they are.
    region : Window
        On each axis of the overview, (..., y, x).
    metadata : LatentsMetadata
    factor : int
        Pixels of a block along each axis.

    Returns
    -------
    ndarray of the original data type, shape of the region
    """
    values = np.empty(shape_of(region), np.dtype(metadata.dtype))
    for spans in itertools.product(*(pieces(*span, factor) for span in region[-2:])):
        window = (*region[:-2], *spans)
        read = {
            part: np.asarray(stored[slices(part_window(window, part, metadata, factor))])
            for part, stored in parts.items()
        }
        place = tuple(span.within(first) for span, (first, _) in zip(window, region, strict=True))
        if values[place].size:
            values[place] = overview_window(window, read, metadata, factor)
    return values


def part_window(window: Window, part: str, metadata: LatentsMetadata, factor: int) -> Window:
    """Window of a part that a window of an overview (..., y, x) is computed from."""
    if part == "exact":
        return window
    if part == "coding":
        return (*window[:-2], Span(0, 2))
    unit = lapped.BLOCK if part == "latents" else 1
    spans = (
        pixels_of(span, factor // unit, -(-size // unit))
        for span, size in zip(window[-2:], metadata.pixels, strict=True)
    )
    return (*window[:-2], *((Span(0, 1),) if part == "latents" else ()), *spans)


def _overview_lazy(sources: Mapping[str, Any], metadata: LatentsMetadata, factor: int) -> Any:
    """Overview as a Dask array."""
    from xsarcomp.scenes.windows import Source, from_numpy_or_dask, map_windows

    chunks = (*sources["latents"].chunks[:-3], *(block_chunks(size, factor) for size in metadata.pixels))
    windows = {
        part: Source(
            from_numpy_or_dask(values, getattr(values, "chunks", values.shape)),
            partial(part_window, part=part, metadata=metadata, factor=factor),
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
        On each axis of the overview, (..., y, x).
    parts : mapping of str to ndarray
        The piece of each part that :func:`part_window` names: ``latents``, int32, shape (..., latent=1, y_latent, x_latent);
        ``mask``, uint8, shape (..., y, x) of its pixels; if there, ``exact``, the values of its first pixels, and ``coding``.
    metadata : LatentsMetadata
    factor : int
        Pixels of a block along each axis.

    Returns
    -------
    ndarray of the original data type, shape of the window
    """
    coder, settings = load_coder(metadata.model_id), metadata.settings
    lowest = parts["latents"].reshape(-1, *parts["latents"].shape[-2:])
    check_present(lowest, f"latents of {metadata.name!r}")
    runs = plane_runs(parts.get("coding"), metadata, len(lowest))
    signal = np.concatenate([lowest_signal(lowest[run.planes], coder, run.settings.step_db) for run in runs])
    classes = parts["mask"].reshape(-1, *parts["mask"].shape[-2:])
    signal, counts = _averaged(signal, valid_counts(classes), factor)
    # where no pixel is valid, the block is what its first pixel is
    kinds = np.where(counts > 0, pixel_classes.VALID, classes[:, ::factor, ::factor]).astype(np.uint8)
    exact = parts["exact"].reshape(kinds.shape)[kinds == pixel_classes.EXACT] if "exact" in parts else None
    values = from_signal(signal, settings.scale, np.dtype(metadata.dtype), offset_db=coder.card.offset_db)
    return reinsert_invalid(values, kinds, settings.nodata, exact).reshape(shape_of(window))


def lowest_signal(symbols: NDArray[np.int32], coder: LappedCoder, step_db: float) -> NDArray[np.float64]:
    """Signal of blocks of 8 x 8 pixels from their lowest symbols.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, y_latent, x_latent)
    coder : LappedCoder
    step_db : float

    Returns
    -------
    ndarray of float64, same shape, dB above the offset
        That of a constant signal is this constant, to the rounding of its latent.
    """
    shifts = coder.shifts[coder.anchor(step_db)][:1]
    latents = dequantize(symbols[:, None], shifts, np.array([step_db]))[:, 0]
    return latents.astype(np.float64) / lapped.constant_gain(coder.basis)


def valid_counts(classes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Valid pixels of each block of 8 x 8, shape (plane, ceil(y / 8), ceil(x / 8)); what lies beyond the scene is not."""
    size = lapped.BLOCK
    planes, height, width = classes.shape
    valid = np.pad(classes == pixel_classes.VALID, ((0, 0), (0, -height % size), (0, -width % size)))
    rows = valid.reshape(planes, valid.shape[1] // size, size, valid.shape[2]).sum(axis=2, dtype=np.uint8)
    return rows.reshape(*rows.shape[:2], -1, size).sum(axis=3, dtype=np.uint8).astype(np.float64)


def _averaged(
    signal: NDArray[np.float64], counts: NDArray[np.float64], factor: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of blocks of ``factor`` pixels, and their valid pixels, from those of blocks of 8."""
    if factor == lapped.BLOCK:
        return signal, counts
    sums = signal * counts
    for _ in range((factor // lapped.BLOCK).bit_length() - 1):
        sums, counts = _of_four(sums), _of_four(counts)
    return sums / np.maximum(counts, 1.0), counts


def _of_four(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of 2 x 2. Additions are explicit: a reduction would choose its order by the shape of the array."""
    padded = np.pad(values, ((0, 0), (0, values.shape[1] % 2), (0, values.shape[2] % 2)))
    upper, lower = padded[:, ::2], padded[:, 1::2]
    return (upper[:, :, ::2] + upper[:, :, 1::2]) + (lower[:, :, ::2] + lower[:, :, 1::2])


def _coarse_rest(
    dataset: xr.Dataset, variables: dict[Hashable, LatentsMetadata], factor: int, lazily: Lazily | None
) -> xr.Dataset:
    """The dataset with coordinates and reference systems of blocks, without what has no mean over pixels."""
    spatial = {dim for metadata in variables.values() for dim in metadata.spatial}
    parts = {part for metadata in variables.values() for part in metadata.part_names.values()}
    on_grid = {name for name, variable in dataset.variables.items() if spatial & set(variable.dims)} - parts
    averaged = {name for name in on_grid & set(dataset.coords) if dataset[name].dtype.kind in "fiuMm"}
    if left := sorted(map(str, on_grid - averaged)):
        warnings.warn(
            f"left out of the overview: {', '.join(left)}. They stand on the full grid and are neither latents nor coordinates "
            "of numbers or times, so nothing says what they are in a block of pixels. Coarsen them yourself",
            stacklevel=caller_stacklevel(),
        )
    coarse = {
        name: coarse_coordinate(dataset.variables[name], spatial, factor, name=name, lazily=lazily) for name in averaged
    }
    for metadata in variables.values():
        name = metadata.encoding.get("grid_mapping", "spatial_ref")
        if name in dataset.variables:
            reference = dataset.variables[name].copy()
            y, x = (dataset[dim].values if dim in dataset.coords else None for dim in metadata.spatial)
            reference.attrs = coarse_reference(reference.attrs, y, x, factor)
            coarse[name] = reference
    return dataset.drop_vars([*on_grid, *parts], errors="ignore").assign_coords(coarse)
