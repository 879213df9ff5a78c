"""The xarray engine "sarcomp", which opens a latents store as backscatter, lazily, in one call.

No heavy import at module level: xarray imports every installed engine when it has to guess one.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.speckle_keys import SpeckleKeys
from xsarcomp.stores.opening import open_zarr_store
from xsarcomp.tiling import Span, Window


class _LazyArray(BackendArray):
    """Array that is read where it is indexed."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def _read(self, window: Window) -> NDArray:
        """Values of a window, which has a (start, stop) for each axis."""
        raise NotImplementedError

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray:
        if isinstance(key, indexing.BasicIndexer | indexing.OuterIndexer):  # xarray's adapter fails at slice(0, 0, -1)
            return self._outer(key.tuple)
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._outer)

    def _outer(self, key: tuple[int | slice | NDArray, ...]) -> NDArray:
        """Read the bounding window of an index for each axis, then take the positions of it."""
        positions = [np.arange(size)[index] for index, size in zip(key, self.shape, strict=True)]
        if any(position.size == 0 for position in positions):
            return np.empty([position.size for position in positions if position.ndim], self.dtype)
        window = tuple(Span(int(position.min()), int(position.max()) + 1) for position in positions)
        values = self._read(window)
        relative = tuple(position - start for position, (start, _) in zip(positions, window, strict=True))
        for axis, position in reversed(list(enumerate(relative))):
            values = np.take(values, position, axis=axis)
        return values


class LazyBackscatter(_LazyArray):
    """Backscatter that is decoded where it is indexed, dimensions (..., y, x).

    Only the chunks of latents that a window needs are read. It holds lazily opened latents and their metadata, never a model,
    so that it pickles small.

    Parameters
    ----------
    parts : mapping of str to xarray.Variable
        Latents, mask and other parts of a latents variable.
    metadata : LatentsMetadata
    speckle : SpeckleKeys, optional
        Seeds of synthetic speckle.
    """

    def __init__(self, parts: Mapping[str, xr.Variable], metadata: LatentsMetadata, speckle: SpeckleKeys | None = None):
        self.parts, self.metadata, self.speckle = dict(parts), metadata, speckle
        self.shape = (*parts["mask"].shape[:-2], *metadata.pixels)
        self.dtype = np.dtype(metadata.dtype)

    def _read(self, window: Window) -> NDArray:
        from xsarcomp.latents.decode import decode_region

        return decode_region(self.parts, window, self.metadata, self.speckle)


class _Transposed(_LazyArray):
    """Lazy array with its axes in another order."""

    def __init__(self, source: _LazyArray, order: Sequence[int]):
        self._source, self._order = source, tuple(order)
        self.shape, self.dtype = tuple(source.shape[axis] for axis in order), source.dtype

    def _read(self, window: Window) -> NDArray:
        spans = dict(zip(self._order, window, strict=True))
        return self._source._read(tuple(spans[axis] for axis in range(len(spans)))).transpose(self._order)


class _LazyValues(indexing.LazilyIndexedArray):
    """Lazy values of a variable: xarray's, which cannot be indexed by integers alone after it was transposed.

    xarray transposes by an array of indices for each axis, and does not broadcast them before it takes one element. Here
    the source is transposed, which needs no such arrays.
    """

    def transpose(self, order: Sequence[int]) -> "_LazyValues":
        """Values with their axes in another order."""
        kept = [axis for axis, index in enumerate(self.key.tuple) if not isinstance(index, int | np.integer)]
        taken = [axis for axis in range(self.array.ndim) if axis not in kept]
        axes = [*taken, *(kept[axis] for axis in order)]
        key = type(self.key)(tuple(self.key.tuple[axis] for axis in axes))
        return type(self)(_Transposed(self.array, axes), key)

    def _vindex_get(self, indexer: indexing.VectorizedIndexer) -> "_PickedValues":
        return _PickedValues(self.array, self.key).vindex[indexer]


class _PickedValues(indexing.LazilyVectorizedIndexedArray):
    """Lazy values at single points, see :class:`_LazyValues`; the arrays of indices are broadcast from the start."""

    def __init__(self, array: Any, key: indexing.ExplicitIndexer):
        super().__init__(array, key)
        self.key = indexing.VectorizedIndexer(tuple(np.broadcast_arrays(*self.key.tuple)))


