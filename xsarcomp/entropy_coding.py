"""Entropy coding of symbols with integer contexts, frozen integer tables and a range coder.

The channels of a chunk are coded from low to high frequency. A symbol becomes a *token* (its magnitude class) and a few
*bypass bits* (sign, and the lower bits of a large magnitude). The table that codes a token is chosen by a *context bin*:
an integer-weighted sum of magnitudes that the decoder already knows, compared with integer thresholds. The lowest
channel is coded coarse to fine, each value predicted from four known neighbours.

Everything that decides a probability is integer arithmetic on frozen tables, so a stream decodes to the same symbols on
every machine, or fails. Nothing is adaptive and nothing travels as side information.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property

import constriction
import numpy as np
from numpy.typing import NDArray

from xsarcomp.errors import CorruptStreamError, LimitExceededError, ModelIntegrityError

CHANNELS = 64
FREQUENCY_TOTAL = 2**16
CONTEXT_CLIP = 255  # magnitudes count up to this in a context
DIRECT_TOKENS = 16  # magnitudes 0..15 have a token each, then two tokens an octave
LARGEST_MAGNITUDE = 2**20
TOKENS = DIRECT_TOKENS + 2 * 16
LOWEST_SPACINGS = (8, 4, 2, 1)
LOWEST_TABLES = 1 + 3 * len(LOWEST_SPACINGS)  # the coarse grid, then three passes a spacing

# Channels by rising frequency; ties by vertical frequency.
CHANNEL_ORDER = tuple(sorted(range(CHANNELS), key=lambda channel: (channel // 8 + channel % 8, channel)))

_TOKEN_START = np.concatenate(
    [np.arange(DIRECT_TOKENS), [2**e + h * 2 ** (e - 1) for e in range(4, 20) for h in (0, 1)], [LARGEST_MAGNITUDE]]
).astype(np.int64)
_TOKEN_BITS = np.concatenate([np.zeros(DIRECT_TOKENS, int), np.repeat(np.arange(3, 19), 2)])

Transfer = Callable[[NDArray[np.int32] | None, NDArray[np.uint8], NDArray, tuple[int, ...]], NDArray[np.int32]]


@dataclass(frozen=True, slots=False, kw_only=True, eq=False)
class EntropyTables:
    """Frozen context weights, thresholds and frequency tables, one set for each anchor of the quantisation step."""

    term_channels: NDArray[np.int16]
    """Shape (anchor, channel=64, term): the channel whose magnitudes the term reads; -1 for no term."""
    term_kinds: NDArray[np.uint8]
    """Shape (anchor, channel=64, term): 0 the same place, 1 its four neighbours, 2 its four diagonal neighbours."""
    term_weights: NDArray[np.int16]
    """Shape (anchor, channel=64, term), 0..32767."""
    thresholds: NDArray[np.int32]
    """Shape (anchor, channel=64, bin - 1), ascending: a context sum c falls in the bin of thresholds <= c."""
    frequencies: NDArray[np.uint16]
    """Shape (anchor, channel=64, bin, token), each row at least 1 and summing to 65536. Channel 0 is unused."""
    lowest_thresholds: NDArray[np.int32]
    """Shape (anchor, table, bin - 1): thresholds on the spread of the four neighbours."""
    lowest_frequencies: NDArray[np.uint16]
    """Shape (anchor, table, bin, token): tables of the lowest channel, one for each pass."""

    def __post_init__(self) -> None:
        anchors, terms = self.term_channels.shape[0], self.term_channels.shape[-1]
        bins, lowest_bins = self.frequencies.shape[2], self.lowest_frequencies.shape[2]
        expected = {
            "term_channels": (anchors, CHANNELS, terms),
            "term_kinds": (anchors, CHANNELS, terms),
            "term_weights": (anchors, CHANNELS, terms),
            "thresholds": (anchors, CHANNELS, bins - 1),
            "frequencies": (anchors, CHANNELS, bins, TOKENS),
            "lowest_thresholds": (anchors, LOWEST_TABLES, lowest_bins - 1),
            "lowest_frequencies": (anchors, LOWEST_TABLES, lowest_bins, TOKENS),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ModelIntegrityError(
                    f"entropy table {name!r} has shape {getattr(self, name).shape}, expected {shape}: "
                    "the model file is damaged or of another format; install it again"
                )
        for name in ("frequencies", "lowest_frequencies"):
            table = getattr(self, name)
            if table.min() < 1 or (table.sum(-1, dtype=np.int64) != FREQUENCY_TOTAL).any():
                raise ModelIntegrityError(f"{name} must be at least 1 and sum to {FREQUENCY_TOTAL} in each row")
        rank = np.argsort(CHANNEL_ORDER)
        used = self.term_channels >= 0
        if (self.term_channels >= CHANNELS).any() or (self.term_weights < 0).any() or (self.term_kinds > 2).any():
            raise ModelIntegrityError("context terms name a channel, weight or kind that does not exist")
        causal = rank[np.clip(self.term_channels, 0, None)] < rank[np.arange(CHANNELS)][None, :, None]
        if not (causal | ~used).all():
            raise ModelIntegrityError("a context term reads a channel that is not decoded yet")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the arrays, as they stand in a model file."""
        return tuple(field.name for field in fields(cls))

    @cached_property
    def code_length(self) -> NDArray[np.float32]:
        """Bits of each token without its bypass bits, shape (anchor, channel, bin, token)."""
        return (16 - np.log2(self.frequencies)).astype(np.float32)

    @cached_property
    def _models(self) -> dict[tuple[int, ...], object]:
        return {}

    def model(self, key: tuple[int, ...]) -> object:
        """Categorical model of constriction for table ``(anchor, 0 or 1 = lowest channel, channel or pass, bin)``."""
        model = self._models.get(key)
        if model is None:
            anchor, lowest, table, context_bin = key
            row = (self.lowest_frequencies if lowest else self.frequencies)[anchor, table, context_bin]
            # constriction works with 24 bits and adds one to each entry; these sum to 2**24 minus the number of
            # entries, so its normalisation multiplies by exactly 1.0 and the integers arrive unchanged
            weights = row.astype(np.float64) * 2**8 - 1
            model = self._models[key] = constriction.stream.model.Categorical(weights, perfect=False)
        return model


