"""Entropy coding of symbols with integer contexts, frozen integer tables and a range coder.

The channels of a chunk are coded from low to high frequency. A symbol becomes a *token* (its magnitude class) and a
few *bypass bits* (the lower bits of a large magnitude). The table that codes a token is chosen by a *context bin*: an
integer-weighted sum of magnitudes that the decoder already knows, compared with integer thresholds
(:mod:`xsarcomp.contexts`). Signs follow the magnitudes of their channel and have contexts too (:mod:`xsarcomp.signs`).
The lowest channel is coded coarse to fine, each value predicted from four known neighbours; signs of what is left are
bypass bits.

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
    TOKENS,
    EntropyTables,
    tokens_of,
)
from xsarcomp.errors import CorruptStreamError
from xsarcomp.signs import SignedValues, sign_model, transfer_signs

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
    busy = busy_places(quiet, symbols.shape)
    known = SignedValues(symbols.shape, busy)
    known.add_lowest(symbols[:, 0])
    bits = 0.0 if quiet is None else float(quiet.size)

    def transfer(values, bins, key):
        nonlocal bits
        anchor, lowest, table = key
        lengths = 16 - np.log2((tables.lowest_frequencies if lowest else tables.frequencies)[anchor, table])
        magnitudes = np.abs(values)
        tokens = tokens_of(magnitudes)
        bits += float(lengths[bins, tokens].sum()) + int(TOKEN_BITS[tokens].sum())
        if lowest:
            bits += int((tokens > 0).sum())
        else:
            negative = values.reshape(-1) < 0

            def code(index, predicted, chances):
                nonlocal bits
                surprises = negative[index] != predicted
                bits -= float(np.log2(np.where(surprises, chances, 1 - chances)).sum())
                return negative[index]

            transfer_signs(known, tables, anchor, table, magnitudes.reshape(-1), code)
        return values

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
    busy = busy_places(quiet, symbols.shape)
    known = SignedValues(symbols.shape, busy)
    known.add_lowest(symbols[:, 0])

    def transfer(values, bins, key):
        flat, flat_bins = values.reshape(-1), bins.reshape(-1)
        magnitudes, negative = np.abs(flat), flat < 0
        tokens = tokens_of(magnitudes)
        order, runs = _runs(flat_bins)
        ordered = tokens[order].astype(np.int32)
        for context_bin, start, stop in runs:
            coder.encode(ordered[start:stop], tables.model((*key, context_bin)))
        if key[1]:
            bypass.append(negative[tokens > 0].view(np.uint8))
        bypass.extend(_remainders(magnitudes, tokens))
        if not key[1]:

            def code(index, predicted, chances):
                coder.encode((negative[index] != predicted).astype(np.int32), sign_model(), chances)
                return negative[index]

            transfer_signs(known, tables, anchor, key[2], magnitudes, code)
        return values

    traverse(symbols, symbols.shape, tables, anchor, transfer, channels, busy)
    words = coder.get_compressed().astype("<u4")
    packed = np.packbits(np.concatenate(bypass)) if bypass else np.zeros(0, np.uint8)
    head = bytes([channels]) if quiet is None else bytes([channels | _QUIET_FLAG]) + np.packbits(quiet).tobytes()
    return head + len(words).to_bytes(4, "little") + words.tobytes() + packed.tobytes()


def _large_tokens(tokens: NDArray) -> NDArray[np.intp]:
    """Tokens with remainders that occur, ascending."""
    # counting is several times faster than np.unique, and most channels have none
    return DIRECT_TOKENS + np.flatnonzero(np.bincount(tokens, minlength=TOKENS)[DIRECT_TOKENS:])


def _remainders(magnitudes: NDArray[np.int32], tokens: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Bypass bits of magnitudes that their tokens do not tell, token by token."""
    for token in _large_tokens(tokens):
        remainders = magnitudes[tokens == token] - TOKEN_START[token]
        bits = np.arange(TOKEN_BITS[token])
        yield ((remainders[:, None] >> bits) & 1).astype(np.uint8).reshape(-1)


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
    decoder = _Decoder(payload[start + 4 : words_stop], payload[words_stop:], tables)
    try:
        symbols = decoder.symbols(shape, anchor, channels, busy_places(quiet, shape))
    except AssertionError as error:  # how constriction reports words that no symbols can have produced
        raise CorruptStreamError(f"the range coder met impossible data: {error}") from error
    if not decoder.exhausted():
        raise CorruptStreamError("the symbol section does not end where its symbols end")
    _check_magnitudes(symbols)
    if coded_channel_count(symbols) != channels or not _same_blocks(quiet, quiet_blocks(symbols)):
        raise CorruptStreamError("the symbol section names other channels or quiet blocks than its symbols have")
    return symbols


