"""Encoding and decoding of one stored chunk: an array to the bytes of one frame and back.

There are chunks of three kinds. A chunk of *backscatter* in a transparent store is a scene of its own, with all that
decoding it needs. A chunk of *latents* in a latents store holds only symbols and mean levels; their step is in the metadata.
A chunk of *integers* beside it is in :mod:`xsarcomp.codec.integer_chunk`. Frames are described in ``docs/format.md``.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec import sections
from xsarcomp.codec.coder import LARGEST_STEP_DB, SMALLEST_STEP_DB, LappedCoder
from xsarcomp.codec.entropy_coding import decode_lowest_channel, decode_symbols, encode_symbols
from xsarcomp.codec.entropy_tables import CHANNELS
from xsarcomp.codec.frame import (
    BACKSCATTER,
    LATENTS,
    Frame,
    check_chunk,
    check_kind,
    check_stored_dtype,
    check_symbol_hash,
    has_only_symbols,
    read_frame,
    symbol_hash,
    write_frame,
)
from xsarcomp.codec.guarantees import GuaranteeData, pack_guarantee_data, unpack_guarantee_data
from xsarcomp.codec.mean_levels import (
    TILE_LATENTS,
    channel_from_levels,
    compute_levels,
    has_stray_levels,
    levels_from_channel,
    means_from_levels,
    pack_levels,
    unpack_levels,
)
from xsarcomp.codec.sections import read_verbatim_integers, read_verbatim_values, verbatim_if_shorter
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.tile_means import tile_count
from xsarcomp.codec.window import (
    backscatter_from_signal,
    classify_backscatter,
    compute_checked_guarantee_data,
    decode_planes,
    encode_planes,
    latent_count,
    signal_from_backscatter,
)
from xsarcomp.errors import CorruptStreamError, DimensionError, UnsupportedFormatError
from xsarcomp.radiometry import pixel_classes

ABSENT = -(2**31)
"""Fill value of arrays of latents, residuals and gains. No chunk holds it: an element that reads as it is missing."""


class BackscatterParts(NamedTuple):
    """Content of a chunk of backscatter, checked, before any pixel is computed."""

    frame: Frame
    symbols: NDArray[np.int32]
    """Shape (plane, latent=64, y_latent, x_latent)."""
    classes: NDArray[np.uint8]
    """Pixel classes, shape (plane, y, x)."""
    exact: NDArray
    """Values of the pixels of class EXACT in C order, of the chunk's data type."""
    guarantee_data: GuaranteeData | None
    """Residuals and gains, or means of tiles; None without guarantees."""


def encode_backscatter(backscatter: NDArray, settings: Settings, coder: LappedCoder) -> bytes:
    """Encode a chunk of backscatter, which is a scene of its own.

    Parameters
    ----------
    backscatter : ndarray of float16, float32, float64 or integer, shape (..., y, x)
        Any byte order and memory layout. Invalid pixels come back as they are.
    settings : Settings
        Step, scale, nodata and guarantees.
    coder : LappedCoder
        Model that encodes.

    Returns
    -------
    bytes
        One frame, see ``docs/format.md``.

    Raises
    ------
    DimensionError
        If the chunk has fewer than two dimensions, no values or too many.
    RadiometryError
        If the data type cannot hold backscatter, or pixels are masked.
    BoundError
        If a valid pixel would be off by more than the error bound.
    """
    check_chunk(backscatter.shape, BACKSCATTER)
    pixel_classes.check_dtype(backscatter.dtype)
    pixel_classes.check_unmasked(backscatter)
    check_stored_dtype(backscatter.dtype)
    planes = backscatter.reshape(-1, *backscatter.shape[-2:])
    classes = classify_backscatter(planes, settings)
    signal = signal_from_backscatter(planes, classes, settings, coder)
    symbols = encode_planes(signal, coder, settings.step_db)
    anchor = coder.anchor(settings.step_db)
    exact = pixel_classes.exact_values(planes, classes)
    frame = Frame(
        kind=BACKSCATTER,
        dtype=backscatter.dtype,
        shape=backscatter.shape,
        anchor=anchor,
        step_db=settings.step_db,
        scale=settings.scale,
        model_id=coder.model_id,
        symbol_hash=symbol_hash(symbols),
        symbols=encode_symbols(symbols, coder.tables, anchor),
        classes=sections.pack_classes(classes),
        exact=sections.deflate(exact.tobytes()) if exact.size else b"",
        guarantee_data=_guarantee_section(planes, classes, symbols, settings, coder),
        mean_levels=_levels_section(planes, classes, symbols, settings, coder),
        fortran_order=backscatter.flags.f_contiguous and not backscatter.flags.c_contiguous,
    )
    return write_frame(verbatim_if_shorter(frame, backscatter))


