"""One stored chunk: backscatter or latents to bytes and back."""

import math

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec import guarantees, sections
from xsarcomp.codec.coder import LARGEST_STEP_DB, SMALLEST_STEP_DB, LappedCoder
from xsarcomp.codec.entropy_coding import decode_lowest as decode_lowest_symbols
from xsarcomp.codec.entropy_coding import decode_symbols, encode_symbols
from xsarcomp.codec.entropy_tables import CHANNELS
from xsarcomp.codec.frame import (
    BACKSCATTER,
    INTEGERS,
    LATENTS,
    NO_MODEL,
    Frame,
    check_chunk,
    check_hash,
    check_kind,
    check_stored_dtype,
    is_bare,
    read_frame,
    symbol_hash,
    write_frame,
)
from xsarcomp.codec.residual_coding import decode_integers, encode_integers
from xsarcomp.codec.sections import shortest, verbatim_integers, verbatim_values
from xsarcomp.codec.settings import Settings
from xsarcomp.codec.window import (
    backscatter_of,
    classes_of,
    decode_planes,
    encode_planes,
    guarantee_data_for,
    latent_count,
    signal_of,
)
from xsarcomp.errors import CorruptStreamError, DimensionError, UnsupportedFormatError
from xsarcomp.radiometry import pixel_classes


def encode_backscatter(backscatter: NDArray, settings: Settings, coder: LappedCoder) -> bytes:
    """Code a chunk of backscatter that stands alone.

    Parameters
    ----------
    backscatter : ndarray of float16, float32, float64 or integer, shape (..., y, x)
        Any byte order and memory layout; invalid pixels come back as they are.
    settings : Settings
    coder : LappedCoder

    Returns
    -------
    bytes
        One frame, see ``docs/format.md``.

    Raises
    ------
    DimensionError
        If the chunk has fewer than two dimensions, none or too many values.
    RadiometryError
        If the data type cannot hold backscatter, or pixels are masked.
    """
    check_chunk(backscatter.shape, BACKSCATTER)
    pixel_classes.check_dtype(backscatter.dtype)
    pixel_classes.check_unmasked(backscatter)
    check_stored_dtype(backscatter.dtype)
    planes = backscatter.reshape(-1, *backscatter.shape[-2:])
    classes = classes_of(planes, settings)
    signal = signal_of(planes, classes, settings, coder)
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
        corrections=_corrections(planes, classes, symbols, settings, coder),
        fortran_order=backscatter.flags.f_contiguous and not backscatter.flags.c_contiguous,
    )
    return write_frame(shortest(frame, backscatter))


def _corrections(planes: NDArray, classes, symbols, settings: Settings, coder: LappedCoder) -> bytes:
    """Section that keeps the guarantees, made from what a decoder returns."""
    if not settings.guarantees:
        return b""
    signal = decode_planes(symbols, planes.shape[1:], coder, settings.step_db)
    return guarantees.pack(guarantee_data_for(planes, signal, classes, settings, coder))


def decode_backscatter(content: bytes, nodata: float | None, coder: LappedCoder) -> NDArray:
    """Decode a chunk of backscatter; the inverse of :func:`encode_backscatter`.

    Parameters
    ----------
    content : bytes
        One frame.
    nodata : float or None
        Declared fill value, as it was given to the encoder.
    coder : LappedCoder
        Of the model that encoded.

    Returns
    -------
    ndarray
        Shape, data type and memory order of the chunk that was encoded.

    Raises
    ------
    BitstreamError
        If anything about the bytes is wrong; no pixel leaves in that case.
    """
    frame, symbols, classes, exact, added = read_backscatter(content, coder)
    check_nodata(classes, frame.dtype, nodata)
    settings = Settings(step_db=frame.step_db, scale=frame.scale, nodata=nodata)
    signal = decode_planes(symbols, frame.shape[-2:], coder, frame.step_db)
    values = backscatter_of(signal, classes, exact, frame.dtype, settings, coder, added).reshape(frame.shape)
    return np.asfortranarray(values) if frame.fortran_order else values


