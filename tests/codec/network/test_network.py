"""The network in integers against a slow one that was written from the format, bit for bit."""

import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.codec.network import layers as integer_layers
from xsarcomp.codec.network import network as integer_network
from xsarcomp.codec.network.arithmetic import input_levels
from xsarcomp.codec.network.network import STEPS_CACHED, IntegerNetwork, expected_shapes
from xsarcomp.codec.network.products import float_product, integer_product
from xsarcomp.codec.trellis import BLOCK_TRELLIS
from xsarcomp.errors import ModelIntegrityError
from xsarcomp.models.refiner.export import integer_arrays
from xsarcomp.models.refiner.network import RefinerConfig

pytestmark = pytest.mark.slow

SMALL = RefinerConfig(channels=8, blocks=2)


def random_arrays(config, seed):
    """Arrays that a model file may hold, not from a trained network: full range of levels, scales over decades."""
    random = np.random.default_rng(seed)
    arrays = {}
    for name, (shape, dtype) in expected_shapes(config).items():
        if dtype == "int8":
            largest = min(127, 2**24 // 127 // shape[0] - 1)
            arrays[name] = random.integers(-largest, largest + 1, shape).astype(np.int8)
        elif name.endswith((".unit", ".units")):
            arrays[name] = (10 ** random.uniform(-4, -1, shape)).astype(np.float32)
        else:
            arrays[name] = random.normal(0, 0.3, shape).astype(np.float32)
    return arrays


def slow_network(arrays, blocks, symbols, step_db):
    """Offsets (y, x, 64) of one plane of symbols (64, y, x), from section 6.3 of the format alone."""
    float32 = np.float32
    arrays = {name: a.astype(np.int64 if a.dtype == np.int8 else np.float64) for name, a in arrays.items()}
    t = round(2**15 * math.log(step_db)) / 2**16

    def g(values):
        return np.sign(values) * np.minimum(127, np.rint(24 * np.log(1 + np.abs(values.astype(float))))).astype(int)

    def q(values):
        assert np.isfinite(values).all()
        return np.clip(np.rint(values), -127, 127).astype(np.int64)

    def f(values):
        return np.where(np.abs(values) < 2.0**-90, 0, values).astype(float32)

    def scales(layer, unit_in, condition=None, unit_out=None):
        units, bias = arrays[f"{layer}.units"], arrays[f"{layer}.bias"]
        if condition is None:
            return f(units * unit_in), f(bias)
        k = arrays[f"{condition}.coefficients"]
        gain, shift = ((k[..., 0] + k[..., 1] * t) + k[..., 2] * (t * t)) + k[..., 3] * (t * t * t)
        return f(units * unit_in * (1 + gain) / unit_out), f((bias * (1 + gain) + shift) / unit_out)

    def sums(layer, values, edge):
        levels = arrays[f"{layer}.levels"].reshape(edge, edge, values.shape[-1], -1)
        height, width = values.shape[0] - edge + 1, values.shape[1] - edge + 1
        total = np.zeros((height, width, levels.shape[-1]), np.int64)
        for row in range(edge):
            for column in range(edge):
                for channel in range(values.shape[-1]):
                    part = values[row : row + height, column : column + width, channel, None]
                    total += part * levels[row, column, channel]
        return total

    def scaled(total, factor, addend):
        return (total.astype(float32) * factor).astype(float32) + addend

    lowest = symbols[0].astype(np.int64)
    middle = lowest[1:-1, 1:-1]
    around = [lowest[:-2, 1:-1], lowest[2:, 1:-1], lowest[1:-1, :-2], lowest[1:-1, 2:]]
    features = [g(plane[1:-1, 1:-1].astype(np.int64)) for plane in symbols[1:]]
    features += [g(neighbor - middle) for neighbor in around] + [q(middle * step_db / 2)] + 4 * [0 * middle]
    current = scaled(sums("entry", np.stack(features, -1), 3), *scales("entry", 1 / 24, "condition", 1.0))
    for block in range(blocks):
        name = f"blocks.{block}"
        entry, hidden = (arrays[f"{name}.{which}_levels.unit"][0] for which in ("entry", "hidden"))
        levels = q(current * float32(1 / entry))
        spatial = scaled(
            sums(f"{name}.spatial", levels, 3), *scales(f"{name}.spatial", entry, f"{name}.condition", hidden)
        )
        mixed = scaled(sums(f"{name}.mix", q(np.maximum(0, spatial)), 1), *scales(f"{name}.mix", hidden))
        current = current[1:-1, 1:-1] + mixed
    unit = arrays["exit_levels.unit"][0]
    levels = q(np.maximum(0, current) * float32(1 / unit))
    result = scaled(sums("exit", levels, 1), *scales("exit", unit))
    assert result.dtype == float32
    return result


def symbols_like(shape, seed, spread=3.0):
    symbols = np.rint(np.random.default_rng(seed).laplace(0, spread, (64, *shape)))
    return np.clip(symbols, -(2**20) + 1, 2**20 - 1).astype(np.int32)


def levels_of(symbols, step_db):
    """Input of the network, shape (1, y - 2, x - 2, feature=72), without a trellis: what it does not look at."""
    return torch.from_numpy(input_levels(symbols[None], step_db, np.zeros(64, bool), BLOCK_TRELLIS.spacing))


def offsets(network, symbols, step_db):
    return network(levels_of(symbols, step_db)[0], step_db).numpy()


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    channels=st.integers(1, 24),
    blocks=st.integers(1, 3),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    step_db=st.floats(0.02, 64.0),
    spread=st.sampled_from([0.3, 3.0, 1e5]),
)
def test_network_is_the_one_of_the_format_to_the_bit(seed, channels, blocks, height, width, step_db, spread):
    config = RefinerConfig(channels=channels, blocks=blocks)
    arrays = random_arrays(config, seed)
    reach = config.reach
    symbols = symbols_like((height + 2 * reach, width + 2 * reach), seed, spread)
    found = offsets(IntegerNetwork(arrays, config), symbols, step_db)
    assert found.dtype == np.float32
    assert found.shape == (height, width, 64)
    np.testing.assert_array_equal(found, slow_network(arrays, blocks, symbols, step_db))


