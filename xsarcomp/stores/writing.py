"""Writing of datasets into Zarr stores block by block: memory does not grow with the scene, and interrupted writers can resume.

xarray creates the store: metadata, coordinates, encoded values. Only the blocks of lazy variables are written here, because
``Dataset.to_zarr`` ends in a task that waits for all of them (``docs/decisions/0018-own-writer.md``).
"""

import contextlib
import functools
import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.tile_means import TILE
from xsarcomp.errors import ConfigurationError, CorruptStreamError
from xsarcomp.latents.info import mark_lossy, transparent_scales
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata
from xsarcomp.scenes.chunking import aligned_blocks, with_regular_blocks
from xsarcomp.scenes.times import time_encodings, with_time_encoding
from xsarcomp.scenes.variables import is_lazy
from xsarcomp.stores.array_writes import Region, Written, WrittenChunks, object_shape, wait_after_errors, write_recorded
from xsarcomp.stores.compact import compact_documents, with_small_coordinates
from xsarcomp.stores.locations import check_target, expanded
from xsarcomp.stores.locking import writer_lock
from xsarcomp.stores.resuming import PartialStore, open_partial_store
from xsarcomp.stores.sources import refuse_own_sources
from xsarcomp.stores.stored_array import is_compressed
from xsarcomp.stores.verification import write_manifest

BLOCKWISE = {"mask": 1, "exact": 1, "residual": 1, "gains": TILE, "latents": BLOCK}
"""Parts of a latents variable that are written together in blocks, and the pixels along an axis that each value stands for."""


@dataclass(frozen=True)
class WriteReport:
    """Counts of the blocks of a dataset that was written."""

    blocks: int
    """Number of Dask blocks of lazy variables; the parts of a latents variable count as one."""
    reused: int
    """Number of blocks that an interrupted writer had finished before."""
    sizes: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Bytes of the objects of each array that were written now."""


@dataclass(eq=False)
class ArrayCollector:
    """Replacement of xarray's ``ArrayWriter``: collects sources and targets, and writes nothing."""

    sources: dict[str, Any] = field(default_factory=dict)
    """Encoded values by name, in memory or lazy."""
    targets: dict[str, zarr.Array] = field(default_factory=dict)
    """Arrays of the store by name."""

    def add(self, source: Any, target: zarr.Array, region: Any = None) -> None:
        """Collect a variable; xarray calls it with encoded values and the array that it created for them."""
        self.sources[target.basename], self.targets[target.basename] = source, target

    @property
    def lazy(self) -> dict[str, Any]:
        """Dask arrays by name."""
        return {name: source for name, source in self.sources.items() if is_lazy(source)}


