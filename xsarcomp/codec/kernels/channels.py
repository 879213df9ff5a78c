"""Kernels that code all channels of a chunk above the lowest; Python side: :mod:`xsarcomp.codec.entropy_coding`.

One call codes all channels. If the kernels of contexts, signs, trellis and range coder were called pass by pass, they would
give back the interpreter lock and ask for it again some 600 times a chunk, each time for microseconds of work, and threads
that decode beside each other would spend more time on the lock than on symbols
(``docs/decisions/0020-all-channels-in-one-call.md``).

The cache of machine code notices changes of the file of a kernel and of its closure. The kernels that are called here stand
in other files; a digest of these files is in the closure, so that a change there is noticed too.
"""

import hashlib
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.entropy_tables import LARGEST_MAGNITUDE
from xsarcomp.codec.kernels import contexts as kernels
from xsarcomp.codec.kernels import paths as path_kernels
from xsarcomp.codec.kernels import range_coder as range_kernels
from xsarcomp.codec.kernels import signs as sign_kernels
from xsarcomp.codec.kernels import trellis as trellis_kernels
from xsarcomp.codec.kernels.compile import (
    ReadOnly1D,
    ReadOnly2D,
    ReadOnly3D,
    ReadOnly4D,
    Writable1D,
    Writable2D,
    Writable3D,
    Writable4D,
    compiled,
)

_context_bins, _remember = kernels.context_bins, kernels.remember
_encode_pass, _decode_pass = range_kernels.encode_pass, range_kernels.decode_pass
_encode_in_order, _decode_along_paths = path_kernels.encode_in_order, path_kernels.decode_along_paths
_encode_signs, _decode_signs = range_kernels.encode_signs, range_kernels.decode_signs
_sign_contexts, _remember_signs = sign_kernels.contexts, sign_kernels.remember
_advance = trellis_kernels.advance
WORD, BIT = range_kernels.WORD, range_kernels.BIT
MOST_WORDS, MOST_BITS = 2, 19
"""Largest numbers of words and of bypass bits that a symbol takes: a token and a sign, remainders."""


class ChannelTables(NamedTuple):
    """Tables of one anchor of :class:`~xsarcomp.codec.entropy_tables.EntropyTables`, in the order of the kernels' arguments.

    The first axis of each is the channel.
    """

    trellised: NDArray[np.bool_]
    term_channels: NDArray[np.int16]
    term_kinds: NDArray[np.uint8]
    term_weights: NDArray[np.int16]
    thresholds: NDArray[np.int32]
    frequencies: NDArray[np.uint16]
    sign_term_channels: NDArray[np.int16]
    sign_term_kinds: NDArray[np.uint8]
    sign_term_weights: NDArray[np.int16]
    sign_thresholds: NDArray[np.int32]
    sign_frequencies: NDArray[np.uint16]


class KnownSymbols(NamedTuple):
    """Symbols that are known before a channel is coded, and their geometry, in the order of the kernels' arguments.

    The kernels write into ``magnitudes``, ``signed`` and ``states``.
    """

    magnitudes: NDArray[np.uint8]
    """Magnitudes, shape (channel, plane, padded); see :mod:`xsarcomp.codec.kernels.contexts`."""
    clip: int
    """Largest magnitude that counts in a context."""
    signed: NDArray[np.int32]
    """Signed values, shape (channel, padded); see :mod:`xsarcomp.codec.kernels.signs`."""
    offsets: NDArray[np.int64]
    """Offset of each tap of a sign feature from its place, shape (kind, tap=4)."""
    factors: NDArray[np.int32]
    """Factor of each tap, same shape."""
    value_clip: np.int32
    """Largest magnitude of a signed value that is stored."""
    feature_clip: np.int32
    """Largest magnitude of a sign feature."""
    inside: NDArray[np.int64]
    """Flat index of each coded latent in (plane, y, x)."""
    places: NDArray[np.int64]
    """Place of each coded latent in a padded channel of signed values."""
    even: NDArray[np.int64]
    """Coded latents whose signs belong to phase 0."""
    odd: NDArray[np.int64]
    """Coded latents whose signs belong to phase 1."""
    states: NDArray[np.uint8]
    """State of the trellis of each block, flat."""


class Paths(NamedTuple):
    """Paths through the trellis, in the order of the kernels' arguments."""

    following: NDArray[np.uint8]
    """State that follows a state and a parity, shape (state, parity)."""
    cell: int
    """Latents along the edge of a cell; 0 where each block is a cell, and paths are those of ``states`` above."""
    rows: int
    """Rows of latents that paths go through; the rest pads a chunk at the edge of an array."""
    columns: int
    """Columns of latents that paths go through."""


