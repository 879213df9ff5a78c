"""Listing of a Zarr store: its arrays, its manifest, and objects that belong to nothing.

Arrays are found by listing objects, not only through the metadata of groups, because metadata may be damaged or stale.
"""

import asyncio
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from xsarcomp.errors import ConfigurationError, LimitExceededError, NotEncodedError
from xsarcomp.stores.manifest import ARRAY, GROUP, LARGEST_JSON, metadata_digest
from xsarcomp.stores.opening import check_file_system
from xsarcomp.stores.stored_array import BATCH, METADATA, StoredArray, collected, keys_below

Documents = list[dict[str, Any]]
"""JSON documents that together are the metadata of an array or group."""
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.partial$")
"""End of the temporary names to which Zarr writes before it renames: a writer that was killed leaves them."""


@dataclass(eq=False)
class StoredGroup:
    """A group of a Zarr store with everything below it; or a single array, listed as the only one of a group without a name."""

    root: zarr.Group | zarr.Array
    arrays: list[StoredArray] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)
    """Digest of the metadata of each group by its path; the root is ``""``."""
    strays: list[str] = field(default_factory=list)
    """Keys that belong to no array and no group."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Path of an array or group, and the problem of its metadata."""

    @property
    def store(self) -> Store:
        """Store that holds the group."""
        return self.root.store

    @property
    def path(self) -> str:
        """Path of the group in the store, without slashes around."""
        return self.root.path

    @property
    def zarr_format(self) -> Literal[2, 3]:
        """Zarr format of the group."""
        return self.root.metadata.zarr_format

    @property
    def is_array(self) -> bool:
        """Return whether this is a single array, beside which nothing can lie."""
        return isinstance(self.root, zarr.Array)

    @property
    def _manifest_path(self) -> str:
        return f"{_prefix(self.path)}{GROUP}"

    def manifest(self, group: str = "") -> bytes | None:
        """Read the bytes of the manifest of the group, or of one below it by its path; None if there is none.

        Raises
        ------
        LimitExceededError
            If the array of the manifest claims too much.
        Exception
            Anything, from Zarr, if the array is damaged.
        """
        store = self.store
        path = f"{_prefix(self.path)}{_prefix(group)}{GROUP}"
        if self.is_array or not sync(_names(store, path)):
            return None
        array = zarr.open_array(store, path=f"{path}/{ARRAY}", mode="r")
        claimed = array.dtype.itemsize * max(array.size, math.prod(array.chunks))
        limit = 2 * (LARGEST_JSON + 8 * sum(math.prod(stored.grid) for stored in self.arrays))
        if claimed > limit:  # before Zarr allocates that much memory
            raise LimitExceededError(f"the manifest claims {claimed} bytes, expected at most {limit} for these arrays")
        return np.asarray(array[:], np.uint8).tobytes()

    def remove_temporary(self) -> None:
        """Remove the temporary objects of killed writers; only safe while nobody writes."""
        for strays in (self.strays, *(array.strays for array in self.arrays)):
            for key in filter(_TEMPORARY.search, strays):
                sync(self.store.delete(key))
            strays[:] = [key for key in strays if not _TEMPORARY.search(key)]

    def write_manifest(self, content: bytes) -> None:
        """Write the bytes of a manifest; an earlier one is replaced."""
        zarr_format = self.zarr_format
        dimensions: dict[str, Any] = (
            {"dimension_names": ("byte",)} if zarr_format == 3 else {"attributes": {"_ARRAY_DIMENSIONS": ["byte"]}}
        )
        values = np.frombuffer(content, np.uint8)
        group = zarr.create_group(self.store, path=self._manifest_path, overwrite=True, zarr_format=zarr_format)
        # in one chunk, so that it exists as a whole or not at all
        array = group.create_array(
            ARRAY, shape=values.shape, chunks=values.shape, dtype="uint8", fill_value=0, **dimensions
        )
        array[:] = values