def tokens_of(magnitudes: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Magnitude classes 0..47 of magnitudes below 2**20."""
    if magnitudes.size and int(magnitudes.max()) >= LARGEST_MAGNITUDE:
        raise LimitExceededError(
            f"a symbol has magnitude {int(magnitudes.max())}, the format holds less than {LARGEST_MAGNITUDE}: "
            "use a larger step or mask the extreme pixels"
        )
    tokens = np.minimum(magnitudes, DIRECT_TOKENS - 1).astype(np.uint8)
    large = magnitudes >= DIRECT_TOKENS
    if large.any():
        tokens[large] = np.searchsorted(_TOKEN_START, magnitudes[large], side="right") - 1
    return tokens


def _edge_sum(values: NDArray, diagonal: bool) -> NDArray[np.int32]:
    """Sum of four neighbours, edges repeated; shape (plane, y_latent, x_latent)."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="edge").astype(np.int32)
    if diagonal:
        return padded[:, :-2, :-2] + padded[:, :-2, 2:] + padded[:, 2:, :-2] + padded[:, 2:, 2:]
    return padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]


class Magnitudes:
    """The magnitudes that contexts read, filled channel by channel; shape (plane, y_latent, x_latent) each."""

    def __init__(self) -> None:
        self._features: dict[tuple[int, int], NDArray[np.int32]] = {}

    def add(self, channel: int, symbols: NDArray[np.int32]) -> None:
        """Make the symbols of a channel known. Of the lowest channel contexts see the local variation."""
        if channel == 0:
            padded = np.pad(symbols, ((0, 0), (1, 1), (1, 1)), mode="edge")
            middle = padded[:, 1:-1, 1:-1]
            variation = sum(
                np.abs(middle - neighbour)
                for neighbour in (padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:])
            )
            magnitudes = variation >> 1
        else:
            magnitudes = np.abs(symbols)
        self._features[channel, 0] = np.minimum(magnitudes, CONTEXT_CLIP).astype(np.int32)

    def feature(self, channel: int, kind: int) -> NDArray[np.int32]:
        """Magnitudes of a known channel: 0 at the same place, 1 summed over neighbours, 2 over diagonal neighbours."""
        feature = self._features.get((channel, kind))
        if feature is None:
            feature = self._features[channel, kind] = _edge_sum(self._features[channel, 0], kind == 2)
        return feature

    def bins(self, tables: EntropyTables, anchor: int, channel: int) -> NDArray[np.uint8]:
        """Context bins of a channel whose predecessors are all known."""
        total: NDArray[np.int32] | None = None
        for source, kind, weight in zip(
            tables.term_channels[anchor, channel],
            tables.term_kinds[anchor, channel],
            tables.term_weights[anchor, channel],
            strict=True,
        ):
            if source >= 0:
                term = self.feature(int(source), int(kind)) * np.int32(weight)
                total = term if total is None else np.add(total, term, out=total)
        if total is None:
            return np.zeros(self._features[0, 0].shape, np.uint8)
        return np.searchsorted(tables.thresholds[anchor, channel], total, side="right").astype(np.uint8)


