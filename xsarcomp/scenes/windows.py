"""Lazy arrays computed window by window.

Each block of a lazy array is one task. It receives the source blocks that its window touches and cuts the window out of
them. So halos cost no extra tasks, sources may have any chunks, and a part of the result computes only the blocks it needs.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import dask
import dask.array as da
import dask.callbacks
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import DTypeLike, NDArray

from xsarcomp.tiling import Span, Window

BlockKey: TypeAlias = tuple[str | int, ...]
"""Key of a block in Dask: name of the array, then the index of the block on each axis."""


@dataclass(frozen=True, eq=False)
class Source:
    """Array from which windows are cut."""

    array: da.Array
    window: Callable[[Window], Window]
    """Maps a window of the result to the window of ``array`` from which it is computed."""


def map_windows(
    function: Callable[..., NDArray],
    sources: Mapping[str, Source],
    chunks: tuple[tuple[int, ...], ...],
    dtype: DTypeLike,
    *,
    name: str,
    arguments: tuple[Any, ...] = (),
) -> da.Array:
    """Build a lazy array whose blocks are computed from windows of other arrays.

    Parameters
    ----------
    function : callable
        ``function(window, pieces, *arguments) -> ndarray``: ``window`` is the block of the result, and ``pieces`` a dictionary
        with the piece that was cut from each source, by the name of the source.
    sources : mapping of str to Source
    chunks : tuple of tuple of int
        Chunks of the result.
    dtype : dtype
        Data type of the result.
    name : str
        Beginning of the task names, shown on dashboards.
    arguments : tuple
        Further arguments of the function: small and picklable, never a model, which travels by its id.

    Returns
    -------
    dask.array.Array
        Its keys depend only on the sources, the function and the arguments, so these must determine the windows of sources.
    """
    array_names = [(source_name, source.array.name) for source_name, source in sources.items()]
    key_name = f"{name}-{tokenize(function, array_names, chunks, str(dtype), arguments)}"
    edges = [np.concatenate([[0], np.cumsum(sizes)]).astype(int).tolist() for sizes in chunks]
    source_edges = {
        source_name: [np.concatenate([[0], np.cumsum(sizes)]).astype(int) for sizes in source.array.chunks]
        for source_name, source in sources.items()
    }
    tasks: dict[Any, Any] = {}
    for index in itertools.product(*(range(len(sizes)) for sizes in chunks)):
        window = tuple(Span(edge[i], edge[i + 1]) for edge, i in zip(edges, index, strict=True))
        blocks, cuts = [], []
        for source_name, source in sources.items():
            keys, cut = _touched_blocks(source.array.name, source_edges[source_name], source.window(window))
            blocks.append(keys)
            cuts.append(cut)
        # plain tuples: Dask searches any other object in a task for tasks inside
        spans = tuple(map(tuple, window))
        tasks[(key_name, *index)] = (_run_window, function, spans, tuple(sources), blocks, cuts, arguments)
    graph = graph_of(key_name, tasks, [source.array for source in sources.values()])
    return da.Array(graph, key_name, chunks=chunks, dtype=np.dtype(dtype))


def graph_of(name: str, tasks: dict[Any, Any], arrays: Iterable[da.Array]) -> HighLevelGraph:
    """Graph of a layer of tasks on top of the graphs of arrays."""
    dependencies: Any = list(arrays)  # Dask's protocol DaskCollection does not fit Dask's own Array
    return HighLevelGraph.from_collections(name, tasks, dependencies=dependencies)


def _touched_blocks(
    name: str, edges: list[NDArray[np.int_]], window: Window
) -> tuple[list[Any], tuple[tuple[int, int], ...]]:
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


def _run_window(
    function: Callable[..., NDArray],
    spans: tuple[tuple[int, int], ...],
    names: tuple[str, ...],
    blocks: list[Any],
    cuts: list[tuple[tuple[int, int], ...]],
    arguments: tuple[Any, ...],
) -> NDArray:
    """Cut the pieces out of the blocks and call the function."""
    pieces = {name: _assemble(block, cut) for name, block, cut in zip(names, blocks, cuts, strict=True)}
    return function(tuple(map(Span._make, spans)), pieces, *arguments)


def _assemble(blocks: Any, cut: tuple[tuple[int, int], ...], axis: int = 0) -> NDArray:
    """Cut a window out of nested lists of blocks, without a copy where it lies in a single block.

    Blocks are cut before they are concatenated, because a halo touches up to eight more blocks.
    """
    if not isinstance(blocks, list):
        return np.asarray(blocks)[tuple(slice(*span) for span in cut)]
    parts, (start, stop), first = [], cut[axis], 0
    for part in blocks:
        size = _first_block(part).shape[axis]
        inside = (max(start - first, 0), min(stop - first, size))
        parts.append(_assemble(part, (*cut[:axis], inside, *cut[axis + 1 :]), axis + 1))
        first += size
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)


def _first_block(blocks: Any) -> Any:
    """First block of nested lists."""
    return _first_block(blocks[0]) if isinstance(blocks, list) else blocks


def same_window(window: Window) -> Window:
    """Window of a source that has the grid of the result: the window itself."""
    return window


def from_numpy_or_dask(array: Any, chunks: tuple[tuple[int, ...], ...]) -> da.Array:
    """Convert to a Dask array with the given chunks."""
    return array.rechunk(chunks) if isinstance(array, da.Array) else da.from_array(array, chunks=chunks)


def compute_together(arrays: Sequence[Any]) -> list[NDArray]:
    """Compute the values of arrays; Dask arrays in one computation, so that shared chunks are read once."""
    return [np.asarray(values) for values in dask.compute(*arrays)]


def is_window_task(task: Any) -> bool:
    """Check for a task of :func:`map_windows`."""
    return isinstance(task, tuple) and bool(task) and task[0] is _run_window
