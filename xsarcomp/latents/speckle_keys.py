"""Keys of synthetic speckle: each plane of a variable gets its own noise, the same in every selection."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.speckle import RESTORATIONS, USUAL_HOMOGENEOUS_VARIANCES_DB2, Speckle
from xsarcomp.errors import ConfigurationError
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.tiling import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeckleKeys:
    """Keys of all planes of a variable, and variances in homogeneous areas; small and picklable, to travel with tasks."""

    variable: int
    """Key of the variable and of single positions selected from it, below 2**64."""
    positions: tuple[tuple[int, ...], ...]
    """Keys of the positions of each leading dimension."""
    homogeneous_variances_db2: tuple[float, ...]
    """Variances of latents in homogeneous areas, dB2: from the metadata, or usual ones."""

    def for_window(self, leading: Window) -> Speckle:
        """Select the speckle of the planes of a window, all leading dimensions flattened in C order.

        Parameters
        ----------
        leading : Window
            On each leading dimension.

        Returns
        -------
        Speckle
        """
        keys = np.array(self.variable, np.uint64)
        for positions, (start, stop) in zip(self.positions, leading, strict=True):
            keys = keys[..., None] + np.array(positions[start:stop], np.uint64)  # modulo 2**64, in any order
        return Speckle(keys=keys.reshape(-1), homogeneous_db2=np.array(self.homogeneous_variances_db2))


def speckle_keys(
    dataset: Any, metadata: LatentsMetadata, selected: LatentsMetadata, restore: str | None
) -> SpeckleKeys | None:
    """Compute the keys of the planes of a variable if synthetic speckle is requested.

    A plane is identified by the coordinates of its leading dimensions, such as its time and polarization. So it gets the same
    noise whether it is decoded alone, with others, or after a selection. Where a dimension has no coordinate, or repeated
    values, positions count instead.

    Parameters
    ----------
    dataset : xarray.Dataset
        Dataset with the latents.
    metadata : LatentsMetadata
        Metadata of the variable as it was encoded.
    selected : LatentsMetadata
        Metadata with the remaining dimensions, see :func:`xsarcomp.latents.decode.align_parts`.
    restore : {"speckle"} or None

    Returns
    -------
    SpeckleKeys or None
        None without ``restore``.

    Raises
    ------
    ConfigurationError
        If ``restore`` is anything else, or the variable has an error bound.
    """
    if restore is None:
        return None
    if restore not in RESTORATIONS:
        raise ConfigurationError(
            f"restore is {restore!r}, expected None or one of {RESTORATIONS}: decode(restore='speckle')"
        )
    bound = metadata.settings.guarantees.max_error_db
    if bound is not None:
        raise ConfigurationError(
            f"{metadata.name!r} was encoded with max_error_db={bound}, which noise would break: decode it without restore"
        )
    variable, positions = _hash_text(str(metadata.name)), []
    for dim in metadata.dims:
        if dim in metadata.spatial:
            continue
        if dim in selected.dims:
            positions.append(_position_keys(dataset, dim))
        elif (
            dim in dataset.coords and dataset.coords[dim].ndim == 0
        ):  # a single position was selected: its key counts as in the whole
            variable += _coordinate_keys(dataset.coords[dim].values[None], dim)[0]
    variances = metadata.calm_variances_db2 or USUAL_HOMOGENEOUS_VARIANCES_DB2
    return SpeckleKeys(variable=variable % 2**64, positions=tuple(positions), homogeneous_variances_db2=variances)


def _position_keys(dataset: Any, dim: str) -> tuple[int, ...]:
    """Keys of the positions of a dimension, from its coordinate where its values differ."""
    if dim in dataset.coords and dataset.coords[dim].ndim == 1:
        keys = _coordinate_keys(dataset.coords[dim].values, dim)
        if len(set(keys)) == len(keys):
            return keys
    return tuple(_hash_text(f"{dim}#{position}") for position in range(dataset.sizes[dim]))


def _coordinate_keys(values: NDArray, dim: str) -> tuple[int, ...]:
    """Keys of coordinate values; equal times of any resolution, and equal numbers of any data type, have one key."""
    if values.dtype.kind == "M":
        values = values.astype("datetime64[ns]").astype(np.int64)
    elif values.dtype.kind in "iufb":
        values = values.astype(np.float64)
    return tuple(_hash_text(f"{dim}={value}") for value in values.tolist())


def _hash_text(text: str) -> int:
    """Hash of a text, below 2**64, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
