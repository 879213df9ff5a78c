"""Encoding and decoding of one window of a scene: backscatter to symbols, symbols to backscatter.

A *scene* is the array that shares one grid of latents: the whole variable in a latents store, a single chunk in a
transparent store. Its windows are coded separately and give exactly the latents of the whole scene, because each reads
``PIXEL_REACH`` pixels around it and every grid begins at the scene's first pixel. Beyond its edges a scene continues
as its mirror image.

Encoding: :func:`classify_backscatter`, :func:`signal_from_backscatter`, :func:`encode_window`,
:func:`compute_checked_guarantee_data`. Decoding: :func:`decode_window`, :func:`backscatter_from_signal`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec import lapped
from xsarcomp.codec.coder import QUANTIZER_REACH, LappedCoder
from xsarcomp.codec.error_bound import check_bound, mark_unbounded_exact
from xsarcomp.codec.guarantees import GuaranteeData, compute_guarantee_data
from xsarcomp.codec.mean_levels import restore_means
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.speckle import Speckle, synthesize_with_speckle
from xsarcomp.errors import DimensionError
from xsarcomp.radiometry.decibel import decibel_from_backscatter, from_signal, to_signal
from xsarcomp.radiometry.filling import FILL_BLOCK, fill_invalid
from xsarcomp.radiometry.pixel_classes import classify, exact_values, reinsert_invalid
from xsarcomp.tiling import Span, aligned_spans, reflect_indices, round_up

PIXEL_REACH = round_up(lapped.OVERLAP + lapped.BLOCK * QUANTIZER_REACH, FILL_BLOCK) + FILL_BLOCK
"""Pixels around a window that are read to encode it. Filling of invalid pixels looks further than the transform, and the
signal around a window must be filled as in the whole scene."""
TILE_LATENTS = 128
"""Latents along the edge of a tile in :func:`encode_window` and :func:`decode_window`: bounds their memory."""


def latent_count(pixels: int) -> int:
    """Number of latents along an axis of ``pixels`` pixels."""
    return -(-pixels // lapped.BLOCK)


def pixel_span(start: int, stop: int, pixels: int) -> Span:
    """Pixels that are read to encode latents ``start`` to ``stop`` of an axis.

    Parameters
    ----------
    start, stop : int
        First latent, and the one after the last.
    pixels : int
        Size of the scene along the axis.

    Returns
    -------
    Span
        Within the scene; begins at a block of the filling.
    """
    first, last = start * lapped.BLOCK, stop * lapped.BLOCK
    start = first // FILL_BLOCK * FILL_BLOCK - PIXEL_REACH
    return Span(max(0, start), min(pixels, round_up(last, FILL_BLOCK) + PIXEL_REACH))


def mirrored_pixel_indices(start: int, stop: int, pixels: int) -> NDArray[np.intp]:
    """Indices of the pixels at positions ``start`` to ``stop`` of an axis, which may lie beyond the scene.

    Positions between the last pixel and the end of its block repeat the last pixel; beyond that the scene is mirrored.

    Parameters
    ----------
    start, stop : int
        First position, and the one after the last; may be negative or beyond the scene.
    pixels : int
        Size of the scene along the axis.

    Returns
    -------
    ndarray of intp, shape (stop - start,)
    """
    indices, _ = reflect_indices(start, stop, latent_count(pixels) * lapped.BLOCK)
    return np.minimum(indices, pixels - 1)


def latent_span(start: int, stop: int, latents: int, reach: int) -> Span:
    """Latents that are read to decode latents ``start`` to ``stop`` of an axis.

    Parameters
    ----------
    start, stop : int
        First latent, and the one after the last.
    latents : int
        Size of the scene along the axis.
    reach : int
        ``latent_reach`` of the coder.

    Returns
    -------
    Span
        Within the scene.
    """
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
    """Position in the scene of the first pixel or latent of the array that holds the window."""

    @property
    def latents(self) -> Span:
        """Latents of the window."""
        return Span(self.start, self.stop)


def encode_window(
    signal: NDArray[np.float64], coder: LappedCoder, step_db: float, rows: Axis, columns: Axis
) -> NDArray[np.int32]:
    """Encode a window of the latent grid, tile by tile.

    Parameters
    ----------
    signal : ndarray of float64, shape (plane, y, x), dB above the offset
        Filled signal of the window's pixels and of those around it that are in the scene, see :func:`pixel_span`.
    coder : LappedCoder
        Model that analyzes and quantizes.
    step_db : float
        Quantization step in dB.
    rows, columns : Axis
        Place of the window; ``size`` and ``first`` count pixels, ``first`` is the first pixel of ``signal``.

    Returns
    -------
    ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Symbols of the window.
    """

    def pixels_around(start: int, stop: int, axis: Axis) -> NDArray[np.intp]:
        first, last = start * lapped.BLOCK - reach, stop * lapped.BLOCK + reach
        return mirrored_pixel_indices(first, last, axis.size) - axis.first

    reach = coder.signal_reach
    shape = (len(signal), lapped.CHANNELS, rows.latents.size, columns.latents.size)
    symbols = np.empty(shape, np.int32)
    for top, bottom in aligned_spans(*rows.latents, TILE_LATENTS):
        for left, right in aligned_spans(*columns.latents, TILE_LATENTS):
            # not by indexing, which is slower and may leave the copy transposed: the transform would crawl
            tile = np.take(signal, pixels_around(top, bottom, rows), axis=1)
            tile = np.take(tile, pixels_around(left, right, columns), axis=2)
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
    """Decode a window of the latent grid to its signal, tile by tile.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Symbols of the window and of the latents around it that are in the scene, see :func:`latent_span`.
    coder : LappedCoder
        Of the model that encoded.
    step_db : float
        Quantization step in dB, as it was for encoding.
    rows, columns : Axis
        Place of the window; ``size`` and ``first`` count latents, ``first`` is the first latent of ``symbols``.
    speckle : Speckle, optional
        Speckle to synthesize in these planes, see :mod:`xsarcomp.codec.speckle`; none if not given.

    Returns
    -------
    ndarray of float32, shape (plane, y, x), dB above the offset
        Whole blocks: cut off the pixels beyond the scene.
    """

    def latents_around(start: int, stop: int, latents: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        return reflect_indices(start - coder.latent_reach, stop + coder.latent_reach, latents)

    block = lapped.BLOCK
    signal = np.empty((len(symbols), block * rows.latents.size, block * columns.latents.size), np.float32)
    for top, bottom in aligned_spans(*rows.latents, TILE_LATENTS):
        for left, right in aligned_spans(*columns.latents, TILE_LATENTS):
            tile_rows = latents_around(top, bottom, rows.size)
            tile_columns = latents_around(left, right, columns.size)
            tile = lapped.gather_mirrored(
                symbols,
                (tile_rows[0] - rows.first, tile_rows[1]),
                (tile_columns[0] - columns.first, tile_columns[1]),
            )
            y, x = block * (top - rows.start), block * (left - columns.start)
            height, width = block * (bottom - top), block * (right - left)
            signal[:, y : y + height, x : x + width] = (
                coder.synthesize(tile, step_db)
                if speckle is None
                else synthesize_with_speckle(tile, coder, step_db, speckle, tile_rows, tile_columns)
            )
    return signal


def encode_planes(signal: NDArray[np.float64], coder: LappedCoder, step_db: float) -> NDArray[np.int32]:
    """Encode a whole scene; see :func:`encode_window`.

    Parameters
    ----------
    signal : ndarray of float64, shape (plane, y, x), dB above the offset
        Filled signal of the scene.
    coder : LappedCoder
        Model that analyzes and quantizes.
    step_db : float
        Quantization step in dB.

    Returns
    -------
    ndarray of int32, shape (plane, latent=64, ceil(y / 8), ceil(x / 8))
    """
    rows, columns = (Axis(0, latent_count(size), size, 0) for size in signal.shape[1:])
    return encode_window(signal, coder, step_db, rows, columns)


def decode_planes(
    symbols: NDArray[np.int32],
    shape: tuple[int, int],
    coder: LappedCoder,
    step_db: float,
    speckle: Speckle | None = None,
) -> NDArray[np.float32]:
    """Decode a whole scene to its signal; see :func:`decode_window`.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Symbols of the scene.
    shape : tuple of int
        Pixels of the scene, (y, x).
    coder, step_db, speckle
        As for :func:`decode_window`.

    Returns
    -------
    ndarray of float32, shape (plane, y, x), dB above the offset

    Raises
    ------
    DimensionError
        If the symbols are not those of so many pixels.
    """
    latents = symbols.shape[2:]
    if tuple(latents) != tuple(latent_count(size) for size in shape):
        raise DimensionError(
            f"symbols have {latents[0]} x {latents[1]} latents, expected {latent_count(shape[0])} x {latent_count(shape[1])} for "
            f"{shape[0]} x {shape[1]} pixels"
        )
    rows, columns = (Axis(0, count, count, 0) for count in latents)
    return decode_window(symbols, coder, step_db, rows, columns, speckle)[:, : shape[0], : shape[1]]


def classify_backscatter(backscatter: NDArray, settings: Settings) -> NDArray[np.uint8]:
    """Classify the pixels of backscatter; with an error bound, pixels that it cannot cover become exact.

    Parameters
    ----------
    backscatter : ndarray of a real dtype, any shape
        In the scale of the settings.
    settings : Settings
        Scale, nodata and guarantees.

    Returns
    -------
    ndarray of uint8, same shape
        Classes of :mod:`xsarcomp.radiometry.pixel_classes`.
    """
    classes = classify(backscatter, settings.scale, settings.nodata)
    return classes if settings.guarantees.max_error_db is None else mark_unbounded_exact(classes, backscatter)


def signal_from_backscatter(
    backscatter: NDArray,
    classes: NDArray[np.uint8],
    settings: Settings,
    coder: LappedCoder,
    origin: tuple[int, int] = (0, 0),
) -> NDArray[np.float64]:
    """Convert backscatter to the signal that the transform reads: dB above the offset, with invalid pixels filled.

    Parameters
    ----------
    backscatter : ndarray of a real dtype, shape (plane, y, x)
        In the scale of the settings.
    classes : ndarray of uint8, same shape
        Pixel classes, see :func:`classify_backscatter`.
    settings : Settings
        Scale of the backscatter.
    coder : LappedCoder
        Its card gives the offset.
    origin : tuple of (row, column)
        Place of the first pixel in the scene, multiples of 16.

    Returns
    -------
    ndarray of float64, shape (plane, y, x), dB above the offset
    """
    signal = to_signal(backscatter, classes, settings.scale, coder.card.offset_db)
    return fill_invalid(signal, classes, origin=origin)


def backscatter_from_signal(
    signal: NDArray[np.float32],
    classes: NDArray[np.uint8],
    exact: NDArray | None,
    dtype: np.dtype,
    settings: Settings,
    coder: LappedCoder,
    guarantee_data: GuaranteeData | None = None,
) -> NDArray:
    """Convert a decoded signal to backscatter, and restore the pixels that are not valid.

    Parameters
    ----------
    signal : ndarray of float32, shape (plane, y, x), dB above the offset
        As it was decoded from symbols.
    classes : ndarray of uint8, same shape
        Pixel classes.
    exact : ndarray, one-dimensional, or None
        Values of the pixels of class EXACT, in C order.
    dtype : dtype
        Data type of the backscatter.
    settings : Settings
        Step, scale and nodata.
    coder : LappedCoder
        Its card gives the offset and the correction of the mean.
    guarantee_data : GuaranteeData, optional
        Residuals and gains of the window, or means of its tiles.

    Returns
    -------
    ndarray of ``dtype``, same shape
    """
    correction_db = coder.mean_correction_db(settings.step_db)
    if guarantee_data is not None and (means_db := guarantee_data.means_db) is not None:
        signal = restore_means(signal, classes, means_db, correction_db, uniform=guarantee_data.uniform_means)
    elif guarantee_data is not None:
        signal = guarantee_data.apply_to(signal, coder.card.offset_db + correction_db, coder.card.offset_db)
    values = from_signal(signal, settings.scale, dtype, offset_db=coder.card.offset_db, correction_db=correction_db)
    return reinsert_invalid(values, classes, settings.nodata, exact)


def compute_checked_guarantee_data(
    backscatter: NDArray,
    signal: NDArray[np.float32],
    classes: NDArray[np.uint8],
    settings: Settings,
    coder: LappedCoder,
) -> GuaranteeData:
    """Compute the data that keeps the guarantees of the settings, and check the error bound on the decoded result.

    Parameters
    ----------
    backscatter : ndarray of a real dtype, shape (plane, y, x)
        The original; its first pixel begins a tile of :mod:`xsarcomp.codec.tile_means`.
    signal : ndarray of float32, same shape, dB above the offset
        The signal that its symbols decode to.
    classes : ndarray of uint8, same shape
        Pixel classes.
    settings : Settings
        Step, scale, nodata and guarantees.
    coder : LappedCoder
        Its card gives the offset and the correction of the mean.

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
    data = compute_guarantee_data(decibel, signal, classes, settings.guarantees, level_db, offset_db)
    if settings.guarantees.max_error_db is not None:
        exact = exact_values(backscatter, classes)
        decoded = backscatter_from_signal(signal, classes, exact, backscatter.dtype, settings, coder, data)
        decoded_db = decibel_from_backscatter(decoded, settings.scale, classes=classes)
        check_bound(decibel, decoded_db, classes, settings.guarantees.max_error_db)
    return data
