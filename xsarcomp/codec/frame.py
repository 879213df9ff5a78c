"""The frame around a coded chunk: header, checksums, limits, and checks of its content. ``docs/format.md`` is normative.

:func:`read_frame` checks in this order: length, magic and version, header checksum, flags and codes, limits, lengths of the
sections, payload checksum. Memory for the content is allocated only after that. The checks at the end of this file are
those of a decoder: :func:`check_kind` and :func:`has_only_symbols` before it decodes, :func:`check_symbol_hash` after entropy
decoding and before any pixel is returned.
"""

import hashlib
import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsarcomp.errors import (
    CorruptStreamError,
    DimensionError,
    LimitExceededError,
    RadiometryError,
    UnsupportedFormatError,
)

MAGIC = b"XSAR"
MAJOR, MINOR = 1, 2
BACKSCATTER, LATENTS, INTEGERS = 1, 2, 3
"""Kinds of frames: a chunk of backscatter, a chunk of latents, or a chunk of residuals or gains."""
MASKED, HAS_EXACT, FORTRAN_ORDER, CORRECTED, VERBATIM, LEVELED = 1, 2, 4, 8, 16, 32
"""Flags: there are classes, exact values; the array was in Fortran order; there is guarantee data; values are verbatim; there
are mean levels."""
_KNOWN_FLAGS = MASKED | HAS_EXACT | FORTRAN_ORDER | CORRECTED | VERBATIM | LEVELED
NO_MODEL = "0" * 16
"""Model id in frames of integers, which need no model."""

DTYPES = (
    "<f4",
    "<f8",
    "<f2",
    "|u1",
    "<u2",
    "|i1",
    "<i2",
    "<i4",
    "<u4",
    ">f4",
    ">f8",
    ">f2",
    ">u2",
    ">i2",
    ">i4",
    ">u4",
)
"""Data types of chunks. The position is the code in the header; new ones are added at the end."""
SCALES = ("", "power", "amplitude", "decibel")
"""Scales of backscatter. The position is the code in the header; only chunks of backscatter have one."""

LARGEST_DIMENSIONS = 8
LARGEST_CHUNK = 2**26
"""Values of a chunk at most, see :func:`coded_value_count`."""

_FIXED = struct.Struct("<4sBBBBHBBBBd8sIII8sI")
_CRC = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Header and sections of a chunk as it is stored."""

    kind: int
    """BACKSCATTER, LATENTS or INTEGERS."""
    dtype: np.dtype
    """Data type of the decoded chunk."""
    shape: tuple[int, ...]
    """Shape of the decoded chunk."""
    anchor: int
    """Index of the table set of the model that codes the symbols; 0 in a chunk of integers."""
    step_db: float
    """Quantization step in dB; 0 in a chunk of latents, whose step stands in the metadata, and of integers."""
    scale: str
    """Scale of the backscatter; empty in chunks of latents and integers."""
    model_id: str
    """First 16 hexadecimal digits of the model's SHA-256."""
    symbol_hash: bytes
    """BLAKE2b, 8 bytes, of the symbols as little-endian int32 in C order; of the values in a verbatim frame."""
    symbols: bytes
    """Section of the entropy coder; the values in a verbatim frame."""
    classes: bytes = b""
    """Section of the pixel classes; empty where all pixels are valid."""
    exact: bytes = b""
    """Section of the values stored exactly."""
    guarantee_data: bytes = b""
    """Section of the data that keeps guarantees, see :mod:`xsarcomp.codec.guarantees`; empty without guarantees."""
    mean_levels: bytes = b""
    """Section of the mean levels of tiles, see :mod:`xsarcomp.codec.mean_levels`; empty where there are none."""
    fortran_order: bool = False
    """True if the encoded array was in Fortran order; a decoder returns one in the same order."""
    verbatim: bool = False
    """True if ``symbols`` are the values without coding, see :mod:`xsarcomp.codec.sections`; then there is no other section."""


def _checksum(content: bytes) -> int:
    """CRC32C of some bytes."""
    import google_crc32c  # here, so that training runs on machines without it

    return google_crc32c.value(content)


def symbol_hash(symbols: NDArray[np.int32]) -> bytes:
    """Hash symbols, so that a decoder can check that it has those of the encoder.

    Parameters
    ----------
    symbols : ndarray of int32, any shape
        Symbols, residuals or gains.

    Returns
    -------
    bytes
        BLAKE2b of 8 bytes, of little-endian int32 in C order.
    """
    return hashlib.blake2b(np.ascontiguousarray(symbols, "<i4").data, digest_size=8).digest()


