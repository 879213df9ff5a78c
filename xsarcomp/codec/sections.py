"""Sections of a frame: pixel classes, exact values, and values that are stored *verbatim*, that is without coding.

Coding makes some chunks longer than their values: noise at a fine step, small integers at any step, many exact values.
:func:`verbatim_if_shorter` stores such values as they are, so that no frame exceeds its values by more than its header.
"""

import dataclasses
import hashlib
import math
import zlib

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.entropy_tables import LARGEST_MAGNITUDE
from xsarcomp.codec.frame import Frame
from xsarcomp.errors import CorruptStreamError, LimitExceededError
from xsarcomp.radiometry.pixel_classes import EXACT, NODATA, VALID, ZERO, can_hold_nodata, present_classes

LARGEST_EXPANSION = 10**5
"""Largest ratio of decoded to coded bytes of pixel classes and exact values."""
_ONE_BYTE_A_PIXEL = 0xFF  # first byte of a class section of several classes; no class has this number


def pack_classes(classes: NDArray[np.uint8]) -> bytes:
    """Write the section of pixel classes.

    Parameters
    ----------
    classes : ndarray of uint8, shape (plane, y, x)
        Classes of :mod:`xsarcomp.radiometry.pixel_classes`.

    Returns
    -------
    bytes
        Empty where all pixels are valid (class 0).
    """
    invalid = [number for number in present_classes(classes) if number > 0]
    if not invalid:
        return b""
    if len(invalid) == 1:  # one kind of invalid pixel, nearly always: a bit each
        return bytes([invalid[0]]) + deflate(np.packbits(classes > 0).tobytes())
    return bytes([_ONE_BYTE_A_PIXEL]) + deflate(np.ascontiguousarray(classes).tobytes())


def unpack_classes(section: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read pixel classes from their section; the inverse of :func:`pack_classes`.

    Parameters
    ----------
    section : bytes
        The section; empty where all pixels are valid.
    shape : tuple of int
        Shape of the classes.

    Returns
    -------
    ndarray of uint8, shape as given

    Raises
    ------
    CorruptStreamError, LimitExceededError
        If the section is none of so many classes.
    """
    if not section:
        return np.zeros(shape, np.uint8)
    count = math.prod(shape)
    if section[0] == 0:
        raise CorruptStreamError("the class section names class 0 as invalid, which no encoder writes")
    if section[0] == _ONE_BYTE_A_PIXEL:
        return np.frombuffer(inflate(section[1:], count), np.uint8).reshape(shape)
    bits = np.unpackbits(np.frombuffer(inflate(section[1:], -(-count // 8)), np.uint8), count=count)
    return (bits * np.uint8(section[0])).reshape(shape)


def check_classes(classes: NDArray[np.uint8], dtype: np.dtype) -> None:
    """Refuse pixel classes that no encoder writes for a data type.

    Raises
    ------
    CorruptStreamError
        If there is one.
    """
    possible = set(range(7)) if dtype.kind == "f" else {VALID, ZERO, NODATA, EXACT}
    unknown = set(present_classes(classes)) - possible
    if unknown:
        raise CorruptStreamError(
            f"the chunk holds pixel classes {sorted(unknown)}, expected only {sorted(possible)} for {dtype}: the chunk is damaged"
        )


def check_nodata(classes: NDArray[np.uint8], dtype: np.dtype, nodata: float | None) -> None:
    """Refuse pixels of class NODATA where the metadata declare no fill value that the data type can hold.

    Parameters
    ----------
    classes : ndarray of uint8, any shape
        Pixel classes as they were decoded.
    dtype : dtype
        Data type of the backscatter.
    nodata : float or None
        Fill value that the metadata declare.

    Raises
    ------
    CorruptStreamError
        If there are such pixels.
    """
    if (classes == NODATA).any() and not can_hold_nodata(dtype, nodata):
        raise CorruptStreamError(
            f"the chunk holds nodata pixels, and the metadata of the array declare nodata={nodata} for {dtype}: the chunk or "
            "the metadata were changed. Restore them from a copy"
        )


def deflate(content: bytes) -> bytes:
    """Compress a section without loss."""
    return zlib.compress(content, 9)


def inflate(section: bytes, expected: int) -> bytes:
    """Decompress a section to exactly the expected number of bytes.

    Parameters
    ----------
    section : bytes
        As :func:`deflate` returned it.
    expected : int
        Number of bytes that it must decompress to.

    Returns
    -------
    bytes

    Raises
    ------
    LimitExceededError
        If so many bytes cannot come from so small a section of an honest encoder.
    CorruptStreamError
        If there are fewer or more bytes.
    """
    if expected > LARGEST_EXPANSION * max(1, len(section)):
        raise LimitExceededError(
            f"a section of {len(section)} bytes claims to expand to {expected}, the limit is {LARGEST_EXPANSION} times its size"
        )
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(section, expected + 1)
    except zlib.error as error:
        raise CorruptStreamError(f"a section cannot be decompressed: {error}") from error
    if len(content) != expected or not inflater.eof or inflater.unused_data:
        raise CorruptStreamError(f"a section holds {len(content)} bytes, expected exactly {expected}")
    return content


def verbatim_if_shorter(frame: Frame, values: NDArray) -> Frame:
    """Replace the sections of a frame by the values themselves, if these take fewer bytes.

    Parameters
    ----------
    frame : Frame
        With all its sections.
    values : ndarray of the data type of the frame
        The values that the frame encodes, in C order of its shape.

    Returns
    -------
    Frame
        The frame that was given if it is not longer than the values.
    """
    parts = (frame.symbols, frame.classes, frame.exact, frame.guarantee_data, frame.mean_levels)
    coded = sum(map(len, parts))
    if coded <= values.nbytes:
        return frame
    content = np.ascontiguousarray(values, frame.dtype).tobytes()
    return dataclasses.replace(
        frame,
        symbol_hash=_hash(content),
        symbols=content,
        classes=b"",
        exact=b"",
        guarantee_data=b"",
        mean_levels=b"",
        verbatim=True,
    )


def read_verbatim_values(frame: Frame) -> NDArray:
    """Read the values of a verbatim frame.

    Parameters
    ----------
    frame : Frame
        With ``verbatim`` set.

    Returns
    -------
    ndarray
        Of the shape and data type of the frame, writeable.

    Raises
    ------
    CorruptStreamError
        If the values do not match their hash.
    """
    if _hash(frame.symbols) != frame.symbol_hash:
        raise CorruptStreamError("the values of the chunk do not match their hash: the chunk is damaged")
    return np.frombuffer(frame.symbols, frame.dtype).reshape(frame.shape).copy()


def read_verbatim_integers(frame: Frame) -> NDArray[np.int32]:
    """Read a verbatim frame of latents or integers, whose magnitudes have a limit.

    Parameters
    ----------
    frame : Frame
        Of data type int32, with ``verbatim`` set.

    Returns
    -------
    ndarray of int32, of the shape of the frame

    Raises
    ------
    CorruptStreamError
        If the integers do not match their hash, or one is beyond the limit.
    """
    integers = read_verbatim_values(frame)
    # the magnitude of the smallest int32 is negative
    if max(int(integers.max()), -int(integers.min())) >= LARGEST_MAGNITUDE:
        raise CorruptStreamError("the chunk holds an integer that no encoder writes: the chunk is damaged")
    return integers


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8).digest()
