"""The xarray engine "sarcomp": open a latents store as backscatter, lazily, in one call.

Nothing heavy is imported at module level: xarray imports every installed engine when it has to guess one.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.speckle_keys import SpeckleKeys
from xsarcomp.stores.opening import open_zarr_store
from xsarcomp.tiling import Span, Window


class LazyBackscatter(BackendArray):
    """Backscatter that is decoded where it is indexed; holds lazily opened latents and the metadata, never a model.

    Dimensions are (..., y, x); only the chunks of latents that a window needs are read.
    """

    def __init__(self, parts: Mapping[str, xr.Variable], metadata: LatentsMetadata, speckle: SpeckleKeys | None = None):
        self.parts, self.metadata, self.speckle = dict(parts), metadata, speckle
        self.shape = (*parts["mask"].shape[:-2], *metadata.pixels)
        self.dtype = np.dtype(metadata.dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._window)

    def _region(self, window: Window) -> np.ndarray:
        from xsarcomp.latents.decode import decode_region

        return decode_region(self.parts, window, self.metadata, self.speckle)

    def _window(self, key: tuple[int | slice, ...]) -> np.ndarray:
        """Decode what basic indexing asks for: the bounding window, then steps and single positions of it."""
        positions = [np.arange(size)[part] for part, size in zip(key, self.shape, strict=True)]
        if any(position.size == 0 for position in positions):
            return np.empty([position.size for position in positions if position.ndim], self.dtype)
        window = tuple(Span(int(position.min()), int(position.max()) + 1) for position in positions)
        values = self._region(window)
        relative = tuple(position - start for position, (start, _) in zip(positions, window, strict=True))
        for axis, position in reversed(list(enumerate(relative))):
            values = np.take(values, position, axis=axis)
        return values


class LazyRegion(LazyBackscatter):
    """What a function reads, where it is indexed; ``read`` gets the (start, stop) on each axis."""

    def __init__(self, read: Callable[[tuple], np.ndarray], shape: tuple[int, ...], dtype: np.dtype):
        self._region, self.shape, self.dtype = read, shape, dtype


def _make_lazy(read: Callable[[tuple], np.ndarray], shape: tuple[int, ...], dtype: np.dtype) -> Any:
    return indexing.LazilyIndexedArray(LazyRegion(read, shape, dtype))


class SarcompBackendEntrypoint(BackendEntrypoint):
    """``xr.open_dataset(store, engine="sarcomp")``: a latents store as backscatter."""

    description = "Open latents stores of xsarcomp as Sentinel-1 backscatter"
    url = "https://pypi.org/project/xsarcomp/"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "group", "storage_options", "restore", "overview")

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        storage_options: dict[str, Any] | None = None,
        restore: str | None = None,
        overview: int | None = None,
    ) -> xr.Dataset:
        """Open a latents store.

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
            Add the speckle that was lost as noise that is made up, see ``.sarcomp.decode``.
        overview : int, optional
            Pixels of a block along each axis, 8, 16, ... 512: a quicklook, see ``.sarcomp.decode``. Only the lowest latents
            of the chunks are decoded.

        Returns
        -------
        xarray.Dataset
            Backscatter, decoded where and when it is read; ``chunks={}`` follows the chunks of the store.

        Raises
        ------
        NotEncodedError
            If the store holds no latents.
        ConfigurationError
            If ``restore`` is unknown, there is no such overview, or both are asked for.
        """
        from xsarcomp.codec.lapped import BLOCK
        from xsarcomp.latents.decode import align_parts, make_decoded_variable, read_latents_metadata, replace_parts
        from xsarcomp.latents.layout import CHUNK_LATENTS
        from xsarcomp.latents.overview import check_factor, overview_dataset
        from xsarcomp.latents.speckle_keys import speckle_keys

        if isinstance(filename_or_obj, os.PathLike):
            filename_or_obj = os.fspath(filename_or_obj)
        dataset = open_zarr_store(filename_or_obj, chunks=None, group=group, storage_options=storage_options)
        dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
        if overview is not None:
            result = overview_dataset(dataset, check_factor(overview, restore=restore), make_lazy=_make_lazy)
            result.set_close(dataset.close)
            return result.drop_vars([name for name in dropped if name in result.variables])
        variables = read_latents_metadata(dataset)
        decoded = {}
        for name, metadata in variables.items():
            parts, selected = align_parts(dataset, metadata)
            speckle = speckle_keys(dataset, metadata, selected, restore)
            values = indexing.LazilyIndexedArray(LazyBackscatter(parts, selected, speckle))
            variable = make_decoded_variable(values, selected, speckle)
            stored = dataset.variables[name].encoding.get("preferred_chunks", {})
            variable.encoding["preferred_chunks"] = {
                dim: min(CHUNK_LATENTS * BLOCK, size) if dim in metadata.spatial else stored.get(dim, 1)
                for dim, size in variable.sizes.items()
            }
            decoded[metadata.name] = variable
        result = replace_parts(dataset, decoded, variables)
        result.set_close(dataset.close)
        return result.drop_vars([name for name in dropped if name in result.variables])

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Never by guessing: a latents store is a Zarr store too, and its latents may be what is wanted."""
        return False
