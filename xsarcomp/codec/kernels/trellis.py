"""Kernels of trellis-coded quantization; Python side: :mod:`xsarcomp.codec.quantization`, :mod:`xsarcomp.codec.trellis`.

The lowest bit of a state is the quantizer of the next symbol: 0 the even one, 1 the odd one. Tables of following and of previous
states, shape (state, parity), are those of :class:`~xsarcomp.codec.trellis.Trellis`.

The encoder searches the cheapest path with the algorithm of Viterbi. Many paths are searched beside each other, one a *lane*,
because the processor adds and compares several at once.
"""

import numpy as np

from xsarcomp.codec.entropy_tables import DIRECT_TOKENS
from xsarcomp.codec.kernels.compile import (
    ReadOnly1D,
    ReadOnly2D,
    ReadOnly3D,
    ReadOnly4D,
    Writable1D,
    Writable2D,
    Writable4D,
    compiled,
)

UNREACHABLE = np.float32(1e30)
"""Cost of a state that no path leads to yet."""
LANES = 64
"""Paths that are searched beside each other."""
BITS = 32
"""States whose decisions share a word."""
RESCALED = 1024
"""Symbols after which the smallest cost is taken from all, so that float32 keeps its digits."""


@compiled
def advance(next_states: ReadOnly2D[np.uint8], states: Writable1D[np.uint8], symbols: Writable1D[np.int32]) -> None:
    """Lead states on by one symbol each, and replace the symbols by their points."""
    for i in range(states.size):
        state, symbol = states[i], symbols[i]
        quantizer = np.int32(state & 1)
        magnitude = abs(symbol)
        point = 2 * magnitude - quantizer * np.int32(magnitude > 0)
        symbols[i] = -point if symbol < 0 else point
        states[i] = next_states[state, magnitude & 1]


@compiled
def nearest_point(magnitude: np.float32, quantizer: np.int32, parity: np.int32) -> np.int32:
    """Find the point nearest to a magnitude among those of a quantizer and a parity.

    They are four apart: 0, 4, 8, ... and 2, 6, ... in the even quantizer, 0, 3, 7, ... and 1, 5, ... in the odd one, where
    zero does not count here.
    """
    first = 2 * parity if quantizer == 0 else 3 - 2 * parity
    steps = np.floor((magnitude - np.float32(first)) * np.float32(0.25) + np.float32(0.5))
    return np.int32(first) + np.int32(4) * max(np.int32(steps), np.int32(0))


@compiled
def weigh_branches(
    magnitudes: ReadOnly1D[np.float32],
    bins: ReadOnly1D[np.uint8],
    prices: ReadOnly1D[np.float32],
    bin_count: int,
    shifts: ReadOnly1D[np.float32],
    branches: Writable2D[np.float32],
    zeros: Writable1D[np.uint8],
) -> None:
    """Find the cost of the best symbol of each quantizer and parity, for one symbol of each lane.

    ``branches`` have shape (2 * quantizer + parity, lane). Bit number ``quantizer`` of ``zeros`` says that the best even symbol
    is zero and not the nearest point. ``prices`` has shape (quantizer * bin * magnitude,), ``shifts`` one entry a magnitude of
    points.
    """
    width = DIRECT_TOKENS
    last_price, last_shift = np.int32(width - 1), np.int32(shifts.size - 1)
    for x in range(magnitudes.size):
        zeros[x] = 0
    for branch in range(4):
        quantizer, parity = np.int32(branch >> 1), np.int32(branch & 1)
        table = prices[quantizer * bin_count * width :]
        for x in range(magnitudes.size):
            magnitude = magnitudes[x]
            point = nearest_point(magnitude, quantizer, parity)
            at = np.uint32(bins[x]) * np.uint32(width)
            symbol = (point + quantizer) >> 1
            distance = magnitude - (np.float32(point) - shifts[np.uint32(min(point, last_shift))])
            cost = distance * distance + table[at + np.uint32(min(symbol, last_price))]
            if parity == 0:  # zero is in both quantizers
                zero = magnitude * magnitude + table[at]
                is_zero = zero < cost
                cost = zero if is_zero else cost
                zeros[x] |= np.uint8(is_zero) << np.uint8(quantizer)
            branches[branch, x] = cost


