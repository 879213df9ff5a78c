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
from xsarcomp.codec.guarantees import GuaranteeData
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.sections import check_nodata
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.window import backscatter_from_signal
from xsarcomp.latents.guarantees import guarantee_data_from_parts
from xsarcomp.latents.layout import PIXEL_PARTS, part_grids
from xsarcomp.latents.loss import LOSS_ATTRIBUTE, LOSS_SETTINGS, loss_note, loss_text
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata
from xsarcomp.latents.part_checks import check_parts, no_latents, select_exact, with_added_coding
from xsarcomp.latents.plane_steps import plane_step, runs_of_parts
from xsarcomp.latents.positions import drop_positions
from xsarcomp.latents.quality import at_quality
from xsarcomp.latents.speckle_keys import SpeckleKeys, speckle_keys
from xsarcomp.latents.windows import decode_signal, decoded_window, gains_window, latents_window, split_levels
from xsarcomp.radiometry import pixel_classes
from xsarcomp.scenes.variables import is_lazy
from xsarcomp.tiling import Span, Window, aligned_spans, plane_groups, whole_window, window_shape, window_slices

REGION_PIXELS = 2048
"""Edge of the windows in which a region in memory is decoded, in pixels."""


def read_latents_metadata(dataset: xr.Dataset) -> dict[Hashable, LatentsMetadata]:
    """Read the metadata of all latents variables of a dataset, and check that their parts are complete.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of ``encode``, or an opened latents store.

    Returns
    -------
    dict of name to LatentsMetadata
        By the name of the variable that holds the latents, such as ``vv_latents``.

    Raises
    ------
    NotEncodedError
        If the dataset has no latents, or a part is missing or is not what ``encode`` made.
    DimensionError
        If a part was cut or moved, or the scene was flipped or sorted.
    UnsupportedFormatError
        If the metadata cannot be read.
    """
    variables = {
        name: with_added_coding(dataset, LatentsMetadata.from_attribute(array.attrs[ATTRIBUTE]))
        for name, array in dataset.variables.items()
        if ATTRIBUTE in array.attrs
    }
    if not variables:
        raise no_latents(dataset)
    for name, metadata in variables.items():
        check_parts(dataset, name, metadata)
    return variables


def align_parts(dataset: xr.Dataset, metadata: LatentsMetadata) -> tuple[dict[str, xr.Variable], LatentsMetadata]:
    """Transpose the parts of a variable to the dimensions (..., y, x), and adapt its metadata to them.

    Dimensions may have been transposed, and a single time selected, since encoding.

    Parameters
    ----------
    dataset : xarray.Dataset
    metadata : LatentsMetadata
        Metadata of a variable of the dataset.

    Returns
    -------
    parts : dict of str to xarray.Variable
        By part: leading dimensions, then those of :func:`xsarcomp.latents.layout.part_grids`. Lazy parts stay lazy. The coding
        of a scene that never had leading dimensions has the key ``plane_coding``.
    metadata : LatentsMetadata
        Without the dimensions of which a single position was selected.
    """
    names = metadata.part_names
    present = tuple(dim for dim in metadata.dims if dim in dataset[names["mask"]].dims)
    selected = replace(metadata, dims=present)
    grids = part_grids(metadata)
    stored = {part: dataset.variables[name] for part, name in names.items() if name in dataset.variables}
    parts = {part: variable.transpose(*selected.leading, *grids[part]) for part, variable in stored.items()}
    if not metadata.leading and "coding" in parts:
        parts["plane_coding"] = parts.pop("coding")
    return parts, selected


def decode_dataset(dataset: xr.Dataset, restore: str | None = None, quality: str = "best") -> xr.Dataset:
    """Decode all latents of a dataset to backscatter; see ``.sarcomp.decode``.

    Parameters
    ----------
    dataset : xarray.Dataset
    restore : {"speckle"}, optional
        Add synthetic speckle where the rate left none, see :mod:`xsarcomp.codec.speckle`.
    quality : {"best", "fast"}
        See :func:`xsarcomp.latents.quality.at_quality`.

    Returns
    -------
    xarray.Dataset
    """
    variables = read_latents_metadata(dataset)
    decoded = {}
    for metadata in variables.values():
        parts, selected = align_parts(dataset, at_quality(metadata, quality))
        decoded[metadata.name] = _decode_parts(parts, selected, speckle_keys(dataset, metadata, selected, restore))
    return replace_parts(dataset, decoded, variables)


