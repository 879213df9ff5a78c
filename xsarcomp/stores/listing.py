"""What lies in a Zarr store: its arrays, the manifest, and what belongs to nothing.

Arrays are found by listing and not through Zarr's metadata alone, because metadata may be what is damaged or stale.
"""

import asyncio
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from xsarcomp.errors import ConfigurationError, LimitExceededError, NotEncodedError
from xsarcomp.stores.manifest import ARRAY, GROUP, LARGEST_JSON, metadata_digest
from xsarcomp.stores.stored_array import BATCH, METADATA, StoredArray, collected, keys_below

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.partial$")
"""End of the names that Zarr writes to before it renames: a writer that was killed leaves them."""


@dataclass(eq=False)
class StoredGroup:
    """A group of a Zarr store with all that lies below it; or a single array, as if a group without a name held it."""

    root: zarr.Group | zarr.Array
    arrays: list[StoredArray] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)
    """Digest of the metadata of each group by its path; the root is ``""``."""
    strays: list[str] = field(default_factory=list)
    """Keys that belong to no array and no group."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Path of an array or group, and what is wrong with its metadata."""

    @property
    def store(self) -> Store:
        """The store that holds it."""
        return self.root.store

    @property
    def path(self) -> str:
        """Path in the store, without slashes around."""
        return self.root.path

    @property
    def zarr_format(self) -> int:
        """2 or 3."""
        return self.root.metadata.zarr_format

    @property
    def is_array(self) -> bool:
        """Whether it is a single array, which nothing can lie beside."""
        return isinstance(self.root, zarr.Array)

    @property
    def _manifest_path(self) -> str:
        return f"{_prefix(self.path)}{GROUP}"

    def manifest(self) -> bytes | None:
        """Bytes of the manifest, None if there is none; raises whatever Zarr does if its array is damaged."""
        store = self.store
        if self.is_array or not sync(_names(store, self._manifest_path)):
            return None
        array = zarr.open_array(store, path=f"{self._manifest_path}/{ARRAY}", mode="r")
        claimed = array.dtype.itemsize * max(array.size, math.prod(array.chunks))
        most = 2 * (LARGEST_JSON + 8 * sum(math.prod(one.grid) for one in self.arrays))
        if claimed > most:  # before Zarr asks for so much memory
            raise LimitExceededError(f"the manifest claims {claimed} bytes, expected at most {most} for these arrays")
        return np.asarray(array[:], np.uint8).tobytes()

    def remove_temporary(self) -> None:
        """Remove what killed writers left half written; only where nobody writes."""
        for holder in (self, *self.arrays):
            for key in filter(_TEMPORARY.search, holder.strays):
                sync(self.store.delete(key))
            holder.strays[:] = [key for key in holder.strays if not _TEMPORARY.search(key)]

    def write_manifest(self, content: bytes) -> None:
        """Write the manifest; one that is there is replaced."""
        form = self.zarr_format
        named = {"dimension_names": ("byte",)} if form == 3 else {"attributes": {"_ARRAY_DIMENSIONS": ["byte"]}}
        values = np.frombuffer(content, np.uint8)
        group = zarr.create_group(self.store, path=self._manifest_path, overwrite=True, zarr_format=form)
        # in one chunk it is there or it is not
        array = group.create_array(ARRAY, shape=values.shape, chunks=values.shape, dtype="uint8", fill_value=0, **named)
        array[:] = values


def open_stored(store: Any, *, writable: bool = False, storage_options: dict | None = None) -> StoredGroup:
    """List what lies in a Zarr group, or in a single array.

    Parameters
    ----------
    store : str, path or Zarr store
    writable : bool
        Whether a manifest will be written.
    storage_options : dict, optional
        Passed to the file system of a URL.

    Raises
    ------
    NotEncodedError
        If there is neither.
    ConfigurationError
        If the store cannot list its objects, or a manifest is to be written beside a single array.
    """
    root = _opened(store, "r+" if writable else "r", storage_options)
    if writable and isinstance(root, zarr.Array):
        raise ConfigurationError(
            f"{store} is a single array, beside which no manifest can lie: write it as a variable of a dataset, or verify it "
            "without recording it"
        )
    result = StoredGroup(root)
    documents = sync(_Walk(result).documents())
    for path, document in documents.items():
        try:
            array = root[path] if path else root
            prefix = f"{_prefix(root.path)}{_prefix(path)}"
            result.arrays.append(StoredArray(path, array, root.store, prefix, metadata_digest(document)))
        except Exception as error:  # metadata may hold anything, and Zarr raises anything
            result.problems.append((path, f"the array cannot be opened: {error}"))
    if not result.is_array:
        try:
            result.problems += sync(_consolidated_problems(root, documents))
        except Exception as error:  # they may hold anything too
            result.problems.append(("", f"the consolidated metadata cannot be read: {error}"))
    return result