def read_backscatter(
    content: bytes, coder: LappedCoder
) -> tuple[Frame, NDArray[np.int32], NDArray[np.uint8], NDArray, guarantees.GuaranteeData | None]:
    """Frame, symbols, pixel classes, exact values and corrections of a chunk; all that is checked, before any pixel.

    Raises
    ------
    BitstreamError
        If anything about the bytes is wrong.
    """
    frame = _frame(content, BACKSCATTER, coder)
    planes = math.prod(frame.shape[:-2])
    shape = (planes, *frame.shape[-2:])
    latents_shape = (planes, CHANNELS, *map(latent_count, frame.shape[-2:]))
    if frame.verbatim:
        classes = np.full(shape, pixel_classes.EXACT, np.uint8)
        return frame, np.zeros(latents_shape, np.int32), classes, verbatim_values(frame).ravel(), None
    symbols = _symbols(frame, latents_shape, coder)
    classes = sections.unpack_classes(frame.classes, shape)
    _check_classes(classes, frame.dtype)
    count = int(np.count_nonzero(classes == pixel_classes.EXACT))
    exact = np.frombuffer(
        sections.inflate(frame.exact, count * frame.dtype.itemsize) if frame.exact else b"", frame.dtype
    )
    if exact.size != count:
        raise CorruptStreamError(f"the chunk holds {exact.size} exact values for {count} pixels that need one")
    added = guarantees.unpack(frame.corrections, shape) if frame.corrections else None
    return frame, symbols, classes, exact, added


def encode_latents(latents: NDArray[np.int32], anchor: int, coder: LappedCoder) -> bytes:
    """Code a chunk of integer latents without loss.

    Parameters
    ----------
    latents : ndarray of int32, shape (..., latent=64, y_latent, x_latent)
    anchor : int
        Which set of tables to use.
    coder : LappedCoder
        Gives the tables.

    Returns
    -------
    bytes
        One frame.
    """
    check_chunk(latents.shape, LATENTS)
    if latents.ndim < 3 or latents.shape[-3] != CHANNELS or latents.dtype.newbyteorder("=") != np.int32:
        raise DimensionError(
            f"latents of type {latents.dtype} and shape {latents.shape} were given, expected int32 and {CHANNELS} latents in "
            "the third dimension from the end: write them in the chunks that encode() chose"
        )
    symbols = np.ascontiguousarray(latents, np.int32).reshape(-1, *latents.shape[-3:])
    frame = Frame(
        kind=LATENTS,
        dtype=np.dtype("<i4"),
        shape=latents.shape,
        anchor=anchor,
        step_db=0.0,
        scale="",
        model_id=coder.model_id,
        symbol_hash=symbol_hash(symbols),
        symbols=encode_symbols(symbols, coder.tables, anchor),
    )
    return write_frame(shortest(frame, symbols))


def decode_latents(content: bytes, coder: LappedCoder) -> NDArray[np.int32]:
    """Decode a chunk of latents; the inverse of :func:`encode_latents`."""
    frame = _frame_of_latents(content, coder)
    symbols = _symbols(frame, (math.prod(frame.shape[:-3]), *frame.shape[-3:]), coder)
    return symbols.reshape(frame.shape)


def decode_lowest(content: bytes, coder: LappedCoder) -> NDArray[np.int32]:
    """Decode the lowest latent of each block in a chunk of latents, and nothing else.

    Both checksums are compared, so damaged bytes are noticed. The hash of the symbols covers all of them and is not: what
    only a decoder that errs would change stays unseen.

    Parameters
    ----------
    content : bytes
        One frame.
    coder : LappedCoder
        Gives the tables.

    Returns
    -------
    ndarray of int32, shape (..., y_latent, x_latent)

    Raises
    ------
    BitstreamError
        If the frame is wrong, or what was read of its symbols.
    """
    frame = _frame_of_latents(content, coder)
    if frame.verbatim:
        return np.ascontiguousarray(verbatim_integers(frame)[..., 0, :, :])
    shape = (math.prod(frame.shape[:-3]), *frame.shape[-3:])
    lowest = decode_lowest_symbols(frame.symbols, shape, coder.tables, frame.anchor)
    return lowest.reshape(*frame.shape[:-3], *frame.shape[-2:])


def _frame_of_latents(content: bytes, coder: LappedCoder) -> Frame:
    """Frame of a chunk of latents, with a shape and a type that these have."""
    frame = _frame(content, LATENTS, coder)
    if len(frame.shape) < 3 or frame.shape[-3] != CHANNELS or frame.dtype != np.int32:
        raise CorruptStreamError(
            f"the chunk of latents has type {frame.dtype} and shape {frame.shape}, expected int32 and {CHANNELS} latents"
        )
    return frame


