"""Lazy arrays made window by window; the only runtime file that names Dask.

Each block of the result is one task. It receives the source blocks that its window touches and cuts the window out of
them, so halos cost no tasks of their own, chunks of any size serve, and taking a part of the result computes only what
that part needs.
"""

import itertools
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import dask.callbacks
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.optimization import cull
from numpy.typing import DTypeLike, NDArray

Span = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Source:
    """An array that windows are cut from, and how a block of the result says which window."""

    array: da.Array
    spans: Callable[[tuple[Span, ...]], tuple[Span, ...]]
    """From the (start, stop) of a block of the result on each axis to the (start, stop) on each axis of ``array``."""


def map_windows(
    function: Callable[..., NDArray],
    sources: Sequence[Source],
    chunks: tuple[tuple[int, ...], ...],
    dtype: DTypeLike,
    *,
    name: str,
    arguments: tuple[Any, ...] = (),
) -> da.Array:
    """Array whose blocks are computed from windows of other arrays.

    Parameters
    ----------
    function : callable
        ``function(block, *windows, *arguments) -> ndarray``; ``block`` is the (start, stop) on each axis of the result,
        ``windows`` the cut pieces in the order of ``sources``.
    sources : sequence of Source
    chunks : tuple of tuple of int
        Chunks of the result.
    dtype : dtype
    name : str
        Beginning of the task names, shown on dashboards.
    arguments : tuple
        Small, picklable; never a model, which travels by its id.

    Returns
    -------
    dask.array.Array
        Its keys depend on the sources, the function and the arguments alone: spans must follow from these.
    """
    token = tokenize(function, [source.array.name for source in sources], chunks, str(dtype), arguments)
    key_name = f"{name}-{token}"
    edges = [np.concatenate([[0], np.cumsum(sizes)]).astype(int).tolist() for sizes in chunks]
    source_edges = [
        [np.concatenate([[0], np.cumsum(sizes)]).astype(int) for sizes in source.array.chunks] for source in sources
    ]
    tasks = {}
    for index in itertools.product(*(range(len(sizes)) for sizes in chunks)):
        block = tuple((edge[i], edge[i + 1]) for edge, i in zip(edges, index, strict=True))
        pieces, cuts = [], []
        for source, axis_edges in zip(sources, source_edges, strict=True):
            keys, cut = _touched(source.array.name, axis_edges, source.spans(block))
            pieces.append(keys)
            cuts.append(cut)
        tasks[(key_name, *index)] = (_run, function, block, pieces, cuts, arguments)
    graph = HighLevelGraph.from_collections(key_name, tasks, dependencies=[source.array for source in sources])
    return da.Array(graph, key_name, chunks=chunks, dtype=np.dtype(dtype))


def _touched(name: str, edges: list[NDArray], spans: tuple[Span, ...]) -> tuple[list, tuple]:
    """Nested list of the keys of the blocks that a window touches, and the window within their union."""
    ranges, cut = [], []
    for edge, (start, stop) in zip(edges, spans, strict=True):
        first = int(np.searchsorted(edge, start, side="right")) - 1
        last = int(np.searchsorted(edge, max(stop, start + 1), side="left"))
        ranges.append(range(first, last))
        cut.append((int(start - edge[first]), int(stop - edge[first])))

    def nest(axis: int, index: tuple[int, ...]) -> Any:
        if axis == len(ranges):
            return (name, *index)
        return [nest(axis + 1, (*index, i)) for i in ranges[axis]]

    return nest(0, ()), tuple(cut)


def _run(function: Callable, block: tuple[Span, ...], pieces: list, cuts: list, arguments: tuple) -> NDArray:
    """Cut the windows out of the blocks and call the function."""
    windows = [_assemble(blocks, cut) for blocks, cut in zip(pieces, cuts, strict=True)]
    return function(block, *windows, *arguments)


def _assemble(blocks: Any, cut: tuple[Span, ...], axis: int = 0) -> NDArray:
    """A window of nested lists of blocks, without a copy where it lies in one of them.

    What the window needs is cut out before anything is put together: a halo touches up to eight more blocks.
    """
    if not isinstance(blocks, list):
        return np.asarray(blocks)[tuple(slice(*span) for span in cut)]
    parts, (start, stop), first = [], cut[axis], 0
    for part in blocks:
        size = _corner(part).shape[axis]
        inside = (max(start - first, 0), min(stop - first, size))
        parts.append(_assemble(part, (*cut[:axis], inside, *cut[axis + 1 :]), axis + 1))
        first += size
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)


