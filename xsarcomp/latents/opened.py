"""Opened latents stores, decoded without Dask: the part of the engine between xarray's Zarr engine and xarray itself."""

from collections.abc import Collection, Hashable, Mapping, Sequence

import xarray as xr

from xsarcomp.codec.lapped import BLOCK
from xsarcomp.latents.decode import align_parts, make_decoded_variable, read_latents_metadata, replace_parts
from xsarcomp.latents.layout import CHUNK_LATENTS
from xsarcomp.latents.lazy_arrays import LazyBackscatter, LazyValues, lazily
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata, part_names
from xsarcomp.latents.overview import check_factor, coarsen_others, overview_dataset
from xsarcomp.latents.part_checks import no_latents
from xsarcomp.latents.positions import POSITION_ATTRIBUTE
from xsarcomp.latents.quality import at_quality
from xsarcomp.latents.speckle_keys import speckle_keys


def decode_opened(
    opened: xr.Dataset,
    *,
    dropped: Collection[Hashable] = (),
    restore: str | None = None,
    overview: int | None = None,
    quality: str = "best",
) -> xr.Dataset:
    """Decode the latents of an opened store lazily.

    Parameters
    ----------
    opened : xarray.Dataset
        Variables of the store, decoded by those conventions of CF that the caller wants.
    dropped : collection of names
        Backscatter to leave out; its parts need not be readable.
    restore, overview, quality
        As for ``.sarcomp.decode``.

    Returns
    -------
    xarray.Dataset
        Lazy arrays of xarray, no Dask.
    """
    if not (stored := _stored_metadata(opened)):
        raise no_latents(opened)
    left_out = {part for one in stored.values() if one.name in dropped for part in part_names(one.name).values()}
    kept = opened.drop_vars(left_out, errors="ignore")
    if not _stored_metadata(kept):
        return replace_parts(kept, {}, stored)
    source = _fully_decoded(kept, stored, restore)
    if overview is not None:
        factor = check_factor(overview, restore=restore)
        return overview_dataset(kept.assign(source.variables), factor, make_lazy=lazily)
    variables = read_latents_metadata(source)
    decoded = {
        one.name: _lazy_variable(source, name, at_quality(one, quality), restore) for name, one in variables.items()
    }
    return replace_parts(kept, decoded, variables)


def coarsen_above(dataset: xr.Dataset, below: Sequence[xr.Dataset], *, overview: int, lazy: bool = True) -> xr.Dataset:
    """Coarsen the coordinates that groups with latents inherit from a group without.

    Parameters
    ----------
    dataset : xarray.Dataset
        The group above.
    below : sequence of xarray.Dataset
        Groups with latents, of which overviews are made.
    overview : int
        Pixels of a block along each axis.
    lazy : bool
        Make lazy arrays of xarray; else they are lazy where the coordinates are Dask arrays.

    Returns
    -------
    xarray.Dataset
    """
    variables = {name: one for group in below for name, one in _stored_metadata(group).items()}
    return coarsen_others(dataset, variables, check_factor(overview), lazily if lazy else None)


def _stored_metadata(dataset: xr.Dataset) -> dict[Hashable, LatentsMetadata]:
    """Metadata of all latents of a dataset, not checked."""
    return {
        name: LatentsMetadata.from_attribute(variable.attrs[ATTRIBUTE])
        for name, variable in dataset.variables.items()
        if ATTRIBUTE in variable.attrs
    }


def _fully_decoded(opened: xr.Dataset, stored: Mapping[Hashable, LatentsMetadata], restore: str | None) -> xr.Dataset:
    """What decoding reads, by all conventions of CF: latents with their parts, and the coordinates of their dimensions.

    The coordinates are compared with those of the encoder as numbers or times, whatever of them the caller wants to see.
    """
    needed = {name for one in stored.values() for name in (*part_names(one.name).values(), *one.spatial)}
    if restore is not None:
        needed |= {dim for one in stored.values() for dim in one.dims}
    others = [
        name
        for name, variable in opened.variables.items()
        if name not in needed and not {ATTRIBUTE, POSITION_ATTRIBUTE} & {*variable.attrs}
    ]
    return xr.decode_cf(opened.drop_vars(others))


def _lazy_variable(dataset: xr.Dataset, name: Hashable, metadata: LatentsMetadata, restore: str | None) -> xr.Variable:
    """One decoded variable, with the chunks that Dask should take."""
    parts, selected = align_parts(dataset, metadata)
    speckle = speckle_keys(dataset, metadata, selected, restore)
    variable = make_decoded_variable(LazyValues(LazyBackscatter(parts, selected, speckle)), selected, speckle)
    stored = dataset.variables[name].encoding.get("preferred_chunks", {})
    variable.encoding["preferred_chunks"] = {
        dim: min(CHUNK_LATENTS * BLOCK, size) if dim in metadata.spatial else stored.get(dim, 1)
        for dim, size in variable.sizes.items()
    }
    return variable
