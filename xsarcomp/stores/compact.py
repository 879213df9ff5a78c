"""Small documents and coordinates: a store of one chip is no larger for its metadata than it must be.

Zarr indents its documents, which makes them nearly twice as long, and its default compressor finds little in coordinates.
Both are written here as any reader of Zarr reads them.
"""

import contextlib
import threading
from collections.abc import Collection, Hashable, Iterator
from typing import Any

import numcodecs
import xarray as xr
import zarr

_CODECS = {"compressors", "compressor", "filters", "serializer"}
_BLOSC: dict[str, Any] = {"cname": "zstd", "clevel": 9, "blocksize": 0}
_LOCK = threading.Lock()
_setting = contextlib.ExitStack()  # the setting of Zarr, while somebody writes
_writers = 0


@contextlib.contextmanager
def compact_documents() -> Iterator[None]:
    """Context in which Zarr writes JSON without indentation. The setting is one of the process: the last writer resets it."""
    global _writers
    with _LOCK:
        if _writers == 0:
            _setting.enter_context(zarr.config.set({"json_indent": None}))
        _writers += 1
    try:
        yield
    finally:
        with _LOCK:
            _writers -= 1
            if _writers == 0:
                _setting.close()


def with_small_coordinates(dataset: xr.Dataset, encoded: Collection[Hashable], zarr_format: int | None) -> xr.Dataset:
    """Give numbers and times among the coordinates a compressor that finds equal steps: 25 000 take 0.4 kB instead of 35.

    Parameters
    ----------
    dataset : xarray.Dataset
        Not changed.
    encoded : collection of names
        Variables whose encoding the caller gives, which stays as it is.
    zarr_format : {2, 3}, optional
        Zarr's default if None.

    Returns
    -------
    xarray.Dataset
        Shallow copy; coordinates that have codecs already keep them.
    """
    result = dataset.copy()
    is_old = (zarr_format or zarr.config.get("default_zarr_format")) == 2
    codec = (
        numcodecs.Blosc(shuffle=numcodecs.Blosc.BITSHUFFLE, **_BLOSC)
        if is_old
        else {"name": "blosc", "configuration": {"shuffle": "bitshuffle", **_BLOSC}}
    )
    for name in result.coords:
        variable = result.variables[name]
        if (
            name not in encoded
            and variable.ndim
            and variable.dtype.kind in "iufMm"
            and not _CODECS & {*variable.encoding}
        ):
            variable.encoding = variable.encoding | {"compressors": [codec]}
    return result
