"""Kernels of trellis-coded quantization; Python side: :mod:`xsarcomp.codec.quantization`.

A state has three bits, z + 2 b + 4 c. z is the quantizer of the next symbol: 0 the even one, 1 the odd one. A symbol of
parity p leads to the state z' = z xor b, b' = c xor p, c' = z. This is the code of eight states of Ungerboeck (1982), *Channel
coding with multilevel/phase signals*, IEEE Transactions on Information Theory 28(1), with the parity checks 13 and 4 (octal).

A path goes through the channels with trellis of one block, in coding order, and begins in state 0. The encoder searches the
cheapest path with the algorithm of Viterbi, for all blocks of a row at once.
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

STATES = 8
UNREACHABLE = np.float32(1e30)
"""Cost of a state that no path leads to yet."""


@compiled
def advance(states: Writable1D[np.uint8], symbols: Writable1D[np.int32]) -> None:
    """Lead states on by one symbol each, and replace the symbols by their points."""
    for i in range(states.size):
        state, symbol = states[i], symbols[i]
        quantizer = np.int32(state & 1)
        magnitude = abs(symbol)
        point = 2 * magnitude - quantizer * np.int32(magnitude > 0)
        symbols[i] = -point if symbol < 0 else point
        middle = (state >> 1) & 1
        last = (state >> 2) & 1
        states[i] = ((state & 1) ^ middle) | ((last ^ np.uint8(magnitude & 1)) << 1) | ((state & 1) << 2)


@compiled
def replace_by_points(channels: ReadOnly1D[np.int64], symbols: Writable4D[np.int32]) -> None:
    """Replace the symbols of channels, given in coding order, by their points; shape (plane, latent=64, y, x)."""
    planes, _, height, width = symbols.shape
    states = np.empty(width, np.uint8)
    for plane in range(planes):
        for y in range(height):
            for x in range(width):
                states[x] = 0
            for channel in channels:
                advance(states, symbols[plane, channel, y])


@compiled
def predecessor(state: int, parity: int) -> int:
    """Return the state from which a symbol of a parity leads to ``state``."""
    first, second, third = state & 1, (state >> 1) & 1, (state >> 2) & 1
    return third | ((first ^ third) << 1) | ((second ^ parity) << 2)


@compiled
def weigh_branches(
    latents: ReadOnly1D[np.float64],
    spacing: float,
    bins: ReadOnly1D[np.uint8],
    prices: ReadOnly1D[np.float32],
    bin_count: int,
    shifts: ReadOnly1D[np.float32],
    branches: Writable2D[np.float32],
    points: Writable2D[np.int32],
) -> None:
    """Find the best symbol of each quantizer and parity for a row of one channel: its cost and its point.

    ``branches`` (costs) and ``points`` have shape (2 * quantizer + parity, x). ``prices`` has shape
    (quantizer * bin * magnitude,), ``shifts`` has one entry a magnitude of points.

    The points of a quantizer and a parity are four apart: 0, 4, 8, ... and 2, 6, ... in the even quantizer, 0, 3, 7, ...
    and 1, 5, ... in the odd one.
    """
    width = DIRECT_TOKENS
    last_price, last_shift = np.int32(width - 1), np.int32(shifts.size - 1)
    for branch in range(4):
        quantizer, parity = np.int32(branch >> 1), np.int32(branch & 1)
        first = 2 * parity if quantizer == 0 else 3 - 2 * parity
        table = prices[quantizer * bin_count * width :]
        for x in range(latents.size):
            magnitude = np.float32(abs(latents[x] / spacing))
            steps = np.floor((magnitude - np.float32(first)) * np.float32(0.25) + np.float32(0.5))
            point = np.int32(first) + np.int32(4) * max(np.int32(steps), np.int32(0))
            at = np.uint32(bins[x]) * np.uint32(width)
            symbol = (point + quantizer) >> 1
            distance = magnitude - (np.float32(point) - shifts[np.uint32(min(point, last_shift))])
            cost = distance * distance + table[at + np.uint32(min(symbol, last_price))]
            if parity == 0:  # zero is in both quantizers
                zero = magnitude * magnitude + table[at]
                is_zero = zero < cost
                cost = zero if is_zero else cost
                point = np.int32(0) if is_zero else point
            branches[branch, x] = cost
            points[branch, x] = point


@compiled
def extend_paths(
    branches: ReadOnly2D[np.float32],
    costs: Writable2D[np.float32],
    extended: Writable2D[np.float32],
    decisions: Writable1D[np.uint8],
) -> None:
    """Find the cheapest way into each state; one bit a state in ``decisions`` is the parity of its last symbol.

    ``costs`` before the symbol and ``extended`` costs after it have shape (state, x).
    """
    for x in range(decisions.size):
        decisions[x] = 0
    for state in range(STATES):
        even, odd = costs[predecessor(state, 0)], costs[predecessor(state, 1)]
        quantizer = (state >> 2) & 1
        even_branch, odd_branch = branches[2 * quantizer], branches[2 * quantizer + 1]
        into, bit = extended[state], np.uint8(1 << state)
        for x in range(decisions.size):
            first, second = even[x] + even_branch[x], odd[x] + odd_branch[x]
            is_odd = second < first
            into[x] = second if is_odd else first
            decisions[x] |= bit if is_odd else np.uint8(0)


@compiled
def trace_back(
    costs: ReadOnly2D[np.float32],
    decisions: ReadOnly2D[np.uint8],
    points: ReadOnly3D[np.int32],
    channels: ReadOnly1D[np.int64],
    chosen: Writable2D[np.int32],
) -> None:
    """Follow the cheapest path of each block of a row back, to the magnitudes of its points, shape (latent=64, x)."""
    for x in range(costs.shape[1]):
        state = 0
        for other in range(1, STATES):
            if costs[other, x] < costs[state, x]:
                state = other
        for number in range(channels.size - 1, -1, -1):
            parity = (np.int64(decisions[number, x]) >> state) & 1
            chosen[channels[number], x] = points[number, 2 * (state >> 2) + parity, x]
            state = predecessor(state, parity)


@compiled
def choose_paths(
    latents: ReadOnly4D[np.float64],
    spacing: float,
    channels: ReadOnly1D[np.int64],
    bins: ReadOnly4D[np.uint8],
    prices: ReadOnly2D[np.float32],
    shifts: ReadOnly2D[np.float32],
    chosen: Writable4D[np.int32],
) -> None:
    """Choose the points of the cheapest path of every block, in the channels with trellis of (plane, latent=64, y, x).

    ``channels`` are those with trellis in coding order; ``bins`` are their context bins without the quantizer, (channel,
    plane, y, x), and ``prices`` the cost of each symbol from 0 to 15 in squared spacings, (channel, quantizer * bin *
    symbol). ``shifts``, (latent=64, magnitude), are for all channels.
    """
    planes, _, height, width = latents.shape
    bin_count = prices.shape[1] // (2 * DIRECT_TOKENS)
    points_shifts = np.zeros((channels.size, shifts.shape[1] + 1), np.float32)  # by magnitude: that of zero is 0
    for number in range(channels.size):
        for i in range(shifts.shape[1]):
            points_shifts[number, i + 1] = shifts[channels[number], i]
    costs, extended = np.empty((STATES, width), np.float32), np.empty((STATES, width), np.float32)
    branches, points = np.empty((4, width), np.float32), np.empty((channels.size, 4, width), np.int32)
    decisions, row = np.empty((channels.size, width), np.uint8), np.empty((chosen.shape[1], width), np.int32)
    for plane in range(planes):
        for y in range(height):
            costs[:] = UNREACHABLE
            costs[0] = 0
            for number in range(channels.size):
                weigh_branches(
                    latents[plane, channels[number], y],
                    spacing,
                    bins[number, plane, y],
                    prices[number],
                    bin_count,
                    points_shifts[number],
                    branches,
                    points[number],
                )
                extend_paths(branches, costs, extended, decisions[number])
                costs, extended = extended, costs
            trace_back(costs, decisions, points, channels, row)
            for number in range(channels.size):
                channel = channels[number]
                for x in range(width):
                    negative = latents[plane, channel, y, x] < 0
                    chosen[plane, channel, y, x] = -row[channel, x] if negative else row[channel, x]