@compiled
def _bins_with_quantizer(
    known: ReadOnly3D[np.uint8],
    states: ReadOnly1D[np.uint8],
    is_trellised: bool,
    channels: ReadOnly1D[np.int16],
    kinds: ReadOnly1D[np.uint8],
    weights: ReadOnly1D[np.int16],
    thresholds: ReadOnly1D[np.int32],
    bins: Writable3D[np.uint8],
) -> None:
    """Compute the context bins of a channel, (plane, y, x); in channels with trellis the odd quantizer has its own."""
    _context_bins(known, channels, kinds, weights, thresholds, bins)
    if is_trellised:
        flat, odd = bins.reshape(-1), np.uint8(thresholds.size + 1)
        for i in range(flat.size):
            flat[i] += (states[i] & np.uint8(1)) * odd


@compiled
def _copy_channel(symbols: ReadOnly4D[np.int32], channel: int, copied: Writable3D[np.int32]) -> None:
    """Copy a channel of (plane, latent=64, y, x)."""
    for plane in range(len(copied)):
        copied[plane] = symbols[plane, channel]


@compiled
def _paste_channel(channel_symbols: ReadOnly3D[np.int32], channel: int, symbols: Writable4D[np.int32]) -> None:
    """Copy the symbols of one channel, (plane, y, x), to those of all."""
    for plane in range(len(symbols)):
        symbols[plane, channel] = channel_symbols[plane]


@compiled
def _add_quantizers(quantizers: ReadOnly4D[np.uint8], channel: int, odd: int, bins: Writable3D[np.uint8]) -> None:
    """Give the odd quantizer bins of its own, (plane, y, x), which begin with number ``odd``."""
    for plane in range(len(bins)):
        for y in range(bins.shape[1]):
            for x in range(bins.shape[2]):
                bins[plane, y, x] += quantizers[plane, channel, y, x] * np.uint8(odd)


@compiled
def _gather(
    symbols: ReadOnly1D[np.int32],
    bins: ReadOnly1D[np.uint8],
    inside: ReadOnly1D[np.int64],
    values: Writable1D[np.int32],
    value_bins: Writable1D[np.uint8],
) -> None:
    """Gather symbols and bins of the coded latents."""
    for i in range(inside.size):
        values[i], value_bins[i] = symbols[inside[i]], bins[inside[i]]


@compiled
def _spread(
    values: ReadOnly1D[np.int32],
    inside: ReadOnly1D[np.int64],
    in_cells: bool,
    points: ReadOnly1D[np.int32],
    symbols: Writable1D[np.int32],
) -> None:
    """Put decoded symbols at their places; where paths go through cells, the points that they stand for, as they are stored."""
    for i in range(inside.size):
        point = points[inside[i]]
        symbols[inside[i]] = (-point if values[i] < 0 else point) if in_cells else values[i]


@compiled
def _make_known(
    symbols: ReadOnly3D[np.int32],
    is_trellised: bool,
    clip: int,
    following: ReadOnly2D[np.uint8],
    states: Writable1D[np.uint8],
    padded: Writable2D[np.uint8],
) -> None:
    """Make the symbols of a channel, (plane, y, x), known to contexts and trellis."""
    points = symbols.copy()
    if is_trellised:
        _advance(following, states, points.reshape(-1))
    _remember(points, False, clip, padded)


@compiled
def _has_room(
    count: int, state: Writable1D[np.uint64], words: Writable1D[np.uint32], bits: Writable1D[np.uint8]
) -> bool:
    """Whether ``words`` and ``bits`` have room for so many symbols."""
    words_left, bits_left = words.size - np.int64(state[WORD]), bits.size - np.int64(state[BIT])
    return bool(words_left >= MOST_WORDS * count and bits_left > MOST_BITS * count)


@compiled
def _encode_values(
    in_cells: bool,
    values: ReadOnly1D[np.int32],
    bins: ReadOnly1D[np.uint8],
    frequencies: ReadOnly2D[np.uint16],
    state: Writable1D[np.uint64],
    words: Writable1D[np.uint32],
    bits: Writable1D[np.uint8],
) -> int:
    """Encode magnitudes one after the other, or bin by bin; return the largest, as :func:`encode_pass`."""
    if in_cells:
        return _encode_in_order(values, bins, frequencies, state, words, bits)
    return _encode_pass(values, bins, frequencies, False, state, words, bits)


