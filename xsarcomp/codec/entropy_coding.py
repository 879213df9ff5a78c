"""Entropy coding of symbols: integer contexts, frozen integer tables and a range coder.

The channels of a chunk are coded from low to high frequency. A symbol becomes a *token* (its magnitude class) and a
few *bypass bits* (the lower bits of a large magnitude). The table that codes a token is chosen by a *context bin*: an
integer-weighted sum of magnitudes that the decoder already knows, compared with integer thresholds
(:mod:`xsarcomp.codec.contexts`). Signs follow the magnitudes of their channel and have contexts too
(:mod:`xsarcomp.codec.signs`). The lowest channel is coded coarse to fine, each value predicted from four known neighbors;
signs of its prediction errors are bypass bits.

Everything that determines a probability is integer arithmetic on frozen tables (:mod:`xsarcomp.codec.entropy_tables`), so a
stream decodes to the same symbols on every machine, or fails. Nothing is adaptive, nothing travels as side information.

A chunk is coded in two parts. The lowest channel goes through :func:`xsarcomp.codec.contexts.traverse`. All channels above
it are coded by one call of a kernel (:func:`encode_channels`, :func:`decode_channels`), whose passes, order and contexts are
those of ``traverse`` and :func:`xsarcomp.codec.signs.traverse_signs`; the tests compare them. A *table set* is one of the sets
of tables of a model; its index is called ``anchor``.
"""

from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.contexts import (
    CONTEXT_CLIP,
    Magnitudes,
    TableKey,
    busy_latents,
    quiet_blocks,
    traverse,
)
from xsarcomp.codec.entropy_tables import (
    CHANNEL_ORDER,
    CHANNELS,
    FREQUENCY_TOTAL,
    LARGEST_MAGNITUDE,
    TOKEN_BITS,
    EntropyTables,
    tokens_of,
    without_trellis,
)
from xsarcomp.codec.kernels.compile import FIRST_USE
from xsarcomp.codec.quantization import CellPaths, find_cells
from xsarcomp.codec.range_coder import RangeDecoder, RangeEncoder, check_magnitude
from xsarcomp.codec.signs import FACTORS, FEATURE_CLIP, VALUE_CLIP, SignedValues, traverse_signs
from xsarcomp.codec.symbol_head import SymbolHead, SymbolsShape, read_head
from xsarcomp.codec.trellis import Trellis
from xsarcomp.errors import CorruptStreamError

if TYPE_CHECKING:
    from xsarcomp.codec.kernels.channels import ChannelTables, KnownSymbols


def coded_channel_count(symbols: NDArray[np.int32]) -> int:
    """Number of channels in coding order up to the last one that holds a symbol other than zero."""
    is_busy: NDArray[np.bool_] = np.any(symbols, axis=(0, 2, 3))
    busy = is_busy[list(CHANNEL_ORDER)]
    return int(np.flatnonzero(busy)[-1]) + 1 if busy.any() else 0


def estimate_bits(symbols: NDArray[np.int32], tables: EntropyTables, anchor: int) -> float:
    """Compute the ideal code length of a chunk, without running the coder.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Symbols of a chunk.
    tables, anchor
        As for :func:`encode_symbols`.

    Returns
    -------
    float
        Bits.
    """
    quiet = quiet_blocks(symbols)
    busy = busy_latents(quiet, _shape_of(symbols))
    tables, paths = _tables_and_paths(symbols, tables, anchor)
    symbols = symbols if paths is None else paths.symbols
    known = SignedValues(_shape_of(symbols), busy)
    known.add_lowest(symbols[:, 0])
    bits = 0.0 if quiet is None else float(quiet.size)

    def add_sign_bits(
        values: NDArray[np.int32],
        index: NDArray[np.int64],
        predicted: NDArray[np.bool_],
        agreements: NDArray[np.uint16],
    ) -> None:
        nonlocal bits
        surprises, chances = (values[index] < 0) != predicted, 1 - agreements / FREQUENCY_TOTAL
        bits -= float(np.log2(np.where(surprises, chances, 1 - chances)).sum())

    def add_bits(values: NDArray[np.int32] | None, bins: NDArray[np.uint8], key: TableKey) -> NDArray[np.int32]:
        nonlocal bits
        assert values is not None  # symbols are given
        anchor, is_lowest, table = key
        lengths = 16 - np.log2((tables.lowest_frequencies if is_lowest else tables.frequencies)[anchor, table])
        tokens = tokens_of(np.abs(values))
        bits += float(lengths[bins, tokens].sum()) + int(TOKEN_BITS[tokens].sum())
        if is_lowest:
            bits += int((tokens > 0).sum())  # signs
        else:
            traverse_signs(known, tables, anchor, table, np.ascontiguousarray(values).reshape(-1), add_sign_bits)
        return values

    traverse(symbols, _shape_of(symbols), tables, anchor, add_bits, coded_channel_count(symbols), busy, paths)
    return bits


