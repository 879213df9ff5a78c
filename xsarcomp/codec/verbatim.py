"""Chunks as they are: what coding would make longer is stored without it, so that no frame exceeds its values by much."""

import dataclasses
import hashlib

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.entropy_tables import LARGEST_MAGNITUDE
from xsarcomp.codec.frame import Frame
from xsarcomp.errors import CorruptStreamError


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
