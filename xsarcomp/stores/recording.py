"""Extension of a manifest by the chunks that were appended: only those are read again."""

import itertools
from typing import Any

import numpy as np

from xsarcomp.errors import BitstreamError
from xsarcomp.stores.chunk_checks import identity
from xsarcomp.stores.listing import open_stored
from xsarcomp.stores.manifest import (
    ABSENT,
    LARGEST_HEADER,
    Manifest,
    RecordedArray,
    manifest_bytes,
    read_manifest,
)
from xsarcomp.stores.stored_array import BATCH, StoredArray

UNFINISHED = "sarcomp_unfinished_append"
"""Group in a store to which something is being appended, with the dimension and its size before; no part of the record."""


def extend_manifest(store: Any, dim: str, before: int) -> bool:
    """Record the chunks that were appended to a store along a dimension; other chunks stay as they are recorded.

    Parameters
    ----------
    store : Zarr store or StorePath
    dim : str
        Dimension that grew.
    before : int
        Its size before.

    Returns
    -------
    bool
        False if the store has no manifest that can be read: then none is written.
    """
    stored = open_stored(store, writable=True)
    try:
        content = stored.manifest()
        manifest = None if content is None else read_manifest(content)
    except BitstreamError:
        manifest = None
    if manifest is None:
        return False
    arrays = {array.path: _recorded(array, manifest.arrays.get(array.path), dim, before) for array in stored.arrays}
    groups = {path: digest for path, digest in stored.groups.items() if not path.endswith(UNFINISHED)}
    stored.write_manifest(manifest_bytes(Manifest(arrays=arrays, groups=groups)))
    return True


def _recorded(array: StoredArray, earlier: RecordedArray | None, dim: str, before: int) -> RecordedArray:
    """State of an array: identities of an earlier record where it did not grow, read from the store elsewhere."""
    identities = np.full(array.grid, ABSENT, np.uint64)
    first = (0,) * len(array.grid)
    if earlier is not None and earlier.chunk == array.chunk:
        kept = tuple(slice(min(old, new)) for old, new in zip(earlier.grid, array.grid, strict=True))
        identities[kept] = earlier.identities[kept]
        if dim in array.dims:
            axis = array.dims.index(dim)
            start = min(before // array.chunk[axis], earlier.grid[axis])  # what others appended was never recorded
            first = tuple(start if place == axis else 0 for place in range(len(array.grid)))
        elif earlier.grid == array.grid:
            first = array.grid
    places = (place for place in array.places() if all(map(int.__ge__, place.index, first)))
    while batch := list(itertools.islice(places, BATCH)):
        contents = array.contents(batch, LARGEST_HEADER if array.frame_kind else None)
        for place, content in zip(batch, contents, strict=True):
            identities[place.index] = ABSENT if content is None else identity(array, content)
    return RecordedArray(
        kind=array.identities, chunk=array.chunk, grid=array.grid, metadata=array.digest, identities=identities
    )