def _guarantee_section(
    planes: NDArray, classes: NDArray[np.uint8], symbols: NDArray[np.int32], settings: Settings, coder: LappedCoder
) -> bytes:
    """Section that keeps the guarantees, computed from what a decoder returns; empty without guarantees."""
    if not settings.guarantees.need_decoding:
        return b""
    signal = decode_planes(symbols, (planes.shape[1], planes.shape[2]), coder, settings.step_db)
    return pack_guarantee_data(compute_checked_guarantee_data(planes, signal, classes, settings, coder))


def _levels_section(
    planes: NDArray, classes: NDArray[np.uint8], symbols: NDArray[np.int32], settings: Settings, coder: LappedCoder
) -> bytes:
    """Section of the mean levels of tiles; empty if the means are not kept by them."""
    if not settings.guarantees.mean_levels:
        return b""
    return pack_levels(compute_levels(planes, settings.scale, classes, symbols, coder, settings.step_db))


def decode_backscatter(content: bytes, nodata: float | None, coder: LappedCoder) -> NDArray:
    """Decode a chunk of backscatter; the inverse of :func:`encode_backscatter`.

    Parameters
    ----------
    content : bytes
        One frame.
    nodata : float or None
        Declared fill value, as the encoder had it.
    coder : LappedCoder
        Of the model that encoded.

    Returns
    -------
    ndarray
        Shape, data type and memory order of the chunk that was encoded.

    Raises
    ------
    BitstreamError
        If anything about the bytes is wrong; no pixel is returned in that case.
    """
    frame, symbols, classes, exact, guarantee_data = read_backscatter(content, coder)
    sections.check_nodata(classes, frame.dtype, nodata)
    settings = Settings(step_db=frame.step_db, scale=frame.scale, nodata=nodata)
    signal = decode_planes(symbols, (frame.shape[-2], frame.shape[-1]), coder, frame.step_db)
    values = backscatter_from_signal(signal, classes, exact, frame.dtype, settings, coder, guarantee_data)
    values = values.reshape(frame.shape)
    return np.asfortranarray(values) if frame.fortran_order else values


def read_backscatter(content: bytes, coder: LappedCoder) -> BackscatterParts:
    """Read and check all parts of a chunk of backscatter, without computing pixels.

    Parameters
    ----------
    content : bytes
        One frame.
    coder : LappedCoder
        Of the model that encoded.

    Returns
    -------
    BackscatterParts

    Raises
    ------
    BitstreamError
        If anything about the bytes is wrong.
    """
    frame = _read_frame_of(content, BACKSCATTER, coder)
    planes = math.prod(frame.shape[:-2])
    shape = (planes, frame.shape[-2], frame.shape[-1])
    symbols_shape = (planes, CHANNELS, latent_count(shape[1]), latent_count(shape[2]))
    if frame.verbatim:
        classes = np.full(shape, pixel_classes.EXACT, np.uint8)
        symbols = np.zeros(symbols_shape, np.int32)
        return BackscatterParts(frame, symbols, classes, read_verbatim_values(frame).ravel(), None)
    symbols = _decode_symbols_of(frame, symbols_shape, coder)
    classes = sections.unpack_classes(frame.classes, shape)
    sections.check_classes(classes, frame.dtype)
    exact_count = int(np.count_nonzero(classes == pixel_classes.EXACT))
    exact_bytes = sections.inflate(frame.exact, exact_count * frame.dtype.itemsize) if frame.exact else b""
    exact = np.frombuffer(exact_bytes, frame.dtype)
    if exact.size != exact_count:
        raise CorruptStreamError(
            f"the chunk holds {exact.size} exact values, expected one for each of {exact_count} pixels of that class: the chunk "
            "is damaged"
        )
    guarantee_data = unpack_guarantee_data(frame.guarantee_data, shape) if frame.guarantee_data else None
    if frame.mean_levels:
        levels = unpack_levels(frame.mean_levels, (planes, tile_count(shape[1]), tile_count(shape[2])))
        guarantee_data = GuaranteeData(means_db=means_from_levels(levels, symbols, coder, frame.step_db))
    return BackscatterParts(frame, symbols, classes, exact, guarantee_data)


