"""Appending: the next dates of a time series become part of a store that exists.

The store is either as long as before or longer by all that was appended: what an error or a kill leaves is taken back, at once
or by the next call. While values are written, a note in the store says how long it was (:mod:`xsarcomp.stores.unfinished`). Readers of
consolidated metadata see the store as it was until the end.
"""

import warnings
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from xsarcomp.errors import ConfigurationError, DimensionError, NotEncodedError
from xsarcomp.latents.append import check_backscatter_like, check_latents_like, latents_of, plan_latents
from xsarcomp.latents.encode import encode_dataset
from xsarcomp.latents.info import transparent_configuration, transparent_scales
from xsarcomp.latents.inspection import infer_array_scale, refuse_lossy
from xsarcomp.latents.metadata import ATTRIBUTE
from xsarcomp.scenes.times import with_fine_times
from xsarcomp.scenes.variables import declared_nodata, is_lazy, spatial_dimensions
from xsarcomp.stores.array_writes import WrittenChunks, object_shape, wait_after_errors, write_values
from xsarcomp.stores.compact import compact_documents
from xsarcomp.stores.locations import expanded
from xsarcomp.stores.locking import writer_lock
from xsarcomp.stores.opening import open_zarr_store, readable_store
from xsarcomp.stores.recording import extend_manifest
from xsarcomp.stores.sources import refuse_own_sources
from xsarcomp.stores.stored_array import is_compressed
from xsarcomp.stores.unfinished import array_dimensions, forget, note, resized, shared_planes, take_back
from xsarcomp.stores.writing import ArrayCollector, align_blocks, dataset_blocks, write_blocks

USUAL_DIMENSION = "time"
"""Dimension along which scenes are appended, if the store has it and no other is named."""
BANDS = "band"
"""Dimension of the bands of a raster, along which none is appended unless it is named."""


@dataclass(frozen=True)
class AppendReport:
    """Counts of an append."""

    dim: str
    """Dimension that grew."""
    before: int
    """Its size before."""
    after: int
    """Its size now."""


