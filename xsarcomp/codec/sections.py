"""Sections of pixel classes and exact values in a frame."""

import dataclasses
import hashlib
import math
import zlib

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.entropy_tables import LARGEST_MAGNITUDE
from xsarcomp.codec.frame import Frame
from xsarcomp.errors import CorruptStreamError, LimitExceededError
from xsarcomp.radiometry.pixel_classes import present_classes

LARGEST_EXPANSION = 10**5  # decoded over coded bytes of the mask and the exact values


def pack_classes(classes: NDArray[np.uint8]) -> bytes:
    """Section of pixel classes; empty where all pixels are valid (class 0)."""
    present = [name for name in present_classes(classes) if name > 0]
    if not present:
        return b""
    if len(present) == 1:  # one kind of invalid pixel, nearly always: a bit each
        return bytes([present[0]]) + deflate(np.packbits(classes > 0).tobytes())
    return b"\xff" + deflate(np.ascontiguousarray(classes).tobytes())


def unpack_classes(section: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Pixel classes from their section; the inverse of :func:`pack_classes`."""
    if not section:
        return np.zeros(shape, np.uint8)
    count = math.prod(shape)
    if section[0] == 0:
        raise CorruptStreamError("the class section names class 0 as invalid, which no encoder writes")
    if section[0] == 0xFF:
        return np.frombuffer(inflate(section[1:], count), np.uint8).reshape(shape)
    bits = np.unpackbits(np.frombuffer(inflate(section[1:], -(-count // 8)), np.uint8), count=count)
    return (bits * np.uint8(section[0])).reshape(shape)


def deflate(content: bytes) -> bytes:
    """Compress a section without loss."""
    return zlib.compress(content, 9)


def inflate(section: bytes, expected: int) -> bytes:
    """Decompress exactly the expected number of bytes.

    Raises
    ------
    LimitExceededError
        If so many bytes cannot honestly come from so small a section.
    CorruptStreamError
        If there are fewer or more bytes.
    """
    if expected > LARGEST_EXPANSION * max(1, len(section)):
        raise LimitExceededError(f"{len(section)} bytes claim to expand to {expected}")
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(section, expected + 1)
    except zlib.error as error:
        raise CorruptStreamError(f"a section cannot be decompressed: {error}") from error
    if len(content) != expected or not inflater.eof or inflater.unused_data:
        raise CorruptStreamError(f"a section holds {len(content)} bytes, expected exactly {expected}")
    return content


def shortest(frame: Frame, values: NDArray) -> Frame:
    """The frame, or one that holds the values as they are, without any loss, where that takes fewer bytes.

    Noise at a fine step, small integers at any step and many exact values are longer coded than not.

    Parameters
    ----------
    frame : Frame
        With all its sections.
    values : ndarray of the data type of the frame
        What it stands for, in C order of its shape.
    """
    coded = len(frame.symbols) + len(frame.classes) + len(frame.exact) + len(frame.corrections)
    if coded <= values.nbytes:
        return frame
    content = np.ascontiguousarray(values, frame.dtype).tobytes()
    return dataclasses.replace(
        frame, symbol_hash=_hash(content), symbols=content, classes=b"", exact=b"", corrections=b"", verbatim=True
    )


def verbatim_values(frame: Frame) -> NDArray:
    """Values of a frame that holds them as they are, of its shape and data type; writeable.

    Raises
    ------
    CorruptStreamError
        If they are not those of their hash.
    """
    if _hash(frame.symbols) != frame.symbol_hash:
        raise CorruptStreamError("the values of the chunk are not those of their hash: the chunk is damaged")
    return np.frombuffer(frame.symbols, frame.dtype).reshape(frame.shape).copy()


def verbatim_integers(frame: Frame) -> NDArray[np.int32]:
    """As :func:`verbatim_values`, for frames of latents and integers, whose magnitudes have a limit."""
    values = verbatim_values(frame)
    if max(int(values.max()), -int(values.min())) >= LARGEST_MAGNITUDE:
        raise CorruptStreamError("the chunk holds an integer that no encoder writes")
    return values


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8).digest()
