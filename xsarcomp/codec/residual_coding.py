"""Entropy coding of planes of small integers with adaptive probabilities: residuals of an error bound, and gains of tiles.

Rows are coded one after the other, each integer as bits: whether it is zero, its sign, whether its magnitude goes on. The
contexts of the bits are magnitudes and signs of the neighbors that are known. Unlike symbols
(:mod:`xsarcomp.codec.entropy_coding`) these integers have no tables in the model, because their size follows from the bound
that a user asks for: probabilities start even and adapt to the bits that were coded, in integer arithmetic. The range coder is
the same.
"""

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.entropy_tables import LARGEST_MAGNITUDE
from xsarcomp.codec.range_coder import RangeDecoder, RangeEncoder
from xsarcomp.errors import CorruptStreamError, LimitExceededError


def encode_integers(values: NDArray[np.int32]) -> bytes:
    """Encode planes of integers without loss.

    Parameters
    ----------
    values : ndarray of int32, shape (plane, y, x)
        Magnitudes below 2**20; the more are zero, the fewer bytes.

    Returns
    -------
    bytes
        Words of the range coder, little-endian; none for planes without a pixel.

    Raises
    ------
    LimitExceededError
        If a magnitude is too large for the format.
    """
    values = np.ascontiguousarray(values, np.int32)
    if values.size == 0:
        return b""
    if max(int(values.max()), -int(values.min())) >= LARGEST_MAGNITUDE:
        raise LimitExceededError(
            f"integers from {values.min()} to {values.max()} cannot be coded, the format holds magnitudes below "
            f"{LARGEST_MAGNITUDE}: ask for a larger error bound or a finer step"
        )
    coder = RangeEncoder()
    coder.encode_integers(values)
    return coder.finish()[0].astype("<u4").tobytes()


def decode_integers(content: bytes, shape: tuple[int, int, int]) -> NDArray[np.int32]:
    """Decode planes of integers; the inverse of :func:`encode_integers`.

    Parameters
    ----------
    content : bytes
        As :func:`encode_integers` returned it.
    shape : tuple of int
        Shape of the integers, (plane, y, x).

    Returns
    -------
    ndarray of int32, shape as given

    Raises
    ------
    CorruptStreamError
        If the content is too short, too long, or nothing that an encoder writes.
    """
    if len(content) % 4:
        raise CorruptStreamError(f"a section of integers has {len(content)} bytes, expected a multiple of 4")
    values = np.zeros(shape, np.int32)
    if values.size == 0:
        if content:
            raise CorruptStreamError(f"a section of no integers has {len(content)} bytes, expected none")
        return values
    coder = RangeDecoder(np.frombuffer(content, "<u4"), np.empty(0, np.uint8))
    coder.decode_integers(values)
    if not coder.is_exhausted():
        raise CorruptStreamError("a section of integers does not end where its integers end")
    return values