def encode_latents(latents: NDArray[np.int32], anchor: int, coder: LappedCoder) -> bytes:
    """Encode a chunk of latents, which are symbols, without loss.

    Parameters
    ----------
    latents : ndarray of int32, shape (..., latent, y_latent, x_latent)
        64 symbols of each block; as the 65th, optionally, the mean level of a tile at its first block and 0 at the others.
        ``ABSENT`` beyond the edge of an array, which is decoded as 0.
    anchor : int
        Index of the table set of the model.
    coder : LappedCoder
        Has the tables.

    Returns
    -------
    bytes
        One frame.

    Raises
    ------
    DimensionError
        If the array is no chunk of latents.
    LimitExceededError
        If a magnitude is too large for the format.
    """
    check_chunk(latents.shape, LATENTS)
    if not _has_latents_shape(latents.shape) or latents.dtype.newbyteorder("=") != np.int32:
        raise DimensionError(
            f"latents of type {latents.dtype} and shape {latents.shape} were given, expected int32 and {CHANNELS} latents, or one "
            "more, in the third dimension from the end: write them in the chunks that encode() chose"
        )
    values, extent = _without_padding(np.ascontiguousarray(latents, np.int32).reshape(-1, *latents.shape[-3:]))
    symbols = np.ascontiguousarray(values[:, :CHANNELS])
    frame = Frame(
        kind=LATENTS,
        dtype=np.dtype("<i4"),
        shape=latents.shape,
        anchor=anchor,
        step_db=0.0,
        scale="",
        model_id=coder.model_id,
        symbol_hash=symbol_hash(symbols),
        symbols=encode_symbols(symbols, coder.tables, anchor, extent),
        mean_levels=b"" if values.shape[1] == CHANNELS else pack_levels(levels_from_channel(values[:, CHANNELS])),
    )
    return write_frame(verbatim_if_shorter(frame, values))


def _without_padding(latents: NDArray[np.int32]) -> tuple[NDArray[np.int32], tuple[int, int] | None]:
    """Latents with 0 for ``ABSENT``, with which Zarr pads chunks at the edge, and the rows and columns that are not padding."""
    absent = latents == ABSENT
    if not absent.any():
        return latents, None
    rows, columns = int((~absent[0, 0]).any(1).sum()), int((~absent[0, 0]).any(0).sum())
    padding = np.ones(absent.shape[2:], bool)
    padding[:rows, :columns] = False
    is_at_the_edge = rows > 0 and bool((absent == padding).all())
    return np.where(absent, np.int32(0), latents), (rows, columns) if is_at_the_edge else None


