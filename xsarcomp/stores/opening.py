"""Open a Zarr store with its coordinates."""

import warnings
from typing import Any

import xarray as xr


def open_zarr_store(
    store: Any,
    *,
    chunks: dict[str, int] | None,
    group: str | None = None,
    storage_options: dict[str, Any] | None = None,
    consolidated: bool | None = None,
) -> xr.Dataset:
    """Open a Zarr store with its coordinates, with consolidated metadata or without.

    Parameters
    ----------
    store : str, path or Zarr store
    chunks : dict or None
        Chunks of Dask arrays, ``{}`` for those of the store; None to open without Dask.
    group : str, optional
        Path of the group in the store.
    storage_options : dict, optional
        Passed to the file system of a URL.
    consolidated : bool, optional
        False to read the metadata of each array; by default those of the group where it has them.

    Returns
    -------
    xarray.Dataset
        Latents stay latents. Variables that are named as coordinates or grid mapping are coordinates.
    """
    with warnings.catch_warnings():
        # a store without consolidated metadata is valid; xarray would warn about it at each opening
        warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated metadata", RuntimeWarning)
        return xr.open_dataset(
            store,
            engine="zarr",
            chunks=chunks,
            group=group,
            storage_options=storage_options,
            consolidated=consolidated,
            decode_coords="all",
        )