@pytest.mark.parametrize("product", [integer_product, float_product])
def test_each_product_gives_the_network_of_the_format(product, disturbed_refiner, monkeypatch):
    monkeypatch.setattr(integer_network, "fastest_product", lambda *_: product)
    arrays = integer_arrays(disturbed_refiner(SMALL))
    symbols = symbols_like((11, 13), 4)
    found = offsets(IntegerNetwork(arrays, SMALL), symbols, 2.9)
    np.testing.assert_array_equal(found, slow_network(arrays, 2, symbols, 2.9))


@pytest.mark.parametrize("size", [1, 9 * 13 * 72 * 2, 9 * 13 * 72 * 5])
def test_the_size_of_the_strips_changes_nothing(size, disturbed_refiner, monkeypatch):
    network = IntegerNetwork(integer_arrays(disturbed_refiner(SMALL)), SMALL)
    symbols = symbols_like((15, 13), 4)
    expected = offsets(network, symbols, 2.9)
    monkeypatch.setattr(integer_layers, "STRIP_BYTES", size)
    np.testing.assert_array_equal(offsets(network, symbols, 2.9), expected)


@pytest.mark.parametrize("step_db", [0.3, 2.9, 17.0])
def test_training_computes_the_same_but_for_roundings_that_fall_the_other_way(step_db, disturbed_refiner):
    refiner = disturbed_refiner(SMALL, seed=3)
    network = IntegerNetwork(integer_arrays(refiner), SMALL)
    symbols = symbols_like((40, 40), 5)
    found = offsets(network, symbols, step_db)
    levels = levels_of(symbols, step_db).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        trained = refiner(levels, step_db)[0].permute(1, 2, 0).numpy()
    difference = np.abs(found - trained) / np.abs(found).std()
    # seen over 18 networks and steps: at most 0.03 of the spread, in 0.2 % of the offsets
    assert difference.max() < 0.1
    assert (difference > 1e-4).mean() < 0.01


@pytest.mark.parametrize("size", [(40, 1), (1, 40), (40, 2), (17, 1)])
def test_a_tile_of_one_row_or_column_has_the_offsets_of_a_larger_one(size, disturbed_refiner):
    """Windows of the last column were a view with rows that overlap, of which the product of integers made nonsense."""
    network = IntegerNetwork(integer_arrays(disturbed_refiner(SMALL)), SMALL)
    margin = 2 * network.config.reach - 2
    levels = np.random.default_rng(8).integers(-127, 128, (44 + margin, 44 + margin, 72), np.int8)
    whole = network(torch.from_numpy(levels), 2.0)
    part = np.ascontiguousarray(levels[: size[0] + margin, : size[1] + margin])
    assert torch.equal(network(torch.from_numpy(part), 2.0), whole[: size[0], : size[1]])


def test_network_does_not_depend_on_the_memory_of_its_levels(disturbed_refiner):
    network = IntegerNetwork(integer_arrays(disturbed_refiner(SMALL)), SMALL)
    levels = levels_of(symbols_like((12, 14), 6), 3.0)[0]
    expected = network(levels, 3.0)
    larger = torch.zeros((20, 20, 72), dtype=torch.int8)
    larger[5:15, 3:15] = levels
    transposed = levels.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    for other in (larger[5:15, 3:15], transposed):
        assert not other.is_contiguous()
        assert torch.equal(network(other, 3.0), expected)