@compiled
def _mark(places: ReadOnly1D[np.int64], mask: Writable1D[np.bool_]) -> None:
    """Set a mask at given places."""
    for place in places:
        mask[place] = True


def _sources(*modules: ModuleType) -> str:
    """Digest of the files of modules: those that the kernels below call into."""
    return hashlib.sha256(b"".join(Path(str(module.__file__)).read_bytes() for module in modules)).hexdigest()


def _encoder(sources: str) -> Any:
    """Compile :func:`encode_channels` with a digest of the files that it calls into in its closure."""

    @compiled
    def encode_channels(
        symbols: ReadOnly4D[np.int32], points: ReadOnly4D[np.int32], quantizers: ReadOnly4D[np.uint8],
        order: ReadOnly1D[np.int64], first: int,
        trellised: ReadOnly1D[np.bool_], term_channels: ReadOnly2D[np.int16], term_kinds: ReadOnly2D[np.uint8],  # ChannelTables
        term_weights: ReadOnly2D[np.int16], thresholds: ReadOnly2D[np.int32], frequencies: ReadOnly3D[np.uint16],
        sign_term_channels: ReadOnly3D[np.int16], sign_term_kinds: ReadOnly3D[np.uint8],
        sign_term_weights: ReadOnly3D[np.int16], sign_thresholds: ReadOnly3D[np.int32],
        sign_frequencies: ReadOnly4D[np.uint16],
        magnitudes: Writable3D[np.uint8], clip: int, signed: Writable2D[np.int32], offsets: ReadOnly2D[np.int64],  # KnownSymbols
        factors: ReadOnly2D[np.int32], value_clip: np.int32, feature_clip: np.int32, inside: ReadOnly1D[np.int64],
        places: ReadOnly1D[np.int64], even: ReadOnly1D[np.int64], odd: ReadOnly1D[np.int64], states: Writable1D[np.uint8],
        following: ReadOnly2D[np.uint8], cell: int, rows: int, columns: int,  # Paths
        state: Writable1D[np.uint64], words: Writable1D[np.uint32], bits: Writable1D[np.uint8],  # range coder
    ) -> int:  # fmt: skip
        """Encode the channels of ``order`` from number ``first`` on; return the number of the next one.

        That is ``order.size`` after the last, or that of the first channel for which ``words`` and ``bits`` may have no room.
        A magnitude that the format does not hold is returned as a negative number.
        """
        assert sources
        planes, _, height, width = symbols.shape
        count, size = inside.size, inside.size + 1
        bins, channel_symbols = np.empty((planes, height, width), np.uint8), np.zeros((planes, height, width), np.int32)
        values, value_bins = np.empty(count, np.int32), np.empty(count, np.uint8)
        index, predicted, agreements = np.empty(size, np.int64), np.empty(size, np.bool_), np.empty(size, np.uint16)
        for number in range(first, order.size):
            if not _has_room(count, state, words, bits):
                return number
            c = order[number]
            in_cells = trellised[c] and cell > 0
            _bins_with_quantizer(
                magnitudes, states, trellised[c] and not in_cells,
                term_channels[c], term_kinds[c], term_weights[c], thresholds[c], bins,
            )  # fmt: skip
            _copy_channel(symbols, c, channel_symbols)
            if in_cells:
                _add_quantizers(quantizers, c, thresholds.shape[1] + 1, bins)
            _gather(channel_symbols.reshape(-1), bins.reshape(-1), inside, values, value_bins)
            largest = _encode_values(in_cells, values, value_bins, frequencies[c], state, words, bits)
            if largest >= LARGEST_MAGNITUDE:
                return -largest
            for phase in range(2):
                signs = _sign_contexts(
                    signed, offsets, factors, feature_clip, odd if phase else even, places, values,
                    sign_term_channels[c, phase], sign_term_kinds[c, phase], sign_term_weights[c, phase],
                    sign_thresholds[c, phase], sign_frequencies[c, phase], index, predicted, agreements,
                )  # fmt: skip
                if signs:
                    _encode_signs(values, index[:signs], predicted[:signs], agreements[:signs], state, words)
                    padded = signed[c].reshape(planes, height + 2, width + 2)
                    _remember_signs(index[:signs], places, values, value_clip, padded)
            if in_cells:
                _copy_channel(points, c, channel_symbols)
            _make_known(channel_symbols, trellised[c] and not in_cells, clip, following, states, magnitudes[c])
        return order.size

    return encode_channels


