"""Input levels of the network, and the roundings that training and decoding share.

Activations and weights are 8-bit integers, their products are summed in 32 bits, and between two convolutions each number is
multiplied once and added to once in float32, and rounded. None of that depends on the order of a sum, so a network gives the
same latents on every processor, thread count and device (``docs/decisions/0009-integer-network.md``).
"""

import decimal
import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from xsarcomp.codec.kernels.compile import FIRST_USE

LARGEST_LEVEL = 127
"""Largest magnitude of an activation or a weight."""
LARGEST_SUM = 2**24
"""Bound on sums of products: float32 holds all integers up to it, so it can stand in for int32 without rounding."""
FEATURES = 72
"""Inputs of a latent: 63 symbols, 4 differences of the lowest channel, its brightness, and four zeros."""
FEATURE_UNITS = 24.0
"""Levels of an input feature for each natural logarithm of one plus the magnitude of a symbol in steps."""
BRIGHTNESS_UNIT_DB = 2.0
"""Decibels of the lowest channel (8 times the mean) for each level of the input that tells how bright a block is."""
STEP_UNIT = 2
"""Natural logarithms of the step for each unit of t, the number that conditions the network on the step."""
STEP_GRID = 2**16
"""t is a multiple of one over this, so its square and cube are exact in float64."""
_LARGEST_LISTED = 512  # 24 ln(1 + 0.5625 * 512) is above 127


@functools.cache
def _levels_by_point(spacing: float) -> NDArray[np.int8]:
    """Levels of points from -512 to 512: sign times 24 ln(1 + spacing * magnitude), rounded, at most 127.

    No logarithm is nearer than 0.0015 to the middle of two integers, so any library gives the same levels.
    """
    logarithms = [FEATURE_UNITS * math.log1p(spacing * magnitude) for magnitude in range(_LARGEST_LISTED + 1)]
    levels = np.minimum(np.rint(logarithms), LARGEST_LEVEL).astype(np.int8)
    return np.concatenate([-levels[:0:-1], levels])


def input_levels(
    points: NDArray[np.int32], step_db: float, trellised: NDArray[np.bool_], spacing: float
) -> NDArray[np.int8]:
    """Compute the input of the network from points.

    Parameters
    ----------
    points : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
        See :func:`xsarcomp.codec.quantization.points_from_symbols`.
    step_db : float
        Quantization step in dB.
    trellised : ndarray of bool, shape (latent=64,)
        True for channels whose points lie ``spacing`` steps apart instead of one.
    spacing : float
        That of the trellis of the model.

    Returns
    -------
    ndarray of int8, shape (plane, y_latent - 2, x_latent - 2, feature=72)
        Levels of the channels 1 to 63, of the differences of the lowest channel to its neighbors above, below, left
        and right, the brightness, and four zeros that make the number a multiple of eight.
    """
    with FIRST_USE:
        from xsarcomp.codec.kernels import decoder as decoder_kernels

    planes, _, height, width = points.shape
    listed = np.stack([_levels_by_point(1.0), _levels_by_point(spacing)])
    levels = np.empty((planes, height - 2, width - 2, FEATURES), np.int8)
    for plane, result in zip(np.ascontiguousarray(points, np.int32), levels, strict=True):
        decoder_kernels.input_levels(plane, listed, trellised, step_db, BRIGHTNESS_UNIT_DB, result)
    return levels


def step_powers(step_db: float) -> tuple[float, float, float, float]:
    """Compute 1, t, t^2, t^3 of t = ln(step) / 2, rounded to a multiple of 2^-16.

    The logarithm is computed in decimals with 40 digits: that of a processor's library may differ in its last bit, and
    a step may lie so near the middle of two multiples that this bit decides. Powers of such a t are exact in float64.

    Parameters
    ----------
    step_db : float
        Quantization step in dB, larger than 0.

    Returns
    -------
    tuple of four float
    """
    # not the context of the caller, which may have another precision, or raise where a result is inexact
    context = decimal.Context(prec=40, rounding=decimal.ROUND_HALF_EVEN, traps=[])
    logarithm = context.ln(decimal.Decimal.from_float(float(step_db)))
    t = int(context.to_integral_value(context.multiply(logarithm, decimal.Decimal(STEP_GRID // STEP_UNIT)))) / STEP_GRID
    return 1.0, t, t * t, t * t * t


def _round_straight_through(values: Tensor) -> Tensor:
    """Round to the nearest integers; gradients pass as if nothing had been rounded."""
    return values + (values.round() - values).detach()


class ActivationQuantizer(nn.Module):
    """Rounding of activations to 8-bit integers with a learned unit.

    Parameters
    ----------
    unit : float
        Value of one level before training.

    References
    ----------
    Esser, McKinstry, Bablani, Appuswamy and Modha (2020), *Learned step size quantization*, ICLR; here the unit is
    learned as a logarithm, and its gradient is not scaled.
    """

    def __init__(self, unit: float):
        super().__init__()
        # the logarithm, because then the unit stays positive whatever an optimizer does
        self.logarithm = nn.Parameter(torch.tensor(math.log(unit)))

    @property
    def unit(self) -> Tensor:
        """Value of one level, shape ()."""
        return self.logarithm.exp()

    def forward(self, values: Tensor) -> Tensor:
        """Round values of any shape to multiples of the unit, at most 127 units."""
        unit = self.unit
        return _round_straight_through((values / unit).clamp(-LARGEST_LEVEL, LARGEST_LEVEL)) * unit


class IntegerConv2d(nn.Conv2d):
    """Convolution whose weights are 8-bit integers times a unit for each output channel."""

    def units(self) -> Tensor:
        """Return the value of one level of a weight, float32, shape (output,).

        The largest weight of an output is level 127, or less where sums over many inputs could leave ``LARGEST_SUM``.
        """
        magnitudes = self.weight.detach().abs().flatten(1)
        # each level may be half a level above its weight; one part in a hundred is for the rounding of this sum
        largest_total = 0.99 * LARGEST_SUM / LARGEST_LEVEL - magnitudes.shape[1] / 2
        return torch.maximum(magnitudes.amax(1) / LARGEST_LEVEL, magnitudes.sum(1) / largest_total).clamp_min(1e-8)

    def levels(self) -> Tensor:
        """Return the integer weights as float32, shape (output, input, row, column)."""
        return (self.weight / self.units()[:, None, None, None]).round().clamp(-LARGEST_LEVEL, LARGEST_LEVEL)

    def forward(self, values: Tensor) -> Tensor:
        """Convolve with rounded weights, (tile, input, y, x) -> (tile, output, y, x); gradients reach the weights behind them."""
        units = self.units()[:, None, None, None]
        return F.conv2d(values, _round_straight_through(self.weight / units) * units, self.bias)