def open_stored(store: Any, *, writable: bool = False, storage_options: dict[str, Any] | None = None) -> StoredGroup:
    """List everything in a Zarr group, or a single array.

    Parameters
    ----------
    store : str, path or Zarr store
    writable : bool
        Whether a manifest will be written.
    storage_options : dict, optional
        Passed to the file system of a URL.

    Returns
    -------
    StoredGroup

    Raises
    ------
    NotEncodedError
        If there is neither.
    ConfigurationError
        If the store cannot list its objects, or a manifest is to be written beside a single array.
    """
    root = _open_listable(store, "r+" if writable else "r", storage_options)
    if writable and isinstance(root, zarr.Array):
        raise ConfigurationError(
            f"{store} is a single array, beside which no manifest can lie: write it as a variable of a dataset, or verify it "
            "without recording it"
        )
    result = StoredGroup(root)
    documents = sync(_MetadataWalk(result).documents())
    for path, array_documents in documents.items():
        try:
            array = root[path] if path and isinstance(root, zarr.Group) else root
            if not isinstance(array, zarr.Array):
                raise TypeError("found a group, expected an array")
            prefix = f"{_prefix(root.path)}{_prefix(path)}"
            result.arrays.append(StoredArray(path, array, root.store, prefix, metadata_digest(array_documents)))
        except Exception as error:  # metadata may hold anything, and Zarr raises anything
            result.problems.append((path, f"the array cannot be opened: {error}"))
    if isinstance(root, zarr.Group):
        try:
            result.problems += sync(_consolidated_problems(root, documents))
        except Exception as error:  # they may hold anything too
            result.problems.append(("", f"the consolidated metadata cannot be read: {error}"))
    return result


def stored_sizes(store: Any, *, storage_options: dict[str, Any] | None = None) -> dict[str, int]:
    """Sizes of the objects in a Zarr group, asked from the store.

    Parameters
    ----------
    store, storage_options
        As for :func:`open_stored`.

    Returns
    -------
    dict
        Key from the group to the size in bytes.

    Raises
    ------
    NotEncodedError, ConfigurationError
        As for :func:`open_stored`.
    """
    root = _open_listable(store, "r", storage_options)
    return sync(_sizes(root.store, _prefix(root.path)))


def size_at(path: str) -> int:
    """Size of a local file, or of everything in a store, in bytes."""
    file = Path(path)
    return file.stat().st_size if "://" not in path and file.is_file() else sum(stored_sizes(path).values())


async def _sizes(store: Store, prefix: str) -> dict[str, int]:
    keys = await keys_below(store, prefix)
    sizes: list[int] = []
    for first in range(0, len(keys), BATCH):
        sizes += await asyncio.gather(*map(store.getsize, keys[first : first + BATCH]))
    return {key.removeprefix(prefix): size for key, size in zip(keys, sizes, strict=True)}


def _open_listable(
    store: Any, mode: Literal["r", "r+"], storage_options: dict[str, Any] | None
) -> zarr.Group | zarr.Array:
    """Open the group at the root of a store, or the array; refuse a store that cannot list its objects."""
    root = _open_root(store, mode, storage_options)
    if not root.store.supports_listing:
        raise ConfigurationError(
            f"{store} cannot list its objects, so missing ones cannot be found: copy it to a store that can"
        )
    return root


def _open_root(store: Any, mode: Literal["r", "r+"], storage_options: dict[str, Any] | None) -> zarr.Group | zarr.Array:
    """Open the group at the root of a store, or the array."""
    if isinstance(store, str):
        check_file_system(store)
    try:
        return zarr.open_group(store, mode=mode, use_consolidated=False, storage_options=storage_options)
    except Exception as error:  # metadata may hold anything, and Zarr raises anything
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise
        try:
            return zarr.open_array(store, mode=mode, storage_options=storage_options)
        except Exception:
            raise NotEncodedError(
                f"{store} is no Zarr group or array that can be read ({error}): expected a store that xsarcomp encode wrote"
            ) from error


