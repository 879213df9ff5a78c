"""Encoding and decoding of a chunk of integers: residuals or gains of a latents store, which keep guarantees and need no model."""

import math

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.frame import (
    INTEGERS,
    NO_MODEL,
    Frame,
    check_chunk,
    check_kind,
    check_symbol_hash,
    has_only_symbols,
    read_frame,
    symbol_hash,
    write_frame,
)
from xsarcomp.codec.residual_coding import decode_integers, encode_integers
from xsarcomp.codec.sections import read_verbatim_integers, verbatim_if_shorter
from xsarcomp.errors import CorruptStreamError, DimensionError


def encode_integer_chunk(integers: NDArray[np.int32]) -> bytes:
    """Encode a chunk of residuals or gains without loss; needs no model.

    Parameters
    ----------
    integers : ndarray of int32, shape (..., y, x)
        Magnitudes below 2**20.

    Returns
    -------
    bytes
        One frame.

    Raises
    ------
    DimensionError
        If the array is no chunk of integers.
    LimitExceededError
        If a magnitude is too large for the format.
    """
    check_chunk(integers.shape, INTEGERS)
    if integers.dtype.newbyteorder("=") != np.int32:
        raise DimensionError(
            f"residuals or gains of type {integers.dtype} were given, expected int32: write them as encode() made them"
        )
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
    return write_frame(verbatim_if_shorter(frame, planes))


def decode_integer_chunk(content: bytes) -> NDArray[np.int32]:
    """Decode a chunk of residuals or gains; the inverse of :func:`encode_integer_chunk`. Wrong bytes raise a BitstreamError."""
    frame = read_frame(content)
    check_kind(frame, INTEGERS)
    has_more = frame.anchor or frame.mean_levels or not has_only_symbols(frame)
    if frame.model_id != NO_MODEL or has_more or frame.dtype != np.int32:
        raise CorruptStreamError("the chunk of integers names a model, a step or sections that it cannot have")
    if frame.verbatim:
        return read_verbatim_integers(frame)
    shape = (math.prod(frame.shape[:-2]), frame.shape[-2], frame.shape[-1])
    integers = decode_integers(frame.symbols, shape)
    check_symbol_hash(integers, frame)
    return integers.reshape(frame.shape)