def write_dataset(
    dataset: xr.Dataset,
    store: Any,
    *,
    mode: str | None = None,
    group: str | None = None,
    encoding: Mapping[Hashable, Mapping[str, Any]] | None = None,
    zarr_format: int | None = None,
    consolidated: bool | None = None,
    storage_options: dict[str, Any] | None = None,
    resume: bool = False,
) -> WriteReport:
    """Write a dataset; see ``.sarcomp.to_zarr``.

    An error or an interruption reaches the caller when all writes that have begun have ended, so that a retry meets none.

    Parameters
    ----------
    dataset : xarray.Dataset
    store, mode, group, encoding, zarr_format, consolidated, storage_options, resume
        As for ``.sarcomp.to_zarr``.

    Returns
    -------
    WriteReport

    Raises
    ------
    ConfigurationError, CorruptStreamError
        As ``.sarcomp.to_zarr`` does.
    """
    if mode not in (None, "w", "w-"):
        raise ConfigurationError(
            f"mode is {mode!r}, expected 'w-' (the default) or 'w': to append dates call .sarcomp.append, to write regions xarray's "
            "Dataset.to_zarr"
        )
    if zarr_format == 2 and any(ATTRIBUTE in variable.attrs for variable in dataset.variables.values()):
        raise ConfigurationError(
            "latents were to be written in Zarr format 2, which has no codec for them: use format 3, or a transparent store, "
            "dataset.sarcomp.encoding(zarr_format=2)"
        )
    if not isinstance(encoding or {}, dict):
        raise ConfigurationError(
            f"encoding is of type {type(encoding).__name__}, expected the dictionary that .sarcomp.encoding(...) returns. Latents "
            "are written without one: scene.sarcomp.encode(...).sarcomp.to_zarr(store)"
        )
    dataset = mark_lossy(dataset, transparent_scales(encoding or {}))
    if resume and mode is not None:
        raise ConfigurationError(f"mode {mode!r} and resume=True contradict each other: leave mode out to go on")
    store = expanded(store)
    refuse_own_sources(dataset, store, group=group, storage_options=storage_options)
    check_target(store)
    if isinstance(store, str) and "://" not in store:
        Path(store).parent.mkdir(parents=True, exist_ok=True)
    with writer_lock(store, group=group, storage_options=storage_options), compact_documents():
        return _write_locked(
            dataset,
            store,
            partial=open_partial_store(store, group=group, storage_options=storage_options) if resume else None,
            mode=mode,
            group=group,
            encoding=encoding or {},
            zarr_format=zarr_format,
            consolidated=consolidated,
            storage_options=storage_options,
        )


def _write_locked(
    dataset: xr.Dataset,
    store: Any,
    *,
    partial: PartialStore | None,
    mode: str | None,
    group: str | None,
    encoding: Mapping[Hashable, Mapping[str, Any]],
    zarr_format: int | None,
    consolidated: bool | None,
    storage_options: dict[str, Any] | None,
) -> WriteReport:
    """Write a dataset into a store that nobody else writes."""
    options: dict[str, Any] = {"group": group, "zarr_format": zarr_format}
    if partial is None:
        options |= {"mode": mode or "w-", "storage_options": storage_options}
    else:  # the store is planned in memory, and compared with the partial one
        store, options["mode"] = zarr.storage.MemoryStore(), "w"
        options["zarr_format"] = zarr_format or partial.zarr_format
    created = _created_store(dataset, store, encoding, consolidated=consolidated, **options)
    with wait_after_errors(), created as (arrays, root):
        align_blocks(arrays)
        blocks = dataset_blocks(dataset, arrays)
        if partial is not None:
            arrays.targets, root = partial.accept(root, arrays.targets), partial.group
        written = {name: WrittenChunks(target) for name, target in arrays.targets.items()}
        _write_memory(arrays, partial, written)
        missing = [block for block in blocks if partial is None or not partial.holds(*block.last)]
        write_blocks(arrays, missing, written)
        if any(map(is_compressed, arrays.targets.values())):
            _write_manifest(root, written, check=partial is not None)
    sizes = {name: chunks.size for name, chunks in written.items()}
    return WriteReport(blocks=len(blocks), reused=len(blocks) - len(missing), sizes=sizes)


@contextlib.contextmanager
def _created_store(
    dataset: xr.Dataset,
    store: Any,
    encoding: Mapping[Hashable, Mapping[str, Any]],
    *,
    consolidated: bool | None,
    **options: Any,
) -> Iterator[tuple[ArrayCollector, zarr.Group]]:
    """Create a store with xarray, with all metadata and no values; gives the sources and targets of values, and the group."""
    if unknown := [name for name in encoding if name not in dataset.variables]:
        raise ConfigurationError(f"the encoding names {unknown}, expected names among {[*dataset.variables]}")
    dataset = with_small_coordinates(with_time_encoding(dataset), encoding, options["zarr_format"])
    for name, variable in dataset.variables.items():
        if variable.size == 0:
            variable.load()
        elif variable.chunks and not encoding.get(name, variable.encoding).get("chunks"):
            variable.data = with_regular_blocks(variable).data
    # blocks are aligned with chunks and shards below, for every version of xarray alike
    try:
        target = xr.backends.ZarrStore.open_group(
            store, consolidated=False, consolidate_on_close=consolidated is not False, safe_chunks=False, **options
        )
    except (FileExistsError, zarr.errors.ContainsGroupError, zarr.errors.ContainsArrayError) as error:
        raise FileExistsError(
            f"{store} already holds a store: give another name, replace it with mode='w', continue an interrupted one with "
            "resume=True, or append dates with .sarcomp.append"
        ) from error
    arrays = ArrayCollector()
    try:
        dataset.dump_to_store(target, writer=arrays, encoding=_with_times(encoding, dataset))
        yield arrays, target.zarr_group
    finally:
        target.close()


