"""Backscatter that xarray indexes lazily, without Dask: an index decodes the chunks that it touches, and no others.

Memory is bounded by the result and one window, also for strided and pointwise indices of a whole scene.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.tile_means import TILE
from xsarcomp.latents.decode import decode_region
from xsarcomp.latents.layout import CHUNK_LATENTS
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.speckle_keys import SpeckleKeys
from xsarcomp.tiling import Span, Window

LARGEST_WINDOW = 2048
"""Edge of a window that is read for an index with gaps, in pixels."""
WINDOW_VALUES = 2 * LARGEST_WINDOW**2
"""Values of such a window, all planes together; at least one plane is read."""
OVERVIEW_CHUNK = CHUNK_LATENTS
"""Edge of a chunk of a store in an overview by 8, in values."""

Positions = NDArray[np.intp]


class LazyArray(BackendArray):
    """Array of two or more axes, (..., y, x), that is read where it is indexed."""

    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...]
    """Size of a chunk of the store along each axis."""

    @property
    def margin(self) -> int:
        """Positions along y and x beside one that are computed with it; 0 where a value costs no more than its chunk."""
        return 0

    def read(self, window: Window) -> NDArray:
        """Read the values of a window."""
        raise NotImplementedError

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray:
        if isinstance(key, indexing.VectorizedIndexer):
            points = np.broadcast_arrays(*key.tuple)
            flat = [np.arange(size)[index.ravel()] for index, size in zip(points, self.shape, strict=True)]
            return self.take_points(flat).reshape(points[0].shape)
        positions = [np.arange(size)[index] for index, size in zip(key.tuple, self.shape, strict=True)]
        single = tuple(axis for axis, position in enumerate(positions) if position.ndim == 0)
        return self.take([np.atleast_1d(position) for position in positions]).squeeze(single)

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> NDArray:
        """Index beside the event loop, as ``load_async`` does."""
        return await asyncio.to_thread(self.__getitem__, key)

    def take(self, positions: Sequence[Positions]) -> NDArray:
        """Read the values at all combinations of positions.

        Parameters
        ----------
        positions : sequence of ndarray of int, one-dimensional
            For each axis, in any order; repeats are allowed.

        Returns
        -------
        ndarray
            With an axis for each of them.
        """
        if all(position.size and (np.diff(position) == 1).all() for position in positions):
            return self.read(_bounds(positions))
        values = np.empty([position.size for position in positions], self.dtype)
        orders = [np.argsort(position, kind="stable") for position in positions]
        ordered = [position[order] for position, order in zip(positions, orders, strict=True)]
        for runs in self._runs(ordered):
            wanted = [position[run] for position, run in zip(ordered, runs, strict=True)]
            window = _bounds(wanted)
            inside = np.ix_(*(position - start for position, (start, _) in zip(wanted, window, strict=True)))
            place = np.ix_(*(order[run] for order, run in zip(orders, runs, strict=True)))
            values[place] = self.read(window)[inside]
        return values

    def take_points(self, positions: Sequence[Positions]) -> NDArray:
        """Read the values at single points.

        Parameters
        ----------
        positions : sequence of ndarray of int, one-dimensional, all of one size
            Position of each point on each axis.

        Returns
        -------
        ndarray, one-dimensional
        """
        values = np.empty(positions[0].size, self.dtype)
        for group in self._groups(positions):
            wanted = [position[group] for position in positions]
            window = _bounds(wanted)
            inside = tuple(position - start for position, (start, _) in zip(wanted, window, strict=True))
            values[group] = self.read(window)[inside]
        return values

    def _runs(self, ordered: Sequence[Positions]) -> Iterator[tuple[slice, ...]]:
        """Runs of ordered positions that are read as one window: a slice for each axis."""
        in_plane = [
            _split(position, chunk, LARGEST_WINDOW, self.margin)
            for position, chunk in zip(ordered[-2:], self.chunks[-2:], strict=True)
        ]
        for spatial in itertools.product(*in_plane):
            window = _bounds([position[run] for position, run in zip(ordered[-2:], spatial, strict=True)])
            planes = max(1, WINDOW_VALUES // (window[0].size * window[1].size))
            leading = [
                _split(position, chunk, planes if axis == len(ordered) - 3 else 1)
                for axis, (position, chunk) in enumerate(zip(ordered[:-2], self.chunks[:-2], strict=True))
            ]
            yield from ((*run, *spatial) for run in itertools.product(*leading))

    def _groups(self, positions: Sequence[Positions]) -> list[Positions]:
        """Numbers of the points that are read as one window: those in one chunk of a plane, and in the next planes."""
        edges = [min(chunk, LARGEST_WINDOW) for chunk in self.chunks[-2:]]
        cells = [position // edge for position, edge in zip(positions[-2:], edges, strict=True)]
        *outer, inner = positions[:-2] or [np.zeros_like(cells[0])]
        order = np.lexsort((inner, *outer, *cells))
        is_other = np.any([np.diff(key[order]) != 0 for key in (*outer, *cells)], axis=0)
        chunk = self.chunks[-3] if len(positions) > 2 else 1
        largest = max(1, WINDOW_VALUES // (edges[0] * edges[1]))
        return (
            np.split(order, np.flatnonzero(is_other | _is_cut(inner[order], chunk, largest)) + 1) if order.size else []
        )


def _bounds(positions: Sequence[Positions]) -> Window:
    """Smallest window around positions on each axis."""
    return tuple(Span(int(position.min()), int(position.max()) + 1) for position in positions)


def _split(ordered: Positions, chunk: int, largest: int, margin: int = 0) -> list[slice]:
    """Split ordered positions of an axis where reading them apart costs nothing, and after ``largest`` positions."""
    cuts = np.flatnonzero(_is_cut(ordered, chunk, largest, margin)) + 1
    edges = [0, *cuts.tolist(), ordered.size] if ordered.size else []
    return [slice(*edge) for edge in itertools.pairwise(edges)]


def _is_cut(ordered: Positions, chunk: int, largest: int, margin: int = 0) -> NDArray[np.bool_]:
    """Check between each two ordered positions if they are read apart.

    They are where a chunk between them is not needed. With a margin, they are also where no chunk is needed for both: then
    computing what lies between them costs more than reading. And they are at the multiples of ``largest``, in whole chunks.
    """
    before, after = ordered[:-1], ordered[1:]
    between = (after - margin) // chunk - (before + margin) // chunk
    cell = max(1, largest // chunk) * chunk
    return (between > (0 if margin else 1)) | (after // cell != before // cell)


class LazyBackscatter(LazyArray):
    """Backscatter that is decoded where it is indexed, dimensions (..., y, x).

    It holds lazily opened latents and their metadata, never a model, so that it pickles small.

    Parameters
    ----------
    parts : mapping of str to xarray.Variable
        Latents, mask and other parts of a latents variable, see :func:`xsarcomp.latents.decode.align_parts`.
    metadata : LatentsMetadata
    speckle : SpeckleKeys, optional
        Seeds of synthetic speckle.
    """

    def __init__(self, parts: Mapping[str, xr.Variable], metadata: LatentsMetadata, speckle: SpeckleKeys | None = None):
        self.parts, self.metadata, self.speckle = dict(parts), metadata, speckle
        self.shape = (*parts["mask"].shape[:-2], *metadata.pixels)
        self.dtype = np.dtype(metadata.dtype)
        latents = parts["latents"]
        stored = latents.encoding.get("preferred_chunks", {})
        edges = (stored.get(dim, CHUNK_LATENTS) * BLOCK for dim in latents.dims[-2:])
        self.chunks = (*(stored.get(dim, 1) for dim in latents.dims[:-3]), *edges)

    @property
    def margin(self) -> int:
        """Pixels beside one that are decoded with it: its tile, and the latents that the coder reads around."""
        coder = load_coder(self.metadata.model_id, network=self.metadata.uses_network)
        return TILE + BLOCK * (coder.latent_reach + 1)

    def read(self, window: Window) -> NDArray:
        """Decode a window of pixels."""
        return decode_region(self.parts, window, self.metadata, self.speckle)


class _LazyFunction(LazyArray):
    """Array that a function of a window reads where it is indexed, such as an overview."""

    def __init__(self, function: Callable[[Window], NDArray], shape: tuple[int, ...], dtype: np.dtype):
        self._function, self.shape, self.dtype = function, shape, dtype
        self.chunks = (*(1 for _ in shape[:-2]), OVERVIEW_CHUNK, OVERVIEW_CHUNK)

    def read(self, window: Window) -> NDArray:
        return self._function(window)


class _Transposed(LazyArray):
    """Lazy array with its axes in another order."""

    def __init__(self, source: LazyArray, order: Sequence[int]):
        self._source, self._order = source, tuple(order)
        self.shape, self.dtype = tuple(source.shape[axis] for axis in order), source.dtype

    def take(self, positions: Sequence[Positions]) -> NDArray:
        return self._source.take(self._of_source(positions)).transpose(self._order)

    def take_points(self, positions: Sequence[Positions]) -> NDArray:
        return self._source.take_points(self._of_source(positions))

    def _of_source(self, positions: Sequence[Positions]) -> list[Positions]:
        """Positions in the order of the axes of the source."""
        by_axis = dict(zip(self._order, positions, strict=True))
        return [by_axis[axis] for axis in range(len(by_axis))]


class LazyValues(indexing.LazilyIndexedArray):
    """Lazy values of a variable: xarray's, which cannot be indexed by integers alone after it was transposed.

    xarray transposes by an array of indices for each axis, and does not broadcast them before it takes one element. Here
    the source is transposed, which needs no such arrays.
    """

    def transpose(self, order: Sequence[int]) -> "LazyValues":
        """Values with their axes in another order."""
        kept = [axis for axis, index in enumerate(self.key.tuple) if not isinstance(index, int | np.integer)]
        taken = [axis for axis in range(self.array.ndim) if axis not in kept]
        axes = [*taken, *(kept[axis] for axis in order)]
        key = type(self.key)(tuple(self.key.tuple[axis] for axis in axes))
        return type(self)(_Transposed(self.array, axes), key)

    def _vindex_get(self, indexer: indexing.VectorizedIndexer) -> "_PickedValues":
        return _PickedValues(self.array, self.key).vindex[indexer]


class _PickedValues(indexing.LazilyVectorizedIndexedArray):
    """Lazy values at single points, see :class:`LazyValues`; the arrays of indices are broadcast from the start."""

    def __init__(self, array: Any, key: indexing.ExplicitIndexer):
        super().__init__(array, key)
        self.key = indexing.VectorizedIndexer(tuple(np.broadcast_arrays(*self.key.tuple)))


def lazily(function: Callable[[Window], NDArray], shape: tuple[int, ...], dtype: np.dtype) -> LazyValues:
    """Lazy values of a variable that a function of a window reads, see :data:`xsarcomp.latents.overview_grid.LazyWrapper`."""
    return LazyValues(_LazyFunction(function, shape, dtype))
