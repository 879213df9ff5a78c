"""Unfinished appends: a note in the store says how long it was, and :func:`take_back` makes it so again."""

import contextlib
from collections.abc import Hashable
from typing import Any

import zarr
from zarr.core.sync import sync

from xsarcomp.stores.array_writes import object_shape
from xsarcomp.stores.recording import UNFINISHED


def array_dimensions(array: zarr.Array) -> tuple[str, ...]:
    """Names of the dimensions of a stored array."""
    names: Any = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    return tuple(map(str, names))


def shared_planes(array: zarr.Array, dim: str, before: int) -> int:
    """Number of new planes that share a chunk with those before."""
    return -before % object_shape(array)[array_dimensions(array).index(dim)]


def resized(array: zarr.Array, dim: str, size: int) -> tuple[int, ...]:
    """Shape of an array with another size along a dimension."""
    return tuple(size if name == dim else old for name, old in zip(array_dimensions(array), array.shape, strict=True))


def take_back(root: zarr.Group) -> None:
    """Shorten a store to the size it had before an append that was not finished; nothing to do without one."""
    if (unfinished := _noted(root)) is None:
        return
    dim, size, created = unfinished
    for name in created:
        if name in root:
            del root[name]
    for _, array in root.arrays():
        if dim not in array_dimensions(array):
            continue
        axis = array_dimensions(array).index(dim)
        if array.shape[axis] <= size:
            continue
        if shared_planes(array, dim, size):  # no chunk of backscatter, see _refuse_recompression
            stop = min(array.shape[axis], size + shared_planes(array, dim, size))
            place = tuple(slice(size, stop) if one == axis else slice(None) for one in range(array.ndim))
            with contextlib.suppress(Exception):  # a chunk that cannot be read is damaged with or without this
                array[place] = array.fill_value
        array.resize(resized(array, dim, size))
    forget(root)


def _note_path(root: zarr.Group) -> str:
    return f"{root.path}/{UNFINISHED}" if root.path else UNFINISHED


def note(root: zarr.Group, dim: str, size: int, created: list[Hashable]) -> None:
    """Write the note about an append that begins, and creates arrays."""
    attributes: Any = {"dim": dim, "size": size, "created": [*map(str, created)]}
    zarr.create_group(
        root.store, path=_note_path(root), zarr_format=root.metadata.zarr_format, overwrite=True, attributes=attributes
    )


def _noted(root: zarr.Group) -> tuple[str, int, list[str]] | None:
    """Read the note about an append that did not end: dimension, its size before, arrays that were new. None without one."""
    if UNFINISHED not in root:
        return None
    attributes: Any = root[UNFINISHED].attrs
    return str(attributes["dim"]), int(attributes["size"]), [*map(str, attributes["created"])]


def forget(root: zarr.Group) -> None:
    """Remove the note about an append."""
    sync(root.store.delete_dir(_note_path(root)))
