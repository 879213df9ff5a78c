"""What is asked of a frame that was read, whatever it holds."""

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.frame import Frame, symbol_hash
from xsarcomp.errors import CorruptStreamError, UnsupportedFormatError


def check_kind(frame: Frame, kind: int) -> None:
    """Refuse a frame of another kind than the codec of its array reads."""
    if frame.kind != kind:
        raise UnsupportedFormatError(
            f"the chunk is of kind {frame.kind}, expected {kind}: the codec of the array is another one"
        )


def is_bare(frame: Frame) -> bool:
    """Whether a frame has nothing but symbols, as those of latents and integers."""
    return frame.step_db == 0 and not (frame.classes or frame.exact or frame.corrections or frame.fortran_order)


def check_hash(symbols: NDArray[np.int32], frame: Frame) -> None:
    """Refuse symbols that are not those that were encoded."""
    if symbol_hash(symbols) != frame.symbol_hash:
        raise CorruptStreamError(
            "the decoded symbols are not those that were encoded: the chunk is damaged, or this installation decodes differently"
        )
