"""Codes of the trellis, and paths through cells: against the code's parity check, all paths, and each other."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.numpy_formulation import numpy_bins, random_tables
from xsarcomp.codec.choice import choose_points, initial_points, optimized_points, points_of_cells
from xsarcomp.codec.entropy_coding import decode_lowest_channel, decode_symbols, encode_symbols, estimate_bits
from xsarcomp.codec.entropy_tables import CHANNEL_ORDER, CHANNELS, DIRECT_TOKENS
from xsarcomp.codec.quantization import SHIFT_CLASSES, find_cells
from xsarcomp.codec.symbol_head import SymbolHead, read_head
from xsarcomp.codec.trellis import BLOCK_TRELLIS, CELL_TRELLIS, PARITY_CHECKS, Trellis
from xsarcomp.errors import CorruptStreamError

ALL_TRELLISES = [Trellis(16, states, 0.625) for states in PARITY_CHECKS]


@pytest.mark.parametrize("trellis", ALL_TRELLISES, ids=lambda trellis: str(trellis.states))
def test_each_state_has_two_ways_in_and_two_ways_out(trellis):
    assert sorted(trellis.next_states.reshape(-1).tolist()) == sorted([*range(trellis.states)] * 2)
    for state in range(trellis.states):
        for parity in (0, 1):
            assert trellis.next_states[trellis.previous_states[state, parity], parity] == state


@pytest.mark.parametrize("trellis", ALL_TRELLISES, ids=lambda trellis: str(trellis.states))
def test_quantizers_and_parities_of_any_path_fulfil_the_parity_check_of_the_code(trellis):
    """The sum over i of h0[i] z0[n - i] + h1[i] z1[n - i] is even for all n: Ungerboeck (1982), equation 14."""
    generator = np.random.default_rng(0)
    parities, quantizers, state = generator.integers(0, 2, 300), [], 0
    for parity in parities:
        quantizers.append(state & 1)
        state = int(trellis.next_states[state, parity])
    h0, h1 = ([check >> i & 1 for i in range(9)] for check in PARITY_CHECKS[trellis.states])
    sums = np.convolve(quantizers, h0)[:300] + np.convolve(parities, h1)[:300]
    assert not (sums % 2).any()
    assert h0[0] == 1
    assert np.mean(quantizers) == pytest.approx(0.5, abs=0.15)


def paths_by_hand(points, trellised, cell, states):
    """Symbols and quantizers of points, one symbol after the other; None where a point is in the other quantizer."""
    h0, h1 = PARITY_CHECKS[states]
    symbols, quantizers = points.copy(), np.zeros(points.shape, np.uint8)
    for plane, top, left in np.ndindex(len(points), -(-points.shape[2] // cell), -(-points.shape[3] // cell)):
        state = 0
        for channel in (channel for channel in CHANNEL_ORDER if trellised[channel]):
            for y in range(top * cell, min((top + 1) * cell, points.shape[2])):
                for x in range(left * cell, min((left + 1) * cell, points.shape[3])):
                    place = plane, channel, y, x
                    z, point = state % 2, int(points[place])
                    if point and point % 2 != z:
                        return None
                    magnitude = (abs(point) + z) // 2
                    symbols[place], quantizers[place] = int(np.sign(point)) * magnitude, z
                    state = state // 2 ^ (h0 // 2 if z else 0) ^ (h1 // 2 if magnitude % 2 else 0)
    return symbols, quantizers


class Case(tuple):
    """Latents, tables, shifts, step and Lagrange multiplier, without thousands of numbers in a report."""

    def __repr__(self):
        return f"Case(shape={self[0].shape}, trellis={self[1].trellis}, step_db={self[3]}, lagrangian={self[4]})"


@st.composite
def cell_cases(draw):
    """Latents of up to three planes, tables with a trellis through cells, shifts, a step and a Lagrange multiplier."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    trellis = Trellis(draw(st.sampled_from([2, 4, 16])), draw(st.sampled_from([8, 32, 128])), 0.625)
    tables = dataclasses.replace(random_tables(generator), trellis=trellis)
    shape = (draw(st.integers(1, 3)), CHANNELS, draw(st.integers(1, 21)), draw(st.integers(1, 19)))
    step_db = draw(st.sampled_from([0.3, 1.0, 8.0]))
    latents = generator.laplace(0, draw(st.sampled_from([0.5, 3.0, 300.0])), shape)
    latents *= generator.random(shape) < draw(st.sampled_from([0.02, 1.0]))
    shifts = generator.uniform(-0.3, 0.4, (CHANNELS, SHIFT_CLASSES)).astype(np.float32)
    return Case((latents, tables, shifts, step_db, draw(st.sampled_from([0.0, 0.1, 1.0]))))


def chosen_points(case):
    latents, tables, shifts, step_db, lagrangian = case
    return points_of_cells(
        latents, tables.trellis.cell, lambda cells: optimized_points(cells, tables, 0, shifts, step_db, lagrangian)
    )


