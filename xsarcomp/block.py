"""The whole way of one window of a scene, and of one chunk that stands alone.

A *scene* is the array that shares one grid of latents: the whole variable in a latents store, a single chunk in a
transparent store. Windows of it are coded separately and give exactly the latents of the whole, because they read
``PIXEL_REACH`` pixels around and everything is anchored to the scene's first pixel. Beyond its edges a scene continues
as its mirror image.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsarcomp import lapped, radiometry
from xsarcomp.coder import QUANTIZER_REACH, LappedCoder
from xsarcomp.errors import DimensionError
from xsarcomp.tiling import reflect_indices, round_up

SIGNAL_REACH = lapped.OVERLAP + lapped.BLOCK * QUANTIZER_REACH
# The signal around a window must be filled as it is in the whole scene, and filling looks further.
PIXEL_REACH = round_up(SIGNAL_REACH, 16) + 16
TILE_LATENTS = 128
"""Latents of a tile in :func:`encode_planes` and :func:`decode_planes`: bounds their memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an encoder is told beside the data; travels in metadata."""

    step_db: float
    """Quantisation step in dB."""
    scale: str
    """"power", "amplitude" or "decibel"."""
    nodata: float | None = None
    """Declared fill value of the data; None without one."""


def latent_count(pixels: int) -> int:
    """Latents along an axis of so many pixels."""
    return -(-pixels // lapped.BLOCK)


def pixel_span(start: int, stop: int, pixels: int) -> tuple[int, int]:
    """Pixels of an axis that encoding latents ``start..stop`` reads, within the scene; aligned to the filling."""
    first, last = start * lapped.BLOCK, stop * lapped.BLOCK
    return max(0, first // 16 * 16 - PIXEL_REACH), min(pixels, round_up(last, 16) + PIXEL_REACH)


def latent_span(start: int, stop: int, latents: int, coder: LappedCoder) -> tuple[int, int]:
    """Latents of an axis that decoding latents ``start..stop`` reads, within the scene."""
    return max(0, start - coder.latent_reach), min(latents, stop + coder.latent_reach)


def encode_signal(
    signal: NDArray[np.float64],
    coder: LappedCoder,
    step_db: float,
    rows: tuple[int, int, int, int],
    columns: tuple[int, int, int, int],
) -> NDArray[np.int32]:
    """Symbols of a window of the latent grid.

    Parameters
    ----------
    signal : ndarray of float64, shape (plane, y, x), dB above the offset
        Filled signal of the window's pixels and those around that are in the scene.
    coder : LappedCoder
    step_db : float
        Quantisation step in dB.
    rows, columns : tuple of (first latent, stop latent, pixels of the scene, first pixel of ``signal``)
        Place of the window on each axis.

    Returns
    -------
    ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
    """

    def gather(start: int, stop: int, pixels: int, first: int) -> NDArray[np.intp]:
        padded = latent_count(pixels) * lapped.BLOCK
        reach = SIGNAL_REACH
        indices, _ = reflect_indices(start * lapped.BLOCK - reach, stop * lapped.BLOCK + reach, padded)
        # pixels between the last one and the end of its block repeat the last one
        return np.minimum(indices, pixels - 1) - first

    window = signal[:, gather(*rows)][:, :, gather(*columns)]
    return coder.quantize(coder.analyze(window), step_db)


def decode_symbols_window(
    symbols: NDArray[np.int32],
    coder: LappedCoder,
    step_db: float,
    rows: tuple[int, int, int, int],
    columns: tuple[int, int, int, int],
) -> NDArray[np.float32]:
    """Signal of a window of the latent grid.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Symbols of the window and those around that are in the scene, see :func:`latent_span`.
    coder, step_db
        As for encoding.
    rows, columns : tuple of (first latent, stop latent, latents of the scene, first latent of ``symbols``)

    Returns
    -------
    ndarray of float32, shape (plane, y, x), dB above the offset
        Whole blocks: cut off what lies beyond the scene.
    """

    def gather(start: int, stop: int, latents: int, first: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        indices, is_reversed = reflect_indices(start - coder.latent_reach, stop + coder.latent_reach, latents)
        return indices - first, is_reversed

    return coder.synthesize(lapped.mirrored(symbols, gather(*rows), gather(*columns)), step_db)


def _tiles(latents: int) -> list[tuple[int, int]]:
    return [(start, min(start + TILE_LATENTS, latents)) for start in range(0, latents, TILE_LATENTS)]


def encode_planes(signal: NDArray[np.float64], coder: LappedCoder, step_db: float) -> NDArray[np.int32]:
    """Symbols of a whole scene, tile by tile.

    Parameters
    ----------
    signal : ndarray of float64, shape (plane, y, x), dB above the offset
        Filled, in steps of 1/512 dB.
    coder : LappedCoder
    step_db : float

    Returns
    -------
    ndarray of int32, shape (plane, latent=64, ceil(y / 8), ceil(x / 8))
    """
    planes, height, width = signal.shape
    symbols = np.empty((planes, lapped.CHANNELS, latent_count(height), latent_count(width)), np.int32)
    for top, bottom in _tiles(symbols.shape[2]):
        for left, right in _tiles(symbols.shape[3]):
            rows, columns = (top, bottom, height, 0), (left, right, width, 0)
            symbols[:, :, top:bottom, left:right] = encode_signal(signal, coder, step_db, rows, columns)
    return symbols


def decode_planes(
    symbols: NDArray[np.int32], shape: tuple[int, int], coder: LappedCoder, step_db: float
) -> NDArray[np.float32]:
    """Signal of a whole scene, tile by tile; the inverse of :func:`encode_planes`.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
    shape : tuple of (y, x)
        Pixels of the scene.
    coder, step_db
        As for encoding.

    Returns
    -------
    ndarray of float32, shape (plane, y, x), dB above the offset
    """
    planes, _, rows, columns = symbols.shape
    if (rows, columns) != tuple(latent_count(size) for size in shape):
        raise DimensionError(f"{rows} x {columns} latents cannot hold {shape[0]} x {shape[1]} pixels of 8 x 8 blocks")
    signal = np.empty((planes, *shape), np.float32)
    for top, bottom in _tiles(rows):
        for left, right in _tiles(columns):
            decoded = decode_symbols_window(
                symbols, coder, step_db, (top, bottom, rows, 0), (left, right, columns, 0)
            )
            place = signal[
                :, top * lapped.BLOCK : bottom * lapped.BLOCK, left * lapped.BLOCK : right * lapped.BLOCK
            ]
            place[...] = decoded[:, : place.shape[1], : place.shape[2]]
    return signal


def signal_of(
    backscatter: NDArray, settings: Settings, coder: LappedCoder, origin: tuple[int, int] = (0, 0)
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Filled signal and pixel classes of backscatter.

    Parameters
    ----------
    backscatter : ndarray of a real dtype, shape (plane, y, x)
    settings : Settings
    coder : LappedCoder
        Its card gives the level of the signal.
    origin : tuple of (row, column)
        Place of the first pixel in the scene, multiples of 16.

    Returns
    -------
    signal : ndarray of float64, shape (plane, y, x), dB above the offset
    classes : ndarray of uint8, shape (plane, y, x)
        See :mod:`xsarcomp.pixel_classes`.
    """
    classes = radiometry.classify(backscatter, settings.scale, settings.nodata)
    signal = radiometry.to_signal(backscatter, classes, settings.scale, coder.card.offset_db)
    return radiometry.fill_invalid(signal, classes, origin=origin), classes


def backscatter_of(
    signal: NDArray[np.float32],
    classes: NDArray[np.uint8],
    exact: NDArray | None,
    dtype: np.dtype,
    settings: Settings,
    coder: LappedCoder,
) -> NDArray:
    """Backscatter from a decoded signal, with the pixels that held none put back.

    Parameters
    ----------
    signal : ndarray of float32, shape (plane, y, x), dB above the offset
    classes : ndarray of uint8, same shape
    exact : ndarray, one-dimensional, or None
        Values of the pixels of class EXACT, in C order.
    dtype : dtype
    settings : Settings
    coder : LappedCoder

    Returns
    -------
    ndarray of ``dtype``, same shape
    """
    correction_db = coder.mean_correction_db(settings.step_db)
    values = radiometry.from_signal(
        signal, settings.scale, dtype, offset_db=coder.card.offset_db, correction_db=correction_db
    )
    return radiometry.restore_invalid(values, classes, settings.nodata, exact)
