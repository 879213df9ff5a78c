"""One stored chunk of residuals or gains: integers to bytes and back, without a model."""

import math

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.frame import INTEGERS, NO_MODEL, Frame, check_chunk, read_frame, symbol_hash, write_frame
from xsarcomp.codec.frame_checks import check_hash, check_kind, is_bare
from xsarcomp.codec.residual_coding import decode_integers, encode_integers
from xsarcomp.codec.verbatim import shortest, verbatim_integers
from xsarcomp.errors import CorruptStreamError, DimensionError

ABSENT = -(2**31)
"""Fill value of arrays of latents, residuals and gains. No chunk holds it, so what reads as it was never written, or is lost."""


def encode_chunk(integers: NDArray[np.int32]) -> bytes:
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


def decode_chunk(content: bytes) -> NDArray[np.int32]:
    """Decode a chunk of residuals or gains; the inverse of :func:`encode_chunk`."""
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
