"""Speckle measured for the metadata while an encoding is planned: its spectrum, and the scale of synthetic speckle.

Polarizations in one variable differ in their texture, so each gets a factor of its own; dates share it. A factor of a plane is
the product of the entry under the empty text and of those of its positions, such as ``band=2``.
"""

import math
from collections.abc import Hashable
from dataclasses import replace

import numpy as np
import xarray as xr

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.speckle import USUAL_HOMOGENEOUS_VARIANCES_DB2
from xsarcomp.codec.speckle_scale import measure_speckle_scale
from xsarcomp.codec.speckle_spectrum import measure_homogeneous_variances
from xsarcomp.latents.inspection import Inspection
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.speckle_keys import position_texts, speckle_keys
from xsarcomp.scenes.variables import CHANNEL_NAMES, band_labels, spatial_dimensions
from xsarcomp.tiling import Span

LARGEST_CHANNELS = 4
"""Positions of a dimension that get factors of their own at most: polarizations, not dates."""


def with_measured_speckle(
    metadata: LatentsMetadata, array: xr.DataArray, inspection: Inspection, coder: LappedCoder
) -> LatentsMetadata:
    """Add what a sample tells about speckle to metadata.

    Parameters
    ----------
    metadata : LatentsMetadata
        With the step.
    array : xarray.DataArray
        The variable; only its coordinates are read.
    inspection : Inspection
        Its sample.
    coder : LappedCoder
        Model that encodes.

    Returns
    -------
    LatentsMetadata
    """
    variances = measure_homogeneous_variances(inspection.windows, metadata.settings, coder)
    metadata = replace(metadata, calm_variances_db2=variances)
    if metadata.settings.guarantees.max_error_db is not None:  # such a variable is not restored
        return metadata
    keys = speckle_keys(array, metadata, metadata, "speckle")
    assert keys is not None
    spatial = spatial_dimensions(array)
    sizes = {dim: size for dim, size in array.sizes.items() if dim not in spatial}
    plane_keys = keys.for_window(tuple(Span(0, size) for size in sizes.values())).keys
    planes = [values for stack in inspection.windows for values in stack]
    numbers = np.array(inspection.planes, np.int64)
    channel = _channel_dimension(array, sizes)
    if channel is None:
        groups, channel_of_plane = [""], np.zeros(len(plane_keys), np.int64)
    else:
        groups = list(position_texts(array, str(channel)))
        channel_of_plane = np.indices(tuple(sizes.values()))[list(sizes).index(channel)].ravel()
    measured = {}
    for position, text in enumerate(groups):
        chosen = np.flatnonzero(channel_of_plane[numbers] == position).tolist()
        found = measure_speckle_scale(
            [planes[window] for window in chosen],
            plane_keys[numbers[chosen]].tolist(),
            metadata.settings,
            coder,
            variances or USUAL_HOMOGENEOUS_VARIANCES_DB2,
        )
        if found is not None:
            measured[text] = found
    return replace(metadata, speckle_scales=_as_product(measured) or None)


def _channel_dimension(array: xr.DataArray, sizes: dict[Hashable, int]) -> Hashable | None:
    """Find the dimension of polarizations."""
    labels = band_labels(array)
    named = [dim for dim in sizes if str(dim).lower() in CHANNEL_NAMES]
    dim = labels[0] if labels else next(iter(named), None)
    return dim if dim is not None and 1 < sizes[dim] <= LARGEST_CHANNELS else None


def _as_product(measured: dict[str, float]) -> dict[str, float]:
    """Divide factors by their geometric mean, which serves planes of other positions."""
    if len(measured) < 2:
        return {"": next(iter(measured.values()))} if measured else {}
    mean = math.prod(measured.values()) ** (1 / len(measured))
    return {"": float(f"{mean:.3g}")} | {text: float(f"{factor / mean:.3g}") for text, factor in measured.items()}
