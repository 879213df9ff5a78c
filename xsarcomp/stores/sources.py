"""The stores and files that lazy variables will still read, and the refusal to write over them.

``encoding["source"]`` does not tell: operations drop it, and data that were loaded keep it. What a lazy variable reads hangs on
its Dask graph, or on the adapters of xarray where there is no Dask.
"""

import functools
import os
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import Store

from xsarcomp.errors import ConfigurationError
from xsarcomp.scenes.variables import is_lazy
from xsarcomp.scenes.windows import is_window_task
from xsarcomp.stores.locations import LOCAL, Location, local_location, store_location

_DEEPEST = 40
"""Steps from a graph to an object that reads; adapters of xarray lie some ten deep."""
_LEAVES = (bytes, int, float, complex, slice, type(None), np.ndarray, np.generic, np.dtype, type, types.ModuleType)
"""What holds no reader."""
_COMMON_LEAVES = frozenset({int, float, bool, slice, type(None), np.dtype})
"""Those of which a graph holds most, by their very class."""
_REFERENCES = ("TaskRef", "Alias")
"""Classes of Dask's graphs that name other tasks."""
_FOREIGN = ("asyncio.", "distributed.", "fsspec.", "logging.", "numpy.", "pandas.", "rasterio.", "threading.")
"""Modules whose objects are not looked into."""


def refuse_own_sources(
    dataset: xr.Dataset, target: Any, *, group: str | None = None, storage_options: dict[str, Any] | None = None
) -> None:
    """Refuse to write a dataset over what its variables will read while it is written.

    Parameters
    ----------
    dataset : xarray.Dataset
    target : str, path or Zarr store
        Store or file to write.
    group, storage_options
        As for ``.sarcomp.to_zarr``.

    Raises
    ------
    ConfigurationError
        If the target is such a source, is inside of it, or contains it.
    """
    place = store_location(target, group, storage_options)
    search = _Search(place)
    for name, variable in dataset.variables.items():
        for source in search.sources(variable):
            if place.would_destroy(source):
                raise ConfigurationError(
                    f"{name!r} is not in memory and will be read from {source.name}, which is where {place.name} would be "
                    "written: load it first, dataset.load(), or write to another name and rename it afterwards"
                )


class _Search:
    """Search for what variables read; what several variables share is looked at once."""

    def __init__(self, target: Location):
        self._target = target
        self._seen: dict[int, Any] = {}
        """Objects by id; kept, so that no id is given twice."""

    def sources(self, variable: xr.Variable) -> Iterator[Location]:
        """Locations that a variable will read."""
        data: Any = variable._data  # .data would load a lazy variable without Dask
        yield from self._walk(_graph_parts(data.dask) if is_lazy(data) else [data])

    def _walk(self, values: Iterable[Any]) -> Iterator[Location]:
        """Locations named by values and everything in them."""
        for first in values:
            stack = [(first, 0)]
            while stack:
                value, depth = stack.pop()
                if type(value) is not tuple:  # graphs hold as many as tasks, each once
                    if id(value) in self._seen:
                        continue
                    self._seen[id(value)] = value
                if isinstance(value, str | os.PathLike):
                    yield from self._files(os.fspath(value))
                elif isinstance(value, np.memmap):
                    yield from self._files(str(value.filename))
                elif isinstance(value, _LEAVES):
                    continue
                elif (location := _location(value)) is not None:
                    yield location
                elif depth < _DEEPEST:
                    stack += [(part, depth + 1) for part in _parts(value) if type(part) not in _COMMON_LEAVES]

    def _files(self, text: str | bytes) -> Iterator[Location]:
        """Location of a file, if text names one that is the target or lies in it; names of variables are no paths."""
        if not isinstance(text, str) or self._target.root != LOCAL or not re.search(r"[./\\]", text):
            return
        for path in {text, *re.split(r"[:\"]", text)}:  # GDAL names a part of a file FORMAT:"PATH":PART
            if re.search(r"[./\\]", path) and "\0" not in path and len(path) < 4096:
                location = local_location(path)
                if self._target.contains(location):
                    yield location


def _graph_parts(graph: Mapping[Any, Any]) -> Iterator[Any]:
    """Parts of a Dask graph in which readers may be: tasks without their keys, one for a layer whose tasks differ in blocks only."""
    for layer in getattr(graph, "layers", {"": graph}).values():
        tasks = getattr(layer, "mapping", None)
        if tasks is None and not hasattr(layer, "layer_state"):
            tasks = layer if isinstance(layer, dict) else None
        if tasks is None:  # a layer that makes its tasks when they are needed
            yield from (value for name, value in vars(layer).items() if name != "_cached_dict")
        elif not is_window_task(next(iter(tasks.values()), None)):  # windows name blocks of other layers alone
            yield from tasks.values()


def _location(value: Any) -> Location | None:
    """Location of an object that reads a Zarr store."""
    if isinstance(value, zarr.Array | zarr.Group | zarr.AsyncArray | zarr.AsyncGroup):
        return store_location(value.store_path)
    return store_location(value) if isinstance(value, Store) else None


def _parts(value: Any) -> Iterable[Any]:
    """Objects that an object holds."""
    kind = type(value)
    if kind.__module__ == "dask._task_spec":
        task_parts = (getattr(value, name, None) for name in ("func", "args", "kwargs", "value"))
        return () if kind.__name__ in _REFERENCES else task_parts
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, Mapping) and not hasattr(value, "__dict__"):
        return value.values()
    if isinstance(value, functools.partial):
        return (value.func, value.args, value.keywords)
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        return (*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
    if isinstance(value, types.MethodType):
        return (value.__self__,)
    if f"{type(value).__module__}.".startswith(_FOREIGN):
        return ()
    slots = [name for kind in type(value).__mro__ for name in _names(getattr(kind, "__slots__", ()))]
    missing = object()
    held = (getattr(value, name, missing) for name in slots if name not in ("__dict__", "__weakref__"))
    return [*getattr(value, "__dict__", {}).values(), *(part for part in held if part is not missing)]


def _is_filled(cell: Any) -> bool:
    """Return whether a cell of a closure has a content yet."""
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _names(slots: str | Iterable[str]) -> Iterable[str]:
    """Names of slots; a class with one may give it without a tuple."""
    return (slots,) if isinstance(slots, str) else slots