def replace_parts(
    dataset: xr.Dataset, decoded: Mapping[str | None, xr.Variable], variables: Mapping[Hashable, LatentsMetadata]
) -> xr.Dataset:
    """Replace the parts in a dataset by the variables that were decoded from them.

    Parameters
    ----------
    dataset : xarray.Dataset
        Dataset with latents.
    decoded : mapping of str to xarray.Variable
        Backscatter, by the name of the original variable.
    variables : mapping of name to LatentsMetadata
        See :func:`read_latents_metadata`.

    Returns
    -------
    xarray.Dataset
        Grid mappings, which a store may hold as variables, are coordinates again.
    """
    parts = [part for metadata in variables.values() for part in metadata.part_names.values()]
    remaining = drop_positions(dataset, variables).drop_vars(parts, errors="ignore")
    result = remaining.assign({str(name): array for name, array in decoded.items()})
    grid_mappings = {metadata.encoding.get("grid_mapping") for metadata in variables.values()} | {"spatial_ref"}
    return result.set_coords([name for name in grid_mappings if name in result.data_vars])


def make_decoded_variable(values: Any, metadata: LatentsMetadata, speckle: SpeckleKeys | None = None) -> xr.Variable:
    """Make a variable with the dimensions, attributes and encoding of the original.

    Parameters
    ----------
    values : array-like, shape (..., y, x)
        Decoded backscatter.
    metadata : LatentsMetadata
    speckle : SpeckleKeys, optional
        Given if synthetic speckle was added; the attributes then say so.

    Returns
    -------
    xarray.Variable
    """
    with_speckle = speckle is not None
    note = loss_note(metadata.settings.scale, uses_network=metadata.uses_network)
    note += "; synthetic speckle was added" if with_speckle else ""
    earlier = metadata.attributes.get(LOSS_ATTRIBUTE)
    attributes = {**metadata.attributes, LOSS_ATTRIBUTE: note if earlier is None else f"{earlier}; then {note}"}
    encoding = {**metadata.encoding, LOSS_SETTINGS: loss_text(metadata, with_speckle=with_speckle)}
    variable = xr.Variable((*metadata.leading, *metadata.spatial), values, attributes, encoding)
    return variable.transpose(*metadata.dims)


def _decode_parts(
    parts: Mapping[str, xr.Variable], metadata: LatentsMetadata, speckle: SpeckleKeys | None = None
) -> xr.Variable:
    """Decode one variable, lazily where its latents are lazy; see :func:`align_parts`."""
    sources = {part: variable.data for part, variable in parts.items()}
    if is_lazy(sources["latents"]):
        sources, metadata = settle_plane_coding(sources, metadata)
        return make_decoded_variable(_decode_lazily(sources, metadata, speckle), metadata, speckle)
    shape = (*sources["mask"].shape[:-2], *metadata.pixels)
    return make_decoded_variable(decode_region(parts, whole_window(shape), metadata, speckle), metadata, speckle)


def settle_plane_coding(
    sources: Mapping[str, Any], metadata: LatentsMetadata
) -> tuple[dict[str, Any], LatentsMetadata]:
    """Check a plane's coding that lies in memory at once, so that lazy decoding does not carry it in its graph.

    Parameters
    ----------
    sources : mapping of str to array
        By part, see :func:`align_parts`.
    metadata : LatentsMetadata

    Returns
    -------
    sources : dict of str to array
        Without a coding in memory.
    metadata : LatentsMetadata
        With the step of that coding.
    """
    if "plane_coding" not in sources or is_lazy(sources["plane_coding"]):
        return dict(sources), metadata
    step_db = plane_step(sources["plane_coding"], metadata)
    others = {part: values for part, values in sources.items() if part != "plane_coding"}
    return others, replace(metadata, settings=replace(metadata.settings, step_db=step_db))


def decode_region(
    parts: Mapping[str, Any], region: Window, metadata: LatentsMetadata, speckle: SpeckleKeys | None = None
) -> NDArray:
    """Decode a region, read in windows that bound the memory beside the result.

    Parameters
    ----------
    parts : mapping of str to array-like
        See :func:`align_parts`; they are indexed by slices, and only read there.
    region : Window
        Pixels, on each axis of (..., y, x).
    metadata : LatentsMetadata
    speckle : SpeckleKeys, optional
        Keys of all planes of the variable, to add synthetic speckle.

    Returns
    -------
    ndarray of the original data type, shape of the region
        Backscatter in the unit of the original.
    """
    values = np.empty(window_shape(region), np.dtype(metadata.dtype))
    if values.size == 0:
        return values
    reach = load_coder(metadata.model_id, network=metadata.uses_network).latent_reach
    for rows, columns in itertools.product(*(aligned_spans(*span, REGION_PIXELS) for span in region[-2:])):
        window = (*region[:-2], rows, columns)
        pieces = {
            part: np.asarray(stored[window_slices(part_window(window, part, metadata, reach))])
            for part, stored in parts.items()
        }
        place = (rows.relative_to(region[-2].start), columns.relative_to(region[-1].start))
        values[..., *place] = decode_window(window, pieces, metadata, speckle)
    return values