def _tables_and_paths(
    latents: NDArray[np.int32], tables: EntropyTables, anchor: int, extent: tuple[int, int] | None = None
) -> tuple[EntropyTables, CellPaths | None]:
    """Paths of latents that are points, and the tables that code them: points without paths are coded as if without trellis."""
    if not tables.trellis.has_cells:
        return tables, None
    paths = find_cells(latents, tables.trellised[anchor], tables.trellis, extent)
    return (without_trellis(tables), None) if paths is None else (tables, paths)


def encode_symbols(
    symbols: NDArray[np.int32], tables: EntropyTables, anchor: int, extent: tuple[int, int] | None = None
) -> bytes:
    """Encode a chunk of symbols; of points, where paths go through cells.

    Parameters
    ----------
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Magnitudes below 2**20, of the lowest channel below 2**19, because its differences are coded.
    tables : EntropyTables
        Tables of the model.
    anchor : int
        Index of the table set.
    extent : tuple of int, optional
        Rows and columns of latents that are there; the rest is zero and pads a chunk at the edge of an array. All if not given.

    Returns
    -------
    bytes
        A :class:`~xsarcomp.codec.symbol_head.SymbolHead`; number of range coder words (u32), words (u32 each), bypass bits;
        little-endian.

    Raises
    ------
    LimitExceededError
        If a magnitude is too large for the format.
    """
    # before differences of symbols are taken, which could leave 32 bits
    lowest = symbols[:, 0]
    check_magnitude(max(int(lowest.max(initial=0)), -int(lowest.min(initial=0))))
    shape = _shape_of(symbols)
    coding_tables, paths = _tables_and_paths(symbols, tables, anchor, extent)
    cells = () if paths is None else (paths.cell, paths.extent if paths.extent != shape[2:] else None)
    head = SymbolHead(coded_channel_count(symbols), quiet_blocks(symbols), *cells)
    coder = RangeEncoder()

    def encode_pass(values: NDArray[np.int32] | None, bins: NDArray[np.uint8], key: TableKey) -> NDArray[np.int32]:
        assert values is not None  # symbols are given
        flat = np.ascontiguousarray(values).reshape(-1)
        coder.encode(flat, bins.reshape(-1), tables.lowest_frequencies[anchor, key[2]], has_signs=True)
        return values

    traverse(symbols, (shape[0], 1, *shape[2:]), tables, anchor, encode_pass, min(head.channels, 1))
    if head.channels > 1:
        encode_channels(coder, symbols, coding_tables, anchor, head.channels, head.busy(shape), paths)
    words, bits = coder.finish()
    return (
        head.to_bytes(tables.trellis)
        + len(words).to_bytes(4, "little")
        + words.astype("<u4").tobytes()
        + np.packbits(bits).tobytes()
    )


def decode_symbols(payload: bytes, shape: SymbolsShape, tables: EntropyTables, anchor: int) -> NDArray[np.int32]:
    """Decode a chunk of symbols; the inverse of :func:`encode_symbols`.

    Parameters
    ----------
    payload : bytes
        As :func:`encode_symbols` returned it.
    shape : tuple of int
        Shape of the symbols, (plane, latent=64, y_latent, x_latent).
    tables, anchor
        As for encoding.

    Returns
    -------
    ndarray of int32, shape as given

    Raises
    ------
    CorruptStreamError
        If the payload is too short, too long, or not possible under the tables.
    """
    head, decoder = _open_payload(payload, shape, tables.trellis)
    symbols = _decode_all(decoder, shape, tables, anchor, head)
    if not decoder.is_exhausted():
        raise CorruptStreamError("the symbol section does not end where its symbols end")
    _check_magnitudes(symbols)
    if coded_channel_count(symbols) != head.channels or not _same_blocks(head.quiet, quiet_blocks(symbols)):
        raise CorruptStreamError("the symbol section names other channels or quiet blocks than its symbols have")
    return symbols


