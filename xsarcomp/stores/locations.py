"""Locations of Zarr stores and files, so that two of them can be compared however they were given.

A path, a ``file://`` URL and an object of Zarr may all mean the same folder, and a store in memory has no path at all.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import xarray as xr
import zarr
from zarr.storage import StorePath

from xsarcomp.errors import ConfigurationError
from xsarcomp.scenes.rasters import local_path
from xsarcomp.stores.opening import check_file_system

LOCAL = "file"
"""Root of all paths of this machine."""
FILE_ENDINGS = (".tif", ".tiff", ".nc", ".nc4", ".h5", ".hdf5", ".png", ".jpg", ".jp2", ".vrt", ".json", ".csv")
"""Endings of files that are no Zarr stores."""


@dataclass(frozen=True)
class Location:
    """Location of a store, or of a group or array in it."""

    root: Any
    """What paths are relative to: ``LOCAL``, a bucket's server, or an object in memory."""
    store: tuple[str, ...]
    """Parts of the path of the store, links resolved."""
    inside: tuple[str, ...] = ()
    """Parts of the path of a group or array in the store."""
    name: str = ""
    """Name for messages."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts of the whole path."""
        return self.store + self.inside

    @property
    def path(self) -> Path | None:
        """Path of the store, if it is local."""
        return Path(*self.store) if self.root == LOCAL else None

    def contains(self, other: "Location") -> bool:
        """Return whether another location is this one, or below it."""
        return self.root == other.root and other.parts[: len(self.parts)] == self.parts

    def would_destroy(self, source: "Location") -> bool:
        """Return whether a writer at this location would remove or overwrite a source that is read, or write into it."""
        is_other_store_inside = source.store != self.store and Location(source.root, source.store).contains(self)
        return self.contains(source) or source.contains(self) or is_other_store_inside


def local_location(path: str | os.PathLike[str], inside: str | None = None) -> Location:
    """Return the location of a local path.

    Parameters
    ----------
    path : str or path
    inside : str, optional
        Path of a group or array in the store.
    """
    resolved = Path(path).expanduser().resolve()
    return Location(LOCAL, resolved.parts, _parts(inside), os.fspath(path))


def expanded(store: Any) -> Any:
    """Store with the home folder in place of ``~``, as text where it is a local path; others unchanged."""
    is_path = isinstance(store, os.PathLike | str) and "://" not in os.fspath(store)
    return str(Path(store).expanduser()) if is_path else store


def check_target(store: Any) -> None:
    """Refuse to write a store to what no store is called, or what is no place at all.

    Parameters
    ----------
    store : str, path or Zarr store

    Raises
    ------
    ConfigurationError
        If the store is None or a dataset, or its name is that of a file of another kind.
    """
    if store is None or isinstance(store, int | float | xr.Dataset | xr.DataArray):
        found = "None" if store is None else f"of type {type(store).__name__}"
        raise ConfigurationError(
            f"store is {found}, expected the path or URL of a Zarr store, or a store object of zarr"
        )
    if not isinstance(store, os.PathLike | str):
        return
    name = os.fspath(store)
    if name.lower().endswith(FILE_ENDINGS):
        raise ConfigurationError(
            f"the store {name!r} has the ending of another kind of file: a Zarr store is a folder, expected a name like "
            f"{PurePosixPath(name).stem + '.zarr'!r}. To write decoded backscatter, xsarcomp decode STORE {PurePosixPath(name).name}"
        )
    if "://" not in name and Path(name).is_file() and not name.endswith(".zip"):
        raise ConfigurationError(
            f"the store {name!r} is a file, expected a folder or a new name: choose another, or remove it"
        )


def store_location(store: Any, inside: str | None = None, storage_options: dict[str, Any] | None = None) -> Location:
    """Return the location of a store; nothing is opened or created.

    Parameters
    ----------
    store : str, path or Zarr store
    inside : str, optional
        Path of a group or array in the store.
    storage_options : dict, optional
        Passed to the file system of a URL.
    """
    if isinstance(store, StorePath):
        return store_location(store.store, "/".join((*_parts(store.path), *_parts(inside))))
    if isinstance(store, os.PathLike | str):
        path = local_path(os.fspath(store))
        if "://" not in path:
            return local_location(path, inside)
        check_file_system(path)
        try:
            store = zarr.storage.FsspecStore.from_url(path, storage_options=storage_options)
        except OSError as error:
            raise OSError(f"{path} cannot be reached ({error}): check the name and the connection") from error
    while isinstance(store, zarr.storage.WrapperStore):
        store = store._store
    if isinstance(store, zarr.storage.LocalStore):
        return local_location(store.root, inside)
    if isinstance(store, zarr.storage.ZipStore):
        return local_location(store.path, inside)
    if isinstance(store, zarr.storage.FsspecStore):
        return _location_of_file_system(store.fs, store.path, _parts(inside))
    if isinstance(store, zarr.storage.ObjectStore):
        return _location_of_objects(store.store, _parts(inside))
    memory = getattr(store, "_store_dict", store)  # a dict is what Zarr wraps into a store
    root = ("memory", id(memory)) if isinstance(memory, dict) else store
    return Location(root, (), _parts(inside), str(store) if not isinstance(store, dict) else "the dict of a store")


def _location_of_file_system(fs: Any, path: str, inside: tuple[str, ...]) -> Location:
    """Location of a path in a file system of fsspec."""
    while (inner := getattr(fs, "sync_fs", None) or getattr(fs, "fs", None)) is not None:  # caches and other wrappers
        path = f"{fs.path}/{path}" if getattr(fs, "protocol", None) == "dir" else path
        fs = inner
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    if protocol in ("file", "local"):
        return Location(LOCAL, Path(path).resolve().parts, inside, path)
    options = getattr(fs, "storage_options", {})
    servers = [options.get("endpoint_url"), (options.get("client_kwargs") or {}).get("endpoint_url")]
    servers += [options.get(name) for name in ("account_name", "host")]
    return Location((protocol, _server(servers)), _parts(path), inside, f"{protocol}://{path.lstrip('/')}")


def _location_of_objects(store: Any, inside: tuple[str, ...]) -> Location:
    """Location of a store of obstore."""
    kind, config = type(store).__name__, getattr(store, "config", {})
    prefix = str(getattr(store, "prefix", None) or "")
    if kind == "LocalStore" and prefix:
        return local_location(prefix, "/".join(inside))
    if kind == "MemoryStore":
        return Location(store, (), inside, str(store))
    bucket = str(config.get("bucket") or config.get("container_name") or "")
    root = (kind.removesuffix("Store").lower(), _server([config.get("endpoint"), config.get("account_name")]))
    return Location(root, (*_parts(bucket), *_parts(prefix)), inside, str(store))


def _server(names: Iterable[str | None]) -> str:
    """First name of a server that is given, in one spelling; empty for the usual one."""
    text = next((name for name in names if name), "")
    return urlsplit(text).netloc.lower() or text.lower()


def _parts(path: str | None) -> tuple[str, ...]:
    """Parts of a path without a drive."""
    return tuple(part for part in (path or "").split("/") if part)
