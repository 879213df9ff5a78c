"""Sizes of chunks, shards and Dask blocks: what a user asks for by dimension, and blocks that end where stored objects end."""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

from xsarcomp.errors import ConfigurationError, DimensionError
from xsarcomp.scenes.variables import spatial_dimensions
from xsarcomp.tiling import aligned_spans

Sizes: TypeAlias = int | Mapping[Hashable, int] | Sequence[int]
"""Request for sizes: one for y and x, one by dimension, or one for each dimension in their order."""


def requested_sizes(option: str, request: Sizes | None, array: xr.DataArray) -> dict[Hashable, int]:
    """Sizes that a user asks for, by dimension.

    Parameters
    ----------
    option : str
        Name of the argument, for errors.
    request : int, mapping or sequence of int, or None
    array : xarray.DataArray

    Returns
    -------
    dict
        Without the dimensions that the request leaves out.

    Raises
    ------
    ConfigurationError
        If a size is no number of elements.
    DimensionError
        If the array has no such dimension, or another number of them.
    """
    if request is None:
        return {}
    found = f"{option}={request!r} for {array.name!r} with the dimensions {', '.join(map(str, array.dims))}"
    if isinstance(request, Mapping):
        if unknown := [name for name in request if name not in array.dims]:
            raise DimensionError(f"{found}: there is no {', '.join(map(str, unknown))}, expected names among these")
        sizes = dict(request)
    elif isinstance(request, Sequence) and not isinstance(request, str):
        if len(request) != array.ndim:
            raise DimensionError(f"{found}: found {len(request)} sizes, expected {array.ndim}, or a size by dimension")
        sizes = dict(zip(array.dims, request, strict=True))
    else:
        sizes = dict.fromkeys(spatial_dimensions(array), request)
    if any(not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1 for size in sizes.values()):
        first, second = spatial_dimensions(array)
        raise ConfigurationError(
            f"{found}: expected whole numbers of 1 or more, one for y and x, or by dimension, such as "
            f"{{{first!r}: 1024, {second!r}: 1024}}"
        )
    return {name: int(size) for name, size in sizes.items()}


def aligned_blocks(sizes: Sequence[int], unit: int, start: int = 0) -> tuple[int, ...]:
    """Sizes of blocks whose inner ends lie at multiples of a unit; those that are given, if theirs do.

    Parameters
    ----------
    sizes : sequence of int
        Sizes of blocks along an axis.
    unit : int
        Size of a stored object.
    start : int
        Position of the first block.

    Returns
    -------
    tuple of int
    """
    ends = start + np.cumsum(sizes)[:-1]
    if not (ends % unit).any():
        return tuple(sizes)
    edge = max(unit, max(sizes) // unit * unit)
    return tuple(span.size for span in aligned_spans(start, start + sum(sizes), edge))


def is_regular(sizes: Sequence[int]) -> bool:
    """Return whether blocks along an axis have one size, but for a smaller last one."""
    return len(set(sizes[:-1])) <= 1 and sizes[-1] <= sizes[0]


def with_regular_blocks(variable: xr.Variable) -> xr.Variable:
    """Rechunk a lazy variable along the axes whose blocks have several sizes, which xarray does not write, to the largest of them."""
    blocks: Any = variable.chunksizes
    irregular = {name: max(sizes) for name, sizes in blocks.items() if not is_regular(sizes)}
    return variable.chunk(irregular) if irregular else variable


def nearest_divisor(size: int, wanted: int, largest: int) -> int:
    """Divisor of a size up to a limit that is nearest to the one that is wanted."""
    divisors = (number for number in range(1, min(size, largest) + 1) if size % number == 0)
    return min(divisors, key=lambda number: abs(number - wanted))


def inner_ends(sizes: Sequence[int]) -> list[int]:
    """Ends of blocks along an axis but the last."""
    return list(itertools.accumulate(sizes))[:-1]