def _with_times(encoding: Mapping[Hashable, Mapping[str, Any]], dataset: xr.Dataset) -> dict[Hashable, dict[str, Any]]:
    """Encoding with that of times where it has none of its own: it replaces what the variable has."""
    times = time_encodings(dataset.drop_encoding())
    return {
        name: {**({} if {"units", "dtype"} & entries.keys() else times.get(name, {})), **entries}
        for name, entries in encoding.items()
    }


def align_blocks(arrays: ArrayCollector, offsets: Mapping[str, Sequence[int]] | None = None) -> None:
    """Rechunk what ends inside a chunk or shard: two tasks would write the same object at the same time.

    Parameters
    ----------
    arrays : ArrayCollector
        Its lazy sources are changed.
    offsets : mapping of str to sequence of int, optional
        First element that is written of each array, along each axis; 0 if not given.
    """
    for name, source in arrays.lazy.items():
        edges = object_shape(arrays.targets[name])
        first = offsets[name] if offsets else (0,) * len(edges)
        blocks = tuple(map(aligned_blocks, source.chunks, edges, first))
        if blocks != source.chunks:
            arrays.sources[name] = source.rechunk(blocks)


@dataclass(frozen=True)
class _Block:
    """Regions of arrays that one task writes."""

    place: tuple[int, ...]
    """Number of the group of arrays, and index of the block."""
    parts: tuple[tuple[str, tuple[int, ...], Region], ...]
    """Name of an array, index of the block and region, in the order of writing."""

    @property
    def last(self) -> tuple[str, Region]:
        """Array and region that are written last: they prove that the others are there."""
        name, _, region = self.parts[-1]
        return name, region


@dataclass(frozen=True)
class _Grid:
    """Blocks of a lazy array."""

    name: str
    ends: tuple[tuple[int, ...], ...]
    """Ends of the blocks along each axis, in elements."""
    has_channels: bool = False
    """True if the third axis from the end holds latents or gains."""

    @property
    def can_be_grouped(self) -> bool:
        """Return whether the array has rows and columns, and no block divides its channels."""
        return len(self.ends) >= 2 + self.has_channels and (not self.has_channels or len(self.ends[-3]) == 1)

    def pixel_ends(self, unit: int, pixels: Sequence[int]) -> list[tuple[int, ...]]:
        """Ends of the blocks in the scene, if one value stands for ``unit`` pixels along y and x."""
        *lead, rows, columns = self.ends[:-3] + self.ends[-2:] if self.has_channels else self.ends
        in_plane = zip((rows, columns), pixels, strict=True)
        return [*lead, *(tuple(min(unit * end, size) for end in ends) for ends, size in in_plane)]

    def part(self, place: tuple[int, ...]) -> tuple[str, tuple[int, ...], Region]:
        """Name of the array, index of the block at a place, and its region."""
        index = (*place[:-2], 0, *place[-2:]) if self.has_channels else place
        region = (slice(ends[i - 1] if i else 0, ends[i]) for ends, i in zip(self.ends, index, strict=True))
        return self.name, index, tuple(region)


