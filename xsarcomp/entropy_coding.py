"""Entropy coding of symbols with integer contexts, frozen integer tables and a range coder.

The channels of a chunk are coded from low to high frequency. A symbol becomes a *token* (its magnitude class) and a
few *bypass bits* (sign, and the lower bits of a large magnitude). The table that codes a token is chosen by a *context
bin*: an integer-weighted sum of magnitudes that the decoder already knows, compared with integer thresholds
(:mod:`xsarcomp.contexts`). The lowest channel is coded coarse to fine, each value predicted from four known neighbours.

Everything that decides a probability is integer arithmetic on frozen tables (:mod:`xsarcomp.entropy_tables`), so a
stream decodes to the same symbols on every machine, or fails. Nothing is adaptive, nothing travels as side information.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from xsarcomp.contexts import QUIET_EDGE, busy_places, quiet_blocks, traverse
from xsarcomp.entropy_tables import (
    CHANNEL_ORDER,
    CHANNELS,
    DIRECT_TOKENS,
    LARGEST_MAGNITUDE,
    TOKEN_BITS,
    TOKEN_START,
    EntropyTables,
    tokens_of,
)
from xsarcomp.errors import CorruptStreamError

_QUIET_FLAG = 0x80


def coded_channel_count(symbols: NDArray[np.int32]) -> int:
    """Number of channels in coding order up to the last one that holds a symbol other than zero."""
    busy = symbols.any(axis=(0, 2, 3))[list(CHANNEL_ORDER)]
    return int(np.flatnonzero(busy)[-1]) + 1 if busy.any() else 0


def estimate_bits(symbols: NDArray[np.int32], tables: EntropyTables, anchor: int) -> float:
    """Ideal code length of a chunk in bits, without running the coder.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
    tables, anchor
        As for :func:`encode_symbols`.
    """
    quiet = quiet_blocks(symbols)
    bits = 0.0 if quiet is None else float(quiet.size)

    def transfer(values, bins, key):
        nonlocal bits
        anchor, lowest, table = key
        lengths = 16 - np.log2((tables.lowest_frequencies if lowest else tables.frequencies)[anchor, table])
        tokens = tokens_of(np.abs(values))
        bits += float(lengths[bins, tokens].sum()) + int(TOKEN_BITS[tokens].sum()) + int((tokens > 0).sum())
        return values

    busy = busy_places(quiet, symbols.shape)
    traverse(symbols, symbols.shape, tables, anchor, transfer, coded_channel_count(symbols), busy)
    return bits


def _runs(bins: NDArray[np.uint8]) -> tuple[NDArray[np.intp], Iterator[tuple[int, int, int]]]:
    """Order that brings symbols of one bin together, and the runs (bin, start, stop) in it."""
    order = np.argsort(bins, kind="stable")
    counts = np.bincount(bins)
    stops = np.cumsum(counts)
    return order, (
        (i, int(stop - count), int(stop)) for i, (count, stop) in enumerate(zip(counts, stops, strict=True)) if count
    )


def encode_symbols(symbols: NDArray[np.int32], tables: EntropyTables, anchor: int) -> bytes:
    """Code a chunk of symbols.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Magnitudes below 2**20, of the lowest channel below 2**19, because its differences are coded.
    tables : EntropyTables
    anchor : int
        Which set of tables to use.

    Returns
    -------
    bytes
        Coded channels, with the highest bit set if quiet blocks are named (u8); a bit for each block, if so; number of
        range coder words (u32), words (u32 each), bypass bits; little-endian.

    Raises
    ------
    LimitExceededError
        If a magnitude is too large for the format.
    """
    tokens_of(np.abs(symbols))  # refuses what the format does not hold before differences of symbols are taken
    channels, quiet = coded_channel_count(symbols), quiet_blocks(symbols)
    import constriction

    coder = constriction.stream.queue.RangeEncoder()
    bypass: list[NDArray[np.uint8]] = []

    def transfer(values, bins, key):
        flat, flat_bins = values.reshape(-1), bins.reshape(-1)
        magnitudes = np.abs(flat)
        tokens = tokens_of(magnitudes)
        order, runs = _runs(flat_bins)
        ordered = tokens[order].astype(np.int32)
        for context_bin, start, stop in runs:
            coder.encode(ordered[start:stop], tables.model((*key, context_bin)))
        bypass.append((flat[tokens > 0] < 0).view(np.uint8))
        for token in np.unique(tokens[tokens >= DIRECT_TOKENS]):
            remainders = magnitudes[tokens == token] - TOKEN_START[token]
            bits = np.arange(TOKEN_BITS[token])
            bypass.append(((remainders[:, None] >> bits) & 1).astype(np.uint8).reshape(-1))
        return values

    traverse(symbols, symbols.shape, tables, anchor, transfer, channels, busy_places(quiet, symbols.shape))
    words = coder.get_compressed().astype("<u4")
    packed = np.packbits(np.concatenate(bypass)) if bypass else np.zeros(0, np.uint8)
    head = bytes([channels]) if quiet is None else bytes([channels | _QUIET_FLAG]) + np.packbits(quiet).tobytes()
    return head + len(words).to_bytes(4, "little") + words.tobytes() + packed.tobytes()


def decode_symbols(
    payload: bytes, shape: tuple[int, int, int, int], tables: EntropyTables, anchor: int
) -> NDArray[np.int32]:
    """Decode a chunk of symbols; the inverse of :func:`encode_symbols`.

    Parameters
    ----------
    payload : bytes
    shape : tuple of int
        Shape of the symbols, (plane, latent=64, y_latent, x_latent).
    tables, anchor
        As they were used to encode.

    Returns
    -------
    ndarray of int32, shape as given

    Raises
    ------
    CorruptStreamError
        If the payload is too short, too long, or not possible under the tables.
    """
    channels, quiet, start = _head(payload, shape)
    words_stop = start + 4 + 4 * int.from_bytes(payload[start : start + 4], "little")
    if start + 4 > len(payload) or words_stop > len(payload):
        raise CorruptStreamError(
            f"the symbol section holds {len(payload)} bytes, its range coder words end at {words_stop}"
        )
    import constriction

    coder = constriction.stream.queue.RangeDecoder(
        np.frombuffer(payload[start + 4 : words_stop], "<u4").astype(np.uint32)
    )
    bypass = np.unpackbits(np.frombuffer(payload[words_stop:], np.uint8))
    position = 0

    def take(count: int) -> NDArray[np.uint8]:
        nonlocal position
        if position + count > bypass.size:
            raise CorruptStreamError("the symbol section ends before its last sign or remainder")
        position += count
        return bypass[position - count : position]

    def transfer(_values, bins, key):
        order, runs = _runs(bins.reshape(-1))
        tokens = np.empty(order.size, np.int32)
        for context_bin, start, stop in runs:
            tokens[order[start:stop]] = coder.decode(tables.model((*key, context_bin)), stop - start)
        magnitudes = TOKEN_START[tokens].astype(np.int32)
        negative = np.zeros(tokens.size, bool)
        negative[tokens > 0] = take(int((tokens > 0).sum())).astype(bool)
        for token in np.unique(tokens[tokens >= DIRECT_TOKENS]):
            chosen, bits = tokens == token, int(TOKEN_BITS[token])
            remainders = take(int(chosen.sum()) * bits).reshape(-1, bits).astype(np.int32)
            magnitudes[chosen] += (remainders << np.arange(bits)).sum(1, dtype=np.int32)
        return np.where(negative, -magnitudes, magnitudes).reshape(bins.shape)

    try:
        symbols = traverse(None, shape, tables, anchor, transfer, channels, busy_places(quiet, shape))
    except AssertionError as error:  # how constriction reports words that no symbols can have produced
        raise CorruptStreamError(f"the range coder met impossible data: {error}") from error
    if not coder.maybe_exhausted() or bypass.size - position >= 8 or bypass[position:].any():
        raise CorruptStreamError("the symbol section does not end where its symbols end")
    if max(int(symbols.max(initial=0)), -int(symbols.min(initial=0))) >= LARGEST_MAGNITUDE:
        raise CorruptStreamError("the symbol section holds a symbol that no encoder writes")
    if coded_channel_count(symbols) != channels or not _same_blocks(quiet, quiet_blocks(symbols)):
        raise CorruptStreamError("the symbol section names other channels or quiet blocks than its symbols have")
    return symbols


def _head(payload: bytes, shape: tuple[int, int, int, int]) -> tuple[int, NDArray[np.bool_] | None, int]:
    """Coded channels, quiet blocks if they are named, and where the head ends."""
    if not payload or payload[0] & ~_QUIET_FLAG > CHANNELS:
        raise CorruptStreamError("the symbol section is empty or names more channels than there are")
    if not payload[0] & _QUIET_FLAG:
        return payload[0], None, 1
    blocks = (shape[0], -(-shape[2] // QUIET_EDGE), -(-shape[3] // QUIET_EDGE))
    stop = 1 + -(-math.prod(blocks) // 8)
    if stop > len(payload):
        raise CorruptStreamError(f"the symbol section holds {len(payload)} bytes, its quiet blocks end at {stop}")
    bits = np.unpackbits(np.frombuffer(payload[1:stop], np.uint8), count=math.prod(blocks))
    return payload[0] & ~_QUIET_FLAG, bits.reshape(blocks).astype(bool), stop


def _same_blocks(named: NDArray[np.bool_] | None, found: NDArray[np.bool_] | None) -> bool:
    if named is None or found is None:
        return named is found
    return bool((named == found).all())
