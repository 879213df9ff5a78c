"""Residuals and gains of a latents store, window by window: the data that keeps guarantees.

They are computed from the latents that the decoder will read, so their windows are encoded after those of the latents.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.chunk import check_present
from xsarcomp.codec.guarantees import GuaranteeData
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.tile_means import TILE
from xsarcomp.codec.window import (
    classify_backscatter,
    compute_checked_guarantee_data,
)
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.windows import decode_signal, gains_pixel_window
from xsarcomp.tiling import Window, plane_groups, window_shape


def _guarantee_data(
    window: Window, pieces: Mapping[str, NDArray], metadata: LatentsMetadata
) -> Iterator[GuaranteeData]:
    """Guarantee data of a window of pixels that begins at a tile, in groups of planes that bound the memory."""
    coder, settings = load_coder(metadata.model_id), metadata.settings
    backscatter, latents = pieces["backscatter"], pieces["latents"]
    planes = backscatter.reshape(-1, *backscatter.shape[-2:])
    latents = latents.reshape(-1, *latents.shape[-3:])
    classes = pieces["classes"].reshape(planes.shape) if "classes" in pieces else None
    for group in plane_groups(len(planes), planes[0].size):
        signal = decode_signal(window, latents[group], metadata, coder, settings.step_db)
        known = classify_backscatter(planes[group], settings) if classes is None else classes[group]
        yield compute_checked_guarantee_data(planes[group], signal, known, settings, coder)


def encode_residual(window: Window, pieces: Mapping[str, NDArray], metadata: LatentsMetadata) -> NDArray[np.int32]:
    """Compute the residuals of a window of pixels.

    Parameters
    ----------
    window : Window
        Pixels, on each axis of (..., y, x).
    pieces : mapping of str to ndarray
        ``backscatter`` of the window, of the original data type, shape (..., y, x); ``latents``, int32, of
        :func:`latents_window`; optionally ``classes``, uint8, of its pixels, where they are known already.
    metadata : LatentsMetadata

    Returns
    -------
    ndarray of int32, shape (..., y, x), in units of ``residual_spacing_db``
    """
    residuals = [data.residuals for data in _guarantee_data(window, pieces, metadata) if data.residuals is not None]
    return np.concatenate(residuals).reshape(window_shape(window))


def encode_gains(window: Window, pieces: Mapping[str, NDArray], metadata: LatentsMetadata) -> NDArray[np.int32]:
    """Compute the gains and levels of a window of tiles.

    Parameters
    ----------
    window : Window
        Gains, on each axis of (..., gain, y_tile, x_tile).
    pieces : mapping of str to ndarray
        As for :func:`encode_residual`, for the pixels of :func:`gains_pixel_window`.
    metadata : LatentsMetadata

    Returns
    -------
    ndarray of int32, shape (..., gain=2, y_tile, x_tile)
    """
    pixels = gains_pixel_window(window, metadata)
    gains = [data.gains for data in _guarantee_data(pixels, pieces, metadata) if data.gains is not None]
    return np.concatenate(gains).reshape(window_shape(window))


def guarantee_data_from_parts(
    window: Window, residual: NDArray[np.int32] | None, gains: NDArray[np.int32] | None, metadata: LatentsMetadata
) -> GuaranteeData | None:
    """Build the guarantee data of a window of pixels from the parts of a store; None without a guarantee.

    Parameters
    ----------
    window : Window
        Pixels, on each axis of (..., y, x).
    residual : ndarray of int32, shape (..., y, x), or None
    gains : ndarray of int32, shape (..., gain=2, y_tile, x_tile), or None
        See :func:`gains_window`.
    metadata : LatentsMetadata

    Returns
    -------
    GuaranteeData or None
        Shapes (plane, y, x) and (plane, gain=2, y_tile, x_tile).

    Raises
    ------
    CorruptStreamError
        If a chunk of residuals or gains is missing.
    """
    if residual is None and gains is None:
        return None
    for part, integers in (("residuals", residual), ("gains", gains)):
        if integers is not None:
            check_present(integers, f"{part} of {metadata.name!r}")
    return GuaranteeData(
        spacing_db=metadata.settings.guarantees.residual_spacing_db,
        residuals=None if residual is None else residual.reshape(-1, *residual.shape[-2:]),
        gains=None if gains is None else gains.reshape(-1, *gains.shape[-3:]),
        origin=(window[-2].start % TILE, window[-1].start % TILE),
    )
