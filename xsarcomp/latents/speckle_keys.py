"""What was asked to be restored, and the keys that tell the noise of planes apart."""

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
    """Keys of all planes of a variable, and its calm variances; small and picklable, so that it travels with tasks."""

    variable: int
    """Key of the variable and of what was selected from it, below 2**64."""
    positions: tuple[tuple[int, ...], ...]
    """For each leading dimension the keys of its positions."""
    calm_variances_db2: tuple[float, ...]
    """Those of the metadata, or the usual ones."""

    def of_window(self, leading: Window) -> Speckle:
        """Speckle of the planes of a window, in the order of a reshape.

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
        return Speckle(keys=keys.reshape(-1), homogeneous_db2=np.array(self.calm_variances_db2))


def speckle_keys(
    dataset: Any, metadata: LatentsMetadata, selected: LatentsMetadata, restore: str | None
) -> SpeckleKeys | None:
    """Keys of the planes of a variable if speckle is to be restored, else None.

    A plane is known by the coordinates of its leading dimensions, such as its time and polarization. So it gets the same
    noise whether it is decoded alone, with others, or after a selection. Where a dimension has no coordinate, or values that
    come twice, positions count instead.

    Parameters
    ----------
    dataset : xarray.Dataset
        That holds the latents.
    metadata : LatentsMetadata
        Of the variable as it was encoded.
    selected : LatentsMetadata
        The same with the dimensions that are still there, see :func:`xsarcomp.latents.decode.aligned_parts`.
    restore : {"speckle"} or None

    Raises
    ------
    ConfigurationError
        If ``restore`` is anything else, or the variable has an error bound.
    """
    if restore is None:
        return None
    # the one place where a request to restore meets the metadata of a variable: what cannot be restored is refused here
    if restore not in RESTORATIONS:
        raise ConfigurationError(
            f"restore is {restore!r}, expected None or one of {RESTORATIONS}: decode(restore='speckle')"
        )
    bound = metadata.settings.guarantees.max_error_db
    if bound is not None:
        raise ConfigurationError(
            f"{metadata.name!r} was encoded with max_error_db={bound}, which noise would break: decode it without restore"
        )
    variable, positions = _key(str(metadata.name)), []
    for dim in metadata.dims:
        if dim in metadata.spatial:
            continue
        if dim in selected.dims:
            positions.append(_position_keys(dataset, dim))
        elif dim in dataset.coords and dataset.coords[dim].ndim == 0:  # one position was selected: it counts as before
            variable += _labels(dataset.coords[dim].values[None], dim)[0]
    calm = metadata.calm_variances_db2 or USUAL_HOMOGENEOUS_VARIANCES_DB2
    return SpeckleKeys(variable=variable % 2**64, positions=tuple(positions), calm_variances_db2=calm)


def _position_keys(dataset: Any, dim: str) -> tuple[int, ...]:
    """Keys of the positions of a dimension, from its coordinate where that tells them apart."""
    if dim in dataset.coords and dataset.coords[dim].ndim == 1:
        keys = _labels(dataset.coords[dim].values, dim)
        if len(set(keys)) == len(keys):
            return keys
    return tuple(_key(f"{dim}#{position}") for position in range(dataset.sizes[dim]))


def _labels(values: NDArray, dim: str) -> tuple[int, ...]:
    """Keys of coordinate values; times of any resolution and numbers of any type that are equal have one key."""
    if values.dtype.kind == "M":
        values = values.astype("datetime64[ns]").astype(np.int64)
    elif values.dtype.kind in "iufb":
        values = values.astype(np.float64)
    return tuple(_key(f"{dim}={value}") for value in values.tolist())


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
