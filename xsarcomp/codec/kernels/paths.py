"""Kernels that code magnitudes in the order of their paths; Python side: :mod:`xsarcomp.codec.entropy_coding`.

Where paths go through cells, the quantizer of a symbol, and so its table, depends on the symbols before it in the same channel.
So symbols are coded one after the other, row by row, each with its remainder, and not sorted by context bin as in
:mod:`xsarcomp.codec.kernels.range_coder`.
"""

import numpy as np

from xsarcomp.codec.entropy_tables import DIRECT_TOKENS, LARGEST_MAGNITUDE, TOKEN_BITS, TOKEN_START, TOKENS
from xsarcomp.codec.kernels import range_coder as range_kernels
from xsarcomp.codec.kernels.compile import (
    ReadOnly1D,
    ReadOnly2D,
    ReadOnly3D,
    Writable1D,
    Writable2D,
    Writable3D,
    compiled,
)

BIT, IMPOSSIBLE_WORDS, LOW, MISSING_BITS = (
    range_kernels.BIT,
    range_kernels.IMPOSSIBLE_WORDS,
    range_kernels.LOW,
    range_kernels.MISSING_BITS,
)
PROBABILITY_BITS, WIDTH, WORD = range_kernels.PROBABILITY_BITS, range_kernels.WIDTH, range_kernels.WORD
_narrow, _tokenize = range_kernels.narrow, range_kernels.tokenize
_EXTRA_BITS = PROBABILITY_BITS - 16
_WORD_BITS, _SMALLEST_WIDTH = np.uint64(32), np.uint64(2**32)


@compiled
def accumulate(frequencies: ReadOnly2D[np.uint16], cumulative: Writable2D[np.uint16]) -> None:
    """Sum frequencies up to each token, shape (bin, token + 1); the last sum, 65536, is written as 0."""
    for context_bin in range(len(frequencies)):
        cumulative[context_bin, 0] = 0
        for token in range(TOKENS):
            cumulative[context_bin, token + 1] = cumulative[context_bin, token] + frequencies[context_bin, token]


@compiled
def encode_in_order(
    values: ReadOnly1D[np.int32],
    bins: ReadOnly1D[np.uint8],
    frequencies: ReadOnly2D[np.uint16],
    state: Writable1D[np.uint64],
    words: Writable1D[np.uint32],
    bits: Writable1D[np.uint8],
) -> int:
    """Encode magnitudes in list order, each with its remainder; return the largest, as :func:`encode_pass`."""
    tokens = np.empty(values.size, np.uint8)
    largest = _tokenize(values, tokens)
    if largest >= LARGEST_MAGNITUDE:
        return largest
    cumulative = np.empty((len(frequencies), TOKENS + 1), np.uint16)
    accumulate(frequencies, cumulative)
    starts, widths = np.empty(values.size, np.uint32), np.empty(values.size, np.uint32)
    count = np.int64(state[BIT])
    for i in range(values.size):
        bin_index, token_index = np.uint64(bins[i]), np.uint64(tokens[i])
        starts[i] = np.uint32(cumulative[bin_index, token_index]) << np.uint32(_EXTRA_BITS)
        widths[i] = np.uint32(frequencies[bin_index, token_index]) << np.uint32(_EXTRA_BITS)
        if token_index >= np.uint64(DIRECT_TOKENS):
            remainder = abs(np.int64(values[i])) - TOKEN_START[token_index]
            for bit in range(TOKEN_BITS[token_index]):
                bits[count] = remainder >> bit & 1
                count += 1
    _narrow(starts, widths, state, words)
    state[BIT] = np.uint64(count)
    return largest


@compiled
def decode_magnitude(
    row: ReadOnly1D[np.uint16],
    cumulative: ReadOnly1D[np.uint16],
    state: Writable1D[np.uint64],
    words: ReadOnly1D[np.uint32],
    bits: ReadOnly1D[np.uint8],
) -> int:
    """Decode a magnitude with a table ``row`` and its sums, see :func:`accumulate`; return it, or a status below 0."""
    low, width, magnitude = state[LOW], state[WIDTH], np.int64(0)
    scale = (width >> np.uint64(PROBABILITY_BITS)) << np.uint64(_EXTRA_BITS)
    width = scale * np.uint64(row[0])
    if low >= width:  # most are zero, and a division takes as long as all the rest
        quantile, token = low // scale, np.uint64(1)
        if quantile >= np.uint64(2**16):
            return IMPOSSIBLE_WORDS
        while token < np.uint64(TOKENS - 1) and np.uint64(cumulative[token + np.uint64(1)]) <= quantile:
            token += np.uint64(1)
        low -= scale * np.uint64(cumulative[token])
        width = scale * np.uint64(row[token])
        magnitude = np.int64(TOKEN_START[token])
        if token >= np.uint64(DIRECT_TOKENS):
            count = np.int64(state[BIT])
            if count + TOKEN_BITS[token] > bits.size:
                return MISSING_BITS
            for bit in range(TOKEN_BITS[token]):
                magnitude += np.int64(bits[count + bit]) << np.int64(bit)
            state[BIT] = np.uint64(count + TOKEN_BITS[token])
    if width < _SMALLEST_WIDTH:
        word = np.int64(state[WORD])
        low = low << _WORD_BITS | np.uint64(words[word] if word < words.size else 0)
        width <<= _WORD_BITS
        state[WORD] = np.uint64(word + 1)
    state[LOW], state[WIDTH] = low, width
    return int(magnitude)


@compiled
def decode_along_paths(
    following: ReadOnly2D[np.uint8],
    cell: int,
    rows: int,
    columns: int,
    states: Writable3D[np.uint8],
    bins: ReadOnly3D[np.uint8],
    frequencies: ReadOnly2D[np.uint16],
    is_coded: ReadOnly3D[np.bool_],
    state: Writable1D[np.uint64],
    words: ReadOnly1D[np.uint32],
    bits: ReadOnly1D[np.uint8],
    symbols: Writable3D[np.int32],
    points: Writable3D[np.int32],
) -> int:
    """Decode the magnitudes of a channel, (plane, y, x), whose quantizers follow from the symbols before; return the status.

    Paths go through the first ``rows`` and ``columns`` of latents; what is not coded of these is zero. ``states`` of the paths,
    (plane, row of cells, column of cells), are led on. ``bins`` are without the quantizer, whose tables are in the second half of
    ``frequencies``.
    """
    bin_count = len(frequencies) // 2
    cumulative = np.empty((len(frequencies), TOKENS + 1), np.uint16)
    accumulate(frequencies, cumulative)
    for plane in range(len(bins)):
        for y in range(rows):
            row_states = states[plane, y // cell]
            for x in range(columns):
                column = np.uint64(x) // np.uint64(cell)
                path = row_states[column]
                quantizer = np.int64(path & 1)
                magnitude = np.int64(0)
                if is_coded[plane, y, x]:
                    row = np.int64(bins[plane, y, x]) + quantizer * bin_count
                    magnitude = decode_magnitude(frequencies[row], cumulative[row], state, words, bits)
                    if magnitude < 0:
                        return magnitude
                symbols[plane, y, x] = magnitude
                points[plane, y, x] = 2 * magnitude - quantizer * (magnitude > 0)
                row_states[column] = following[path, magnitude & 1]
    return 0