class _LazyFunction(_LazyArray):
    """Array that a function of a window reads where it is indexed."""

    def __init__(self, function: Callable[[Window], NDArray], shape: tuple[int, ...], dtype: np.dtype):
        self._function, self.shape, self.dtype = function, shape, dtype

    def _read(self, window: Window) -> NDArray:
        return self._function(window)


def _lazily(function: Callable[[Window], NDArray], shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """Lazy values of a variable, without Dask."""
    return _LazyValues(_LazyFunction(function, shape, dtype))


class SarcompBackendEntrypoint(BackendEntrypoint):
    """Engine of ``xr.open_dataset(store, engine="sarcomp")``, which opens a latents store as backscatter."""

    description = "Open latents stores of xsarcomp as Sentinel-1 backscatter"
    url = "https://pypi.org/project/xsarcomp/"
    open_dataset_parameters = (
        "filename_or_obj",
        "drop_variables",
        "group",
        "storage_options",
        "restore",
        "overview",
        "quality",
    )

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        storage_options: dict[str, Any] | None = None,
        restore: str | None = None,
        overview: int | None = None,
        quality: str = "best",
    ) -> xr.Dataset:
        """Open a latents store as sigma0 or gamma0 backscatter.

        Parameters
        ----------
        filename_or_obj : str, path or Zarr store
        drop_variables : str or iterable of str, optional
            Decoded variables to leave out.
        group : str, optional
            Path of the group in the store.
        storage_options : dict, optional
            Passed to the file system.
        restore : {"speckle"}, optional
            Add synthetic speckle in place of the lost one, see ``.sarcomp.decode``.
        overview : int, optional
            Edge of a block in pixels, 8, 16, ... 512, for a quicklook, see ``.sarcomp.decode``. Only the lowest latents of the
            chunks are decoded.
        quality : {"best", "fast"}
            "fast" decodes without the network, see ``.sarcomp.decode``.

        Returns
        -------
        xarray.Dataset
            Backscatter, decoded when it is read; ``chunks={}`` follows the chunks of the store.

        Raises
        ------
        NotEncodedError
            If the store holds no latents.
        ConfigurationError
            If ``restore``, ``overview`` or ``quality`` has another value, or two are given that contradict each other.
        """
        from xsarcomp.codec.lapped import BLOCK
        from xsarcomp.latents.decode import align_parts, make_decoded_variable, read_latents_metadata, replace_parts
        from xsarcomp.latents.layout import CHUNK_LATENTS
        from xsarcomp.latents.overview import check_factor, overview_dataset
        from xsarcomp.latents.quality import at_quality
        from xsarcomp.latents.speckle_keys import speckle_keys

        if isinstance(filename_or_obj, os.PathLike):
            filename_or_obj = os.fspath(filename_or_obj)
        dataset = open_zarr_store(filename_or_obj, chunks=None, group=group, storage_options=storage_options)
        dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
        if overview is not None:
            result = overview_dataset(dataset, check_factor(overview, restore=restore), make_lazy=_lazily)
            result.set_close(dataset.close)
            return result.drop_vars([name for name in dropped if name in result.variables])
        variables = read_latents_metadata(dataset)
        decoded = {}
        for name, metadata in variables.items():
            parts, selected = align_parts(dataset, at_quality(metadata, quality))
            speckle = speckle_keys(dataset, metadata, selected, restore)
            values = _LazyValues(LazyBackscatter(parts, selected, speckle))
            variable = make_decoded_variable(values, selected, speckle)
            stored_chunks = dataset.variables[name].encoding.get("preferred_chunks", {})
            variable.encoding["preferred_chunks"] = {
                dim: min(CHUNK_LATENTS * BLOCK, size) if dim in metadata.spatial else stored_chunks.get(dim, 1)
                for dim, size in variable.sizes.items()
            }
            decoded[metadata.name] = variable
        result = replace_parts(dataset, decoded, variables)
        result.set_close(dataset.close)
        return result.drop_vars([name for name in dropped if name in result.variables])

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Refuse to be guessed: a latents store is a Zarr store too, and a user may want its latents."""
        return False
