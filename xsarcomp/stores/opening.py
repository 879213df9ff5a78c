"""Open a Zarr store with its coordinates."""

import warnings
from typing import Any

import xarray as xr


def open_zarr_store(
    store: Any, *, chunks: dict | None, group: str | None = None, storage_options: dict[str, Any] | None = None
) -> xr.Dataset:
    """Open a Zarr store with its coordinates, consolidated or not."""
    with warnings.catch_warnings():
        # a store without consolidated metadata is as good; xarray would advise about it at each opening
        warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated metadata", RuntimeWarning)
        return xr.open_dataset(
            store, engine="zarr", chunks=chunks, group=group, storage_options=storage_options, decode_coords="all"
        )