def coded_value_count(shape: tuple[int, ...], kind: int) -> int:
    """Count the values that are coded for a chunk: pixels are filled up to whole blocks of 8 x 8."""
    if kind != BACKSCATTER:
        return math.prod(shape)
    return math.prod(shape[:-2]) * math.prod(-(-size // 8) * 8 for size in shape[-2:])


def check_stored_dtype(dtype: np.dtype) -> None:
    """Refuse a data type for which the format has no code.

    Raises
    ------
    RadiometryError
        If there is no code for it.
    """
    if dtype.str not in DTYPES:
        raise RadiometryError(
            f"data type {dtype} is not in the format of transparent stores, which hold floats of 2, 4 and 8 bytes and integers "
            "of 1, 2 and 4: convert to float32, or use a latents store"
        )


def check_chunk(shape: tuple[int, ...], kind: int) -> None:
    """Refuse a shape that a chunk cannot have.

    Parameters
    ----------
    shape : tuple of int
        Shape of the decoded chunk.
    kind : int
        BACKSCATTER, LATENTS or INTEGERS.

    Raises
    ------
    DimensionError
        If there are fewer than two or too many dimensions, or too many values.
    """
    if not 2 <= len(shape) <= LARGEST_DIMENSIONS or min(shape) < 1 or coded_value_count(shape, kind) > LARGEST_CHUNK:
        raise DimensionError(
            f"a chunk of shape {tuple(shape)} cannot be coded: expected 2 to {LARGEST_DIMENSIONS} dimensions of at least 1 "
            f"and at most {LARGEST_CHUNK} values in blocks of 8 x 8 pixels. Choose chunks of about 512 x 512 pixels."
        )


def write_frame(frame: Frame) -> bytes:
    """Write a frame: header, its checksum, payload.

    Parameters
    ----------
    frame : Frame
        With all its sections.

    Returns
    -------
    bytes
    """
    flags = MASKED * bool(frame.classes) | HAS_EXACT * bool(frame.exact) | CORRECTED * bool(frame.guarantee_data)
    flags |= FORTRAN_ORDER * frame.fortran_order | VERBATIM * frame.verbatim | LEVELED * bool(frame.mean_levels)
    payload = frame.symbols + frame.classes + frame.exact + frame.guarantee_data + frame.mean_levels
    minor = 1 if frame.guarantee_data or frame.kind == INTEGERS or frame.verbatim else 0
    minor = 2 if frame.mean_levels else minor  # older readers read all frames that their version can express
    header = _FIXED.pack(
        MAGIC, MAJOR, minor, frame.kind, DTYPES.index(frame.dtype.str), flags, frame.anchor, len(frame.shape),
        SCALES.index(frame.scale), 0, frame.step_db, bytes.fromhex(frame.model_id)[:8], len(frame.symbols),
        len(frame.classes), len(frame.exact), frame.symbol_hash, _checksum(payload),
    )  # fmt: skip
    header += struct.pack(f"<{len(frame.shape)}I", *frame.shape)
    return header + _CRC.pack(_checksum(header)) + payload


def read_frame(content: bytes) -> Frame:
    """Read a frame and check it.

    Parameters
    ----------
    content : bytes
        Exactly one frame.

    Returns
    -------
    Frame

    Raises
    ------
    CorruptStreamError
        If lengths or checksums disagree.
    UnsupportedFormatError
        If the bytes are no frame, or one of a newer version or with unknown codes.
    LimitExceededError
        If the header asks for more than the limits allow.
    """
    if len(content) < _FIXED.size + _CRC.size:
        raise CorruptStreamError(f"a frame of {len(content)} bytes is shorter than its header: the chunk is truncated")
    (
        magic, major, minor, kind, dtype_code, flags, anchor, dimensions, scale_code, reserved, step_db, model,
        symbols_length, classes_length, exact_length, expected_hash, payload_crc,
    ) = _FIXED.unpack_from(content)  # fmt: skip
    if magic != MAGIC:
        raise UnsupportedFormatError(
            f"the chunk begins with {magic!r}, expected {MAGIC!r}: it was not written by xsarcomp"
        )
    if major != MAJOR:
        raise UnsupportedFormatError(
            f"the chunk has format {major}.{minor}, this version reads {MAJOR}.x: update xsarcomp"
        )
    if not 2 <= dimensions <= LARGEST_DIMENSIONS:
        raise CorruptStreamError(f"the header names {dimensions} dimensions, expected 2 to {LARGEST_DIMENSIONS}")
    header_length = _FIXED.size + 4 * dimensions
    if len(content) < header_length + _CRC.size:
        raise CorruptStreamError("the header is truncated")
    if _CRC.unpack_from(content, header_length)[0] != _checksum(content[:header_length]):
        raise CorruptStreamError("the header does not match its checksum: the chunk is damaged, restore it from a copy")
    shape = struct.unpack_from(f"<{dimensions}I", content, _FIXED.size)
    _check_header(kind, dtype_code, flags | reserved << 16, scale_code, step_db, shape)
    start = header_length + _CRC.size
    stop = start + symbols_length + classes_length + exact_length
    last_section = flags & (CORRECTED | LEVELED)
    if stop > len(content) or (stop < len(content)) != bool(last_section) or last_section == CORRECTED | LEVELED:
        raise CorruptStreamError(
            f"the header announces {stop} bytes{' and guarantee data' if last_section else ''}, found {len(content)}: "
            "the chunk is truncated or something was appended"
        )
    if bool(flags & MASKED) != bool(classes_length) or bool(flags & HAS_EXACT) != bool(exact_length):
        raise CorruptStreamError("the flags of the header contradict its section lengths")
    if flags & VERBATIM:
        _check_verbatim(flags, symbols_length, math.prod(shape) * np.dtype(DTYPES[dtype_code]).itemsize)
    payload = content[start:]
    if _checksum(payload) != payload_crc:
        raise CorruptStreamError(
            "the payload does not match its checksum: the chunk is damaged, restore it from a copy"
        )
    return Frame(
        kind=kind,
        dtype=np.dtype(DTYPES[dtype_code]),
        shape=shape,
        anchor=anchor,
        step_db=step_db,
        scale=SCALES[scale_code],
        model_id=model.hex(),
        symbol_hash=expected_hash,
        symbols=payload[:symbols_length],
        classes=payload[symbols_length : symbols_length + classes_length],
        exact=payload[symbols_length + classes_length : stop - start],
        guarantee_data=payload[stop - start :] if flags & CORRECTED else b"",
        mean_levels=payload[stop - start :] if flags & LEVELED else b"",
        fortran_order=bool(flags & FORTRAN_ORDER),
        verbatim=bool(flags & VERBATIM),
    )


def _check_verbatim(flags: int, found: int, expected: int) -> None:
    """Refuse a verbatim frame that has other sections, or another number of bytes than the values."""
    if flags & (MASKED | HAS_EXACT | CORRECTED | LEVELED) or found != expected:
        raise CorruptStreamError(
            f"the header names {found} bytes of verbatim values and flags {flags:#x}, expected {expected} bytes and no other "
            "section"
        )


def _check_header(
    kind: int, dtype_code: int, flags: int, scale_code: int, step_db: float, shape: tuple[int, ...]
) -> None:
    """Check codes and limits of a header whose checksum is right."""
    is_known = kind in (BACKSCATTER, LATENTS, INTEGERS) and dtype_code < len(DTYPES) and scale_code < len(SCALES)
    if not is_known or flags & ~_KNOWN_FLAGS:
        raise UnsupportedFormatError(
            f"the header holds kind {kind}, data type {dtype_code}, scale {scale_code}, flags {flags:#x}, of which one is "
            "unknown to this version: update xsarcomp"
        )
    if not (math.isfinite(step_db) and 0 <= step_db < 1e3) or (kind == BACKSCATTER) != bool(scale_code):
        raise CorruptStreamError(
            f"the header holds a step of {step_db} dB and scale code {scale_code}, which cannot be"
        )
    if min(shape) < 1 or coded_value_count(shape, kind) > LARGEST_CHUNK:
        raise LimitExceededError(f"the header asks for a chunk of shape {shape}, the limit is {LARGEST_CHUNK} values")


def check_kind(frame: Frame, kind: int) -> None:
    """Refuse a frame that is not of the kind that the codec of its array reads.

    Raises
    ------
    UnsupportedFormatError
        If it is of another kind.
    """
    if frame.kind != kind:
        raise UnsupportedFormatError(
            f"the chunk is of kind {frame.kind}, expected {kind}: the codec of the array is another one"
        )


def has_only_symbols(frame: Frame) -> bool:
    """Return whether a frame has no step and no section but symbols and mean levels, as frames of latents and integers."""
    return frame.step_db == 0 and not (frame.classes or frame.exact or frame.guarantee_data or frame.fortran_order)


def check_symbol_hash(symbols: NDArray[np.int32], frame: Frame) -> None:
    """Refuse decoded symbols that do not match the hash of their frame.

    Raises
    ------
    CorruptStreamError
        If they do not match.
    """
    if symbol_hash(symbols) != frame.symbol_hash:
        raise CorruptStreamError(
            "the decoded symbols are not those that were encoded: the chunk is damaged, or this installation decodes differently"
        )
