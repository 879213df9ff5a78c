"""The NumPy formulation of contexts and of the choice of points: slow, and an oracle for the compiled kernels."""

import numpy as np

from xsarcomp.codec.contexts import CONTEXT_CLIP
from xsarcomp.codec.entropy_tables import (
    CHANNEL_ORDER,
    CHANNELS,
    DIRECT_TOKENS,
    FREQUENCY_TOTAL,
    LOWEST_TABLES,
    QUANTIZERS,
    TOKENS,
    EntropyTables,
)
from xsarcomp.models.refiner.sign_tables import empty_signs

DIRECT = ((-1, 0), (1, 0), (0, -1), (0, 1))
DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))


def moved(plane, row, column):
    """Values of a neighbor of each place, edges repeated."""
    padded = np.pad(plane, ((0, 0), (1, 1), (1, 1)), mode="edge")
    height, width = plane.shape[1:]
    return padded[:, 1 + row : 1 + row + height, 1 + column : 1 + column + width]


def numpy_bins(symbols, tables, anchor, channel):
    """Context bins as ``docs/format.md`` section 3.4 has them."""
    total = np.zeros(symbols[:, 0].shape, np.int32)
    terms = (tables.term_channels, tables.term_kinds, tables.term_weights)
    for source, kind, weight in zip(*(term[anchor, channel].tolist() for term in terms), strict=True):
        if source < 0:
            continue
        values = symbols[:, source].astype(np.int64)
        if source == 0:
            values = sum(np.abs(values - moved(values, *step)) for step in DIRECT) >> 1
        near = np.minimum(np.abs(values), CONTEXT_CLIP)
        if kind:
            near = sum(moved(near, *step) for step in (DIRECT if kind == 1 else DIAGONAL))
        total += (near * weight).astype(np.int32)
    return np.searchsorted(tables.thresholds[anchor, channel], total, side="right")


def numpy_choice(scaled, bins, code_length, shifts, lagrangian):
    """The choice of symbols in NumPy, with its types: costs in float64 of prices in float32."""
    magnitude = np.abs(scaled)
    nearest = np.floor(magnitude + 0.5).astype(np.int32)
    chosen = np.zeros_like(nearest)
    last = code_length.shape[-1] - 1
    best = magnitude**2 + lagrangian * code_length[bins, 0]
    for candidate in (np.maximum(nearest - 1, 0), nearest):
        reconstruction = candidate - np.where(candidate > 0, shifts[np.clip(candidate, 1, len(shifts)) - 1], 0)
        bits = code_length[bins, np.minimum(candidate, last)] + (candidate > 0)
        cost = (magnitude - reconstruction) ** 2 + lagrangian * bits
        better = cost < best
        chosen, best = np.where(better, candidate, chosen), np.where(better, cost, best)
    return (np.sign(scaled) * chosen).astype(np.int32)


