"""Writes into Zarr arrays after whose failure no thread is still writing.

Zarr writes several objects at the same time, reports the first error at once and lets the others go on: a retry in the same
process would meet them.
"""

import asyncio
import contextlib
from collections.abc import Iterator

import zarr
from numpy.typing import NDArray
from zarr.core.sync import sync

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
