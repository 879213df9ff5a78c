"""What an interrupted writer left in a Zarr store: whether it is the store that would be written now, and what is finished."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from xsarcomp.errors import ConfigurationError
from xsarcomp.stores.listing import StoredGroup, open_stored
from xsarcomp.stores.stored_array import StoredArray, is_compressed, keys_below

Spans = tuple[slice, ...]
_CONSOLIDATED = {2: ".zmetadata", 3: "consolidated_metadata"}
"""Document, or entry in that of the group, that holds the metadata of all arrays again."""
_NOTHING = "nothing"  # stands for an entry that one of two documents has and the other has not


def found_store(store: Any, *, group: str | None, storage_options: dict[str, Any] | None) -> "Found | None":
    """What lies in a store that was begun before; None if nothing was.

    What killed writers left half written is removed, so nobody else may write meanwhile.

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
    return Found(stored, {array.path: array for array in stored.arrays})


@dataclass(eq=False)
class Found:
    """A store that was begun before."""

    stored: StoredGroup
    arrays: dict[str, StoredArray]
    """Arrays by name, as they were found."""

    @property
    def zarr_format(self) -> int:
        """Format of Zarr, 2 or 3."""
        return self.stored.root.metadata.zarr_format

    def holds(self, name: str, region: Spans) -> bool:
        """Whether all chunks (with shards, all shards) of a region of an array were there."""
        if name not in self.arrays:
            return False
        present, edges = self.arrays[name].present, object_shape(self.arrays[name].array)
        window = (slice(span.start // edge, -(-span.stop // edge)) for span, edge in zip(region, edges, strict=True))
        return bool(present[tuple(window)].all())

    def complete(self, target: zarr.Array, values: NDArray) -> None:
        """Write those chunks of an array in memory that are not there, and compare the others.

        Raises
        ------
        ConfigurationError
            If other values were written before; not noticed where a codec with loss lies between.
        """
        known = self.arrays.get(target.basename)
        if known is None or not known.present.any():
            target[...] = values
            return
        for index in np.ndindex(known.present.shape):
            spans = zip(index, object_shape(target), target.shape, strict=True)
            window = tuple(slice(i * edge, min((i + 1) * edge, size)) for i, edge, size in spans)
            if not known.present[index]:
                target[window] = values[window]
            elif not is_compressed(target) and not _same(np.asarray(target[window]), np.asarray(values[window])):
                raise _other_store(self.stored.root, f"{target.basename!r} holds other values")

    def accept(self, planned: zarr.Group, targets: dict[str, zarr.Array]) -> dict[str, zarr.Array]:
        """Compare with what would be written now, and write metadata that are missing.

        Parameters
        ----------
        planned : zarr.Group
            The group as it would be written now, without chunks.
        targets : dict of str to zarr.Array
            Its arrays.

        Returns
        -------
        dict of str to zarr.Array
            The same arrays in the store that was found.

        Raises
        ------
        ConfigurationError
            If they differ.
        """
        group = self.stored.root
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
        """Compare all metadata, then write what is missing, and consolidate where that is wanted and was not done."""
        group, must_consolidate, missing = self.stored.root, False, {}
        for key in sync(keys_below(planned.store, _key(planned, ""))):
            name = key.removeprefix(_key(planned, ""))
            content, there = _read(planned.store, key), _read(group.store, _key(group, name))
            if name == _CONSOLIDATED[2]:
                must_consolidate |= there is None
                continue
            here, there = json.loads(content), None if there is None else json.loads(there)
            if here.pop(_CONSOLIDATED[3], None) is not None:
                must_consolidate |= not (there or {}).pop(_CONSOLIDATED[3], None)
                content = json.dumps(here).encode()
            path = name.rpartition("/")[0]
            if there is None or (self._is_empty(path) and _is_begun(there, here)):
                missing[_key(group, name)] = default_buffer_prototype().buffer.from_bytes(content)
            elif (difference := _difference(there, here)) is not None:
                raise _other_store(group, f"{path or 'the group'}{difference}")
        for key, content in missing.items():
            sync(group.store.set(key, content))
        if must_consolidate:
            zarr.consolidate_metadata(group.store, zarr_format=self.zarr_format)

    def _is_empty(self, path: str) -> bool:
        """Whether an array has no chunks, or the group no arrays."""
        return not (self.arrays[path].present.any() if path in self.arrays else path == "" and self.arrays)


def object_shape(array: zarr.Array) -> tuple[int, ...]:
    """Shape of what is stored as one object: a shard, or a chunk where there are none."""
    return tuple(array.shards or array.chunks)


def _key(group: zarr.Group, name: str) -> str:
    return f"{group.path}/{name}" if group.path else name


def _read(store: Store, key: str) -> bytes | None:
    content = sync(store.get(key, default_buffer_prototype()))
    return None if content is None else content.to_bytes()


def _is_begun(there: dict, here: dict) -> bool:
    """Whether it is what Zarr writes first: all but the attributes."""
    return there == {} or (there.get("attributes") == {} and {**here, "attributes": {}} == there)


def _difference(there: Any, here: Any, path: str = "") -> str | None:
    """Where two documents differ, in words; None if they do not."""
    pairs = None
    if isinstance(there, dict) and isinstance(here, dict):
        keys = sorted({*there, *here}, key=lambda key: (key == "attributes", key))
        pairs = ((f"{path}.{key}", there.get(key, _NOTHING), here.get(key, _NOTHING)) for key in keys)
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = ((f"{path}.{number}", *pair) for number, pair in enumerate(zip(there, here, strict=True)))
    if pairs is not None:
        found = (_difference(*pair, one) for one, *pair in pairs)
        return next((one for one in found if one is not None), None)
    texts = [json.dumps(one, sort_keys=True) for one in (there, here)]
    return None if texts[0] == texts[1] else f"{path} is {texts[0][:60]}, and would be {texts[1][:60]} now"


def _same(there: np.ndarray, here: np.ndarray) -> bool:
    may_be_nan = here.dtype.kind in "fc"
    return there.shape == here.shape and np.array_equal(there, here, equal_nan=may_be_nan)


def _other_store(group: zarr.Group, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{group.store_path} was begun with another scene or other options: {what}. Go on with the same ones, or write it anew "
        "without resume"
    )