def numpy_branch(magnitude, bins, quantizer, parity, code_length, shifts, lagrangian):
    """Cost and point of the best symbol of a quantizer and a parity, in float32 throughout."""
    first = {(0, 0): 0, (0, 1): 2, (1, 0): 3, (1, 1): 1}[quantizer, parity]
    steps = np.floor((magnitude - np.float32(first)) * np.float32(0.25) + np.float32(0.5)).astype(np.int32)
    point = first + 4 * np.maximum(steps, 0)
    symbol = (point + quantizer) // 2
    bins = bins + quantizer * (len(code_length) // 2)
    last = code_length.shape[-1] - 1
    shift = np.where(point > 0, shifts[np.clip(point, 1, len(shifts)) - 1], np.float32(0))
    price = lagrangian * (code_length[bins, np.minimum(symbol, last)] + (symbol > 0).astype(np.float32))
    cost = (magnitude - (point.astype(np.float32) - shift)) ** 2 + price
    if parity == 0:
        zero = magnitude * magnitude + lagrangian * code_length[bins, 0]
        point, cost = np.where(zero < cost, 0, point), np.minimum(zero, cost)
    return cost, point


def numpy_paths(latents, bins, code_length, shifts, spacing, lagrangian):
    """Points of the cheapest path of each block: all eight paths that lead to a state are kept whole.

    Shapes: latents and bins (channel, place), in coding order; the state is a tuple (z, b, c) as in the format.
    """
    states = [(z, b, c) for c in (0, 1) for b in (0, 1) for z in (0, 1)]
    channels, places = latents.shape
    costs = {state: np.full(places, 0 if state == (0, 0, 0) else np.float32(1e30), np.float32) for state in states}
    paths = {state: np.zeros((channels, places), np.int32) for state in states}
    for channel in range(channels):
        magnitude = np.abs(latents[channel] / spacing).astype(np.float32)
        arguments = bins[channel], code_length[channel], shifts[channel], np.float32(lagrangian)
        before, costs = costs, {}
        kept, paths = paths, {}
        for parity in (0, 1):
            for state in states:
                z, b, c = state
                cost, point = numpy_branch(magnitude, arguments[0], z, parity, *arguments[1:])
                path, total = kept[state].copy(), before[state] + cost
                path[channel] = np.where(latents[channel] < 0, -point, point)
                to = (z ^ b, c ^ parity, z)
                if to not in costs:
                    costs[to], paths[to] = total, path
                else:  # parity 1 comes after parity 0, which wins where both cost the same
                    better = total < costs[to]
                    costs[to] = np.where(better, total, costs[to])
                    paths[to] = np.where(better, path, paths[to])
    best = np.argmin(np.stack([costs[state] for state in states]), axis=0)
    return np.take_along_axis(np.stack([paths[state] for state in states]), best[None, None], 0)[0]


def numpy_points(latents, points, tables, anchor, shifts, step_db, lagrangian):
    """What :func:`xsarcomp.codec.coder.choose_points` must return."""
    chosen = np.zeros_like(points)
    chosen[:, 0] = np.rint(latents[:, 0] / step_db)
    lengths = tables.code_length[anchor, :, :, :DIRECT_TOKENS]
    for channel in np.flatnonzero(~tables.trellised[anchor])[1:]:
        scaled = latents[:, channel] / step_db
        places = np.abs(scaled) >= 0.5
        if places.any():
            bins = numpy_bins(points, tables, anchor, channel)[places]
            chosen[:, channel][places] = numpy_choice(
                scaled[places], bins, lengths[channel], shifts[channel], lagrangian
            )
    path = [channel for channel in CHANNEL_ORDER if tables.trellised[anchor, channel]]
    if path:
        bins = np.stack([numpy_bins(points, tables, anchor, channel).reshape(-1) for channel in path])
        along = latents[:, path].transpose(1, 0, 2, 3).reshape(len(path), -1)
        found = numpy_paths(along, bins, lengths[path], shifts[path], 0.5625 * step_db, lagrangian / 0.5625**2)
        chosen[:, path] = found.reshape(len(path), len(latents), *latents.shape[2:]).transpose(1, 0, 2, 3)
    return chosen


def random_tables(generator):
    """Tables that no training would give: any terms, weights and thresholds that the format allows."""
    terms, bins, lowest_bins = (int(generator.integers(low, high)) for low, high in ((1, 33), (1, 21), (1, 12)))
    channels, rank = np.full((1, CHANNELS, terms), -1, np.int16), np.argsort(CHANNEL_ORDER)
    for channel in range(1, CHANNELS):
        known = CHANNEL_ORDER[: rank[channel]]
        channels[0, channel] = np.where(generator.random(terms) < 0.8, generator.choice(known, terms), -1)

    def frequencies(*shape):
        odd = generator.dirichlet(np.full(TOKENS, 0.3), shape)
        table = 1 + np.floor(odd * (FREQUENCY_TOTAL - TOKENS)).astype(np.int64)
        table[..., 0] += FREQUENCY_TOTAL - table.sum(-1)
        return table.astype(np.uint16)

    largest = generator.choice([3, 300, 32768])
    trellised = generator.random((1, CHANNELS)) < generator.choice([0.0, 0.1, 0.5, 1.0])
    trellised[:, 0] = False
    return EntropyTables(
        trellised=trellised,
        term_channels=channels,
        term_kinds=generator.integers(0, 3, channels.shape).astype(np.uint8),
        term_weights=generator.integers(0, largest, channels.shape).astype(np.int16),
        thresholds=np.sort(generator.integers(0, 40 * largest, (1, CHANNELS, bins - 1))).astype(np.int32),
        frequencies=frequencies(1, CHANNELS, QUANTIZERS * bins),
        lowest_thresholds=np.sort(generator.integers(0, 60, (1, LOWEST_TABLES, lowest_bins - 1))).astype(np.int32),
        lowest_frequencies=frequencies(1, LOWEST_TABLES, lowest_bins),
        **{name: array[None] for name, array in empty_signs().items()},
    )
