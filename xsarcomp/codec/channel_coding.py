"""The channels of a chunk above the lowest, all in one call of a kernel: integers to words and bits, and back.

The passes, their order and their contexts are those of :func:`xsarcomp.codec.contexts.traverse` and
:func:`xsarcomp.codec.signs.transfer_signs`, with which the tests compare them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.contexts import CONTEXT_CLIP, Magnitudes
from xsarcomp.codec.entropy_tables import CHANNEL_ORDER, EntropyTables
from xsarcomp.codec.kernels.compile import FIRST_USE
from xsarcomp.codec.range_coder import RangeDecoder, RangeEncoder
from xsarcomp.codec.signs import FACTORS, FEATURE_CLIP, VALUE_CLIP, SignedValues


def _kernels() -> Any:
    with FIRST_USE:
        from xsarcomp.codec.kernels import channels as channel_kernels
    return channel_kernels


def _order(coded_channels: int) -> NDArray[np.int64]:
    return np.array(CHANNEL_ORDER[1:coded_channels], np.int64)


def _tables(tables: EntropyTables, anchor: int) -> list[NDArray]:
    """Tables of an anchor, in the order of the kernels' arguments."""
    names = (
        "trellised", "term_channels", "term_kinds", "term_weights", "thresholds", "frequencies",
        "sign_term_channels", "sign_term_kinds", "sign_term_weights", "sign_thresholds", "sign_frequencies",
    )  # fmt: skip
    return [np.ascontiguousarray(getattr(tables, name)[anchor]) for name in names]


def _known(lowest: NDArray[np.int32], busy: NDArray[np.bool_] | None) -> list[Any]:
    """What is known before the first of these channels, in the order of the kernels' arguments."""
    planes, height, width = lowest.shape
    magnitudes, signed = Magnitudes(), SignedValues((planes, 0, height, width), busy)
    magnitudes.add(0, lowest)
    signed.add_lowest(lowest)
    inside = np.arange(lowest.size) if busy is None else np.flatnonzero(busy)
    states = np.zeros(lowest.size, np.uint8)
    limits = (np.int32(VALUE_CLIP), np.int32(FEATURE_CLIP))
    known = (magnitudes.padded, CONTEXT_CLIP, signed.known, signed.offsets, FACTORS, *limits)
    return [*known, inside, signed.places, *signed.phases, states]


def encode_channels(
    coder: RangeEncoder,
    symbols: NDArray[np.int32],
    tables: EntropyTables,
    anchor: int,
    coded_channels: int,
    busy: NDArray[np.bool_] | None,
) -> None:
    """Code all channels but the lowest, which was coded before.

    Parameters
    ----------
    coder : RangeEncoder
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
    tables, anchor
        Tables and the anchor whose set is used.
    coded_channels : int
        Channels after the first so many in ``CHANNEL_ORDER`` are zero.
    busy : ndarray of bool, shape (plane, y_latent, x_latent), or None
        Latents elsewhere are zero; all if None.

    Raises
    ------
    LimitExceededError
        If a magnitude is too large for the format.
    """
    kernels, order = _kernels(), _order(coded_channels)
    symbols = np.ascontiguousarray(symbols, np.int32)
    tables_and_known = [*_tables(tables, anchor), *_known(np.ascontiguousarray(symbols[:, 0]), busy)]
    count = tables_and_known[-5].size

    def encode(number: int, *buffers: NDArray) -> int:
        return kernels.encode_channels(symbols, order, number, *tables_and_known, *buffers)

    coder.encode_steps(encode, order.size, kernels.MOST_WORDS * count, kernels.MOST_BITS * count)


def decode_channels(
    coder: RangeDecoder,
    symbols: NDArray[np.int32],
    tables: EntropyTables,
    anchor: int,
    coded_channels: int,
    busy: NDArray[np.bool_] | None,
) -> None:
    """Decode all channels but the lowest into ``symbols``, which hold the lowest; the inverse of :func:`encode_channels`.

    Raises
    ------
    CorruptStreamError
        If no encoder wrote this.
    """
    known = _known(np.ascontiguousarray(symbols[:, 0]), busy)
    coder.decode_all(_kernels().decode_channels, symbols, _order(coded_channels), *_tables(tables, anchor), *known)
