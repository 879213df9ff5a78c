"""Compiled loops over the channels of a chunk above the lowest; :mod:`xsarcomp.codec.entropy_coding` imports it inside functions.

One call codes all channels. Called pass by pass, the kernels of contexts, signs, trellis and range coder would give back the
interpreter lock and ask for it again some 600 times a chunk, each time for microseconds of work, and threads that decode
beside each other would spend more time on the lock than on symbols.

The cache of machine code notices changes of the file of a kernel and of its closure. The kernels that are called here stand
in other files; a digest of these is in the closure, so that a change there is noticed too.
"""

import hashlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from xsarcomp.codec.entropy_tables import LARGEST_MAGNITUDE
from xsarcomp.codec.kernels import contexts as kernels
from xsarcomp.codec.kernels import range_coder as range_kernels
from xsarcomp.codec.kernels import signs as sign_kernels
from xsarcomp.codec.kernels import trellis as trellis_kernels
from xsarcomp.codec.kernels.compile import compiled, read_only, scalar, written

_context_bins, _remember = kernels.context_bins, kernels.remember
_encode_pass, _decode_pass = range_kernels.encode_pass, range_kernels.decode_pass
_encode_signs, _decode_signs = range_kernels.encode_signs, range_kernels.decode_signs
_sign_contexts, _remember_signs = sign_kernels.contexts, sign_kernels.remember
_advance = trellis_kernels.advance
WORD, BIT = range_kernels.WORD, range_kernels.BIT
MOST_WORDS, MOST_BITS = 2, 19
"""Words and bypass bits that a symbol takes at most: a token and a sign, remainders."""

_CONTEXT_TABLES = (
    read_only("boolean", 1), read_only("int16", 2), read_only("uint8", 2), read_only("int16", 2), read_only("int32", 2),
    read_only("uint16", 3),
)  # fmt: skip
_SIGN_TABLES = (
    read_only("int16", 3), read_only("uint8", 3), read_only("int16", 3), read_only("int32", 3), read_only("uint16", 4),
)  # fmt: skip
_KNOWN = (
    written("uint8", 3), scalar("int64"), written("int32", 2), read_only("int64", 2), read_only("int32", 2),
    scalar("int32"), scalar("int32"),
)  # fmt: skip
_PLACES = (read_only("int64", 1),) * 4
_CODER = (written("uint64", 1), written("uint32", 1), written("uint8", 1))
_DECODER = (written("uint64", 1), read_only("uint32", 1), read_only("uint8", 1))


@compiled(
    read_only("uint8", 3), read_only("uint8", 1), scalar("boolean"), read_only("int16", 1), read_only("uint8", 1),
    read_only("int16", 1), read_only("int32", 1), written("uint8", 3),
)  # fmt: skip
def _all_bins(known, states, is_trellised, channels, kinds, weights, thresholds, bins):
    """Context bins of a channel with its quantizers, (plane, y, x)."""
    _context_bins(known, channels, kinds, weights, thresholds, bins)
    if is_trellised:
        flat, odd = bins.reshape(-1), np.uint8(thresholds.size + 1)
        for i in range(flat.size):
            flat[i] += (states[i] & np.uint8(1)) * odd


@compiled(read_only("int32", 3), scalar("boolean"), scalar("int64"), written("uint8", 1), written("uint8", 2))
def _make_known(symbols, is_trellised, clip, states, padded):
    """Make the symbols of a channel known to contexts and trellis, (plane, y, x)."""
    points = symbols.copy()
    if is_trellised:
        _advance(states, points.reshape(-1))
    _remember(points, False, clip, padded)


def _sources(*modules: ModuleType) -> str:
    """Digest of the files that the kernels below call into."""
    return hashlib.sha256(b"".join(Path(str(module.__file__)).read_bytes() for module in modules)).hexdigest()


