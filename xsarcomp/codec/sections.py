"""Sections of pixel classes and exact values in a frame."""

import math
import zlib

import numpy as np
from numpy.typing import NDArray

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
