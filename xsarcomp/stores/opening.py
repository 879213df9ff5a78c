"""Open a Zarr store with its coordinates."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any, Literal

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
    with _without_advice():
        return xr.open_dataset(
            store,
            engine="zarr",
            chunks=chunks,
            group=group,
            storage_options=storage_options,
            consolidated=consolidated,
            decode_coords="all",
        )


def open_by_zarr_engine(method: Literal["open_dataset", "open_groups_as_dict"], store: Any, **options: Any) -> Any:
    """Call a method of xarray's Zarr engine, as another engine that is built on it does.

    Parameters
    ----------
    method : {"open_dataset", "open_groups_as_dict"}
    store : str, path or Zarr store
    **options
        As for the engine.

    Returns
    -------
    xarray.Dataset, or dict of str to xarray.Dataset
        Lazy without Dask; xarray adds what is common to all engines.
    """
    with _without_advice():
        path = os.fspath(store) if isinstance(store, os.PathLike) else store
        return getattr(xr.backends.ZarrBackendEntrypoint(), method)(path, **options)


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Context without xarray's advice to consolidate: a store without consolidated metadata is valid."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated metadata", RuntimeWarning)
        yield
