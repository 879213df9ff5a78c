"""Lazy arrays computed window by window, and calls run block by block. The only file of the package that imports Dask.

Each block of a lazy array is one task. It receives the source blocks that its window touches and cuts the window out of
them. So halos cost no tasks of their own, chunks of any size serve, and a part of the result computes only what it needs.
"""

import itertools
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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

from xsarcomp.tiling import Span, Window


@dataclass(frozen=True, eq=False)
class Source:
    """An array that windows are cut from."""

    array: da.Array
    window: Callable[[Window], Window]
    """From a window of the result to the window of ``array`` that it is computed from."""


def map_windows(
    function: Callable[..., NDArray],
    sources: Mapping[str, Source],
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
        ``function(window, pieces, *arguments) -> ndarray``: ``window`` is the block of the result, and ``pieces`` a dictionary
        with the piece that was cut from each source, by its name.
    sources : mapping of str to Source
    chunks : tuple of tuple of int
        Chunks of the result.
    dtype : dtype
    name : str
        Beginning of the task names, shown on dashboards.
    arguments : tuple
        Small and picklable; never a model, which travels by its id.

    Returns
    -------
    dask.array.Array
        Its keys depend on the sources, the function and the arguments alone: windows of sources must follow from these.
    """
    names = [(part, source.array.name) for part, source in sources.items()]
    key_name = f"{name}-{tokenize(function, names, chunks, str(dtype), arguments)}"
    edges = [np.concatenate([[0], np.cumsum(sizes)]).astype(int).tolist() for sizes in chunks]
    source_edges = {
        part: [np.concatenate([[0], np.cumsum(sizes)]).astype(int) for sizes in source.array.chunks]
        for part, source in sources.items()
    }
    tasks = {}
    for index in itertools.product(*(range(len(sizes)) for sizes in chunks)):
        window = tuple(Span(edge[i], edge[i + 1]) for edge, i in zip(edges, index, strict=True))
        blocks, cuts = [], []
        for part, source in sources.items():
            keys, cut = _touched(source.array.name, source_edges[part], source.window(window))
            blocks.append(keys)
            cuts.append(cut)
        # plain tuples: Dask looks for tasks in every part of a task that is more than that
        spans = tuple(map(tuple, window))
        tasks[(key_name, *index)] = (_run, function, spans, tuple(sources), blocks, cuts, arguments)
    graph = HighLevelGraph.from_collections(key_name, tasks, dependencies=[source.array for source in sources.values()])
    return da.Array(graph, key_name, chunks=chunks, dtype=np.dtype(dtype))


def _touched(name: str, edges: list[NDArray], window: Window) -> tuple[list, tuple]:
    """Nested list of the keys of the blocks that a window touches, and the window within their union."""
    ranges, cut = [], []
    for edge, (start, stop) in zip(edges, window, strict=True):
        first = int(np.searchsorted(edge, start, side="right")) - 1
        last = int(np.searchsorted(edge, max(stop, start + 1), side="left"))
        ranges.append(range(first, last))
        cut.append((int(start - edge[first]), int(stop - edge[first])))

    def nest(axis: int, index: tuple[int, ...]) -> Any:
        if axis == len(ranges):
            return (name, *index)
        return [nest(axis + 1, (*index, i)) for i in ranges[axis]]

    return nest(0, ()), tuple(cut)


def _run(
    function: Callable[..., NDArray], spans: tuple, names: tuple[str, ...], blocks: list, cuts: list, arguments: tuple
) -> NDArray:
    """Cut the pieces out of the blocks and call the function."""
    pieces = {name: _assemble(*part) for name, *part in zip(names, blocks, cuts, strict=True)}
    return function(tuple(map(Span._make, spans)), pieces, *arguments)


def _assemble(blocks: Any, cut: tuple[tuple[int, int], ...], axis: int = 0) -> NDArray:
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


def same_window(window: Window) -> Window:
    """The window itself, of a source that has the grid of the result."""
    return window


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
    """Run calls on Dask's scheduler, each as soon as its blocks are computed.

    No task waits for all calls, as the last one of ``dask.array.store`` does: ``dask.order`` would take the graph for a sum
    and keep blocks in memory. A block that only one call needs is computed inside the task of this call.

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
    """Run the writes that ``dask.array.store`` returned with ``compute=False``, block by block where they are an array.

    Versions of Dask that return a ``Delayed`` hold more of the scene in memory.
    """
    if not isinstance(written, da.Array):
        written.compute()
        return
    places = itertools.product(*map(range, written.numblocks))
    run_calls((Call(_nothing, ((written, place),), place) for place in places), name="sarcomp-store")


def _nothing(_block: Any) -> None:
    """Take a block whose computation has had its effect."""


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