def _neighbours(known: NDArray[np.int32], rows: NDArray, columns: NDArray, spacing: int, diagonal: bool):
    """Four neighbours at ``spacing`` of the grid points rows x columns; beyond the edge the opposite one stands in."""

    def shifted(positions: NDArray, offset: int, size: int) -> NDArray:
        moved = positions + offset
        moved = np.where((moved < 0) | (moved >= size), positions - offset, moved)
        return np.where((moved < 0) | (moved >= size), positions, moved)

    height, width = known.shape[1:]
    up, down = shifted(rows, -spacing, height), shifted(rows, spacing, height)
    left, right = shifted(columns, -spacing, width), shifted(columns, spacing, width)
    if diagonal:
        places = [(up, left), (up, right), (down, left), (down, right)]
    else:
        # a line of one row or column has no neighbours across: those along it stand in
        along_y, along_x = (up, columns), (rows, left)
        places = [
            along_y if height > spacing else along_x,
            (down, columns) if height > spacing else (rows, right),
            along_x if width > spacing else along_y,
            (rows, right) if width > spacing else (down, columns),
        ]
    return [known[:, y[:, None], x[None]] for y, x in places]


def _lowest_channel(symbols, values, tables: EntropyTables, anchor: int, transfer: Transfer) -> None:
    """Transfer the lowest channel coarse to fine; ``values`` is filled in place, shape (plane, y_latent, x_latent)."""
    height, width = values.shape[1:]
    coarse = 2 * LOWEST_SPACINGS[0]
    grid = None if symbols is None else symbols[:, ::coarse, ::coarse]
    if grid is not None:
        grid = np.diff(grid, axis=2, prepend=0)
        grid[:, :, 0] = np.diff(grid[:, :, 0], axis=1, prepend=0)
    shape = values[:, ::coarse, ::coarse].shape
    received = transfer(grid, np.zeros(shape, np.uint8), np.array(shape), (anchor, 1, 0))
    received[:, :, 0] = np.cumsum(received[:, :, 0], axis=1)
    values[:, ::coarse, ::coarse] = np.cumsum(received, axis=2)
    table = 0
    for spacing in LOWEST_SPACINGS:
        even_rows, odd_rows = np.arange(0, height, 2 * spacing), np.arange(spacing, height, 2 * spacing)
        even_columns, odd_columns = np.arange(0, width, 2 * spacing), np.arange(spacing, width, 2 * spacing)
        passes = ((odd_rows, odd_columns, True), (even_rows, odd_columns, False), (odd_rows, even_columns, False))
        for rows, columns, diagonal in passes:
            table += 1
            if not (rows.size and columns.size):
                continue
            around = _neighbours(values, rows, columns, spacing, diagonal)
            low, high = np.minimum.reduce(around), np.maximum.reduce(around)
            predicted = (around[0] + around[1] + around[2] + around[3] + 2) >> 2
            bins = np.searchsorted(tables.lowest_thresholds[anchor, table], high - low, side="right").astype(np.uint8)
            place = np.ix_(range(values.shape[0]), rows, columns)
            residual = None if symbols is None else symbols[place] - predicted
            values[place] = transfer(residual, bins, np.array(bins.shape), (anchor, 1, table)) + predicted


def traverse(
    symbols: NDArray[np.int32] | None,
    shape: tuple[int, int, int, int],
    tables: EntropyTables,
    anchor: int,
    transfer: Transfer,
    coded_channels: int = CHANNELS,
) -> NDArray[np.int32]:
    """Go through a chunk in coding order; the one place that knows it.

    Encoder, decoder and rate estimate differ only in ``transfer``, which is handed the values to code (None when
    decoding), their context bins, their shape and the table's key without the bin, and returns the values.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent), or None
    shape : tuple of int
        Shape of the symbols.
    tables, anchor
        Tables and the anchor whose set is used.
    transfer : callable
    coded_channels : int
        Channels after the first so many in ``CHANNEL_ORDER`` are zero and skipped.

    Returns
    -------
    ndarray of int32, shape as given
    """
    values = np.zeros(shape, np.int32)
    known = Magnitudes()
    for channel in CHANNEL_ORDER[:coded_channels]:
        given = None if symbols is None else symbols[:, channel]
        if channel == 0:
            _lowest_channel(given, values[:, 0], tables, anchor, transfer)
        else:
            bins = known.bins(tables, anchor, channel)
            values[:, channel] = transfer(given, bins, np.array(bins.shape), (anchor, 0, channel))
        known.add(channel, values[:, channel])
    return values


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
    bits = 0.0

    def transfer(values, bins, _shape, key):
        nonlocal bits
        anchor, lowest, table = key
        lengths = 16 - np.log2((tables.lowest_frequencies if lowest else tables.frequencies)[anchor, table])
        tokens = tokens_of(np.abs(values))
        bits += float(lengths[bins, tokens].sum()) + int(_TOKEN_BITS[tokens].sum()) + int((tokens > 0).sum())
        return values

    traverse(symbols, symbols.shape, tables, anchor, transfer, coded_channel_count(symbols))
    return bits