def part_window(window: Window, part: str, metadata: LatentsMetadata, reach: int) -> Window:
    """Window of a part that decoding a window of pixels reads.

    Parameters
    ----------
    window : Window
        Pixels, on each axis of (..., y, x).
    part : {"latents", "mask", "exact", "residual", "gains", "coding", "plane_coding"}
    metadata : LatentsMetadata
        Size of the scene.
    reach : int
        Latents around a block that the coder reads, ``coder.latent_reach``.

    Returns
    -------
    Window
        On each axis of the part, see :func:`align_parts`.
    """
    if part == "plane_coding":
        return (Span(0, 2), *latents_window(decoded_window(window, metadata), metadata, reach)[-2:])
    if part == "coding":
        return (*window[:-2], Span(0, 2))
    window = decoded_window(window, metadata)
    if part == "latents":
        return latents_window(window, metadata, reach)
    return gains_window(window) if part == "gains" else window


def _decode_lazily(sources: Mapping[str, Any], metadata: LatentsMetadata, speckle: SpeckleKeys | None) -> Any:
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
    reach = load_coder(metadata.model_id, network=metadata.uses_network).latent_reach
    windows = {}
    for part, values in sources.items():
        part_chunks = chunks if part in PIXEL_PARTS else _existing_chunks(values)
        array = values if part == "latents" else from_numpy_or_dask(values, part_chunks)
        windows[part] = Source(array, functools.partial(part_window, part=part, metadata=metadata, reach=reach))
    return map_windows(
        decode_window,
        windows,
        chunks,
        np.dtype(metadata.dtype),
        name="sarcomp-decode",
        arguments=(metadata, speckle),
    )


def _existing_chunks(values: Any) -> tuple[tuple[int, ...], ...]:
    """Chunks that gains or coding have already: to rechunk them would make each block wait for all of them."""
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
        The piece of each part that :func:`part_window` selects: ``latents``, int32, shape (..., latent, y_latent,
        x_latent); ``mask``, uint8, shape (..., y, x); optionally ``exact``, shape (..., y, x), the values where the mask is
        EXACT; ``residual``, int32, shape (..., y, x); ``gains``, int32, shape (..., gain=2, y_tile, x_tile); and ``coding``,
        float64, shape (..., coding=2), or ``plane_coding``, float64, shape (coding=2, y_latent, x_latent).
    metadata : LatentsMetadata
    speckle : SpeckleKeys, optional
        Keys of all planes of the variable, to add synthetic speckle.

    Returns
    -------
    ndarray of the original data type, shape (..., y, x)
        Backscatter in the unit of the original.

    Raises
    ------
    CorruptStreamError
        If a chunk is missing, or parts contradict the metadata.
    NotEncodedError
        If planes were encoded with settings other than those of the metadata.
    """
    asked, window = window, decoded_window(window, metadata)
    shape, dtype = window_shape(window), np.dtype(metadata.dtype)
    coder = load_coder(metadata.model_id, network=metadata.uses_network)
    symbols = parts["latents"].reshape(-1, *parts["latents"].shape[-3:])
    check_present(symbols, f"latents of {metadata.name!r}")
    classes = parts["mask"].reshape(-1, *shape[-2:])
    check_nodata(classes, dtype, metadata.settings.nodata)
    exact = parts["exact"].reshape(classes.shape) if "exact" in parts else None
    data = guarantee_data_from_parts(window, parts.get("residual"), parts.get("gains"), metadata)
    values = np.empty(classes.shape, dtype)
    plane_speckle = None if speckle is None else speckle.for_window(window[:-2])
    levels = None
    if metadata.settings.guarantees.mean_levels:
        symbols, levels = split_levels(window, symbols, metadata, coder.latent_reach)
    for planes, settings in _settings_of_planes(parts, metadata, classes):
        data_of_planes = None if data is None else data.select_planes(planes)
        if levels is not None:
            means_db = levels.means_db(planes, coder, settings.step_db)
            data_of_planes = GuaranteeData(means_db=means_db, uniform_means=speckle is not None)
        signal = decode_signal(
            window,
            symbols[planes],
            metadata,
            coder,
            settings.step_db,
            None if plane_speckle is None else plane_speckle[planes],
        )
        values[planes] = backscatter_from_signal(
            signal,
            classes[planes],
            None if exact is None else select_exact(exact[planes], classes[planes] == pixel_classes.EXACT, metadata),
            dtype,
            settings,
            coder,
            data_of_planes,
        )
    inside = (span.relative_to(read.start) for span, read in zip(asked[-2:], window[-2:], strict=True))
    return values[:, *inside].reshape(window_shape(asked))


def _settings_of_planes(
    parts: Mapping[str, NDArray], metadata: LatentsMetadata, classes: NDArray[np.uint8]
) -> Iterator[tuple[slice, Settings]]:
    """Groups of planes that are decoded together, and their settings."""
    for run in runs_of_parts(parts, metadata, len(classes)):
        for group in plane_groups(run.planes.stop - run.planes.start, classes[0].size):
            yield slice(run.planes.start + group.start, run.planes.start + group.stop), run.settings
