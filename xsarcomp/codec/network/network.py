"""The trained network in integers, as decoding runs it on the processor.

It is built from the arrays of a model file, which :func:`xsarcomp.models.refiner.export.integer_arrays` makes of a trained
:class:`~xsarcomp.models.refiner.network.LatentRefiner`. Of torch it needs matrix products
(:mod:`~xsarcomp.codec.network.products`); everything between them is in :mod:`~xsarcomp.codec.network.layers`.
``docs/format.md``, section 6.3, explains why it is exact, and why ``SMALLEST_UNIT`` and ``LARGEST_NUMBER`` keep it so.
"""

import functools
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xsarcomp.codec.lapped import CHANNELS
from xsarcomp.codec.network.arithmetic import FEATURE_UNITS, FEATURES, LARGEST_LEVEL, LARGEST_SUM, step_powers
from xsarcomp.codec.network.config import RefinerConfig
from xsarcomp.codec.network.layers import Scale, Scratch, block_features, entry_features, hidden_levels, scaled, strips
from xsarcomp.codec.network.products import convolve, fastest_product, multiply
from xsarcomp.errors import ModelIntegrityError

SMALLEST_UNIT, LARGEST_NUMBER = 2.0**-30, 2.0**16
"""Bounds on the numbers of a model: nothing overflows float32, so no infinity or NaN ever becomes a level."""
SMALLEST_SCALE = 2.0**-90
"""Smaller factors and addends become zero, so no result is subnormal: some processes and devices flush those."""
STEPS_CACHED = 64
"""Number of quantization steps whose scales are cached."""