def _runs(bins: NDArray[np.uint8]) -> tuple[NDArray[np.intp], Iterator[tuple[int, int, int]]]:
    """Order that brings symbols of one bin together, and the runs (bin, start, stop) in it."""
    order = np.argsort(bins, kind="stable")
    counts = np.bincount(bins)
    stops = np.cumsum(counts)
    return order, ((i, int(stop - count), int(stop)) for i, (count, stop) in enumerate(zip(counts, stops, strict=True)) if count)


def encode_symbols(symbols: NDArray[np.int32], tables: EntropyTables, anchor: int) -> bytes:
    """Code a chunk of symbols.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Magnitudes below 2**20.
    tables : EntropyTables
    anchor : int
        Which set of tables to use.

    Returns
    -------
    bytes
        Coded channels (u8), number of range coder words (u32), words (u32 each), bypass bits; little-endian.

    Raises
    ------
    LimitExceededError
        If a magnitude is too large for the format.
    """
    channels = coded_channel_count(symbols)
    coder = constriction.stream.queue.RangeEncoder()
    bypass: list[NDArray[np.uint8]] = []

    def transfer(values, bins, _shape, key):
        flat, flat_bins = values.reshape(-1), bins.reshape(-1)
        magnitudes = np.abs(flat)
        tokens = tokens_of(magnitudes)
        order, runs = _runs(flat_bins)
        ordered = tokens[order].astype(np.int32)
        for context_bin, start, stop in runs:
            coder.encode(ordered[start:stop], tables.model((*key, context_bin)))
        bypass.append((flat[tokens > 0] < 0).view(np.uint8))
        for token in np.unique(tokens[tokens >= DIRECT_TOKENS]):
            remainders = magnitudes[tokens == token] - _TOKEN_START[token]
            bits = np.arange(_TOKEN_BITS[token])
            bypass.append(((remainders[:, None] >> bits) & 1).astype(np.uint8).reshape(-1))
        return values

    traverse(symbols, symbols.shape, tables, anchor, transfer, channels)
    words = coder.get_compressed().astype("<u4")
    packed = np.packbits(np.concatenate(bypass)) if bypass else np.zeros(0, np.uint8)
    return bytes([channels]) + len(words).to_bytes(4, "little") + words.tobytes() + packed.tobytes()


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
    if len(payload) < 5 or payload[0] > CHANNELS:
        raise CorruptStreamError("the symbol section is too short or names more channels than there are")
    words_stop = 5 + 4 * int.from_bytes(payload[1:5], "little")
    if words_stop > len(payload):
        raise CorruptStreamError(f"the symbol section holds {len(payload)} bytes, its range coder words end at {words_stop}")
    coder = constriction.stream.queue.RangeDecoder(np.frombuffer(payload[5:words_stop], "<u4").astype(np.uint32))
    bypass = np.unpackbits(np.frombuffer(payload[words_stop:], np.uint8))
    position = 0

    def take(count: int) -> NDArray[np.uint8]:
        nonlocal position
        if position + count > bypass.size:
            raise CorruptStreamError("the symbol section ends before its last sign or remainder")
        position += count
        return bypass[position - count : position]

    def transfer(_values, bins, shape, key):
        order, runs = _runs(bins.reshape(-1))
        tokens = np.empty(order.size, np.int32)
        for context_bin, start, stop in runs:
            tokens[order[start:stop]] = coder.decode(tables.model((*key, context_bin)), stop - start)
        magnitudes = _TOKEN_START[tokens].astype(np.int32)
        negative = np.zeros(tokens.size, bool)
        negative[tokens > 0] = take(int((tokens > 0).sum())).astype(bool)
        for token in np.unique(tokens[tokens >= DIRECT_TOKENS]):
            chosen, bits = tokens == token, int(_TOKEN_BITS[token])
            remainders = take(int(chosen.sum()) * bits).reshape(-1, bits).astype(np.int32)
            magnitudes[chosen] += (remainders << np.arange(bits)).sum(1, dtype=np.int32)
        return np.where(negative, -magnitudes, magnitudes).reshape(tuple(shape))

    try:
        symbols = traverse(None, shape, tables, anchor, transfer, payload[0])
    except AssertionError as error:  # how constriction reports words that no symbols can have produced
        raise CorruptStreamError(f"the range coder met impossible data: {error}") from error
    if not coder.maybe_exhausted() or bypass.size - position >= 8 or bypass[position:].any():
        raise CorruptStreamError("the symbol section does not end where its symbols end")
    return symbols