def decode_lowest_channel(payload: bytes, shape: SymbolsShape, tables: EntropyTables, anchor: int) -> NDArray[np.int32]:
    """Decode only the lowest channel, which is coded first; the rest of the payload is not read.

    Parameters
    ----------
    payload, shape, tables, anchor
        As for :func:`decode_symbols`.

    Returns
    -------
    ndarray of int32, shape (plane, y_latent, x_latent)

    Raises
    ------
    CorruptStreamError
        If the part of the payload that was read is too short or not possible under the tables.
    """
    head, decoder = _open_payload(payload, shape, tables.trellis)
    lowest = _decode_lowest(decoder, shape, tables, anchor, head.channels)
    _check_magnitudes(lowest)
    return lowest[:, 0]


def _shape_of(symbols: NDArray[np.int32]) -> SymbolsShape:
    planes, channels, height, width = symbols.shape
    return planes, channels, height, width


def _open_payload(payload: bytes, shape: SymbolsShape, trellis: Trellis) -> tuple[SymbolHead, RangeDecoder]:
    """Head of a symbol section, and a decoder of its words and bits."""
    head, start = read_head(payload, shape, trellis)
    words_stop = start + 4 + 4 * int.from_bytes(payload[start : start + 4], "little")
    if start + 4 > len(payload) or words_stop > len(payload):
        raise CorruptStreamError(
            f"the symbol section holds {len(payload)} bytes, its range coder words end at {words_stop}"
        )
    words = np.frombuffer(payload[start + 4 : words_stop], "<u4")
    return head, RangeDecoder(words, np.unpackbits(np.frombuffer(payload[words_stop:], np.uint8)))


def _decode_lowest(
    coder: RangeDecoder, shape: SymbolsShape, tables: EntropyTables, anchor: int, channels: int
) -> NDArray[np.int32]:
    """Symbols of the lowest channel, shape (plane, 1, y_latent, x_latent); zeros if it is not coded."""

    def decode_pass(_values: NDArray[np.int32] | None, bins: NDArray[np.uint8], key: TableKey) -> NDArray[np.int32]:
        frequencies = tables.lowest_frequencies[anchor, key[2]]
        return coder.decode(bins.reshape(-1), frequencies, has_signs=True).reshape(bins.shape)

    return traverse(None, (shape[0], 1, *shape[2:]), tables, anchor, decode_pass, min(channels, 1))


def _decode_all(
    coder: RangeDecoder, shape: SymbolsShape, tables: EntropyTables, anchor: int, head: SymbolHead
) -> NDArray[np.int32]:
    """Latents of the coded channels; the lowest before the others, because the signs of all others depend on it."""
    symbols = np.zeros(shape, np.int32)
    symbols[:, :1] = _decode_lowest(coder, shape, tables, anchor, head.channels)
    if head.channels > 1:
        _check_magnitudes(symbols[:, 0])
        decode_channels(coder, symbols, tables, anchor, head)
    return symbols


def _check_magnitudes(symbols: NDArray[np.int32]) -> None:
    """Refuse symbols of magnitudes that the format does not have."""
    # the magnitude of the smallest int32 is negative
    if max(int(symbols.max(initial=0)), -int(symbols.min(initial=0))) >= LARGEST_MAGNITUDE:
        raise CorruptStreamError("the symbol section holds a symbol that no encoder writes")


def _same_blocks(named: NDArray[np.bool_] | None, actual: NDArray[np.bool_] | None) -> bool:
    if named is None or actual is None:
        return named is actual
    return bool((named == actual).all())


def _kernels() -> ModuleType:
    with FIRST_USE:
        from xsarcomp.codec.kernels import channels as channel_kernels
    return channel_kernels


def _order(coded_channels: int) -> NDArray[np.int64]:
    """Channels above the lowest that are coded, in coding order."""
    return np.array(CHANNEL_ORDER[1:coded_channels], np.int64)