def test_network_can_be_shared_pickled_and_asked_at_more_steps_than_it_keeps(disturbed_refiner):
    network = IntegerNetwork(integer_arrays(disturbed_refiner(SMALL)), SMALL)
    symbols = symbols_like((9, 9), 7)
    steps = np.geomspace(0.02, 64, 2 * STEPS_CACHED + 3).tolist()
    expected = [offsets(network, symbols, step_db) for step_db in steps]
    copy = pickle.loads(pickle.dumps(network))
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda step_db: offsets(network, symbols, step_db), steps[::-1]))[::-1]
        copied = list(pool.map(lambda step_db: offsets(copy, symbols, step_db), steps))
    np.testing.assert_array_equal(again, expected)
    np.testing.assert_array_equal(copied, expected)
    assert len(network._scales_by_step) <= STEPS_CACHED


def test_arrays_are_copies_that_further_training_does_not_reach(disturbed_refiner):
    refiner = disturbed_refiner(SMALL)
    arrays = integer_arrays(refiner)
    before = {name: array.copy() for name, array in arrays.items()}
    with torch.no_grad():
        for parameter in refiner.parameters():
            parameter.fill_(0.5)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


def test_arrays_of_a_wide_network_are_accepted_whatever_was_trained(disturbed_refiner):
    config = RefinerConfig(channels=512, blocks=1)
    IntegerNetwork(integer_arrays(disturbed_refiner(config)), config)


def test_numbers_at_their_bounds_stay_finite():
    arrays = random_arrays(SMALL, 8)
    for extreme in (2.0**16, -(2.0**16)):
        for name, array in arrays.items():
            if name.endswith((".bias", ".coefficients", ".units")):
                array[:] = abs(extreme) if name.endswith(".units") else extreme
            elif name.endswith(".unit"):
                array[:] = 2.0**-30
        symbols = symbols_like((9, 9), 9, 1e5)
        for step_db in (0.02, 64.0):
            found = offsets(IntegerNetwork(arrays, SMALL), symbols, step_db)
            assert np.isfinite(found).all()
            np.testing.assert_array_equal(found, slow_network(arrays, 2, symbols, step_db))


def test_subnormal_numbers_of_a_model_count_as_zero():
    arrays = random_arrays(SMALL, 10)
    arrays["exit.levels"][:, 0] = 0
    arrays["exit.bias"][:1] = 1e-40
    assert not offsets(IntegerNetwork(arrays, SMALL), symbols_like((9, 9), 11), 3.0)[..., 0].any()


def changed(arrays, name, function):
    result = dict(arrays)
    result[name] = function(arrays[name].copy())
    return result


def first(value):
    def function(array):
        array.flat[0] = value
        return array

    return function


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("entry.levels", first(-128), "-128"),
        ("entry.levels", lambda array: array.astype(np.int16), "int16"),
        ("entry.levels", lambda array: array[:-1], "shape"),
        ("entry.levels", lambda array: array.T, "shape"),
        ("exit.bias", first(np.nan), "not finite"),
        ("exit.bias", first(-np.inf), "not finite"),
        ("exit.bias", first(1e30), "beyond"),
        ("condition.coefficients", first(3e38), "beyond"),
        ("condition.coefficients", lambda array: array.astype(np.float64), "float64"),
        ("blocks.1.mix.units", first(0.0), "units below"),
        ("blocks.1.mix.units", first(-1.0), "units below"),
        ("blocks.1.mix.units", first(1e-20), "units below"),
        ("exit_levels.unit", first(0.0), "units below"),
        ("exit_levels.unit", first(np.nan), "not finite"),
        ("exit_levels.unit", lambda array: array.reshape(()), "shape"),
        ("blocks.0.hidden_levels.unit", lambda array: np.repeat(array, 2), "shape"),
    ],
)
def test_arrays_that_could_make_it_inexact_are_refused(name, function, message):
    arrays = changed(random_arrays(SMALL, 0), name, function)
    with pytest.raises(ModelIntegrityError, match=message) as caught:
        IntegerNetwork(arrays, SMALL)
    assert name in str(caught.value)


def test_sums_that_could_leave_the_exact_range_are_refused():
    config = RefinerConfig(channels=128, blocks=1)
    arrays = random_arrays(config, 0)
    arrays["blocks.0.spatial.levels"][:, 5] = -127
    with pytest.raises(ModelIntegrityError, match="may reach 18580608"):
        IntegerNetwork(arrays, config)


@pytest.mark.parametrize("how", ["missing", "unknown"])
def test_other_arrays_than_expected_are_refused(how):
    arrays = random_arrays(SMALL, 0)
    if how == "missing":
        del arrays["exit.bias"]
    else:
        arrays["exit.bias.more"] = arrays["exit.bias"]
    with pytest.raises(ModelIntegrityError, match=r"missing or too many: exit\.bias"):
        IntegerNetwork(arrays, SMALL)