def _corner(blocks: Any) -> Any:
    """The first block of nested lists."""
    return _corner(blocks[0]) if isinstance(blocks, list) else blocks


def same_window(block: tuple[Span, ...]) -> tuple[Span, ...]:
    """Spans of a source that has the grid of the result."""
    return block


def from_numpy_or_dask(array: Any, chunks: tuple[tuple[int, ...], ...]) -> da.Array:
    """Dask array with the given chunks."""
    return array.rechunk(chunks) if isinstance(array, da.Array) else da.from_array(array, chunks=chunks)


def compute_together(arrays: Sequence[Any]) -> list[NDArray]:
    """Values of arrays; those of Dask in one computation, so that shared chunks are read once."""
    return [np.asarray(values) for values in dask.compute(*arrays)]


@dataclass(frozen=True, eq=False)
class Call:
    """A function that is called with some blocks of arrays for its effect."""

    function: Callable[..., None]
    """Called with the blocks as NumPy arrays, in their order; picklable."""
    blocks: tuple[tuple[da.Array, tuple[int, ...]], ...]
    """Array and index of the block."""
    place: tuple[int, ...]
    """Where the work belongs; tells calls apart, and neighbors have places that differ little."""


def run_calls(calls: Iterable[Call], *, name: str) -> None:
    """Make all calls, each as soon as its blocks are there, on the scheduler that computes Dask arrays.

    No task waits for all calls, as the last one of ``dask.array.store`` does: then ``dask.order`` takes the graph for a sum
    and leaves blocks lying. What a call alone needs is made inside its task, so that nothing of a block stays behind.

    Parameters
    ----------
    calls : iterable of Call
    name : str
        Beginning of the task names, shown on dashboards.
    """
    calls = list(calls)
    if not calls:
        return
    key_name = f"{name}-{uuid.uuid4().hex}"  # never that of an earlier run, whose effect a scheduler would not repeat
    arrays = {array.name: array for call in calls for array, _ in call.blocks}
    own = _tasks_for_one_reader(arrays, calls)
    tasks = {}
    for call in calls:
        keys = [(array.name, *index) for array, index in call.blocks]
        tasks[(key_name, *call.place)] = (call.function, *(own.get(key, key) for key in keys))
    graph = HighLevelGraph.from_collections(key_name, tasks, dependencies=list(arrays.values()))
    # local schedulers run whatever is in a graph, and culling layers keeps one that has as many tasks as are still needed
    needed, _ = cull(dict(da.optimize(graph, list(tasks))), list(tasks))
    dask.base.compute_as_if_collection(da.Array, needed, list(tasks))


def run_writes(written: Any) -> None:
    """Run what ``dask.array.store`` returns with ``compute=False``: block by block where that is an array.

    Versions of Dask that return a ``Delayed`` hold more of the scene.
    """
    if not isinstance(written, da.Array):
        written.compute()
        return
    places = itertools.product(*map(range, written.numblocks))
    run_calls((Call(_nothing, ((written, place),), place) for place in places), name="sarcomp-store")


def _nothing(_block: Any) -> None:
    """The block that was computed has had its effect."""


def _tasks_for_one_reader(arrays: dict[str, da.Array], calls: Sequence[Call]) -> dict[tuple, tuple]:
    """Tasks of ``map_windows``, by key, whose block one call needs and nothing else."""
    read = {name for array in arrays.values() for names in array.dask.dependencies.values() for name in names}
    uses = Counter((array.name, *index) for call in calls for array, index in call.blocks)
    tasks = {}
    for name in arrays.keys() - read:
        layer = arrays[name].dask.layers.get(name)
        if isinstance(layer, MaterializedLayer):
            tasks |= {key: task for key, task in layer.items() if uses[key] == 1 and _is_window_task(task)}
    return tasks


def _is_window_task(task: Any) -> bool:
    return isinstance(task, tuple) and bool(task) and task[0] is _run


def write_lock() -> Any:
    """Lock for files that take one writer at a time; works under every scheduler."""
    from dask.utils import get_scheduler_lock

    return get_scheduler_lock()


class _Progress(dask.callbacks.Callback):
    """Reports finished tasks of computations on the local schedulers."""

    def __init__(self, report: Callable[[int, int], None]):
        super().__init__()
        self._report = report

    def _posttask(self, key: Any, result: Any, dsk: Any, state: dict, worker_id: Any) -> None:
        done = len(state["finished"])
        total = done + sum(len(state[name]) for name in ("ready", "waiting", "running"))
        self._report(done, total)


def watched(report: Callable[[int, int], None]) -> Any:
    """Context in which ``report(finished, total)`` is called after each task."""
    return _Progress(report)
