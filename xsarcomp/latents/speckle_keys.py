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
    scales: tuple[tuple[float, ...], ...] = ()
    """Factors of the noise's variance by position of each leading dimension, see :mod:`xsarcomp.codec.speckle_scale`; planes
    have their product."""
    scale: float = 1.0
    """Factor of all planes beside these."""
    scales_step_db: float = 1.0
    """Step at which they were found."""

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
        keys, scales = np.array(self.variable, np.uint64), np.array(self.scale, np.float32)
        for positions, of_positions, (start, stop) in zip(self.positions, self.scales, leading, strict=True):
            keys = keys[..., None] + np.array(positions[start:stop], np.uint64)  # modulo 2**64, in any order
            scales = scales[..., None] * np.array(of_positions[start:stop], np.float32)
        return Speckle(
            keys=keys.reshape(-1),
            homogeneous_db2=np.array(self.homogeneous_variances_db2),
            scales=scales.reshape(-1),
            scales_step_db=self.scales_step_db,
        )


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
    noted = metadata.speckle_scales or {}
    scale, scales = noted.get("", 1.0), []
    for dim in metadata.dims:
        if dim in metadata.spatial:
            continue
        if dim in selected.dims:
            texts = position_texts(dataset, dim)
            positions.append(tuple(map(_hash_text, texts)))
            scales.append(tuple(noted.get(text, 1.0) for text in texts))
        elif (
            dim in dataset.coords and dataset.coords[dim].ndim == 0
        ):  # a single position was selected: its key counts as in the whole
            (text,) = _coordinate_texts(dataset.coords[dim].values[None], dim)
            variable += _hash_text(text)
            scale *= noted.get(text, 1.0)
    return SpeckleKeys(
        variable=variable % 2**64,
        positions=tuple(positions),
        homogeneous_variances_db2=metadata.calm_variances_db2 or USUAL_HOMOGENEOUS_VARIANCES_DB2,
        scales=tuple(scales),
        scale=scale,
        scales_step_db=metadata.settings.step_db,
    )


def position_texts(dataset: Any, dim: str) -> tuple[str, ...]:
    """Name the positions of a dimension, such as ``band=2``, from its coordinate where its values differ, else ``band#1``.

    Parameters
    ----------
    dataset : xarray.Dataset or xarray.DataArray
    dim : str

    Returns
    -------
    tuple of str
        All different.
    """
    if dim in dataset.coords and dataset.coords[dim].ndim == 1:
        texts = _coordinate_texts(dataset.coords[dim].values, dim)
        if len(set(texts)) == len(texts):
            return texts
    return tuple(f"{dim}#{position}" for position in range(dataset.sizes[dim]))


def _coordinate_texts(values: NDArray, dim: str) -> tuple[str, ...]:
    """Names of coordinate values; equal times of any resolution, and equal numbers of any data type, have one name."""
    if values.dtype.kind == "M":
        values = values.astype("datetime64[ns]").astype(np.int64)
    elif values.dtype.kind in "iufb":
        values = values.astype(np.float64)
    return tuple(f"{dim}={value}" for value in values.tolist())


def _hash_text(text: str) -> int:
    """Hash of a text, below 2**64, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
