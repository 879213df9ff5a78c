"""Calls that Dask runs block by block, such as writes; and their progress.

Lazy arrays are described in :mod:`xsarcomp.scenes.windows`; these two files are the only ones of the package that import Dask.
"""

import asyncio
import contextlib
import functools
import itertools
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import dask
import dask.array as da
import dask.callbacks
from dask.highlevelgraph import MaterializedLayer
from dask.optimization import cull
from numpy.typing import NDArray

from xsarcomp.scenes.windows import BlockKey, graph_of, is_window_task

Region: TypeAlias = tuple[slice, ...]
"""Slices with start and stop on each axis of an array."""


@dataclass(frozen=True, eq=False)
class Call:
    """Call of a function with blocks of arrays, for its side effect."""

    function: Callable[..., Any]
    """Called with the blocks as NumPy arrays, in their order; picklable. What it returns should be small."""
    blocks: tuple[tuple[da.Array, tuple[int, ...]], ...]
    """Arrays, and the index of the block of each."""
    place: tuple[int, ...]
    """Position of the work, different for each call; neighbors have positions that differ little."""


def run_calls(calls: Iterable[Call], *, name: str) -> list[Any]:
    """Run calls on Dask's scheduler, each as soon as its blocks are computed.

    No task waits for all calls, unlike the last task of ``dask.array.store``: ``dask.order`` would treat such a graph as a
    sum and keep blocks in memory. A block that only one call needs is computed inside the task of this call.

    After an error or an interruption no further call begins, and those at work are waited for. Dask does neither, and a retry
    would meet calls of the run that failed. A second interruption ends the waiting; workers that cannot be reached are not
    waited for.

    Parameters
    ----------
    calls : iterable of Call
    name : str
        Beginning of the task names, shown on dashboards.

    Returns
    -------
    list
        What the calls returned, in their order.
    """
    calls = list(calls)
    if not calls:
        return []
    key_name = f"{name}-{uuid.uuid4().hex}"  # unique: a scheduler would not repeat the effect of a key it knows
    arrays = {array.name: array for call in calls for array, _ in call.blocks}
    inlined = _tasks_for_one_reader(arrays, calls)
    tasks: dict[Any, Any] = {}
    for call in calls:
        keys: list[BlockKey] = [(array.name, *index) for array, index in call.blocks]
        function = functools.partial(_run_call, key_name, call.function)
        tasks[(key_name, *call.place)] = (function, *(inlined.get(key, key) for key in keys))
    graph = graph_of(key_name, tasks, arrays.values())
    # local schedulers run every task of a graph, and culling by layers keeps a layer with as many tasks as are still needed
    needed, _ = cull(dict(da.optimize(graph, list(tasks))), list(tasks))
    try:
        return list(dask.base.compute_as_if_collection(da.Array, needed, list(tasks)))
    except BaseException:
        _stop_everywhere(key_name)
        raise


def _tasks_for_one_reader(arrays: dict[str, da.Array], calls: Sequence[Call]) -> dict[BlockKey, Any]:
    """Tasks of :func:`map_windows` whose block only one call needs, by key."""
    dependencies = {name for array in arrays.values() for names in array.dask.dependencies.values() for name in names}
    uses: Counter[Any] = Counter((array.name, *index) for call in calls for array, index in call.blocks)
    tasks: dict[Any, Any] = {}
    for name in arrays.keys() - dependencies:
        layer = arrays[name].dask.layers.get(name)
        if isinstance(layer, MaterializedLayer):
            tasks |= {key: task for key, task in layer.items() if uses[key] == 1 and is_window_task(task)}
    return tasks


_CHANGED = threading.Condition()
_RUNNING: Counter[str] = Counter()
"""Calls of this process that have begun and not ended, by the name of their run."""
_STOPPED: set[str] = set()
"""Runs that have failed; those that ended well leave nothing here."""


def _run_call(run: str, function: Callable[..., Any], *blocks: NDArray) -> Any:
    """Run a call, unless its run has failed meanwhile."""
    with _CHANGED:
        if run in _STOPPED:
            return None
        _RUNNING[run] += 1
    try:
        return function(*blocks)
    finally:
        with _CHANGED:
            _RUNNING[run] -= 1
            if not _RUNNING[run]:
                del _RUNNING[run]
            _CHANGED.notify_all()


def _stop(run: str) -> None:
    """Let no further call of a run begin in this process, and wait for those that have begun."""
    with _CHANGED:
        _STOPPED.add(run)
        _CHANGED.wait_for(lambda: run not in _RUNNING)


async def _stop_on_worker(run: str) -> None:
    """Stop a run beside the event loop of a worker, which its calls may need."""
    await asyncio.to_thread(_stop, run)


def _stop_everywhere(run: str) -> None:
    """Stop a run wherever Dask computes; Dask itself waits for a pool of processes that it made for one computation."""
    _stop(run)
    client: Any = getattr(dask.base.get_scheduler(cls=da.Array), "__self__", None)
    if getattr(client, "status", None) == "running":  # a client of Distributed whose scheduler can be asked
        with contextlib.suppress(OSError):  # lost meanwhile: the error of the run says more
            client.run(_stop_on_worker, run, on_error="ignore")


def write_blocks(array: da.Array, write: Callable[[Region, NDArray], None]) -> None:
    """Write a lazy array block by block.

    Parameters
    ----------
    array : dask.array.Array
    write : callable
        Called with the region of a block and its values, wherever Dask computes; picklable.
    """
    ends = [list(itertools.accumulate(sizes)) for sizes in array.chunks]

    def call(place: tuple[int, ...]) -> Call:
        region = tuple(
            slice(end[i] - sizes[i], end[i]) for end, sizes, i in zip(ends, array.chunks, place, strict=True)
        )
        return Call(functools.partial(write, region), ((array, place),), place)

    run_calls(map(call, itertools.product(*map(range, array.numblocks))), name="sarcomp-store")


def write_lock() -> Any:
    """Make a lock for files that accept one writer at a time; works under every scheduler."""
    from dask.utils import get_scheduler_lock

    return get_scheduler_lock()


class _Progress(dask.callbacks.Callback):
    """Reports finished tasks of computations on local schedulers."""

    def __init__(self, report: Callable[[int, int], None]):
        super().__init__()
        self._report = report

    def _posttask(self, key: Any, result: Any, dsk: Any, state: dict[str, Any], worker_id: Any) -> None:
        done = len(state["finished"])
        total = done + sum(len(state[name]) for name in ("ready", "waiting", "running"))
        self._report(done, total)


def watch_tasks(report: Callable[[int, int], None]) -> Any:
    """Make a context in which ``report(finished, total)`` is called after each task of local schedulers."""
    return _Progress(report)
