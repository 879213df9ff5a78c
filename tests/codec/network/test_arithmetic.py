"""What the network sees, how it rounds in training, and that rounded weights never leave the exact range."""

import decimal
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.codec.network.arithmetic import (
    LARGEST_LEVEL,
    LARGEST_SUM,
    ActivationQuantizer,
    IntegerConv2d,
    input_levels,
    step_powers,
)
from xsarcomp.codec.trellis import BLOCK_TRELLIS

steps = st.floats(0.02, 64.0)


def level(point, spacing=1.0):
    """The formula of the format, one number at a time; the spacing is in steps."""
    return int(math.copysign(min(LARGEST_LEVEL, round(24 * math.log(1 + spacing * abs(point)))), point))


def levels_of(points, spacing):
    """Levels of points of channel 1, in a row."""
    plane = np.zeros((1, 64, 3, len(points) + 2), np.int32)
    plane[0, 1, 1, 1:-1] = points
    return input_levels(plane, 1.0, np.full(64, spacing != 1.0) & (np.arange(64) > 0), BLOCK_TRELLIS.spacing)[
        0, 0, :, 0
    ]


@settings(deadline=None)  # the first example may compile kernels
@given(
    points=st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-600, 600), min_size=1, max_size=40),
    spacing=st.sampled_from([1.0, 0.5625]),
)
def test_levels_of_points_are_those_of_the_formula(points, spacing):
    found = levels_of(points, spacing)
    assert found.dtype == np.int8
    assert found.tolist() == [level(point, spacing) for point in points]


@pytest.mark.parametrize("spacing", [1.0, 0.5625])
def test_levels_are_odd_and_never_fall(spacing):
    found = levels_of(range(-700, 701), spacing).astype(int)
    np.testing.assert_array_equal(found, -found[::-1])
    assert (np.diff(found) >= 0).all()
    assert found[-1] == LARGEST_LEVEL


@pytest.mark.parametrize(("spacing", "largest", "distance"), [(1.0, 200, 0.002), (0.5625, 360, 0.0015)])
def test_no_logarithm_is_so_near_a_tie_that_its_last_bit_decides(spacing, largest, distance):
    parts = [24 * math.log1p(spacing * magnitude) % 1 for magnitude in range(largest)]
    assert 24 * math.log1p(spacing * (largest - 1)) > LARGEST_LEVEL
    assert min(abs(part - 0.5) for part in parts) > distance


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    height=st.integers(3, 6),
    width=st.integers(3, 6),
    bits=st.integers(0, 20),
    step_db=steps | st.sampled_from([0.02, 1.0, 64.0]),
)
def test_input_levels_are_those_of_the_format(seed, height, width, bits, step_db):
    random = np.random.default_rng(seed)
    points = random.integers(-(2**bits), 2**bits + 1, (2, 64, height, width)).astype(np.int32)
    trellised = random.random(64) < random.choice([0.0, 0.5, 1.0])
    trellised[0] = False
    found = input_levels(points, step_db, trellised, BLOCK_TRELLIS.spacing)
    assert found.dtype == np.int8
    assert found.shape == (2, height - 2, width - 2, 72)
    for plane, row, column in np.ndindex(2, height - 2, width - 2):
        values = points[plane, :, row : row + 3, column : column + 3].tolist()
        lowest = values[0]
        middle = lowest[1][1]
        around = (lowest[0][1], lowest[2][1], lowest[1][0], lowest[1][2])
        bright = max(-LARGEST_LEVEL, min(LARGEST_LEVEL, round(middle * step_db / 2)))
        expected = [level(values[channel][1][1], 0.5625 if trellised[channel] else 1.0) for channel in range(1, 64)]
        expected += [level(neighbor - middle) for neighbor in around] + [bright, 0, 0, 0, 0]
        assert found[plane, row, column].tolist() == expected


@pytest.mark.parametrize("step_db", [0.02, 64.0])
@pytest.mark.parametrize("extreme", [2**20 - 1, 2**31 - 1])
def test_extreme_points_saturate_instead_of_wrapping(step_db, extreme):
    points = np.full((1, 64, 3, 3), extreme, np.int32)
    points[:, :, ::2] = -extreme
    levels = input_levels(points, step_db, np.arange(64) % 2 == 1, BLOCK_TRELLIS.spacing)[0, 0, 0]
    assert levels.tolist() == [127] * 63 + [-127, -127, 0, 0, 127, 0, 0, 0, 0]