def _grids(dataset: xr.Dataset, lazy: Mapping[str, Any]) -> list[tuple[_Grid, ...]]:
    """Groups of lazy arrays whose blocks are written together: the parts of a latents variable, latents last; or one array."""
    ends = {name: tuple(tuple(np.cumsum(sizes).tolist()) for sizes in source.chunks) for name, source in lazy.items()}
    grids: list[tuple[_Grid, ...]] = []
    for name, variable in dataset.variables.items():
        if ATTRIBUTE not in variable.attrs or name not in ends:
            continue
        metadata = LatentsMetadata.from_attribute(variable.attrs[ATTRIBUTE])
        parts = {part: array for part, array in metadata.part_names.items() if array in ends and part in BLOCKWISE}
        if parts.get("latents") != name:
            continue
        group = {
            part: _Grid(array, ends[array], has_channels=part in ("latents", "gains")) for part, array in parts.items()
        }
        if not all(grid.can_be_grouped for grid in group.values()):
            continue
        places = [grid.pixel_ends(BLOCKWISE[part], metadata.pixels) for part, grid in group.items()]
        if all(place == places[0] for place in places):
            grids.append((*(grid for part, grid in group.items() if part != "latents"), group["latents"]))
    ungrouped = ends.keys() - {grid.name for group in grids for grid in group}
    return grids + [(_Grid(name, ends[name]),) for name in ends if name in ungrouped]


def dataset_blocks(dataset: xr.Dataset, arrays: ArrayCollector) -> list[_Block]:
    """Blocks of the lazy variables of a dataset, each of which one task writes; see :func:`write_blocks`."""
    return list(_blocks(_grids(dataset, arrays.lazy)))


def _blocks(grids: Sequence[tuple[_Grid, ...]]) -> Iterator[_Block]:
    """Blocks of all lazy arrays; arrays that are written together share their blocks."""
    for number, group in enumerate(grids):
        first = group[0]
        counts = [len(ends) for ends in (first.ends[:-3] + first.ends[-2:] if first.has_channels else first.ends)]
        for place in itertools.product(*map(range, counts)):
            yield _Block((number, *place), tuple(grid.part(place) for grid in group))


def _write_memory(arrays: ArrayCollector, partial: PartialStore | None, written: dict[str, WrittenChunks]) -> None:
    """Write the variables in memory: coordinates, and others that are not lazy."""
    for name, source in arrays.sources.items():
        if is_lazy(source):
            continue
        target, values = arrays.targets[name], np.asarray(source)
        new = [write_recorded(target, values)] if partial is None else partial.complete(target, values)
        for part in new:
            written[name].add(part)


def write_blocks(arrays: ArrayCollector, blocks: Sequence[_Block], written: dict[str, WrittenChunks]) -> None:
    """Write blocks of lazy arrays, each in one task, wherever Dask computes."""
    if not blocks:
        return
    from xsarcomp.scenes.calls import Call, run_calls

    lazy = arrays.lazy
    calls = (
        Call(
            functools.partial(_write_parts, tuple((arrays.targets[name], region) for name, _, region in block.parts)),
            tuple((lazy[name], index) for name, index, _ in block.parts),
            block.place,
        )
        for block in blocks
    )
    for block, parts in zip(blocks, run_calls(calls, name="sarcomp-store"), strict=True):
        for (name, _, _), part in zip(block.parts, parts, strict=True):
            written[name].add(part)


def _write_parts(targets: tuple[tuple[zarr.Array, Region], ...], *values: NDArray) -> list[Written]:
    """Write the parts of a block, as one task: the last part proves that the others are there."""
    return [write_recorded(target, part, region) for (target, region), part in zip(targets, values, strict=True)]


def _write_manifest(root: zarr.Group, written: Mapping[str, WrittenChunks], *, check: bool) -> None:
    """Write the manifest, with a check if another process, which may have crashed, wrote a part of the store."""
    report = write_manifest(root.store_path, check=check, written=written)
    if not report.ok:
        raise CorruptStreamError(
            f"{root.store_path} holds {len(report.problems)} wrong chunks, the first: {report.problems[0]}. Write it anew "
            "without resume"
        )