@given(case=cell_cases())
@settings(deadline=None, max_examples=25)
def test_chosen_points_lie_on_paths_through_cells_and_come_back_from_their_stream(case):
    tables, points = case[1], chosen_points(case)
    expected = paths_by_hand(points, tables.trellised[0], tables.trellis.cell, tables.trellis.states)
    paths = find_cells(points, tables.trellised[0], tables.trellis)
    assert paths.cell == tables.trellis.cell
    np.testing.assert_array_equal(paths.symbols, expected[0])
    np.testing.assert_array_equal(paths.quantizers, expected[1])
    payload = encode_symbols(points, tables, 0)
    np.testing.assert_array_equal(decode_symbols(payload, points.shape, tables, 0), points)
    np.testing.assert_array_equal(decode_lowest_channel(payload, points.shape, tables, 0), points[:, 0])
    # words and bypass bits are padded to whole words and bytes, and the head is beside them
    assert 0 <= 8 * len(payload) - estimate_bits(points, tables, 0) < 200 + points.shape[0] * points[0, 0].size / 8


@given(case=cell_cases(), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_points_that_lie_on_no_path_are_coded_without_loss_too(case, seed):
    tables = case[1]
    points = np.roll(chosen_points(case), 1 + seed % 5, axis=-1)
    points[0, seed % CHANNELS, 0, 0] += seed % 3
    payload = encode_symbols(points, tables, 0)
    np.testing.assert_array_equal(decode_symbols(payload, points.shape, tables, 0), points)


@given(case=cell_cases(), rows=st.integers(1, 5), columns=st.integers(0, 5))
@settings(deadline=None, max_examples=25)
def test_the_padding_of_a_chunk_at_the_edge_is_on_no_path(case, rows, columns):
    tables, points = case[1], chosen_points(case)
    padded = np.pad(points, ((0, 0), (0, 0), (0, rows), (0, columns)))
    payload = encode_symbols(padded, tables, 0, points.shape[2:])
    np.testing.assert_array_equal(decode_symbols(payload, padded.shape, tables, 0), padded)
    if points[:, 1:].any():
        head, _ = read_head(payload, padded.shape, tables.trellis)
        assert (head.cell, head.extent) == (tables.trellis.cell, points.shape[2:])


@given(case=cell_cases(), top=st.integers(0, 1), left=st.integers(0, 1))
@settings(deadline=None, max_examples=25)
def test_points_do_not_depend_on_where_an_array_ends(case, top, left):
    latents, tables = case[:2]
    cell = tables.trellis.cell
    whole = chosen_points(case)
    window = (..., slice(top * cell, None), slice(left * cell, None))
    if latents[window].size:
        np.testing.assert_array_equal(chosen_points((latents[window], *case[1:])), whole[window])


def test_no_path_through_a_cell_is_cheaper_than_the_chosen_one():
    """All paths through two channels of a cell of 2 x 2: candidates are zero and the nearest points of each parity."""
    generator, trellis = np.random.default_rng(4), Trellis(2, 16, 0.625)
    mask = np.isin(np.arange(CHANNELS), CHANNEL_ORDER[1:3])
    for _ in range(10):
        tables = dataclasses.replace(random_tables(generator), trellised=mask[None], trellis=trellis)
        latents, lagrangian = generator.laplace(0, 2, (1, CHANNELS, 2, 2)), 0.1
        shifts = generator.uniform(-0.3, 0.4, (CHANNELS, SHIFT_CLASSES)).astype(np.float32)
        start = initial_points(latents, mask, 1.0, trellis)
        chosen = choose_points(latents, start, tables, 0, shifts, 1.0, lagrangian)
        costs = {0: 0.0}, {}
        paths = {(0, ()): 0.0}
        for channel in CHANNEL_ORDER[1:3]:
            lengths, bins = tables.code_length[0, channel], numpy_bins(start, tables, 0, channel)[0]
            for y, x in np.ndindex(2, 2):
                magnitude, extended = abs(latents[0, channel, y, x]) / 0.625, {}
                for (state, symbols), total in paths.items():
                    z = state % 2
                    points = {k: 2 * k - z for k in range(40) if k or not z}
                    near = {
                        min((k for k in points if k % 2 == p), key=lambda k: abs(points[k] - magnitude)) for p in (0, 1)
                    }
                    for k in {0} | near:
                        point = 2 * k - z if k else 0
                        value = point - float(shifts[channel][min(point, SHIFT_CLASSES) - 1]) if point else 0.0
                        bits = float(lengths[bins[y, x] + z * (len(lengths) // 2)][min(k, DIRECT_TOKENS - 1)]) + (k > 0)
                        cost = total + (magnitude - value) ** 2 + lagrangian / 0.625**2 * bits
                        key = int(trellis.next_states[state, k % 2]), (*symbols, point)
                        extended[key] = min(cost, extended.get(key, np.inf))
                paths = extended
        found = tuple(np.abs(chosen[0, CHANNEL_ORDER[1:3]]).reshape(-1).tolist())
        costs = {symbols: cost for (_, symbols), cost in paths.items()}
        assert costs[found] <= min(costs.values()) * (1 + 1e-5) + 1e-5


def rate_and_error(latents, trellis, lengths_of, lagrangian):
    """Bits a symbol and squared error of cells of Gaussian latents, under prices that were fitted to them."""
    from xsarcomp.codec.kernels import trellis as kernels

    lengths = np.tile(np.arange(DIRECT_TOKENS, dtype=np.float32), (2, 1))
    for _ in range(lengths_of):
        prices = (lagrangian * (lengths + (np.arange(DIRECT_TOKENS) > 0))).astype(np.float32).reshape(1, -1)
        points = np.empty(latents.shape, np.int32)
        states = trellis.next_states, trellis.previous_states
        kernels.choose_paths(
            *states, np.abs(latents), np.zeros(latents.shape, np.uint8), prices, np.zeros((1, 7), np.float32), points
        )
        along = np.ascontiguousarray(points.T[None, :, None])[:, :, 0].reshape(-1, 1, 1, len(points))
        shown = np.zeros((len(along), CHANNELS, 1, len(points)), np.int32)
        shown[:, 1] = along[:, 0]
        quantizers = np.empty(latents.shape, np.int64)
        for lane in range(latents.shape[1]):
            state = 0
            for i, point in enumerate(points[:, lane].tolist()):
                quantizers[i, lane] = state & 1
                state = int(trellis.next_states[state, (point + 1) // 2 & 1])
        symbols = (points + 1) // 2
        counts = np.stack(
            [np.bincount(symbols[quantizers == z], minlength=DIRECT_TOKENS)[:DIRECT_TOKENS] + 0.1 for z in (0, 1)]
        )
        lengths = (-np.log2(counts / counts.sum(1, keepdims=True))).astype(np.float32)
    bits = sum(counts[z] @ (lengths[z] + (np.arange(DIRECT_TOKENS) > 0)) for z in (0, 1)) / points.size
    means = np.bincount(points.reshape(-1), np.abs(latents).reshape(-1)) / np.maximum(
        np.bincount(points.reshape(-1)), 1
    )
    return float(bits), float(np.mean((np.abs(latents) - np.where(points > 0, means[points], 0)) ** 2))


@pytest.mark.slow
def test_many_states_and_long_paths_come_nearer_to_the_bound():
    """Independent Gaussian latents near one bit: distance to the least error that is possible at the rate, in dB."""
    latents = np.random.default_rng(1).normal(0, 1, (1024, 24)).astype(np.float32) * 1.0
    distances = []
    for trellis in (Trellis(16, 8, 0.625), CELL_TRELLIS):
        bits, error = rate_and_error(latents / np.float32(0.9), trellis, 4, 0.32)
        distances.append(10 * np.log10(error * 0.81) + 20 * np.log10(2) * bits)
    assert 0 < distances[1] < distances[0] - 0.1


def test_heads_that_no_encoder_writes_are_refused():
    shape = (1, CHANNELS, 20, 20)
    good = SymbolHead(5, None, 16, (18, 20)).to_bytes(CELL_TRELLIS)
    assert read_head(good + b"rest", shape, CELL_TRELLIS) == (SymbolHead(5, None, 16, (18, 20)), len(good))
    assert read_head(b"\x05rest", shape, BLOCK_TRELLIS) == (SymbolHead(5, None), 1)
    for head in (b"\x05", b"\x05\x06", b"\x05\x85", good[:-1], b"\x05\x80" + good[2:]):
        with pytest.raises(CorruptStreamError):
            read_head(head, shape, CELL_TRELLIS)
    for extent in ((0, 20), (21, 20), (20, 20), (18, 2**31)):
        with pytest.raises(CorruptStreamError):
            read_head(SymbolHead(5, None, 16, extent).to_bytes(CELL_TRELLIS), shape, CELL_TRELLIS)
    with pytest.raises(CorruptStreamError):
        read_head(SymbolHead(5, None, 16).to_bytes(CELL_TRELLIS), shape, Trellis(8, 128, 0.625))


@pytest.mark.parametrize(
    "content", [None, {}, {"cell": 3, "states": 8, "spacing": 0.6}, {"cell": 16, "states": 7, "spacing": 0.6},
                {"cell": 16, "states": 128, "spacing": 9.0}, {"cell": True, "states": 8, "spacing": 0.6}]
)  # fmt: skip
def test_a_trellis_that_the_format_does_not_have_is_refused(content):
    with pytest.raises((TypeError, ValueError), match="trellis"):
        Trellis.from_json(content)
