"""Open a Zarr store with its coordinates."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import urlsplit

import xarray as xr

from xsarcomp.errors import ConfigurationError, MissingDependencyError, NotEncodedError, SarcompError


@contextlib.contextmanager
def readable_store(store: Any) -> Iterator[None]:
    """Context in which the errors of libraries that open a store name it; metadata may hold anything.

    Parameters
    ----------
    store : str, path or Zarr store

    Raises
    ------
    FileNotFoundError
        If there is no store.
    NotEncodedError
        If its metadata cannot be read.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{store} holds no Zarr group: check the name and the storage options") from error
    except OSError as error:
        if isinstance(store, str) and store not in str(error):
            raise OSError(
                f"{store} cannot be read ({error}): check the name, the connection and the permissions"
            ) from error
        raise
    except (SarcompError, ImportError, MemoryError):
        raise
    except Exception as error:  # Zarr raises anything
        raise NotEncodedError(
            f"{store} is no Zarr group that can be read ({error}): expected a store that xsarcomp encode or xarray wrote"
        ) from error


def check_file_system(url: str) -> None:
    """Refuse a URL for which a library is missing, and one of an unknown kind.

    Parameters
    ----------
    url : str
        Paths are always accepted.

    Raises
    ------
    MissingDependencyError
        If the file system of the URL is not installed.
    ConfigurationError
        If there is none of that kind.
    """
    if "://" not in url:
        return
    kind = urlsplit(url).scheme
    try:
        from fsspec import get_filesystem_class

        get_filesystem_class(kind)
    except ImportError as error:
        name = getattr(error.__cause__ or error, "name", None) or "fsspec"
        raise MissingDependencyError(
            f"{url} needs {name}, which is not installed. Install it with: pip install {name}"
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"{url} begins with {kind}://, which is unknown: expected a path, s3://, gs:// or https://"
        ) from error


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
    if isinstance(store, str):
        check_file_system(store)
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
