"""Writes into Zarr arrays after whose failure no thread is still writing, and that know what they have written.

Zarr writes several objects at the same time, reports the first error at once and lets the others go on: a retry in the same
process would meet them.
"""

import asyncio
import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.sync import sync
from zarr.storage import StorePath

from xsarcomp.stores.manifest import ABSENT, frame_identity, object_identity
from xsarcomp.stores.stored_array import NO_CHUNK, FrameLayout, frame_layout, parse_shard_index

Region = tuple[slice, ...]
"""Slices with start and stop on each axis of an array."""
_LONGEST_WAIT = 60
"""Seconds that are waited for Zarr's event loop after an error: a store might keep a task of its own there for ever."""


def object_shape(array: zarr.Array) -> tuple[int, ...]:
    """Shape of what is stored as one object: a shard, or a chunk where there are none."""
    return tuple(array.shards or array.chunks)


def write_values(target: zarr.Array, values: NDArray, region: Region | None = None) -> None:
    """Write values into a region; after an error the writes that have begun are waited for.

    Parameters
    ----------
    target : zarr.Array
    values : ndarray
        Values of the region.
    region : tuple of slice, optional
        All of the array if None.
    """
    with wait_after_errors():
        target[... if region is None else region] = values


@dataclass(frozen=True, eq=False)
class Written:
    """Identities of the chunks of a region, from the very bytes that were given to the store."""

    first: tuple[int, ...]
    """Index of the first chunk."""
    identities: NDArray[np.uint64]
    """Identity of each chunk, ``ABSENT`` where nothing is stored."""
    size: int
    """Bytes of the objects."""


@dataclass(eq=False)
class WrittenChunks:
    """What is known to be written of an array."""

    target: zarr.Array
    identities: NDArray[np.uint64] = field(init=False)
    """Identity of each chunk, as in a manifest."""
    is_known: NDArray[np.bool_] = field(init=False)
    """True for the chunks that were written here."""
    size: int = 0
    """Bytes of the objects that were written here."""

    def __post_init__(self) -> None:
        unit = _Unit(self.target)
        grid = tuple(-(-size // edge) for size, edge in zip(self.target.shape, unit.chunk, strict=True))
        self.identities, self.is_known = np.full(grid, ABSENT, np.uint64), np.zeros(grid, bool)

    def add(self, written: Written) -> None:
        """Note what was written."""
        ends = map(int.__add__, written.first, written.identities.shape)
        window = tuple(map(slice, written.first, ends))
        self.identities[window], self.is_known[window] = written.identities, True
        self.size += written.size


def write_recorded(target: zarr.Array, values: NDArray, region: Region | None = None) -> Written:
    """Write values into a region of whole objects, as :func:`write_values` does, and tell what the store was given.

    Parameters
    ----------
    target : zarr.Array
    values : ndarray
        Values of the region.
    region : tuple of slice, optional
        All of the array if None.

    Returns
    -------
    Written
    """
    if region is None:
        region = tuple(slice(0, size) for size in target.shape)
    unit = _Unit(target)
    recorder = _Recorder(target.store, unit)
    path = StorePath(recorder, target.store_path.path)
    write_values(
        zarr.Array(zarr.AsyncArray(metadata=target.metadata, store_path=path, config=target.config)), values, region
    )
    first = tuple(span.start // edge for span, edge in zip(region, unit.chunk, strict=True))
    stops = (-(-span.stop // edge) for span, edge in zip(region, unit.chunk, strict=True))
    identities = np.full([stop - start for start, stop in zip(first, stops, strict=True)], ABSENT, np.uint64)
    for place in np.ndindex(
        tuple(-(-size // count) for size, count in zip(identities.shape, unit.per_object, strict=True))
    ):
        start = tuple(map(int.__mul__, place, unit.per_object))
        inside: Any = (slice(i, i + count) for i, count in zip(start, unit.per_object, strict=True))
        window = identities[(*inside, ...)]  # a view for arrays without axes too
        index = tuple((i + j) // count for i, j, count in zip(start, first, unit.per_object, strict=True))
        key = (path / target.metadata.encode_chunk_key(index)).path
        if (found := recorder.identities.get(key)) is not None:
            window[...] = found[tuple(map(slice, window.shape))]
    return Written(first, identities, sum(recorder.sizes.values()))


class _Unit:
    """What a manifest has an entry for: a frame, or a whole object; and the frames of an object."""

    def __init__(self, target: zarr.Array):
        self.layout: FrameLayout = frame_layout(target.metadata)
        objects = object_shape(target)
        self.chunk: tuple[int, ...] = tuple(target.chunks) if self.layout.kind else objects
        self.per_object: tuple[int, ...] = tuple(map(int.__floordiv__, objects, self.chunk))

    def identities(self, content: bytes) -> NDArray[np.uint64]:
        """Identities of the chunks in the bytes of an object, in the shape ``per_object``."""
        count, index = math.prod(self.per_object), self.layout.shard_index
        result = np.full(count, ABSENT, np.uint64)
        if index is None:
            result[0] = frame_identity(content) if self.layout.kind else object_identity(content)
        else:
            length = 16 * count + index.checksum_bytes
            offsets = parse_shard_index(content[-length:] if index.at_end else content[:length], index, count)
            for position, (offset, size) in enumerate(() if offsets is None else offsets.tolist()):
                if offset != NO_CHUNK:
                    result[position] = frame_identity(content[offset : offset + size])
        return result.reshape(self.per_object)


class _Recorder(zarr.storage.WrapperStore):
    """A store that notes the identities of the objects that are written into it."""

    def __init__(self, store: Any, unit: _Unit):
        super().__init__(store)
        self._unit = unit
        self.identities: dict[str, NDArray[np.uint64]] = {}
        """Identities in each object by its key."""
        self.sizes: dict[str, int] = {}
        """Bytes of each object by its key."""

    async def set(self, key: str, value: Any) -> None:
        """Write an object."""
        self.identities[key], self.sizes[key] = self._unit.identities(value.to_bytes()), len(value)
        await self._store.set(key, value)

    async def delete(self, key: str) -> None:
        """Delete an object."""
        self.identities.pop(key, None)
        self.sizes.pop(key, None)
        await self._store.delete(key)


@contextlib.contextmanager
def wait_after_errors() -> Iterator[None]:
    """Context that an error leaves only when the tasks of Zarr's event loop have ended.

    Zarr writes the documents of an array at the same time as those of the groups above, and an interruption from the keyboard
    ends the waiting for Zarr, not its work. Tasks of other threads are waited for too, because nothing tells whose they are.
    """
    try:
        yield
    except BaseException:
        # asked for before there is a task that waits: two threads that come here never wait for each other
        sync(_wait_for(sync(_running_tasks())))
        raise


async def _running_tasks() -> set[asyncio.Task]:
    """Tasks of the event loop but this one."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def _wait_for(tasks: set[asyncio.Task]) -> None:
    """Wait until tasks have ended, but not for ever."""
    if tasks:
        await asyncio.wait(tasks, timeout=_LONGEST_WAIT)
