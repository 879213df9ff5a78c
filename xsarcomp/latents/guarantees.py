"""Residuals and gains of a latents store, window by window: the data that keeps guarantees.

They are computed from the latents as the decoder will read them, so their windows come after those of the latents.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.chunk import ABSENT, check_present
from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.entropy_tables import CHANNELS
from xsarcomp.codec.guarantees import GuaranteeData
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.speckle import Speckle
from xsarcomp.codec.tile_means import TILE, tile_count
from xsarcomp.codec.window import (
    Axis,
    classify_backscatter,
    compute_checked_guarantee_data,
    decode_window,
    latent_count,
    latent_span,
)
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.tiling import Span, Window, plane_groups, shape_of

GAIN = "gain"
"""Dimension of a gain and its level."""


def latent_range(start: int, stop: int) -> Span:
    """Latents whose blocks hold the pixels of a range."""
    return Span(start // BLOCK, latent_count(stop))


def latents_window(window: Window, metadata: LatentsMetadata, reach: int) -> Window:
    """Latents that decoding a window of pixels (..., y, x) reads; ``reach`` is that of the coder."""
    spans = (
        latent_span(*latent_range(*span), latent_count(size), reach)
        for span, size in zip(window[-2:], metadata.pixels, strict=True)
    )
    return (*window[:-2], Span(0, CHANNELS), *spans)


def gains_window(window: Window) -> Window:
    """Tiles that a window of pixels (..., y, x) touches."""
    tiles = (Span(start // TILE, tile_count(stop)) for start, stop in window[-2:])
    return (*window[:-2], Span(0, 2), *tiles)


def pixels_of_gains(window: Window, metadata: LatentsMetadata) -> Window:
    """Pixels of a window of gains (..., gain, y_tile, x_tile)."""
    spans = zip(window[-2:], metadata.pixels, strict=True)
    return (*window[:-3], *(Span(start * TILE, min(stop * TILE, size)) for (start, stop), size in spans))


def decode_signal(
    window: Window,
    latents: NDArray[np.int32],
    metadata: LatentsMetadata,
    coder: LappedCoder,
    step_db: float,
    speckle: Speckle | None = None,
) -> NDArray[np.float32]:
    """Decode the signal of a window of pixels.

    Parameters
    ----------
    window : Window
        Pixels, on each axis of (..., y, x).
    latents : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Latents of :func:`latents_window`.
    metadata : LatentsMetadata
        Size of the scene.
    coder : LappedCoder
    step_db : float
        Quantization step of the planes in dB.
    speckle : Speckle, optional
        Synthetic speckle of the planes.

    Returns
    -------
    ndarray of float32, shape (plane, y, x), dB above the offset
    """
    axes, cuts = [], []
    for (start, stop), size in zip(window[-2:], metadata.pixels, strict=True):
        first, last = latent_range(start, stop)
        count = latent_count(size)
        axes.append(Axis(first, last, count, latent_span(first, last, count, coder.latent_reach).start))
        cuts.append(slice(start - first * BLOCK, stop - first * BLOCK))
    return decode_window(latents, coder, step_db, *axes, speckle)[:, *cuts]


def _guarantee_data(
    window: Window, pieces: Mapping[str, NDArray], metadata: LatentsMetadata
) -> Iterator[GuaranteeData]:
    """Guarantee data of a window of pixels that begins at a tile, by groups of planes."""
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
    """Residuals of a window of pixels.

    Parameters
    ----------
    window : Window
        Pixels, on each axis of (..., y, x).
    pieces : mapping of str to ndarray
        ``backscatter`` of the window, shape (..., y, x); ``latents`` of :func:`latents_window`; ``classes`` of its pixels
        where they are known already.
    metadata : LatentsMetadata

    Returns
    -------
    ndarray of int32, shape (..., y, x), units of the residual spacing
    """
    data = [part.residuals for part in _guarantee_data(window, pieces, metadata) if part.residuals is not None]
    return np.concatenate(data).reshape(shape_of(window))


def encode_gains(window: Window, pieces: Mapping[str, NDArray], metadata: LatentsMetadata) -> NDArray[np.int32]:
    """Gains and levels of a window of tiles.

    Parameters
    ----------
    window : Window
        Tiles, on each axis of (..., gain, y_tile, x_tile).
    pieces : mapping of str to ndarray
        As for :func:`encode_residual`, of the pixels of the tiles.
    metadata : LatentsMetadata

    Returns
    -------
    ndarray of int32, shape (..., gain=2, y_tile, x_tile)
    """
    pixels = pixels_of_gains(window, metadata)
    data = [part.gains for part in _guarantee_data(pixels, pieces, metadata) if part.gains is not None]
    return np.concatenate(data).reshape(shape_of(window))


def guarantee_data_in_store(
    window: Window, residual: NDArray[np.int32] | None, gains: NDArray[np.int32] | None, metadata: LatentsMetadata
) -> GuaranteeData | None:
    """Guarantee data of a window of pixels from the parts of a store; None where there is no guarantee.

    Parameters
    ----------
    window : Window
        Pixels, on each axis of (..., y, x).
    residual : ndarray of int32, shape (..., y, x), or None
    gains : ndarray of int32, shape (..., gain=2, y_tile, x_tile), or None
        See :func:`gains_window`.
    metadata : LatentsMetadata

    Raises
    ------
    CorruptStreamError
        If a chunk of them is missing.
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
        origin=tuple(start % TILE for start, _ in window[-2:]),
    )


def storage_of(part: str, name: str | None, chunks: tuple[int, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes and encoding of the variable that holds residuals or gains."""
    long_name = {
        "residual": f"residuals of {name}, in units of residual_spacing_db",
        "gains": f"gains of the tiles of {name}, and their levels",
    }[part]
    codec = {"name": "xsarcomp.integers", "configuration": {}}
    encoding = {"serializer": codec, "compressors": None, "chunks": chunks, "_FillValue": None, "fill_value": ABSENT}
    return {"long_name": long_name, "units": "1"}, encoding