class _MetadataWalk:
    """Visit of all groups and arrays below a group; groups, strays and problems go into ``result``."""

    def __init__(self, result: StoredGroup):
        self.result, self.store, self.format = result, result.store, result.zarr_format
        self._documents: dict[str, Documents] = {}

    async def documents(self) -> dict[str, Documents]:
        """Metadata of each array by its path."""
        await self._visit("")
        return self._documents

    async def _visit(self, path: str) -> None:
        path_in_store = f"{_prefix(self.result.path)}{path}".rstrip("/")
        names = await _names(self.store, path_in_store)
        try:
            documents = await _read_documents(self.store, path_in_store, names, self.format)
            digest = metadata_digest(
                [
                    {key: value for key, value in document.items() if key != "consolidated_metadata"}
                    for document in documents or ()
                ]
            )
        except (ValueError, RecursionError) as error:
            self.result.problems.append((path, f"the metadata are no JSON: {error}"))
            return
        if documents is None:
            strays = await keys_below(self.store, f"{path_in_store}/")
            # an empty folder is no stray: object stores on a disk leave some behind
            self.result.strays += strays or ([path_in_store] if await self.store.exists(path_in_store) else [])
        elif ".zarray" in names or documents[0].get("node_type") == "array":
            self._documents[path] = documents
        else:
            self.result.groups[path] = digest
            for name in names:
                if name not in METADATA[self.format] and name != GROUP:
                    await self._visit(f"{path}/{name}" if path else name)


async def _names(store: Store, path: str) -> list[str]:
    """Names directly below a path. obstore lists nothing unless it is asked inside the event loop."""
    return sorted(await collected(store.list_dir(path)))


async def _read_documents(store: Store, path: str, names: list[str], zarr_format: int) -> Documents | None:
    """Read the metadata of an array or group; None if there are none among the names below its path."""
    expected = ["zarr.json"] if zarr_format == 3 else [".zarray" if ".zarray" in names else ".zgroup", ".zattrs"]
    if expected[0] not in names:
        return None
    return [await _read_json(store, f"{_prefix(path)}{name}") for name in expected if name in names]


async def _read_json(store: Store, key: str) -> dict[str, Any]:
    """Read a JSON object."""
    content = await store.get(key, default_buffer_prototype())
    value = json.loads(content.to_bytes()) if content is not None else None
    if not isinstance(value, dict):
        raise ValueError(f"{key} holds no JSON object")
    return value


async def _consolidated_problems(group: zarr.Group, documents: dict[str, Documents]) -> list[tuple[str, str]]:
    """Arrays whose metadata differ from the consolidated metadata, and the problem: a reader sees either."""
    prefix = _prefix(group.path)
    if group.metadata.zarr_format == 2:
        if not await group.store.exists(f"{prefix}.zmetadata"):
            return []
        entries = (await _read_json(group.store, f"{prefix}.zmetadata")).get("metadata", {})
        paths = {key.removesuffix("/.zarray") for key in entries if key.endswith("/.zarray")}
        consolidated = {
            path: [entries[key] for key in (f"{path}/.zarray", f"{path}/.zattrs") if key in entries] for path in paths
        }
    else:
        entries = ((await _read_json(group.store, f"{prefix}zarr.json")).get("consolidated_metadata") or {}).get(
            "metadata"
        )
        if entries is None:
            return []
        consolidated = {path: [entry] for path, entry in entries.items() if entry.get("node_type") == "array"}
    problems = [
        (path, "it is in the consolidated metadata and not in the store") for path in consolidated.keys() - documents
    ]
    problems += [
        (path, "it is in the store and not in the consolidated metadata")
        for path in documents.keys() - consolidated.keys()
    ]
    problems += [
        (path, "its metadata and the consolidated metadata differ: a reader sees either")
        for path in documents.keys() & consolidated.keys()
        if metadata_digest(documents[path]) != metadata_digest(consolidated[path])
    ]
    return sorted(problem for problem in problems if GROUP not in problem[0].split("/"))


def _prefix(path: str) -> str:
    """Beginning of the keys below a path."""
    return f"{path}/" if path else ""