def _frame(content: bytes, kind: int, coder: LappedCoder) -> Frame:
    """Frame of the expected kind and model."""
    frame = read_frame(content)
    check_kind(frame, kind)
    if not coder.model_id.startswith(frame.model_id):
        raise UnsupportedFormatError(
            f"the chunk was written with model {frame.model_id}..., the array names {coder.model_id[:16]}...: chunks of "
            "different stores were mixed"
        )
    if kind == BACKSCATTER:
        step_is_right = SMALLEST_STEP_DB <= frame.step_db <= LARGEST_STEP_DB
        step_is_right = step_is_right and frame.anchor == coder.anchor(frame.step_db)
    else:
        step_is_right = is_bare(frame)
    if frame.anchor >= len(coder.card.anchor_steps_db) or not step_is_right:
        raise CorruptStreamError(
            f"the chunk names table set {frame.anchor}, step {frame.step_db} and sections that do not go together"
        )
    return frame


def _check_classes(classes: NDArray[np.uint8], dtype: np.dtype) -> None:
    """Refuse pixel classes that no encoder writes for this data type."""
    possible = set(range(7)) if dtype.kind == "f" else {
        pixel_classes.VALID, pixel_classes.ZERO, pixel_classes.NODATA, pixel_classes.EXACT,
    }  # fmt: skip
    unknown = set(pixel_classes.present_classes(classes)) - possible
    if unknown:
        raise CorruptStreamError(f"the chunk holds pixel classes {sorted(unknown)}, which cannot be in {dtype}")


def check_nodata(classes: NDArray[np.uint8], dtype: np.dtype, nodata: float | None) -> None:
    """Refuse pixels that were nodata for the encoder where the metadata declare none that the data type can hold.

    Raises
    ------
    CorruptStreamError
        If there are such pixels.
    """
    if (classes == pixel_classes.NODATA).any() and not pixel_classes.can_hold_nodata(dtype, nodata):
        raise CorruptStreamError(
            f"the chunk holds nodata pixels, and the metadata of the array declare nodata={nodata} for {dtype}: the chunk or "
            "the metadata were changed. Restore them from a copy"
        )


def _symbols(frame: Frame, shape: tuple[int, ...], coder: LappedCoder) -> NDArray[np.int32]:
    """Symbols of a frame, compared with their hash."""
    if frame.verbatim:
        return verbatim_integers(frame).reshape(shape)
    symbols = decode_symbols(frame.symbols, shape, coder.tables, frame.anchor)
    check_hash(symbols, frame)
    return symbols


ABSENT = -(2**31)
"""Fill value of arrays of latents, residuals and gains. No chunk holds it, so what reads as it was never written, or is lost."""


def encode_integer_chunk(integers: NDArray[np.int32]) -> bytes:
    """Code a chunk of residuals or gains without loss; needs no model.

    Parameters
    ----------
    integers : ndarray of int32, shape (..., y, x)

    Returns
    -------
    bytes
        One frame.
    """
    check_chunk(integers.shape, INTEGERS)
    if integers.dtype.newbyteorder("=") != np.int32:
        raise DimensionError(f"integers of type {integers.dtype} were given, expected int32")
    planes = np.ascontiguousarray(integers, np.int32).reshape(-1, *integers.shape[-2:])
    frame = Frame(
        kind=INTEGERS,
        dtype=np.dtype("<i4"),
        shape=integers.shape,
        anchor=0,
        step_db=0.0,
        scale="",
        model_id=NO_MODEL,
        symbol_hash=symbol_hash(planes),
        symbols=encode_integers(planes),
    )
    return write_frame(shortest(frame, planes))


def decode_integer_chunk(content: bytes) -> NDArray[np.int32]:
    """Decode a chunk of residuals or gains; the inverse of :func:`encode_integer_chunk`."""
    frame = read_frame(content)
    check_kind(frame, INTEGERS)
    if frame.model_id != NO_MODEL or frame.anchor or not is_bare(frame) or frame.dtype != np.int32:
        raise CorruptStreamError("the chunk of integers names a model, a step or sections that it cannot have")
    if frame.verbatim:
        return verbatim_integers(frame)
    integers = decode_integers(frame.symbols, (math.prod(frame.shape[:-2]), *frame.shape[-2:]))
    check_hash(integers, frame)
    return integers.reshape(frame.shape)


def check_present(integers: NDArray[np.int32], what: str) -> None:
    """Refuse latents, residuals or gains of which a chunk is missing.

    Raises
    ------
    CorruptStreamError
        If some read as the fill value.
    """
    if integers.size and int(integers.min()) == ABSENT:
        raise CorruptStreamError(f"a chunk of the {what} is missing: it was not written yet, or restore it from a copy")
