"""Windows of pixels, latents and gains that belong together, and the signal of a window of pixels.

Encoding with a guarantee and decoding share them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.entropy_tables import CHANNELS
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.mean_levels import levels_from_channel, means_from_levels
from xsarcomp.codec.speckle import Speckle
from xsarcomp.codec.tile_means import TILE, tile_count
from xsarcomp.codec.window import Axis, decode_window, latent_count, latent_span
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.tiling import Span, Window


def covering_latents(start: int, stop: int) -> Span:
    """Latents whose blocks of 8 pixels cover the pixels ``start`` to before ``stop`` of an axis."""
    return Span(start // BLOCK, latent_count(stop))


def latents_window(window: Window, metadata: LatentsMetadata, reach: int) -> Window:
    """Latents that decoding a window of pixels reads.

    Parameters
    ----------
    window : Window
        Pixels, on each axis of (..., y, x).
    metadata : LatentsMetadata
        Size of the scene.
    reach : int
        Latents around a block that the coder reads, ``coder.latent_reach``.

    Returns
    -------
    Window
        Latents, on each axis of (..., latent, y_latent, x_latent).
    """
    spans = (
        latent_span(*covering_latents(*span), latent_count(size), reach)
        for span, size in zip(window[-2:], metadata.pixels, strict=True)
    )
    return (*window[:-2], Span(0, metadata.channels), *spans)


def decoded_window(window: Window, metadata: LatentsMetadata) -> Window:
    """Pixels that are decoded for a window of pixels: whole tiles where the decoder keeps their means."""
    if not metadata.settings.guarantees.mean_levels:
        return window
    spans = zip(window[-2:], metadata.pixels, strict=True)
    whole = (Span(start // TILE * TILE, min(tile_count(stop) * TILE, size)) for (start, stop), size in spans)
    return (*window[:-2], *whole)


class WindowLevels(NamedTuple):
    """Mean levels of a window of whole tiles, with the symbols from which they are predicted."""

    levels: NDArray[np.int32]
    """Shape (plane, y_tile, x_tile)."""
    symbols: NDArray[np.int32]
    """Symbols of the window alone, shape (plane, latent=64, y_latent, x_latent)."""

    def means_db(self, planes: slice, coder: LappedCoder, step_db: float) -> NDArray[np.float64]:
        """Means of the tiles of some planes, dB above the offset; see :func:`means_from_levels`."""
        return means_from_levels(self.levels[planes], self.symbols[planes], coder, step_db)


def split_levels(
    window: Window, latents: NDArray[np.int32], metadata: LatentsMetadata, reach: int
) -> tuple[NDArray[np.int32], WindowLevels]:
    """Split the latents of a window of whole tiles into symbols and mean levels.

    Parameters
    ----------
    window : Window
        Pixels, on each axis of (..., y, x), of :func:`decoded_window`.
    latents : ndarray of int32, shape (plane, latent=65, y_latent, x_latent)
        Of :func:`latents_window`.
    metadata : LatentsMetadata
        Size of the scene.
    reach : int
        As for :func:`latents_window`.

    Returns
    -------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Symbols of all latents that were given.
    levels : WindowLevels
    """
    read = latents_window(window, metadata, reach)[-2:]
    rows, columns = (
        covering_latents(*span).relative_to(first.start) for span, first in zip(window[-2:], read, strict=True)
    )
    inner = latents[:, :, rows, columns]
    return latents[:, :CHANNELS], WindowLevels(levels_from_channel(inner[:, CHANNELS]), inner[:, :CHANNELS])


def gains_window(window: Window) -> Window:
    """Gains, on (..., gain, y_tile, x_tile), of the tiles that a window of pixels (..., y, x) touches."""
    tiles = (Span(start // TILE, tile_count(stop)) for start, stop in window[-2:])
    return (*window[:-2], Span(0, 2), *tiles)


def gains_pixel_window(window: Window, metadata: LatentsMetadata) -> Window:
    """Pixels (..., y, x) of the tiles of a window of gains (..., gain, y_tile, x_tile)."""
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
        Symbols of :func:`latents_window`.
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
    cuts: list[slice] = []
    axes: list[Axis] = []
    for (start, stop), size in zip(window[-2:], metadata.pixels, strict=True):
        first, last = covering_latents(start, stop)
        count = latent_count(size)
        axes.append(Axis(first, last, count, latent_span(first, last, count, coder.latent_reach).start))
        cuts.append(slice(start - first * BLOCK, stop - first * BLOCK))
    rows, columns = axes
    return decode_window(latents, coder, step_db, rows, columns, speckle)[:, *cuts]