@compiled
def extend_paths(
    following: ReadOnly2D[np.uint8],
    previous: ReadOnly2D[np.uint8],
    branches: ReadOnly2D[np.float32],
    costs: ReadOnly2D[np.float32],
    extended: Writable2D[np.float32],
    decisions: Writable2D[np.uint32],
) -> None:
    """Find the cheapest way into each state, and note the parity of its last symbol in ``decisions``.

    ``costs`` before the symbol and ``extended`` costs after it have shape (state, lane). Two states of one quantizer lead to the
    same two states, and are treated together: pair number i has bit i % 32 of word 2 (i // 32) for the state that the first
    reaches by an even symbol, and that of the word after it for the other, see :func:`bit_places`.
    """
    states, lanes = costs.shape
    decisions[:] = 0
    pair = 0
    for state in range(states):
        low, high = np.int64(following[state, 0]), np.int64(following[state, 1])
        if low > high:
            continue
        one, two = costs[state], costs[np.int64(previous[low, 1])]
        even, odd = branches[2 * (state & 1)], branches[2 * (state & 1) + 1]
        into_low, into_high = extended[low], extended[high]
        low_word, high_word = decisions[2 * (pair // BITS)], decisions[2 * (pair // BITS) + 1]
        bit = np.uint32(1 << (pair % BITS))
        for x in range(lanes):
            first, second = one[x] + even[x], two[x] + odd[x]
            is_odd = second < first
            into_low[x] = second if is_odd else first
            low_word[x] |= bit if is_odd else np.uint32(0)
            first, second = two[x] + even[x], one[x] + odd[x]
            is_odd = second < first
            into_high[x] = second if is_odd else first
            high_word[x] |= bit if is_odd else np.uint32(0)
        pair += 1


@compiled
def bit_places(following: ReadOnly2D[np.uint8], places: Writable1D[np.int64]) -> None:
    """Compute for each state where :func:`extend_paths` notes its decision: 32 times the word, plus the bit."""
    pair = 0
    for state in range(places.size):
        low, high = np.int64(following[state, 0]), np.int64(following[state, 1])
        if low < high:
            places[low] = BITS * 2 * (pair // BITS) + pair % BITS
            places[high] = places[low] + BITS
            pair += 1


@compiled
def trace_back(
    previous: ReadOnly2D[np.uint8],
    places: ReadOnly1D[np.int64],
    costs: ReadOnly2D[np.float32],
    decisions: ReadOnly3D[np.uint32],
    zeros: ReadOnly2D[np.uint8],
    magnitudes: ReadOnly2D[np.float32],
    first_lane: int,
    chosen: Writable2D[np.int32],
) -> None:
    """Follow the cheapest path of each lane back, to the magnitudes of its points, shape (symbol, lane)."""
    for x in range(min(costs.shape[1], chosen.shape[1] - first_lane)):
        state = np.int64(0)
        for other in range(1, costs.shape[0]):
            if costs[other, x] < costs[state, x]:
                state = np.int64(other)
        for i in range(chosen.shape[0] - 1, -1, -1):
            place = places[state]
            parity = np.int64(decisions[i, place // BITS, x] >> np.uint32(place % BITS)) & 1
            state = np.int64(previous[state, parity])
            quantizer = np.int32(state & 1)
            is_zero = parity == 0 and (zeros[i, x] >> np.uint8(quantizer)) & 1
            point = nearest_point(magnitudes[i, first_lane + x], quantizer, np.int32(parity))
            chosen[i, first_lane + x] = np.int32(0) if is_zero else point


@compiled
def rescale(costs: Writable2D[np.float32]) -> None:
    """Take the smallest cost of each lane from all its costs, shape (state, lane)."""
    for x in range(costs.shape[1]):
        least = costs[0, x]
        for state in range(1, costs.shape[0]):
            least = min(least, costs[state, x])
        for state in range(costs.shape[0]):
            costs[state, x] -= least


@compiled
def choose_paths(
    following: ReadOnly2D[np.uint8],
    previous: ReadOnly2D[np.uint8],
    magnitudes: ReadOnly2D[np.float32],
    bins: ReadOnly2D[np.uint8],
    prices: ReadOnly2D[np.float32],
    shifts: ReadOnly2D[np.float32],
    chosen: Writable2D[np.int32],
) -> None:
    """Choose the cheapest path of each lane; ``chosen`` become the magnitudes of its points.

    ``magnitudes`` of latents in spacings and their context ``bins`` without the quantizer have shape (symbol, lane), ``chosen``
    too. Symbols are those of one channel after the other, of each the same number. ``prices`` are the costs of symbols from 0 to
    15 in squared spacings, shape (channel, quantizer * bin * symbol), and ``shifts`` those of points, (channel, magnitude).
    """
    count, lanes = magnitudes.shape
    states, per_channel = previous.shape[0], max(count // max(len(prices), 1), 1)
    bin_count = prices.shape[1] // (2 * DIRECT_TOKENS)
    groups = max((lanes + LANES - 1) // LANES, 1)
    beside = (lanes + groups - 1) // groups
    costs, extended = np.empty((states, beside), np.float32), np.empty((states, beside), np.float32)
    branches, zeros = np.empty((4, beside), np.float32), np.empty((count, beside), np.uint8)
    decisions = np.empty((count, 2 * ((states + 2 * BITS - 1) // (2 * BITS)), beside), np.uint32)
    row, row_bins, places = np.zeros(beside, np.float32), np.zeros(beside, np.uint8), np.empty(states, np.int64)
    bit_places(following, places)
    for first in range(0, lanes, max(beside, 1)):
        filled = min(beside, lanes - first)
        costs[:] = UNREACHABLE
        costs[0] = 0
        for i in range(count):
            for x in range(filled):
                row[x], row_bins[x] = magnitudes[i, first + x], bins[i, first + x]
            channel = i // per_channel
            weigh_branches(row, row_bins, prices[channel], bin_count, shifts[channel], branches, zeros[i])
            extend_paths(following, previous, branches, costs, extended, decisions[i])
            costs, extended = extended, costs
            if i % RESCALED == RESCALED - 1:
                rescale(costs)
        trace_back(previous, places, costs, decisions, zeros, magnitudes, first, chosen)


@compiled
def split_paths(
    following: ReadOnly2D[np.uint8],
    cell: int,
    rows: int,
    columns: int,
    channels: ReadOnly1D[np.int64],
    points: ReadOnly4D[np.int32],
    symbols: Writable4D[np.int32],
    quantizers: Writable4D[np.uint8],
) -> bool:
    """Compute symbols and quantizers of points that lie on paths through cells, (plane, latent=64, y, x).

    ``channels`` are those with trellis in coding order; of the others nothing is written, and nothing beyond the first ``rows``
    and ``columns`` of latents. Return whether the points lie on paths.
    """
    across = (columns + cell - 1) // cell
    states = np.empty(across, np.uint8)
    saved = np.zeros((len(points), (rows + cell - 1) // cell, across), np.uint8)
    for channel in channels:
        for plane in range(len(points)):
            for y in range(rows):
                states[:] = saved[plane, y // cell]
                row, row_symbols, row_quantizers = (
                    points[plane, channel, y], symbols[plane, channel, y], quantizers[plane, channel, y],
                )  # fmt: skip
                for x in range(columns):
                    state = states[x // cell]
                    quantizer = np.int32(state & 1)
                    point = np.int64(row[x])
                    magnitude = (abs(point) + 1) >> 1
                    if point != 0 and (point & 1) != quantizer:
                        return False
                    row_symbols[x] = -magnitude if point < 0 else magnitude
                    row_quantizers[x] = quantizer
                    states[x // cell] = following[state, magnitude & 1]
                saved[plane, y // cell] = states
    return True