def _decoder(sources: str) -> Any:
    """Compile :func:`decode_channels` with a digest of the files that it calls into in its closure."""

    @compiled
    def decode_channels(
        symbols: Writable4D[np.int32], order: ReadOnly1D[np.int64],
        trellised: ReadOnly1D[np.bool_], term_channels: ReadOnly2D[np.int16], term_kinds: ReadOnly2D[np.uint8],  # ChannelTables
        term_weights: ReadOnly2D[np.int16], thresholds: ReadOnly2D[np.int32], frequencies: ReadOnly3D[np.uint16],
        sign_term_channels: ReadOnly3D[np.int16], sign_term_kinds: ReadOnly3D[np.uint8],
        sign_term_weights: ReadOnly3D[np.int16], sign_thresholds: ReadOnly3D[np.int32],
        sign_frequencies: ReadOnly4D[np.uint16],
        magnitudes: Writable3D[np.uint8], clip: int, signed: Writable2D[np.int32], offsets: ReadOnly2D[np.int64],  # KnownSymbols
        factors: ReadOnly2D[np.int32], value_clip: np.int32, feature_clip: np.int32, inside: ReadOnly1D[np.int64],
        places: ReadOnly1D[np.int64], even: ReadOnly1D[np.int64], odd: ReadOnly1D[np.int64], states: Writable1D[np.uint8],
        following: ReadOnly2D[np.uint8], cell: int, rows: int, columns: int,  # Paths
        state: Writable1D[np.uint64], words: ReadOnly1D[np.uint32], bits: ReadOnly1D[np.uint8],  # range coder
    ) -> int:  # fmt: skip
        """Decode all channels of ``order`` into ``symbols``; return the status of the range coder, 0 if all is well."""
        assert sources
        planes, _, height, width = symbols.shape
        count, size = inside.size, inside.size + 1
        bins, channel_symbols = np.empty((planes, height, width), np.uint8), np.zeros((planes, height, width), np.int32)
        values, value_bins = np.empty(count, np.int32), np.empty(count, np.uint8)
        index, predicted, agreements = np.empty(size, np.int64), np.empty(size, np.bool_), np.empty(size, np.uint16)
        channel_points, is_coded = np.zeros(bins.shape, np.int32), np.zeros(bins.shape, np.bool_)
        paths = np.zeros((planes, height // max(cell, 1) + 1, width // max(cell, 1) + 1), np.uint8)
        _mark(inside, is_coded.reshape(-1))
        for c in order:
            in_cells = trellised[c] and cell > 0
            _bins_with_quantizer(
                magnitudes, states, trellised[c] and not in_cells,
                term_channels[c], term_kinds[c], term_weights[c], thresholds[c], bins,
            )  # fmt: skip
            if in_cells:
                status = _decode_along_paths(
                    following, cell, rows, columns, paths, bins, frequencies[c], is_coded, state, words, bits,
                    channel_symbols, channel_points,
                )  # fmt: skip
            _gather(channel_symbols.reshape(-1), bins.reshape(-1), inside, values, value_bins)
            if not in_cells:
                status = _decode_pass(value_bins, frequencies[c], False, state, words, bits, values)
            if status:
                return status
            for phase in range(2):
                signs = _sign_contexts(
                    signed, offsets, factors, feature_clip, odd if phase else even, places, values,
                    sign_term_channels[c, phase], sign_term_kinds[c, phase], sign_term_weights[c, phase],
                    sign_thresholds[c, phase], sign_frequencies[c, phase], index, predicted, agreements,
                )  # fmt: skip
                if signs:
                    status = _decode_signs(index[:signs], predicted[:signs], agreements[:signs], state, words, values)
                    if status:
                        return status
                    padded = signed[c].reshape(planes, height + 2, width + 2)
                    _remember_signs(index[:signs], places, values, value_clip, padded)
            _spread(values, inside, in_cells, channel_points.reshape(-1), channel_symbols.reshape(-1))
            _paste_channel(channel_symbols, c, symbols)
            _make_known(channel_symbols, trellised[c] and not in_cells, clip, following, states, magnitudes[c])
        return 0

    return decode_channels


_SOURCES = _sources(kernels, path_kernels, range_kernels, sign_kernels, trellis_kernels)
encode_channels, decode_channels = _encoder(_SOURCES), _decoder(_SOURCES)
