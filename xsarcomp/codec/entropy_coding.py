"""Entropy coding of symbols with integer contexts, frozen integer tables and a range coder.

The channels of a chunk are coded from low to high frequency. A symbol becomes a *token* (its magnitude class) and a
few *bypass bits* (the lower bits of a large magnitude). The table that codes a token is chosen by a *context bin*: an
integer-weighted sum of magnitudes that the decoder already knows, compared with integer thresholds
(:mod:`xsarcomp.codec.contexts`). Signs follow the magnitudes of their channel and have contexts too (:mod:`xsarcomp.codec.signs`).
The lowest channel is coded coarse to fine, each value predicted from four known neighbors; signs of what is left are
bypass bits.

Everything that decides a probability is integer arithmetic on frozen tables (:mod:`xsarcomp.codec.entropy_tables`), so a
stream decodes to the same symbols on every machine, or fails. Nothing is adaptive, nothing travels as side information.
"""

import math
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.contexts import CONTEXT_CLIP, QUIET_EDGE, Magnitudes, busy_places, quiet_blocks, traverse
from xsarcomp.codec.entropy_tables import (
    CHANNEL_ORDER,
    CHANNELS,
    FREQUENCY_TOTAL,
    LARGEST_MAGNITUDE,
    TOKEN_BITS,
    EntropyTables,
    tokens_of,
)
from xsarcomp.codec.kernels.compile import FIRST_USE
from xsarcomp.codec.range_coder import RangeDecoder, RangeEncoder, check_magnitude
from xsarcomp.codec.signs import FACTORS, FEATURE_CLIP, VALUE_CLIP, SignedValues, transfer_signs
from xsarcomp.errors import CorruptStreamError

if TYPE_CHECKING:
    from xsarcomp.codec.kernels.channels import ChannelTables, KnownSymbols

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

            def code(values, index, predicted, agreements):
                nonlocal bits
                surprises, chances = (values[index] < 0) != predicted, 1 - agreements / FREQUENCY_TOTAL
                bits -= float(np.log2(np.where(surprises, chances, 1 - chances)).sum())

            transfer_signs(known, tables, anchor, table, np.ascontiguousarray(values).reshape(-1), code)
        return values

    traverse(symbols, symbols.shape, tables, anchor, transfer, coded_channel_count(symbols), busy)
    return bits


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
    # before differences of symbols are taken, which could leave 32 bits
    lowest = symbols[:, 0]
    check_magnitude(max(int(lowest.max(initial=0)), -int(lowest.min(initial=0))))
    channels, quiet = coded_channel_count(symbols), quiet_blocks(symbols)
    coder = RangeEncoder()

    def transfer(values, bins, key):
        flat = np.ascontiguousarray(values).reshape(-1)
        coder.encode(flat, bins.reshape(-1), tables.lowest_frequencies[anchor, key[2]], has_signs=True)
        return values

    traverse(symbols, (symbols.shape[0], 1, *symbols.shape[2:]), tables, anchor, transfer, min(channels, 1))
    if channels > 1:
        encode_channels(coder, symbols, tables, anchor, channels, busy_places(quiet, symbols.shape))
    words, bits = coder.finish()
    head = bytes([channels]) if quiet is None else bytes([channels | _QUIET_FLAG]) + np.packbits(quiet).tobytes()
    return head + len(words).to_bytes(4, "little") + words.astype("<u4").tobytes() + np.packbits(bits).tobytes()


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
    channels, quiet, decoder = _opened(payload, shape)
    symbols = _decoded(decoder, shape, tables, anchor, channels, busy_places(quiet, shape))
    if not decoder.is_exhausted():
        raise CorruptStreamError("the symbol section does not end where its symbols end")
    _check_magnitudes(symbols)
    if coded_channel_count(symbols) != channels or not _same_blocks(quiet, quiet_blocks(symbols)):
        raise CorruptStreamError("the symbol section names other channels or quiet blocks than its symbols have")
    return symbols


def decode_lowest(
    payload: bytes, shape: tuple[int, int, int, int], tables: EntropyTables, anchor: int
) -> NDArray[np.int32]:
    """Decode the lowest channel alone, which is coded first; what follows it in the payload is not read.

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
        If the payload is too short or not possible under the tables, as far as it was read.
    """
    channels, _, decoder = _opened(payload, shape)
    lowest = _lowest(decoder, (shape[0], 1, *shape[2:]), tables, anchor, channels)
    _check_magnitudes(lowest)
    return lowest[:, 0]


def _opened(payload: bytes, shape: tuple[int, int, int, int]) -> tuple[int, NDArray[np.bool_] | None, RangeDecoder]:
    """Coded channels, quiet blocks if they are named, and a decoder of what follows."""
    channels, quiet, start = _head(payload, shape)
    words_stop = start + 4 + 4 * int.from_bytes(payload[start : start + 4], "little")
    if start + 4 > len(payload) or words_stop > len(payload):
        raise CorruptStreamError(
            f"the symbol section holds {len(payload)} bytes, its range coder words end at {words_stop}"
        )
    words = np.frombuffer(payload[start + 4 : words_stop], "<u4")
    return channels, quiet, RangeDecoder(words, np.unpackbits(np.frombuffer(payload[words_stop:], np.uint8)))


def _lowest(coder: RangeDecoder, shape, tables: EntropyTables, anchor: int, channels: int) -> NDArray[np.int32]:
    """Symbols of which the lowest channel alone is known, if it is coded at all."""

    def decode(_values, bins, key):
        frequencies = tables.lowest_frequencies[anchor, key[2]]
        return coder.decode(bins.reshape(-1), frequencies, has_signs=True).reshape(bins.shape)

    return traverse(None, shape, tables, anchor, decode, min(channels, 1))


def _decoded(
    coder: RangeDecoder, shape, tables: EntropyTables, anchor: int, channels: int, busy: NDArray[np.bool_] | None
) -> NDArray[np.int32]:
    """Symbols of the first channels; the lowest alone first, because the signs of all others read it."""
    symbols = np.zeros(shape, np.int32)
    symbols[:, :1] = _lowest(coder, (shape[0], 1, *shape[2:]), tables, anchor, channels)
    if channels > 1:
        _check_magnitudes(symbols[:, 0])
        decode_channels(coder, symbols, tables, anchor, channels, busy)
    return symbols


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


def _kernels() -> ModuleType:
    with FIRST_USE:
        from xsarcomp.codec.kernels import channels as channel_kernels
    return channel_kernels


def _order(coded_channels: int) -> NDArray[np.int64]:
    """Channels above the lowest that are coded, in coding order."""
    return np.array(CHANNEL_ORDER[1:coded_channels], np.int64)


def _channel_tables(tables: EntropyTables, anchor: int) -> "ChannelTables":
    """Tables of an anchor as arguments of the kernels."""
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
    channel_tables, known = _channel_tables(tables, anchor), _known_symbols(np.ascontiguousarray(symbols[:, 0]), busy)

    def encode(number: int, *buffers: NDArray) -> int:
        return kernels.encode_channels(symbols, order, number, *channel_tables, *known, *buffers)

    count = known.inside.size
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
    channel_tables, known = _channel_tables(tables, anchor), _known_symbols(np.ascontiguousarray(symbols[:, 0]), busy)
    coder.decode_all(_kernels().decode_channels, symbols, _order(coded_channels), *channel_tables, *known)