def _encoder(sources: str) -> Any:
    @compiled(
        read_only("int32", 4), read_only("int64", 1), scalar("int64"), *_CONTEXT_TABLES, *_SIGN_TABLES, *_KNOWN, *_PLACES,
        written("uint8", 1), *_CODER, result="int64",
    )  # fmt: skip
    def encode_channels(
        symbols, order, first, trellised, channels, kinds, weights, thresholds, frequencies,
        sign_channels, sign_kinds, sign_weights, sign_thresholds, sign_frequencies,
        known, clip, signed, offsets, factors, value_clip, feature_clip, inside, places, even, odd,
        states, state, words, bits,
    ):  # fmt: skip
        """Encode channels from the one numbered ``first`` in ``order``.

        Returns the number of the next one: all, or the first for which ``words`` and ``bits`` may have no room. A magnitude
        that the format does not hold is returned as a negative number.
        """
        assert sources
        planes, _, height, width = symbols.shape
        count = inside.size
        bins, channel_symbols = np.empty((planes, height, width), np.uint8), np.empty((planes, height, width), np.int32)
        values, value_bins = np.empty(count, np.int32), np.empty(count, np.uint8)
        index, predicted, agreements = (
            np.empty(count + 1, np.int64),
            np.empty(count + 1, np.bool_),
            np.empty(count + 1, np.uint16),
        )
        for number in range(first, order.size):
            words_left, bits_left = words.size - np.int64(state[WORD]), bits.size - np.int64(state[BIT])
            if words_left < MOST_WORDS * count or bits_left < MOST_BITS * count + 1:
                return number
            c = order[number]
            _all_bins(known, states, trellised[c], channels[c], kinds[c], weights[c], thresholds[c], bins)
            for plane in range(planes):
                channel_symbols[plane] = symbols[plane, c]
            flat_symbols, flat_bins = channel_symbols.reshape(-1), bins.reshape(-1)
            for i in range(count):
                values[i], value_bins[i] = flat_symbols[inside[i]], flat_bins[inside[i]]
            largest = _encode_pass(values, value_bins, frequencies[c], False, state, words, bits)
            if largest >= LARGEST_MAGNITUDE:
                return -largest
            for phase in range(2):
                found = _sign_contexts(
                    signed, offsets, factors, feature_clip, odd if phase else even, places, values, sign_channels[c, phase],
                    sign_kinds[c, phase], sign_weights[c, phase], sign_thresholds[c, phase], sign_frequencies[c, phase],
                    index, predicted, agreements,
                )  # fmt: skip
                if found:
                    _encode_signs(values, index[:found], predicted[:found], agreements[:found], state, words)
                    _remember_signs(
                        index[:found], places, values, value_clip, signed[c].reshape(planes, height + 2, width + 2)
                    )
            _make_known(channel_symbols, trellised[c], clip, states, known[c])
        return order.size

    return encode_channels


def _decoder(sources: str) -> Any:
    @compiled(
        written("int32", 4), read_only("int64", 1), *_CONTEXT_TABLES, *_SIGN_TABLES, *_KNOWN, *_PLACES,
        written("uint8", 1), *_DECODER, result="int64",
    )  # fmt: skip
    def decode_channels(
        symbols, order, trellised, channels, kinds, weights, thresholds, frequencies,
        sign_channels, sign_kinds, sign_weights, sign_thresholds, sign_frequencies,
        known, clip, signed, offsets, factors, value_clip, feature_clip, inside, places, even, odd,
        states, state, words, bits,
    ):  # fmt: skip
        """Decode all channels of ``order`` into ``symbols``; returns 0, or what is wrong with the words or bits."""
        assert sources
        planes, _, height, width = symbols.shape
        count = inside.size
        bins, channel_symbols = np.empty((planes, height, width), np.uint8), np.zeros((planes, height, width), np.int32)
        values, value_bins = np.empty(count, np.int32), np.empty(count, np.uint8)
        index, predicted, agreements = (
            np.empty(count + 1, np.int64),
            np.empty(count + 1, np.bool_),
            np.empty(count + 1, np.uint16),
        )
        for c in order:
            _all_bins(known, states, trellised[c], channels[c], kinds[c], weights[c], thresholds[c], bins)
            flat_symbols, flat_bins = channel_symbols.reshape(-1), bins.reshape(-1)
            for i in range(count):
                value_bins[i] = flat_bins[inside[i]]
            status = _decode_pass(value_bins, frequencies[c], False, state, words, bits, values)
            if status:
                return status
            for phase in range(2):
                found = _sign_contexts(
                    signed, offsets, factors, feature_clip, odd if phase else even, places, values, sign_channels[c, phase],
                    sign_kinds[c, phase], sign_weights[c, phase], sign_thresholds[c, phase], sign_frequencies[c, phase],
                    index, predicted, agreements,
                )  # fmt: skip
                if found:
                    status = _decode_signs(index[:found], predicted[:found], agreements[:found], state, words, values)
                    if status:
                        return status
                    _remember_signs(
                        index[:found], places, values, value_clip, signed[c].reshape(planes, height + 2, width + 2)
                    )
            for i in range(count):
                flat_symbols[inside[i]] = values[i]
            for plane in range(planes):
                symbols[plane, c] = channel_symbols[plane]
            _make_known(channel_symbols, trellised[c], clip, states, known[c])
        return 0

    return decode_channels


_SOURCES = _sources(kernels, range_kernels, sign_kernels, trellis_kernels)
encode_channels, decode_channels = _encoder(_SOURCES), _decoder(_SOURCES)