def stored_sizes(store: Any, *, storage_options: dict | None = None) -> dict[str, int]:
    """Bytes of each object in a Zarr group by its key, as the store tells them.

    Parameters
    ----------
    store, storage_options
        As for :func:`open_stored`.

    Raises
    ------
    NotEncodedError, ConfigurationError
        As of :func:`open_stored`.
    """
    root = _opened(store, "r", storage_options)
    return sync(_sizes(root.store, _prefix(root.path)))


async def _sizes(store: Store, prefix: str) -> dict[str, int]:
    keys = await keys_below(store, prefix)
    sizes: list[int] = []
    for first in range(0, len(keys), BATCH):
        sizes += await asyncio.gather(*map(store.getsize, keys[first : first + BATCH]))
    return {key.removeprefix(prefix): size for key, size in zip(keys, sizes, strict=True)}


def _opened(store: Any, mode: str, storage_options: dict | None) -> zarr.Group | zarr.Array:
    """The group at the root of a store, or the array; refused if what lies in it cannot be listed."""
    root = _read_root(store, mode, storage_options)
    if not root.store.supports_listing:
        raise ConfigurationError(f"{store} cannot list its objects, so nothing tells what is missing: copy it first")
    return root


def _read_root(store: Any, mode: str, storage_options: dict | None) -> zarr.Group | zarr.Array:
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


class _Walk:
    """Visits all groups and arrays below a group."""

    def __init__(self, result: StoredGroup):
        self.result, self.found = result, {}
        self.store, self.format = result.store, result.zarr_format

    async def documents(self) -> dict[str, list[dict]]:
        """Metadata of each array by its path; groups, strays and problems go into the result."""
        await self._visit("")
        return self.found

    async def _visit(self, path: str) -> None:
        where = f"{_prefix(self.result.path)}{path}".rstrip("/")
        names = await _names(self.store, where)
        try:
            document = await _document(self.store, where, names, self.format)
            own = [{key: one for key, one in part.items() if key != "consolidated_metadata"} for part in document or ()]
            digest = metadata_digest(own)
        except (ValueError, RecursionError) as error:
            self.result.problems.append((path, f"the metadata are no JSON: {error}"))
            return
        if document is None:
            strays = await keys_below(self.store, f"{where}/")
            # a folder without files is nothing: stores that know only objects leave some behind where they lie on a disk
            self.result.strays += strays or ([where] if await self.store.exists(where) else [])
        elif ".zarray" in names or document[0].get("node_type") == "array":
            self.found[path] = document
        else:
            self.result.groups[path] = digest
            for name in names:
                if name not in METADATA[self.format] and name != GROUP:
                    await self._visit(f"{path}/{name}" if path else name)


async def _names(store: Store, path: str) -> list[str]:
    """Names directly below a path; asked inside the event loop, without which obstore lists nothing."""
    return sorted(await collected(store.list_dir(path)))


async def _document(store: Store, where: str, names: list[str], zarr_format: int) -> list[dict] | None:
    """The JSON documents that are the metadata of an array or group; None if there is none."""
    wanted = ["zarr.json"] if zarr_format == 3 else [".zarray" if ".zarray" in names else ".zgroup", ".zattrs"]
    if wanted[0] not in names:
        return None
    return [await _json(store, f"{_prefix(where)}{name}") for name in wanted if name in names]


async def _json(store: Store, key: str) -> dict:
    content = await store.get(key, default_buffer_prototype())
    value = json.loads(content.to_bytes()) if content is not None else None
    if not isinstance(value, dict):
        raise ValueError(f"{key} holds no JSON object")
    return value


async def _consolidated_problems(group: zarr.Group, documents: dict[str, list[dict]]) -> list[tuple[str, str]]:
    """Arrays whose own metadata and consolidated metadata disagree: readers see the one or the other."""
    prefix, form = _prefix(group.path), group.metadata.zarr_format
    if form == 2:
        if not await group.store.exists(f"{prefix}.zmetadata"):
            return []
        entries = (await _json(group.store, f"{prefix}.zmetadata")).get("metadata", {})
        paths = {key.removesuffix("/.zarray") for key in entries if key.endswith("/.zarray")}
        seen = {path: [entries[k] for k in (f"{path}/.zarray", f"{path}/.zattrs") if k in entries] for path in paths}
    else:
        entries = ((await _json(group.store, f"{prefix}zarr.json")).get("consolidated_metadata") or {}).get("metadata")
        if entries is None:
            return []
        seen = {path: [entry] for path, entry in entries.items() if entry.get("node_type") == "array"}
    problems = [
        (path, "it stands in the consolidated metadata and not in the store") for path in seen.keys() - documents
    ]
    problems += [(path, "the consolidated metadata do not know it") for path in documents.keys() - seen.keys()]
    problems += [
        (path, "its own metadata and the consolidated metadata differ: readers see the one or the other")
        for path in documents.keys() & seen.keys()
        if metadata_digest(documents[path]) != metadata_digest(seen[path])
    ]
    return sorted(problem for problem in problems if GROUP not in problem[0].split("/"))


def _prefix(path: str) -> str:
    """Beginning of the keys below a path."""
    return f"{path}/" if path else ""
