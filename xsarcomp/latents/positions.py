"""Positions along the dimensions of latents and pixels: coordinates 0, 1, 2, ... that move with whatever moves the parts.

Latents can only be decoded where they were made, because each block reads its neighbors. Dimensions that have no coordinate
of their own get one, so that a flip, a sort or another selection is noticed.
"""

from collections.abc import Hashable, Mapping

import numpy as np
import xarray as xr

from xsarcomp.errors import DimensionError
from xsarcomp.latents.layout import part_grids
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.plane_steps import CODING

POSITION_ATTRIBUTE = "sarcomp_position"
"""Attribute of coordinates that are positions, with the dimension to which they belong; decoding checks and removes them."""
NOT_ORDERED = ("latent", "gain", CODING)
"""Dimensions without a coordinate: they are no places."""
COMPRESSORS = [
    {
        "name": "blosc",
        "configuration": {"typesize": 4, "cname": "zstd", "clevel": 9, "shuffle": "shuffle", "blocksize": 0},
    }
]
"""Compressor of positions: 25 000 numbers take some 700 bytes."""


def position_coordinates(dataset: xr.Dataset, metadata: LatentsMetadata) -> dict[str, xr.Variable]:
    """Make coordinates for the dimensions of the parts of a variable that have none.

    Parameters
    ----------
    dataset : xarray.Dataset
        To which the parts will be added.
    metadata : LatentsMetadata

    Returns
    -------
    dict of str to xarray.Variable
        By dimension: int32, 0 to the size of the dimension minus 1.
    """
    coordinates = {}
    for dim, size in _part_sizes(metadata).items():
        if dim not in dataset.variables:
            attributes = {POSITION_ATTRIBUTE: dim}
            encoding = {"chunks": (max(1, size),), "compressors": COMPRESSORS, "_FillValue": None}
            coordinates[dim] = xr.Variable(dim, np.arange(size, dtype=np.int32), attributes, encoding)
    return coordinates


def check_positions(dataset: xr.Dataset, name: Hashable, metadata: LatentsMetadata) -> None:
    """Refuse latents that no longer stand where they were made.

    Parameters
    ----------
    dataset : xarray.Dataset
    name : hashable
        Variable that holds the latents.
    metadata : LatentsMetadata

    Raises
    ------
    DimensionError
        If positions are not 0, 1, 2, ...; the first stores have none.
    """
    for dim in _part_sizes(metadata):
        if not _is_position(dataset, dim):
            continue
        found, belongs_to = dataset.variables[dim].values, dataset.variables[dim].attrs[POSITION_ATTRIBUTE]
        if belongs_to != dim:
            raise DimensionError(
                f"the dimension {dim!r} of {name!r} was {belongs_to!r} when it was encoded: dimensions were renamed or exchanged. "
                "Decode first and rename then; it stays lazy"
            )
        moved = np.flatnonzero(found != np.arange(found.size))
        if moved.size:
            raise DimensionError(
                f"position {moved[0]} of the dimension {dim!r} of {name!r} holds what stood at {found[moved[0]]} when it was encoded: "
                "latents were flipped, sorted or moved, or a region was written from another encode(). Decode first and "
                "move then; it stays lazy"
            )


def drop_positions(dataset: xr.Dataset, variables: Mapping[Hashable, LatentsMetadata]) -> xr.Dataset:
    """Drop the coordinates that :func:`position_coordinates` made.

    Parameters
    ----------
    dataset : xarray.Dataset
    variables : mapping of name to LatentsMetadata

    Returns
    -------
    xarray.Dataset
    """
    dims = {dim for metadata in variables.values() for dim in _part_sizes(metadata)}
    return dataset.drop_vars([dim for dim in dims if _is_position(dataset, dim)])


def drop_inherited_positions(dataset: xr.Dataset) -> xr.Dataset:
    """Drop all coordinates that :func:`position_coordinates` made, of a group that holds no latents but inherited them."""
    return dataset.drop_vars(
        [name for name, variable in dataset.variables.items() if POSITION_ATTRIBUTE in variable.attrs]
    )


def _is_position(dataset: xr.Dataset, dim: str) -> bool:
    """Return whether a dimension has a coordinate that was made here."""
    return dim in dataset.variables and POSITION_ATTRIBUTE in dataset.variables[dim].attrs


def _part_sizes(metadata: LatentsMetadata) -> dict[str, int]:
    """Sizes of the dimensions of the parts that are places."""
    grids = part_grids(metadata)
    sizes = {dim: size for part in metadata.part_names for dim, size in grids[part].items()}
    return {dim: size for dim, size in sizes.items() if dim not in NOT_ORDERED}