class _Decoder:
    """The two sequences of a symbol section, read in step."""

    def __init__(self, words: bytes, bypass: bytes, tables: EntropyTables) -> None:
        import constriction

        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(words, "<u4").astype(np.uint32))
        self._bypass = np.unpackbits(np.frombuffer(bypass, np.uint8))
        self._position = 0
        self._tables = tables

    def exhausted(self) -> bool:
        """Whether all words and bits have been read, but for zero bits that fill the last byte."""
        rest = self._bypass[self._position :]
        return self._coder.maybe_exhausted() and rest.size < 8 and not rest.any()

    def symbols(self, shape, anchor: int, channels: int, busy: NDArray[np.bool_] | None) -> NDArray[np.int32]:
        """Symbols of the first channels; the lowest alone first, because the signs of all others read it."""
        symbols = traverse(None, shape, self._tables, anchor, self._lowest_pass, min(channels, 1))
        if channels <= 1:
            return symbols
        _check_magnitudes(symbols[:, 0])
        known = SignedValues(shape, busy)
        known.add_lowest(symbols[:, 0])

        def transfer(values, bins, key):
            if key[1]:  # known by now: only their place in the order comes again
                return values
            tokens, magnitudes = self._tokens(bins, key)
            self._add_remainders(magnitudes, tokens)
            return transfer_signs(known, self._tables, anchor, key[2], magnitudes, self._signs).reshape(bins.shape)

        return traverse(symbols, shape, self._tables, anchor, transfer, channels, busy)

    def _lowest_pass(self, _values, bins, key) -> NDArray[np.int32]:
        tokens, magnitudes = self._tokens(bins, key)
        negative = np.zeros(tokens.size, bool)
        negative[tokens > 0] = self._take(int((tokens > 0).sum())).astype(bool)
        self._add_remainders(magnitudes, tokens)
        return np.where(negative, -magnitudes, magnitudes).reshape(bins.shape)

    def _take(self, count: int) -> NDArray[np.uint8]:
        if self._position + count > self._bypass.size:
            raise CorruptStreamError("the symbol section ends before its last sign or remainder")
        self._position += count
        return self._bypass[self._position - count : self._position]

    def _tokens(self, bins, key) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Tokens of a list, and the smallest magnitudes that they stand for."""
        order, runs = _runs(bins.reshape(-1))
        tokens = np.empty(order.size, np.int32)
        for context_bin, start, stop in runs:
            tokens[order[start:stop]] = self._coder.decode(self._tables.model((*key, context_bin)), stop - start)
        return tokens, TOKEN_START[tokens].astype(np.int32)

    def _add_remainders(self, magnitudes: NDArray[np.int32], tokens: NDArray[np.int32]) -> None:
        for token in _large_tokens(tokens):
            chosen, bits = tokens == token, int(TOKEN_BITS[token])
            remainders = self._take(int(chosen.sum()) * bits).reshape(-1, bits).astype(np.int32)
            magnitudes[chosen] += (remainders << np.arange(bits)).sum(1, dtype=np.int32)

    def _signs(self, _index, predicted, chances) -> NDArray[np.bool_]:
        return self._coder.decode(sign_model(), chances).astype(bool) ^ predicted


def _check_magnitudes(symbols: NDArray[np.int32]) -> None:
    # the magnitude of the smallest int32 is negative
    if max(int(symbols.max(initial=0)), -int(symbols.min(initial=0))) >= LARGEST_MAGNITUDE:
        raise CorruptStreamError("the symbol section holds a symbol that no encoder writes")


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