def test_input_levels_do_not_depend_on_the_memory_of_the_points():
    points = np.random.default_rng(1).integers(-9, 10, (2, 64, 7, 8)).astype(np.int32)
    trellised = np.arange(64) % 3 == 1
    expected = input_levels(points, 3.0, trellised, BLOCK_TRELLIS.spacing)
    np.testing.assert_array_equal(
        input_levels(np.asfortranarray(points), 3.0, trellised, BLOCK_TRELLIS.spacing), expected
    )
    np.testing.assert_array_equal(
        input_levels(points[:, :, ::-1][:, :, ::-1], 3.0, trellised, BLOCK_TRELLIS.spacing), expected
    )


@given(step_db=steps)
def test_powers_of_the_step_are_exact_powers_of_a_rounded_logarithm(step_db):
    one, t, square, cube = step_powers(step_db)
    assert one == 1.0
    assert (t * 2**16).is_integer()
    assert abs(t - math.log(step_db) / 2) <= 2.0**-17 + 1e-12
    numerator = int(t * 2**16)
    assert square == numerator**2 / 2**32  # integers below 2^53 over a power of two: no rounding
    assert cube == numerator**3 / 2**48


def test_powers_of_the_step_do_not_depend_on_the_decimal_context_of_the_caller():
    expected = step_powers(2.9)
    with decimal.localcontext() as context:
        context.prec = 3
        context.traps[decimal.Inexact] = context.traps[decimal.FloatOperation] = True
        assert step_powers(2.9) == expected


@settings(deadline=None)
@given(
    values=st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=30),
    unit=st.sampled_from([0.03, 0.25, 1.0, 2.0]),
)
def test_activations_become_multiples_of_the_unit_with_the_gradients_of_lsq(values, unit):
    quantizer = ActivationQuantizer(unit)
    inputs = torch.tensor(values, requires_grad=True)
    outputs = quantizer(inputs)
    outputs.sum().backward()
    scaled = inputs.detach() / quantizer.unit.detach()
    rounded = scaled.round().clamp(-LARGEST_LEVEL, LARGEST_LEVEL)
    torch.testing.assert_close(outputs.detach(), rounded * quantizer.unit.detach(), rtol=0, atol=0)
    inside = scaled.abs() <= LARGEST_LEVEL
    torch.testing.assert_close(inputs.grad, inside.float())
    # Esser et al. (2020), equation 3, times the derivative of the unit by its logarithm
    by_unit = torch.where(inside, rounded - scaled, rounded)
    expected = (by_unit * quantizer.unit.detach()).sum()
    torch.testing.assert_close(quantizer.logarithm.grad, expected, rtol=1e-4, atol=1e-3)


def test_weights_are_levels_times_units_and_pass_gradients_unchanged():
    torch.manual_seed(0)
    layer = IntegerConv2d(6, 5, 3)
    levels, units = layer.levels(), layer.units()
    assert levels.abs().amax((1, 2, 3)).tolist() == [LARGEST_LEVEL] * 5
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=0)
    assert (levels * units[:, None, None, None] - layer.weight).abs().max() <= 0.5001 * units.max()
    inputs = torch.randn(2, 6, 7, 7)
    layer(inputs).square().sum().backward()
    plain = torch.nn.Conv2d(6, 5, 3)
    plain.load_state_dict({"weight": (levels * units[:, None, None, None]).detach(), "bias": layer.bias.detach()})
    plain(inputs).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("inputs", [72, 128, 512, 1024])
@pytest.mark.parametrize("shape", ["equal", "random", "one", "zero"])
def test_no_weights_can_be_trained_whose_sums_leave_the_exact_range(inputs, shape):
    layer = IntegerConv2d(inputs, 4, 3)
    torch.manual_seed(1)
    with torch.no_grad():
        layer.weight.copy_(torch.randn_like(layer.weight) if shape == "random" else torch.zeros_like(layer.weight))
        if shape == "equal":
            layer.weight.fill_(0.3)
        if shape == "one":
            layer.weight[:, 0, 1, 1] = -7.0
    levels = layer.levels().long()
    assert levels.abs().max() <= LARGEST_LEVEL
    assert LARGEST_LEVEL * levels.abs().sum((1, 2, 3)).max() < LARGEST_SUM