def decode_latents(content: bytes, coder: LappedCoder) -> NDArray[np.int32]:
    """Decode a chunk of latents; the inverse of :func:`encode_latents`. Wrong bytes raise a BitstreamError."""
    frame = _read_latents_frame(content, coder)
    if frame.verbatim:
        latents = read_verbatim_integers(frame)
        if has_stray_levels(latents[..., CHANNELS:, :, :].reshape(-1, *frame.shape[-2:])):
            raise CorruptStreamError(
                "the chunk of latents holds mean levels beside the first blocks of tiles: it is damaged"
            )
        return latents
    symbols = _decode_symbols_of(frame, _symbols_shape(frame), coder)
    if not frame.mean_levels:
        return symbols.reshape(frame.shape)
    planes, _, *blocks = symbols.shape
    levels = unpack_levels(frame.mean_levels, (planes, *(-(-count // TILE_LATENTS) for count in blocks)))
    channel = channel_from_levels(levels, (blocks[0], blocks[1]))
    return np.concatenate([symbols, channel[:, None]], axis=1).reshape(frame.shape)


def decode_lowest_latents(content: bytes, coder: LappedCoder) -> NDArray[np.int32]:
    """Decode only the lowest latent of each block in a chunk of latents.

    Both checksums are compared, so damaged bytes are noticed. The hash covers all symbols and is not compared, so an error
    of the decoder itself would not be noticed.

    Parameters
    ----------
    content : bytes
        One frame.
    coder : LappedCoder
        Of the model that encoded.

    Returns
    -------
    ndarray of int32, shape (..., y_latent, x_latent)

    Raises
    ------
    BitstreamError
        If the frame is wrong, or the part of its symbols that was read.
    """
    frame = _read_latents_frame(content, coder)
    if frame.verbatim:
        return np.ascontiguousarray(read_verbatim_integers(frame)[..., 0, :, :])
    lowest = decode_lowest_channel(frame.symbols, _symbols_shape(frame), coder.tables, frame.anchor)
    return lowest.reshape(*frame.shape[:-3], *frame.shape[-2:])


def check_present(integers: NDArray[np.int32], what: str) -> None:
    """Refuse latents, residuals or gains of which a chunk is missing.

    Parameters
    ----------
    integers : ndarray of int32, any shape
        As they were read from a store.
    what : str
        Name of the array for the message.

    Raises
    ------
    CorruptStreamError
        If some of them read as the fill value ``ABSENT``.
    """
    if integers.size and int(integers.min()) == ABSENT:
        raise CorruptStreamError(f"a chunk of the {what} is missing: it was not written yet, or restore it from a copy")


def _read_frame_of(content: bytes, kind: int, coder: LappedCoder) -> Frame:
    """Frame of the expected kind and model, with a table set and a step that the model has."""
    frame = read_frame(content)
    check_kind(frame, kind)
    if not coder.model_id.startswith(frame.model_id):
        raise UnsupportedFormatError(
            f"the chunk was written with model {frame.model_id}..., the array names {coder.model_id[:16]}...: chunks of "
            "different stores were mixed"
        )
    if kind == BACKSCATTER:
        is_consistent = SMALLEST_STEP_DB <= frame.step_db <= LARGEST_STEP_DB
        is_consistent = is_consistent and frame.anchor == coder.anchor(frame.step_db)
    else:
        is_consistent = has_only_symbols(frame)
    if kind == LATENTS and not frame.verbatim:
        is_consistent = is_consistent and bool(frame.mean_levels) == (frame.shape[-3:-2] == (CHANNELS + 1,))
    if frame.anchor >= len(coder.card.anchor_steps_db) or not is_consistent:
        raise CorruptStreamError(
            f"the chunk names table set {frame.anchor}, step {frame.step_db} and sections that do not go together"
        )
    return frame


def _read_latents_frame(content: bytes, coder: LappedCoder) -> Frame:
    """Frame of a chunk of latents, with the shape and data type of latents."""
    frame = _read_frame_of(content, LATENTS, coder)
    if not _has_latents_shape(frame.shape) or frame.dtype != np.int32:
        raise CorruptStreamError(
            f"the chunk of latents has type {frame.dtype} and shape {frame.shape}, expected int32 and {CHANNELS} latents"
        )
    return frame


def _has_latents_shape(shape: tuple[int, ...]) -> bool:
    """Check for the shape of latents, with or without mean levels."""
    return len(shape) >= 3 and shape[-3] in (CHANNELS, CHANNELS + 1)


def _symbols_shape(frame: Frame) -> tuple[int, int, int, int]:
    """Shape of the symbols in a frame of latents, (plane, latent=64, y_latent, x_latent)."""
    return (math.prod(frame.shape[:-3]), CHANNELS, frame.shape[-2], frame.shape[-1])


def _decode_symbols_of(frame: Frame, shape: tuple[int, int, int, int], coder: LappedCoder) -> NDArray[np.int32]:
    """Symbols of a frame that is not verbatim, compared with their hash."""
    symbols = decode_symbols(frame.symbols, shape, coder.tables, frame.anchor)
    check_symbol_hash(symbols, frame)
    return symbols
