"""The whole way of one window of a scene, and of one chunk that stands alone.

A *scene* is the array that shares one grid of latents: the whole variable in a latents store, a single chunk in a
transparent store. Windows of it are coded separately and give exactly the latents of the whole, because they read
``PIXEL_REACH`` pixels around and everything is anchored to the scene's first pixel. Beyond its edges a scene continues
as its mirror image.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec import lapped
from xsarcomp.codec.coder import QUANTIZER_REACH, LappedCoder
from xsarcomp.codec.error_bound import check_bound, keep_unbounded
from xsarcomp.codec.guarantees import GuaranteeData, guarantee_data_of
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.speckle import Speckle, synthesize_with_speckle
from xsarcomp.errors import DimensionError
from xsarcomp.radiometry.decibel import decibel_from_backscatter, from_signal, to_signal
from xsarcomp.radiometry.filling import FILL_BLOCK, fill_invalid
from xsarcomp.radiometry.pixel_classes import classify, exact_values, reinsert_invalid
from xsarcomp.tiling import Span, aligned_spans, reflect_indices, round_up

SIGNAL_REACH = lapped.OVERLAP + lapped.BLOCK * QUANTIZER_REACH
# The signal around a window must be filled as it is in the whole scene, and filling looks further.
PIXEL_REACH = round_up(SIGNAL_REACH, FILL_BLOCK) + FILL_BLOCK
TILE_LATENTS = 128
"""Latents of a tile in :func:`encode_planes` and :func:`decode_planes`: bounds their memory."""


def latent_count(pixels: int) -> int:
    """Latents along an axis of so many pixels."""
    return -(-pixels // lapped.BLOCK)


def pixel_span(start: int, stop: int, pixels: int) -> Span:
    """Pixels of an axis that encoding latents ``start..stop`` reads, within the scene; aligned to the filling."""
    first, last = start * lapped.BLOCK, stop * lapped.BLOCK
    start = first // FILL_BLOCK * FILL_BLOCK - PIXEL_REACH
    return Span(max(0, start), min(pixels, round_up(last, FILL_BLOCK) + PIXEL_REACH))


def mirrored_pixels(start: int, stop: int, pixels: int) -> NDArray[np.intp]:
    """Pixels that stand at positions of an axis that may lie beyond the scene.

    Pixels between the last one and the end of its block repeat the last one; beyond that the scene is mirrored.
    """
    indices, _ = reflect_indices(start, stop, latent_count(pixels) * lapped.BLOCK)
    return np.minimum(indices, pixels - 1)


def latent_span(start: int, stop: int, latents: int, reach: int) -> Span:
    """Latents of an axis that decoding latents ``start..stop`` reads, within the scene; ``reach`` is the coder's."""
    return Span(max(0, start - reach), min(latents, stop + reach))


class Axis(NamedTuple):
    """Place of a window on one axis of the latent grid."""

    start: int
    """First latent of the window."""
    stop: int
    """Latent after the last one of the window."""
    size: int
    """Size of the scene along the axis: pixels for encoding, latents for decoding."""
    first: int
    """Position in the scene of the first pixel or latent of the array that is given."""

    @property
    def latents(self) -> Span:
        """Latents of the window."""
        return Span(self.start, self.stop)


def encode_window(
    signal: NDArray[np.float64], coder: LappedCoder, step_db: float, rows: Axis, columns: Axis
) -> NDArray[np.int32]:
    """Symbols of a window of the latent grid, tile by tile.

    Parameters
    ----------
    signal : ndarray of float64, shape (plane, y, x), dB above the offset
        Filled signal of the window's pixels and those around that are in the scene, see :func:`pixel_span`.
    coder : LappedCoder
    step_db : float
        Quantization step in dB.
    rows, columns : Axis
        Sizes in pixels; ``first`` is that of ``signal``.

    Returns
    -------
    ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
    """

    def gather(start: int, stop: int, axis: Axis) -> NDArray[np.intp]:
        first, last = start * lapped.BLOCK - SIGNAL_REACH, stop * lapped.BLOCK + SIGNAL_REACH
        return mirrored_pixels(first, last, axis.size) - axis.first

    shape = (len(signal), lapped.CHANNELS, rows.latents.size, columns.latents.size)
    symbols = np.empty(shape, np.int32)
    for top, bottom in aligned_spans(*rows.latents, TILE_LATENTS):
        for left, right in aligned_spans(*columns.latents, TILE_LATENTS):
            # not by indexing, which is slower and may leave the copy transposed: the transform would crawl
            tile = np.take(signal, gather(top, bottom, rows), axis=1)
            tile = np.take(tile, gather(left, right, columns), axis=2)
            place = np.s_[:, :, top - rows.start : bottom - rows.start, left - columns.start : right - columns.start]
            symbols[place] = coder.quantize(coder.analyze(tile), step_db)
    return symbols


