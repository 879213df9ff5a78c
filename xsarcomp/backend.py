"""The xarray engine "sarcomp", which opens a latents store as backscatter, lazily, in one call.

No heavy import at module level: xarray imports every installed engine when it has to guess one.
"""

import os
from collections.abc import Iterable
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint

from xsarcomp.stores.opening import open_zarr_store


class SarcompBackendEntrypoint(BackendEntrypoint):
    """Engine of ``xr.open_dataset(store, engine="sarcomp")``, which opens a latents store as backscatter."""

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

        Returns
        -------
        xarray.Dataset
            Backscatter, decoded when it is read; ``chunks={}`` follows the chunks of the store.

        Raises
        ------
        NotEncodedError
            If the store holds no latents.
        ConfigurationError
            If ``restore`` or ``overview`` has another value, or both are given.
        """
        from xsarcomp.codec.lapped import BLOCK
        from xsarcomp.latents.decode import align_parts, make_decoded_variable, read_latents_metadata, replace_parts
        from xsarcomp.latents.layout import CHUNK_LATENTS
        from xsarcomp.latents.lazy_arrays import LazyBackscatter, LazyValues, lazily
        from xsarcomp.latents.overview import check_factor, overview_dataset
        from xsarcomp.latents.speckle_keys import speckle_keys

        if isinstance(filename_or_obj, os.PathLike):
            filename_or_obj = os.fspath(filename_or_obj)
        dataset = open_zarr_store(filename_or_obj, chunks=None, group=group, storage_options=storage_options)
        dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
        if overview is not None:
            result = overview_dataset(dataset, check_factor(overview, restore=restore), make_lazy=lazily)
            result.set_close(dataset.close)
            return result.drop_vars([name for name in dropped if name in result.variables])
        variables = read_latents_metadata(dataset)
        decoded = {}
        for name, metadata in variables.items():
            parts, selected = align_parts(dataset, metadata)
            speckle = speckle_keys(dataset, metadata, selected, restore)
            values = LazyValues(LazyBackscatter(parts, selected, speckle))
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