def append_dataset(
    dataset: xr.Dataset,
    store: Any,
    *,
    dim: str | None = None,
    group: str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> AppendReport:
    """Append scenes to a store; see ``.sarcomp.append``.

    Parameters
    ----------
    dataset : xarray.Dataset
        Backscatter on the grid of the store, or latents that were encoded for it.
    store, dim, group, storage_options
        As for ``.sarcomp.append``.

    Returns
    -------
    AppendReport

    Raises
    ------
    ConfigurationError, DimensionError, NotEncodedError
        As ``.sarcomp.append`` does.
    """
    store = expanded(store)
    refuse_own_sources(dataset, store, group=group, storage_options=storage_options)
    with writer_lock(store, group=group, storage_options=storage_options), compact_documents():
        return _append_locked(dataset, store, dim, group, storage_options)


def _append_locked(
    dataset: xr.Dataset, store: Any, dim: str | None, group: str | None, storage_options: dict[str, Any] | None
) -> AppendReport:
    """Append scenes to a store that nobody else writes."""
    try:
        with readable_store(store):
            root = zarr.open_group(
                store, mode="r+", path=group or "", use_consolidated=False, storage_options=storage_options
            )
    except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError(
            f"there is no store {store} to append to: write the first dates, scene.sarcomp.encode(...).sarcomp.to_zarr(...)"
        ) from error
    take_back(root)
    # consolidated metadata may be those of before, if a process was killed when all was written
    earlier = open_zarr_store(root.store, chunks=None, group=root.path or None, consolidated=False)
    if not latents_of(earlier) and not _transparent_names(earlier):
        raise NotEncodedError(f"{store} holds nothing that xsarcomp compressed: append with xarray's Dataset.to_zarr")
    dim = _append_dimension(earlier, dim)
    addition = _prepared(dataset, earlier, dim)
    before, count = earlier.sizes[dim], addition.sizes[dim]
    if count == 0:
        return AppendReport(dim, before, before)
    shared = {
        array.basename: shared_planes(array, dim, before)
        for _, array in root.arrays()
        if dim in array_dimensions(array)
    }
    _refuse_recompression(root, shared, dim)
    note(root, dim, before, [name for name in addition.variables if str(name) not in root])
    try:
        _create_exact_values(root, addition, dim, before)
        with wait_after_errors():
            # planes that share a chunk with those before are written first and by one task
            first = min(max(shared.values(), default=0), count)
            for piece in (slice(0, first), slice(first, count)):
                if piece.start < piece.stop:
                    _write_piece(addition.isel({dim: piece}), root, dim)
        _check_coordinates(root, addition, dim, before)
    except BaseException:
        take_back(root)
        raise
    _finish(root, dim, before)
    return AppendReport(dim, before, before + count)


def _append_dimension(earlier: xr.Dataset, dim: str | None) -> str:
    """Dimension along which the variables of a store grow."""
    leading: list[Hashable] = [name for metadata in latents_of(earlier).values() for name in metadata.leading]
    for name in _transparent_names(earlier):
        leading += [other for other in earlier[name].dims if other not in spatial_dimensions(earlier[name])]
    names = list(dict.fromkeys(map(str, leading)))
    if dim is None and (USUAL_DIMENSION in names or (len(names) == 1 and names != [BANDS])):
        dim = USUAL_DIMENSION if USUAL_DIMENSION in names else names[0]
    if dim not in names:
        found = f"the dimensions {', '.join(names)}" if names else "no dimension"
        raise DimensionError(
            f"the store has {found} beside y and x, expected {'one named time' if dim is None else repr(dim)} to append along: "
            + (
                "name it with dim=..."
                if names not in ([], [BANDS])
                else "write a store with a time, scene.expand_dims('time').sarcomp.encode(...)"
            )
        )
    return dim


def _transparent_names(earlier: xr.Dataset) -> list[Hashable]:
    """Names of the variables that a codec of a transparent store compressed."""
    return [*transparent_scales({name: variable.encoding for name, variable in earlier.data_vars.items()})]


def _prepared(dataset: xr.Dataset, earlier: xr.Dataset, dim: str) -> xr.Dataset:
    """Scenes as the store will hold them: all variables along the dimension, encoded, and nothing else; checked."""
    addition = with_fine_times(_along(dataset, earlier, dim))
    _check_static(addition, earlier, dim)
    _check_labels(addition, earlier, dim)
    latents = latents_of(earlier)
    if latents:
        if latents_of(addition):
            check_latents_like(addition, earlier)
        else:
            names = [str(metadata.name) for metadata in latents.values()]
            _check_present(names, addition)
            options: dict[str, Any] = {"model": None, "scale": "auto", "recompress": False}
            addition = encode_dataset(addition, plan_latents(addition, names, {}, like=earlier, **options))
    else:
        names = [str(name) for name in _transparent_names(earlier)]
        _check_present(names, addition)
        check_backscatter_like(addition, earlier, names)
        addition = addition.assign({name: _like_stored(addition[name], earlier[name], dim) for name in names})
    kept_exactly = {metadata.part_names["exact"] for metadata in latents.values()}
    growing = {str(name) for name, variable in earlier.variables.items() if dim in variable.dims}
    found = {str(name) for name, variable in addition.variables.items() if dim in variable.dims}
    if missing := sorted(growing - found - kept_exactly):
        raise NotEncodedError(
            f"the store holds {', '.join(missing)} for each {dim}, and what is to be appended does not: add them, so that no date "
            "is without"
        )
    if unknown := sorted(found - growing - kept_exactly):
        raise NotEncodedError(
            f"the store has no {', '.join(unknown)}, which would be lost: drop them first, dataset.drop_vars({unknown})"
        )
    # group attributes and coordinates of the grid stay as they are
    kept = addition.drop_vars([name for name, variable in addition.variables.items() if dim not in variable.dims])
    return kept.drop_attrs(deep=False)


def _along(dataset: xr.Dataset, earlier: xr.Dataset, dim: str) -> xr.Dataset:
    """Dataset with the dimension, which a single scene has as a scalar coordinate; what the store holds once stays as it is."""
    if dim in dataset.dims:
        return dataset
    if dim not in dataset.coords:
        raise DimensionError(
            f"the scene has no {dim!r}, along which it is to be appended: name it, scene.assign_coords({dim}=...)"
        )
    once = [name for name, variable in earlier.variables.items() if dim not in variable.dims]
    variables = [name for name, variable in dataset.data_vars.items() if variable.ndim >= 2 and name not in once]
    return dataset.assign({name: dataset[name].expand_dims(dim) for name in variables})


def _check_static(addition: xr.Dataset, earlier: xr.Dataset, dim: str) -> None:
    """Refuse variables without the dimension that the store does not hold, or holds with other values: they would be lost."""
    for name, array in addition.data_vars.items():
        if dim in array.dims or ATTRIBUTE in array.attrs or array.ndim == 0:
            continue
        if name not in earlier.variables:
            raise NotEncodedError(
                f"the store has no {name!r}, which would be lost: drop it first, dataset.drop_vars({name!r})"
            )
        if not array.variable.equals(earlier.variables[name]):
            raise ConfigurationError(
                f"{name!r} has no dimension {dim!r} and other values than in the store, which holds it once for all dates: drop it "
                f"first, dataset.drop_vars({name!r})"
            )


def _check_present(names: list[str], addition: xr.Dataset) -> None:
    """Refuse scenes without one of the store's variables: a date would be without it."""
    if missing := [name for name in names if name not in addition.data_vars]:
        found = ", ".join(map(str, addition.data_vars)) or "none"
        raise NotEncodedError(
            f"the store holds {', '.join(names)}, and {', '.join(missing)} is missing among the variables to append ({found}): "
            "rename them, or add what is missing"
        )


def _check_labels(addition: xr.Dataset, earlier: xr.Dataset, dim: str) -> None:
    """Refuse labels along the dimension that are in the store already, or twice among the new ones."""
    if dim not in earlier.coords:
        return
    if dim not in addition.coords:
        raise DimensionError(
            f"the store has a coordinate {dim!r}, and the scenes have none: scene.assign_coords({dim}=...)"
        )
    new, old = np.atleast_1d(addition[dim].values), earlier[dim].values
    if (new.dtype.kind == "M") != (old.dtype.kind == "M"):
        raise DimensionError(f"{dim!r} is {new.dtype} and {old.dtype} in the store: convert it first")
    values, counts = np.unique(new, return_counts=True)
    twice = [*values[counts > 1], *values[np.isin(values, old)]]
    if twice:
        raise ConfigurationError(
            f"{len(twice)} of {len(new)} values of {dim!r} are in the store already or given twice, the first {twice[0]}: leave "
            f"them out. To replace a date, write its region, encode(like=store).to_zarr(..., region=...)"
        )


def _like_stored(array: xr.DataArray, stored: xr.DataArray, dim: str) -> xr.DataArray:
    """Backscatter for the codec of a transparent store: dimensions and chunks of the store, checked data type and scale."""
    refuse_lossy(array)
    codec, nodata = transparent_configuration(stored.variable) or {}, declared_nodata(array)
    nodata = codec.get("nodata") if nodata is None else nodata  # the first dates may have shown what nobody declared
    scale = infer_array_scale(array, nodata)
    found = {"data type": array.dtype.newbyteorder("="), "scale": scale, "nodata value": nodata}
    wanted = {"data type": stored.dtype.newbyteorder("="), "scale": codec["scale"], "nodata value": codec.get("nodata")}
    unlike = [f"{name} {found[name]} instead of {wanted[name]}" for name in found if found[name] != wanted[name]]
    if unlike:
        raise ConfigurationError(
            f"{array.name!r} cannot be appended to the store, it has {' and '.join(unlike)}: convert it first, or write it to a new "
            "store"
        )
    if {*array.dims} != {*stored.dims}:
        raise DimensionError(f"{array.name!r} has dimensions {array.dims}, the store {stored.dims}")
    array = array.transpose(*stored.dims)
    chunks = stored.encoding.get("shards") or stored.encoding["chunks"]
    return array.chunk(dict(zip(stored.dims, chunks, strict=True))) if is_lazy(array.data) else array


def _refuse_recompression(root: zarr.Group, shared: Mapping[str, int], dim: str) -> None:
    """Refuse an append into chunks of a transparent store that are full in part: their planes would be coded again."""
    for name, count in shared.items():
        array = root[name]
        if count and isinstance(array, zarr.Array) and is_compressed(array) and ATTRIBUTE not in array.attrs:
            planes = object_shape(array)[array_dimensions(array).index(dim)]
            raise DimensionError(
                f"the last chunk of {name!r} holds {planes - count} planes along {dim!r} and has room for {count} more: writing "
                f"them would code the others with loss once more. Write a store whose chunks hold one plane, "
                f"scene.chunk({dim}=1), and append to that"
            )


def _write_piece(addition: xr.Dataset, root: zarr.Group, dim: str) -> None:
    """Write planes behind those of the store; at most the first chunk is shared with planes before."""
    arrays = ArrayCollector()
    # "r+", because "a" writes the metadata of the group too
    target = xr.backends.ZarrStore(root, mode="r+", append_dim=dim, safe_chunks=False, consolidate_on_close=False)
    sizes = {array.basename: array.shape for _, array in root.arrays()}
    with warnings.catch_warnings():
        # the coordinates are compared when they are written, see _check_coordinates
        warnings.filterwarnings("ignore", "Times can't be serialized faithfully", UserWarning)
        addition.dump_to_store(target, writer=arrays)
    for name, array in root.arrays():
        if name not in arrays.targets and dim in array_dimensions(array):  # exact values, of which there are none now
            size = sizes[name][array_dimensions(array).index(dim)] + addition.sizes[dim]
            array.resize(resized(array, dim, size))
    offsets = {
        name: tuple(sizes[name][axis] if array_dimensions(array)[axis] == dim else 0 for axis in range(array.ndim))
        for name, array in arrays.targets.items()
    }
    align_blocks(arrays, offsets)
    for name, source in arrays.sources.items():
        if not is_lazy(source):
            values = np.asarray(source)
            write_values(arrays.targets[name], values, _region(offsets[name], values.shape))
    blocks = [
        replace(block, parts=tuple((name, index, _moved(region, offsets[name])) for name, index, region in block.parts))
        for block in dataset_blocks(addition, arrays)
    ]
    write_blocks(arrays, blocks, {name: WrittenChunks(target) for name, target in arrays.targets.items()})


def _create_exact_values(root: zarr.Group, addition: xr.Dataset, dim: str, before: int) -> None:
    """Create the arrays of exact values that the store lacks because its dates have none; no chunk of them is written."""
    for name, variable in addition.variables.items():
        if str(name) in root:
            continue
        # not by xarray, which would write the metadata of the group too
        root.create_array(
            str(name),
            shape=tuple(before if name == dim else size for name, size in variable.sizes.items()),
            chunks=variable.encoding["chunks"],
            dtype=variable.dtype,
            compressors=variable.encoding["compressors"],
            fill_value=variable.encoding["fill_value"],
            dimension_names=[*map(str, variable.dims)],
            attributes=dict(variable.attrs),
        )


def _region(first: tuple[int, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Region of a shape that begins at an element."""
    return tuple(slice(start, start + size) for start, size in zip(first, shape, strict=True))


def _moved(region: tuple[slice, ...], offset: tuple[int, ...]) -> tuple[slice, ...]:
    """Region moved by an offset."""
    return tuple(slice(one.start + by, one.stop + by) for one, by in zip(region, offset, strict=True))


def _check_coordinates(root: zarr.Group, addition: xr.Dataset, dim: str, before: int) -> None:
    """Refuse a store whose encoding cannot hold the new coordinates: they would read as other values."""
    for name, coordinate in addition.coords.items():
        stored, encoding = _stored_coordinate(root, str(name), dim, before)
        is_equal = stored == coordinate.values
        is_equal |= (stored != stored) & (coordinate.values != coordinate.values)  # NaN and NaT
        if not np.all(is_equal):
            place = int(np.flatnonzero(~is_equal.ravel())[0])
            raise ConfigurationError(
                f"{name!r} {coordinate.values.ravel()[place]} would read as {stored.ravel()[place]}: the store keeps it as "
                f"{encoding.get('dtype')} in {encoding.get('units', 'its unit')}, which cannot hold it. "
                "Nothing was appended. Write a new store with .sarcomp.to_zarr, whose times hold microseconds"
            )


def _stored_coordinate(root: zarr.Group, name: str, dim: str, before: int) -> tuple[NDArray, dict[str, Any]]:
    """New values of a coordinate as a reader decodes them, and its encoding; NaT where they cannot be decoded."""
    raw = xr.open_zarr(root.store, group=root.path, consolidated=False, chunks=None, decode_cf=False)
    only = raw.drop_vars([other for other in raw.variables if other != name])
    try:
        found = xr.decode_cf(only, decode_timedelta=True)[name]
    except (ValueError, OverflowError):  # times of which one is out of range
        size = only.sizes[dim] - before
        return np.full(size, np.datetime64("NaT")), {"dtype": only[name].dtype, **only[name].attrs}
    return found.isel({dim: slice(before, None)}).values, found.encoding


def _finish(root: zarr.Group, dim: str, before: int) -> None:
    """Make an append part of the store: manifest, consolidated metadata."""
    is_consolidated = zarr.open_group(root.store_path, mode="r").metadata.consolidated_metadata is not None
    extend_manifest(root.store_path, dim, before)
    forget(root)
    if is_consolidated:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Consolidated metadata is currently not part", UserWarning)
            zarr.consolidate_metadata(root.store, path=root.path, zarr_format=root.metadata.zarr_format)