def _channel_tables(tables: EntropyTables, anchor: int) -> "ChannelTables":
    """Tables of a table set, as arguments of the kernels."""
    arguments = _kernels().ChannelTables
    return arguments(*(np.ascontiguousarray(getattr(tables, name)[anchor]) for name in arguments._fields))


def _known_symbols(lowest: NDArray[np.int32], busy: NDArray[np.bool_] | None) -> "KnownSymbols":
    """State of the kernels before the first channel above the lowest, whose symbols have shape (plane, y_latent, x_latent)."""
    magnitudes, signed = Magnitudes(), SignedValues((lowest.shape[0], CHANNELS, *lowest.shape[1:]), busy)
    magnitudes.add(0, lowest)
    signed.add_lowest(lowest)
    even, odd = signed.phases
    return _kernels().KnownSymbols(
        magnitudes=magnitudes.padded,
        clip=CONTEXT_CLIP,
        signed=signed.known,
        offsets=signed.offsets,
        factors=FACTORS,
        value_clip=np.int32(VALUE_CLIP),
        feature_clip=np.int32(FEATURE_CLIP),
        inside=np.arange(lowest.size) if busy is None else np.flatnonzero(busy),
        places=signed.places,
        even=even,
        odd=odd,
        states=np.zeros(lowest.size, np.uint8),
    )


def encode_channels(
    coder: RangeEncoder,
    symbols: NDArray[np.int32],
    tables: EntropyTables,
    anchor: int,
    coded_channels: int,
    busy: NDArray[np.bool_] | None,
    paths: CellPaths | None,
) -> None:
    """Encode all channels but the lowest, which is encoded before.

    Parameters
    ----------
    coder : RangeEncoder
        Encoder that has the lowest channel.
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        Symbols of the chunk.
    tables : EntropyTables
        Tables of the model.
    anchor : int
        Index of the table set.
    coded_channels : int
        Number of channels in ``CHANNEL_ORDER`` that are coded; those after them are zero.
    busy : ndarray of bool, shape (plane, y_latent, x_latent), or None
        Latents to code; the others are zero. All if None.
    paths : CellPaths or None
        Paths of ``symbols``, where these are points on paths through cells.

    Raises
    ------
    LimitExceededError
        If a magnitude is too large for the format.
    """
    kernels, order = _kernels(), _order(coded_channels)
    symbols = np.ascontiguousarray(symbols, np.int32)
    channel_tables, known = _channel_tables(tables, anchor), _known_symbols(np.ascontiguousarray(symbols[:, 0]), busy)
    points, quantizers, cell = symbols, np.zeros((1, 1, 1, 1), np.uint8), 0  # only read where there are paths
    if paths is not None:
        points, symbols, quantizers, cell = paths.points, paths.symbols, paths.quantizers, paths.cell
    path_arguments = kernels.Paths(tables.trellis.next_states, cell, *symbols.shape[2:])

    def encode(number: int, *buffers: NDArray) -> int:
        return kernels.encode_channels(
            symbols, points, quantizers, order, number, *channel_tables, *known, *path_arguments, *buffers
        )

    count = known.inside.size
    coder.encode_steps(encode, order.size, kernels.MOST_WORDS * count, kernels.MOST_BITS * count)


def decode_channels(
    coder: RangeDecoder, symbols: NDArray[np.int32], tables: EntropyTables, anchor: int, head: SymbolHead
) -> None:
    """Decode all channels but the lowest in place; the inverse of :func:`encode_channels`.

    Parameters
    ----------
    coder : RangeDecoder
        Decoder that has read the lowest channel.
    symbols : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        With the lowest channel; the others are filled, with points where paths go through cells.
    tables, anchor
        As for encoding.
    head : SymbolHead
        Head of the symbol section.

    Raises
    ------
    CorruptStreamError
        If no encoder wrote these words and bits.
    """
    shape = _shape_of(symbols)
    tables = without_trellis(tables) if tables.trellis.has_cells and not head.cell else tables
    channel_tables = _channel_tables(tables, anchor)
    known = _known_symbols(np.ascontiguousarray(symbols[:, 0]), head.busy(shape))
    paths = _kernels().Paths(tables.trellis.next_states, head.cell, *(head.extent or shape[2:]))
    coder.decode_all(_kernels().decode_channels, symbols, _order(head.channels), *channel_tables, *known, *paths)