def expected_shapes(config: RefinerConfig) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return the shape and data type of each array of a network, by name; ``docs/format.md``, section 4."""
    width = config.channels

    def layer(name: str, inputs: int, outputs: int) -> Iterator[tuple[str, tuple[tuple[int, ...], str]]]:
        yield f"{name}.levels", ((inputs, outputs), "int8")
        yield f"{name}.units", ((outputs,), "float32")
        yield f"{name}.bias", ((outputs,), "float32")

    expected = dict(layer("entry", 9 * FEATURES, width))
    expected["condition.coefficients"] = ((2, width, 4), "float32")
    for block in range(config.blocks):
        prefix = f"blocks.{block}"
        expected |= dict(layer(f"{prefix}.spatial", 9 * width, width)) | dict(layer(f"{prefix}.mix", width, width))
        expected[f"{prefix}.condition.coefficients"] = ((2, width, 4), "float32")
        expected[f"{prefix}.entry_levels.unit"] = expected[f"{prefix}.hidden_levels.unit"] = ((1,), "float32")
    expected["exit_levels.unit"] = ((1,), "float32")
    return expected | dict(layer("exit", width, CHANNELS))


class IntegerNetwork:
    """Network that predicts offsets of latents from the levels of their symbols, the same on every machine.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Arrays of a model file, see :func:`expected_shapes`.
    config : RefinerConfig

    Attributes
    ----------
    config : RefinerConfig
    weights : dict of str to Tensor of int8, shape (input, output)
        Weights by layer, such as "blocks.0.mix".
    inverse_units : dict of str to Tensor of float32, shape (1,)
        One over the unit of levels, such as those of "blocks.0.entry_levels".

    Raises
    ------
    ModelIntegrityError
        If an array is missing, of another shape or type, not finite, or out of the range that keeps the network exact.
    """

    def __init__(self, arrays: Mapping[str, NDArray], config: RefinerConfig):
        _check(arrays, config)
        self.config = config
        # everything from NumPy: torch's own factories follow the default device and type of the caller
        self._numbers = {name: array.astype(np.float64) for name, array in arrays.items() if array.dtype != np.int8}
        self.weights = {
            name.removesuffix(".levels"): torch.from_numpy(array.copy())
            for name, array in arrays.items()
            if array.dtype == np.int8
        }
        self.inverse_units = {
            name.removesuffix(".unit"): torch.from_numpy((1 / array).astype(np.float32))
            for name, array in self._numbers.items()
            if name.endswith(".unit")
        }
        self._scales_by_step: dict[float, list[Scale]] = {}
        self._scratch = Scratch()

    def scales(self, step_db: float) -> list[Scale]:
        """Return factor and addend of each layer, in the order of use.

        They are cached; threads may each compute the same ones.

        Parameters
        ----------
        step_db : float
            Quantization step in dB.

        Returns
        -------
        list of Scale
        """
        scales = self._scales_by_step.get(step_db)
        if scales is None:
            scales = self._compute_scales(step_db)
            if len(self._scales_by_step) >= STEPS_CACHED:
                self._scales_by_step.clear()
            self._scales_by_step[step_db] = scales
        return scales

    def _compute_scales(self, step_db: float) -> list[Scale]:
        """Compute factor and addend between the sums of each layer and the next levels, in the order of use.

        Products, sums and quotients of float64, element by element and each rounded, then rounded to float32.
        """
        powers, numbers = step_powers(step_db), self._numbers

        def conditioned(name: str, condition: str, unit_in: float, unit_out: float) -> Scale:
            coefficients = numbers[f"{condition}.coefficients"]
            gain, shift = functools.reduce(np.add, [coefficients[:, :, i] * powers[i] for i in range(4)])
            factor = numbers[f"{name}.units"] * unit_in * (1 + gain) / unit_out
            return _scale(factor, (numbers[f"{name}.bias"] * (1 + gain) + shift) / unit_out)

        def plain(name: str, unit_in: float) -> Scale:
            return _scale(numbers[f"{name}.units"] * unit_in, numbers[f"{name}.bias"])

        scales = [conditioned("entry", "condition", 1 / FEATURE_UNITS, 1.0)]
        for block in range(self.config.blocks):
            prefix = f"blocks.{block}"
            unit = float(numbers[f"{prefix}.entry_levels.unit"][0])
            hidden_unit = float(numbers[f"{prefix}.hidden_levels.unit"][0])
            scales.append(conditioned(f"{prefix}.spatial", f"{prefix}.condition", unit, hidden_unit))
            scales.append(plain(f"{prefix}.mix", hidden_unit))
        return [*scales, plain("exit", float(numbers["exit_levels.unit"][0]))]

    def __call__(self, levels: Tensor, step_db: float) -> Tensor:
        """Predict the offsets of one tile.

        Parameters
        ----------
        levels : Tensor of int8, shape (y, x, feature=72)
            See :func:`xsarcomp.codec.network.arithmetic.input_levels`.
        step_db : float
            Quantization step in dB, 0.02 to 64.

        Returns
        -------
        Tensor of float32, shape (y - 2 (reach - 1), x - 2 (reach - 1), latent=64)
            Offsets from the reconstruction points, in steps. ``reach`` is that of the config.
        """
        # the caller's modes must not change a bit: under autocast a product of float32 is rounded to bfloat16
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            return self._offsets(levels, iter(self.scales(float(step_db))))

    def _offsets(self, levels: Tensor, scales: Iterator[Scale]) -> Tensor:
        """Run layer after layer, each of which is one line of ``docs/format.md``, section 6.3."""
        scale, inverse_unit = next(scales), self.inverse_units["blocks.0.entry_levels"]
        features, outputs = self._scratch.activations(0, levels, self.config.channels)
        for rows, around in strips(levels):
            sums = self._convolve(levels[around], "entry")
            entry_features(sums, scale, inverse_unit, features[rows], outputs[rows])
        for block in range(self.config.blocks):
            features, outputs = self._run_block(block, features, outputs, (next(scales), next(scales)))
        return scaled(self._multiply(outputs, "exit"), next(scales))

    def _run_block(
        self, block: int, before: Tensor, levels: Tensor, scales: tuple[Scale, Scale]
    ) -> tuple[Tensor, Tensor]:
        """Return features and levels behind a block, from those before it and the scales of its two layers."""
        prefix, is_last = f"blocks.{block}", block == self.config.blocks - 1
        inverse_unit = self.inverse_units["exit_levels" if is_last else f"blocks.{block + 1}.entry_levels"]
        features, outputs = self._scratch.activations(block + 1, levels, self.config.channels)
        for rows, around in strips(levels):
            hidden = hidden_levels(self._convolve(levels[around], f"{prefix}.spatial"), scales[0], self._scratch)
            sums = self._multiply(hidden, f"{prefix}.mix")
            block_features(sums, scales[1], before[around], is_last, inverse_unit, features[rows], outputs[rows])
        return features, outputs

    def _convolve(self, levels: Tensor, layer: str) -> Tensor:
        """Convolve levels with the 3x3 weights of a layer; see :func:`xsarcomp.codec.network.products.convolve`."""
        weights = self.weights[layer]
        return convolve(levels, weights, fastest_product(*weights.shape), self._scratch)

    def _multiply(self, levels: Tensor, layer: str) -> Tensor:
        """Multiply levels by the 1x1 weights of a layer; see :func:`xsarcomp.codec.network.products.multiply`."""
        weights = self.weights[layer]
        return multiply(levels, weights, fastest_product(*weights.shape), self._scratch)


def _scale(factor: NDArray[np.float64], addend: NDArray[np.float64]) -> Scale:
    """Round factor and addend to float32, and what is below ``SMALLEST_SCALE`` to zero."""
    rounded = (np.where(np.abs(values) < SMALLEST_SCALE, 0.0, values).astype(np.float32) for values in (factor, addend))
    return Scale(*map(torch.from_numpy, rounded))


def _check(arrays: Mapping[str, NDArray], config: RefinerConfig) -> None:
    """Refuse arrays that do not fit the config or that could leave the exact range."""
    expected = expected_shapes(config)
    if set(arrays) != set(expected):
        odd = sorted(set(arrays) ^ set(expected))
        raise ModelIntegrityError(f"the network has arrays that are missing or too many: {', '.join(odd[:6])}")
    for name, (shape, dtype) in expected.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != np.dtype(dtype):
            raise ModelIntegrityError(
                f"network array {name} is {array.dtype} of shape {array.shape}, expected {dtype} of shape {shape}"
            )
        if dtype == "int8":
            _check_levels(name, array)
        elif not (np.abs(array) <= LARGEST_NUMBER).all():  # NaN is not either
            raise ModelIntegrityError(f"network array {name} has numbers beyond {LARGEST_NUMBER:.0f} or not finite")
        elif name.endswith((".unit", ".units")) and not (array >= SMALLEST_UNIT).all():
            raise ModelIntegrityError(f"network array {name} has units below {SMALLEST_UNIT:.2g}")


def _check_levels(name: str, levels: NDArray[np.int8]) -> None:
    """Refuse weights whose products could be inexact."""
    if (levels < -LARGEST_LEVEL).any():
        raise ModelIntegrityError(f"network array {name} holds -128, expected -{LARGEST_LEVEL} to {LARGEST_LEVEL}")
    largest = LARGEST_LEVEL * int(np.abs(levels).sum(0, dtype=np.int64).max())
    if largest >= LARGEST_SUM:
        raise ModelIntegrityError(
            f"sums over network array {name} may reach {largest}, expected less than {LARGEST_SUM}"
        )