def decode_window(
    symbols: NDArray[np.int32],
    coder: LappedCoder,
    step_db: float,
    rows: Axis,
    columns: Axis,
    speckle: Speckle | None = None,
) -> NDArray[np.float32]:
    """Signal of a window of the latent grid, tile by tile.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Symbols of the window and those around that are in the scene, see :func:`latent_span`.
    coder, step_db
        As for encoding.
    rows, columns : Axis
        Sizes in latents; ``first`` is that of ``symbols``.
    speckle : Speckle, optional
        Of the planes, to restore theirs: see :mod:`xsarcomp.codec.speckle`.

    Returns
    -------
    ndarray of float32, shape (plane, y, x), dB above the offset
        Whole blocks: cut off what lies beyond the scene.
    """

    def places(start: int, stop: int, latents: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        return reflect_indices(start - coder.latent_reach, stop + coder.latent_reach, latents)

    block = lapped.BLOCK
    signal = np.empty((len(symbols), block * rows.latents.size, block * columns.latents.size), np.float32)
    for top, bottom in aligned_spans(*rows.latents, TILE_LATENTS):
        for left, right in aligned_spans(*columns.latents, TILE_LATENTS):
            at = places(top, bottom, rows.size), places(left, right, columns.size)
            given = [(indices - axis.first, odd) for (indices, odd), axis in zip(at, (rows, columns), strict=True)]
            tile = lapped.mirrored(symbols, *given)
            y, x = block * (top - rows.start), block * (left - columns.start)
            height, width = block * (bottom - top), block * (right - left)
            signal[:, y : y + height, x : x + width] = (
                coder.synthesize(tile, step_db)
                if speckle is None
                else synthesize_with_speckle(tile, coder, step_db, speckle, *at)
            )
    return signal


def encode_planes(signal: NDArray[np.float64], coder: LappedCoder, step_db: float) -> NDArray[np.int32]:
    """Symbols of a whole scene, shape (plane, latent=64, ceil(y / 8), ceil(x / 8)); see :func:`encode_window`."""
    rows, columns = (Axis(0, latent_count(size), size, 0) for size in signal.shape[1:])
    return encode_window(signal, coder, step_db, rows, columns)


def decode_planes(
    symbols: NDArray[np.int32],
    shape: tuple[int, int],
    coder: LappedCoder,
    step_db: float,
    speckle: Speckle | None = None,
) -> NDArray[np.float32]:
    """Signal of a whole scene of (y, x) pixels, shape (plane, y, x); see :func:`decode_window`."""
    latents = symbols.shape[2:]
    if tuple(latents) != tuple(latent_count(size) for size in shape):
        raise DimensionError(f"{latents[0]} x {latents[1]} latents cannot hold {shape[0]} x {shape[1]} pixels")
    rows, columns = (Axis(0, count, count, 0) for count in latents)
    return decode_window(symbols, coder, step_db, rows, columns, speckle)[:, : shape[0], : shape[1]]


def classes_of(backscatter: NDArray, settings: Settings) -> NDArray[np.uint8]:
    """Pixel classes of backscatter; with an error bound, those that it cannot cover are kept exactly too."""
    classes = classify(backscatter, settings.scale, settings.nodata)
    return classes if settings.guarantees.max_error_db is None else keep_unbounded(classes, backscatter)


def signal_of(
    backscatter: NDArray,
    classes: NDArray[np.uint8],
    settings: Settings,
    coder: LappedCoder,
    origin: tuple[int, int] = (0, 0),
) -> NDArray[np.float64]:
    """Filled signal of backscatter.

    Parameters
    ----------
    backscatter : ndarray of a real dtype, shape (plane, y, x)
    classes : ndarray of uint8, same shape
        Pixel classes, see :func:`classes_of`.
    settings : Settings
    coder : LappedCoder
        Its card gives the level of the signal.
    origin : tuple of (row, column)
        Place of the first pixel in the scene, multiples of 16.

    Returns
    -------
    ndarray of float64, shape (plane, y, x), dB above the offset
    """
    signal = to_signal(backscatter, classes, settings.scale, coder.card.offset_db)
    return fill_invalid(signal, classes, origin=origin)


def backscatter_of(
    signal: NDArray[np.float32],
    classes: NDArray[np.uint8],
    exact: NDArray | None,
    dtype: np.dtype,
    settings: Settings,
    coder: LappedCoder,
    corrections: GuaranteeData | None = None,
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
    corrections : GuaranteeData, optional
        What keeps the guarantees.

    Returns
    -------
    ndarray of ``dtype``, same shape
    """
    correction_db = coder.mean_correction_db(settings.step_db)
    if corrections is not None:
        signal = corrections.applied(signal, coder.card.offset_db + correction_db, coder.card.offset_db)
    values = from_signal(signal, settings.scale, dtype, offset_db=coder.card.offset_db, correction_db=correction_db)
    return reinsert_invalid(values, classes, settings.nodata, exact)


def guarantee_data_for(
    backscatter: NDArray,
    signal: NDArray[np.float32],
    classes: NDArray[np.uint8],
    settings: Settings,
    coder: LappedCoder,
) -> GuaranteeData:
    """GuaranteeData that keep the guarantees of the settings; a bound is compared with what a decoder returns.

    Parameters
    ----------
    backscatter : ndarray of a real dtype, shape (plane, y, x)
        The original; its first pixel begins a tile of :mod:`xsarcomp.codec.tile_means`.
    signal : ndarray of float32, same shape, dB above the offset
        What its symbols decode to.
    classes : ndarray of uint8, same shape
    settings : Settings
    coder : LappedCoder

    Returns
    -------
    GuaranteeData

    Raises
    ------
    BoundError
        If a valid pixel would be off by more than the bound.
    """
    decibel = decibel_from_backscatter(backscatter, settings.scale, classes=classes)
    offset_db = coder.card.offset_db
    level_db = offset_db + coder.mean_correction_db(settings.step_db)
    made = guarantee_data_of(decibel, signal, classes, settings.guarantees, level_db, offset_db)
    if settings.guarantees.max_error_db is not None:
        exact = exact_values(backscatter, classes)
        restored = backscatter_of(signal, classes, exact, backscatter.dtype, settings, coder, made)
        restored_db = decibel_from_backscatter(restored, settings.scale, classes=classes)
        check_bound(decibel, restored_db, classes, settings.guarantees.max_error_db)
    return made
