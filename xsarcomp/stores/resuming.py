"""Partial stores, as interrupted writers leave them: comparison with the store to write, and the blocks that are finished."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.sync import sync

from xsarcomp.errors import ConfigurationError
from xsarcomp.stores.array_writes import Written, object_shape, write_recorded
from xsarcomp.stores.listing import open_stored
from xsarcomp.stores.stored_array import StoredArray, is_compressed, keys_below

Spans = tuple[slice, ...]
_CONSOLIDATED = {2: ".zmetadata", 3: "consolidated_metadata"}
"""Document (format 2), or entry in the document of the group (format 3), that repeats the metadata of all arrays."""
_NOTHING = "nothing"  # stands for an entry that only one of two documents has


def open_partial_store(
    store: Any, *, group: str | None, storage_options: dict[str, Any] | None
) -> "PartialStore | None":
    """Open a partial store; None if there is no group yet.

    Temporary objects of killed writers are removed, so no other process may write meanwhile.

    Parameters
    ----------
    store : str, path or Zarr store
    group : str or None
        Path of the group in the store.
    storage_options : dict or None
        Passed to the file system of a URL.

    Returns
    -------
    PartialStore or None

    Raises
    ------
    ConfigurationError
        If the store cannot list its objects.
    """
    try:
        root = zarr.open_group(store, mode="r+", path=group, use_consolidated=False, storage_options=storage_options)
    except FileNotFoundError:
        return None
    stored = open_stored(root.store_path, writable=True)
    stored.remove_temporary()
    # a dataset has no groups: those below are written on their own
    return PartialStore(root, {array.path: array for array in stored.arrays if "/" not in array.path})


@dataclass(eq=False)
class PartialStore:
    """A store that an earlier writer began."""

    group: zarr.Group
    arrays: dict[str, StoredArray]
    """Arrays by name, as the earlier writer left them."""

    @property
    def zarr_format(self) -> Literal[2, 3]:
        """Zarr format of the group."""
        return self.group.metadata.zarr_format

    def holds(self, name: str, region: Spans) -> bool:
        """Return whether the earlier writer stored all chunks (with shards, all shards) of a region of an array."""
        if name not in self.arrays:
            return False
        present, edges = self.arrays[name].present, object_shape(self.arrays[name].array)
        window = (slice(span.start // edge, -(-span.stop // edge)) for span, edge in zip(region, edges, strict=True))
        return bool(present[tuple(window)].all())

    def complete(self, target: zarr.Array, values: NDArray) -> Iterator[Written]:
        """Write the missing chunks of an array in memory, and compare the others.

        Parameters
        ----------
        target : zarr.Array
            The array in the store.
        values : ndarray
            Encoded values of all of it.

        Yields
        ------
        Written

        Raises
        ------
        ConfigurationError
            If the store holds other values; not noticed under a lossy codec.
        """
        known = self.arrays.get(target.basename)
        if known is None or not known.present.any():
            yield write_recorded(target, values)
            return
        for index in np.ndindex(known.present.shape):
            spans = zip(index, object_shape(target), target.shape, strict=True)
            window = tuple(slice(i * edge, min((i + 1) * edge, size)) for i, edge, size in spans)
            if not known.present[index]:
                yield write_recorded(target, values[window], window)
            elif not is_compressed(target) and not _same(np.asarray(target[window]), np.asarray(values[window])):
                raise _other_store(self.group, f"{target.basename!r} holds other values")

    def accept(self, planned: zarr.Group, targets: dict[str, zarr.Array]) -> dict[str, zarr.Array]:
        """Compare with the store to write now, and write metadata that are missing.

        Parameters
        ----------
        planned : zarr.Group
            The group as it would be written now, without chunks.
        targets : dict of str to zarr.Array
            Its arrays.

        Returns
        -------
        dict of str to zarr.Array
            The same arrays in the partial store.

        Raises
        ------
        ConfigurationError
            If they differ.
        """
        group = self.group
        if surplus := sorted(self.arrays.keys() - targets.keys()):
            raise _other_store(group, f"it holds {', '.join(surplus)}, which would not be written now")
        if self.zarr_format != planned.metadata.zarr_format:
            raise _other_store(
                group, f"it has Zarr format {self.zarr_format}, now format {planned.metadata.zarr_format} is asked for"
            )
        self._accept_documents(planned)
        return {
            name: zarr.open_array(group.store, path=_key(group, name), mode="r+").with_config(target.config)
            for name, target in targets.items()
        }

    def _accept_documents(self, planned: zarr.Group) -> None:
        """Compare all metadata, then write the missing documents, and consolidate metadata if that is planned and not done yet."""
        group, must_consolidate = self.group, False
        missing: dict[str, Buffer] = {}
        for key in sync(keys_below(planned.store, _key(planned, ""))):
            name = key.removeprefix(_key(planned, ""))
            content, stored_content = _read(planned.store, key), _read(group.store, _key(group, name))
            if name == _CONSOLIDATED[2]:
                must_consolidate |= stored_content is None
                continue
            document = json.loads(content or b"")
            stored = None if stored_content is None else json.loads(stored_content)
            if document.pop(_CONSOLIDATED[3], None) is not None:
                must_consolidate |= not (stored or {}).pop(_CONSOLIDATED[3], None)
                content = json.dumps(document).encode()
            path = name.rpartition("/")[0]
            if stored is None or (self._is_empty(path) and _is_begun(stored, document)):
                missing[_key(group, name)] = default_buffer_prototype().buffer.from_bytes(content or b"")
            elif (difference := _difference(stored, document)) is not None:
                raise _other_store(group, f"{path or 'the group'}{difference}")
        for key, buffer in missing.items():
            sync(group.store.set(key, buffer))
        if must_consolidate:
            zarr.consolidate_metadata(group.store, zarr_format=self.zarr_format)

    def _is_empty(self, path: str) -> bool:
        """Return whether the array at a path has no chunks, or the group (empty path) no arrays."""
        return not (self.arrays[path].present.any() if path in self.arrays else path == "" and self.arrays)


def _key(group: zarr.Group, name: str) -> str:
    """Key in the store of a name below a group."""
    return f"{group.path}/{name}" if group.path else name


def _read(store: Store, key: str) -> bytes | None:
    """Bytes of an object; None if there is none."""
    content = sync(store.get(key, default_buffer_prototype()))
    return None if content is None else content.to_bytes()


def _is_begun(stored: dict[str, Any], planned: dict[str, Any]) -> bool:
    """Return whether a stored document is what Zarr writes first: the planned one without its attributes."""
    return stored == {} or (stored.get("attributes") == {} and {**planned, "attributes": {}} == stored)


def _difference(stored: Any, planned: Any, path: str = "") -> str | None:
    """First difference of two JSON values in words; None if they are equal."""
    entries: list[tuple[str, Any, Any]]
    if isinstance(stored, dict) and isinstance(planned, dict):
        keys = sorted({*stored, *planned}, key=lambda key: (key == "attributes", key))
        entries = [(f"{path}.{key}", stored.get(key, _NOTHING), planned.get(key, _NOTHING)) for key in keys]
    elif isinstance(stored, list) and isinstance(planned, list) and len(stored) == len(planned):
        entries = [(f"{path}.{i}", *pair) for i, pair in enumerate(zip(stored, planned, strict=True))]
    else:
        texts = [json.dumps(value, sort_keys=True) for value in (stored, planned)]
        return None if texts[0] == texts[1] else f"{path} is {texts[0][:60]}, and would be {texts[1][:60]} now"
    differences = (_difference(before, now, name) for name, before, now in entries)
    return next((difference for difference in differences if difference is not None), None)


def _same(stored: NDArray, planned: NDArray) -> bool:
    """Return whether two arrays are equal; NaN equals NaN."""
    may_be_nan = planned.dtype.kind in "fc"
    return stored.shape == planned.shape and np.array_equal(stored, planned, equal_nan=may_be_nan)


def _other_store(group: zarr.Group, difference: str) -> ConfigurationError:
    """Error about a partial store that is not the one to write."""
    return ConfigurationError(
        f"{group.store_path} was begun with another scene or other options: {difference}. Go on with the same ones, or write it anew "
        "without resume"
    )
