"""The trained network in integers: what decoding runs.

It is made from the arrays of a model file (:func:`integer_arrays` makes these from a trained
:class:`~xsarcomp.models.refiner.network.LatentRefiner`) and needs of torch a matrix product. What lies between two products is
in :mod:`~xsarcomp.codec.network.layers`. Why it is exact, and why the rules of :data:`SMALLEST_UNIT` and
:data:`LARGEST_NUMBER` keep it so, stands in ``docs/format.md``, section 6.3.
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xsarcomp.codec.lapped import CHANNELS
from xsarcomp.codec.network.arithmetic import (
    FEATURE_UNITS,
    FEATURES,
    LARGEST,
    LARGEST_SUM,
    step_powers,
)
from xsarcomp.codec.network.config import RefinerConfig
from xsarcomp.codec.network.layers import Scratch, first_features, hidden_levels, next_features, scaled, strips
from xsarcomp.errors import ModelIntegrityError

SMALLEST_UNIT, LARGEST_NUMBER = 2.0**-30, 2.0**16
"""Bounds on the numbers of a model: nothing overflows float32, so no infinity or NaN ever becomes a level."""
SMALLEST_SCALE = 2.0**-90
"""Factors and addends below it are zero, so no result is subnormal: some processes and devices flush those."""
_STEPS_KEPT = 64
_ROWS_TRIED = 256

Product = Callable[[Tensor, Tensor, Scratch], Tensor]


def expected_shapes(config: RefinerConfig) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and data type of each array of a network."""
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
    """Offsets of latents from the levels of their symbols, the same on every machine.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        As :func:`integer_arrays` makes them.
    config : RefinerConfig

    Raises
    ------
    ModelIntegrityError
        If an array is missing, of another shape or type, not finite, or out of the range that keeps the network exact.
    """

    def __init__(self, arrays: Mapping[str, NDArray], config: RefinerConfig):
        _check(arrays, config)
        self.config = config
        self.reach = 2 + config.blocks
        # everything from NumPy: torch's own factories follow the default device and type of the caller
        self._arrays = {name: array.astype(np.float64) for name, array in arrays.items() if array.dtype != np.int8}
        self.levels = {name: torch.from_numpy(array.copy()) for name, array in arrays.items() if array.dtype == np.int8}
        self.inverses = {
            name: torch.from_numpy((1 / array).astype(np.float32))
            for name, array in self._arrays.items()
            if name.endswith(".unit")
        }
        self._scales_of_step: dict[float, list[tuple[Tensor, Tensor]]] = {}
        self._scratch = Scratch()

    def scales(self, step_db: float) -> list[tuple[Tensor, Tensor]]:
        """Factor and addend of each layer, in the order of use. They are kept; threads may each compute the same ones."""
        scales = self._scales_of_step.get(step_db)
        if scales is None:
            scales = self._scales_at(step_db)
            if len(self._scales_of_step) >= _STEPS_KEPT:
                self._scales_of_step.clear()
            self._scales_of_step[step_db] = scales
        return scales

    def _scales_at(self, step_db: float) -> list[tuple[Tensor, Tensor]]:
        """Factor and addend between the sums of each layer and the next levels, in the order of use.

        Products, sums and quotients of float64, element by element and each rounded, then rounded to float32.
        """
        powers = step_powers(step_db)
        arrays, scales = self._arrays, []

        def conditioned(name: str, condition: str, unit_in: float, unit_out: float) -> None:
            coefficients = arrays[f"{condition}.coefficients"]
            gain, shift = functools.reduce(np.add, [coefficients[:, :, i] * powers[i] for i in range(4)])
            scales.append(
                (
                    arrays[f"{name}.units"] * unit_in * (1 + gain) / unit_out,
                    (arrays[f"{name}.bias"] * (1 + gain) + shift) / unit_out,
                )
            )

        def plain(name: str, unit_in: float) -> None:
            scales.append((arrays[f"{name}.units"] * unit_in, arrays[f"{name}.bias"]))

        conditioned("entry", "condition", 1 / FEATURE_UNITS, 1.0)
        for block in range(self.config.blocks):
            prefix = f"blocks.{block}"
            unit = float(arrays[f"{prefix}.entry_levels.unit"][0])
            hidden_unit = float(arrays[f"{prefix}.hidden_levels.unit"][0])
            conditioned(f"{prefix}.spatial", f"{prefix}.condition", unit, hidden_unit)
            plain(f"{prefix}.mix", hidden_unit)
        plain("exit", float(arrays["exit_levels.unit"][0]))
        return [(_scale(factor), _scale(addend)) for factor, addend in scales]

    def __call__(self, levels: Tensor, step_db: float) -> Tensor:
        """Offsets in steps of one tile.

        Parameters
        ----------
        levels : Tensor of int8, shape (y, x, feature=72)
            See :func:`xsarcomp.codec.network.arithmetic.input_levels`.
        step_db : float
            Quantization step in dB, 0.02 to 64.

        Returns
        -------
        Tensor of float32, shape (y - 2 (reach - 1), x - 2 (reach - 1), latent=64)
        """
        # the caller's modes must not change a bit: under autocast a product of float32 is rounded to bfloat16
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            return self._offsets(levels, iter(self.scales(float(step_db))))

    def _offsets(self, levels: Tensor, scales: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
        """The layers in turn; what each does is one line of ``docs/format.md``, section 6.3."""
        entry, scale, following = self.levels["entry.levels"], next(scales), "blocks.0.entry_levels.unit"
        scratch = self._scratch
        features, outputs = scratch.activations(0, levels, self.config.channels)
        for rows, around in strips(levels):
            others = (self.inverses[following], features[rows], outputs[rows])
            first_features(_convolved(levels[around], entry, scratch), *scale, *others)
        for block in range(self.config.blocks):
            prefix, is_last = f"blocks.{block}", block == self.config.blocks - 1
            spatial, mix = (self.levels[f"{prefix}.{layer}.levels"] for layer in ("spatial", "mix"))
            spatial_scale, mix_scale = next(scales), next(scales)
            following = "exit_levels.unit" if is_last else f"blocks.{block + 1}.entry_levels.unit"
            before, levels = features, outputs
            features, outputs = scratch.activations(block + 1, levels, self.config.channels)
            for rows, around in strips(levels):
                hidden = hidden_levels(_convolved(levels[around], spatial, scratch), *spatial_scale, scratch)
                sums = _product(hidden, mix, scratch)
                others = (before[around], is_last, self.inverses[following], features[rows], outputs[rows])
                next_features(sums, *mix_scale, *others)
        return scaled(_product(outputs, self.levels["exit.levels"], scratch), *next(scales))


def _scale(values: NDArray[np.float64]) -> Tensor:
    """Float32 of a scale; what is below ``SMALLEST_SCALE`` is zero."""
    return torch.from_numpy(np.where(np.abs(values) < SMALLEST_SCALE, 0.0, values).astype(np.float32))


def _convolved(levels: Tensor, weights: Tensor, scratch: Scratch) -> Tensor:
    """3x3 convolution of (y, x, channel) without padding, as one matrix product."""
    height, width, channels = levels.shape
    levels = levels.contiguous()
    row, column, _ = levels.stride()
    shape = (height - 2, width - 2, 3, 3 * channels)
    # a copy always: where one column is left, a reshaped view would have rows that overlap, and products of these are wrong
    windows = scratch.array("windows", shape, np.int8).copy_(levels.as_strided(shape, (row, column, row, 1)))
    return _product(windows.reshape(height - 2, width - 2, 9 * channels), weights, scratch)


def _product(levels: Tensor, weights: Tensor, scratch: Scratch) -> Tensor:
    """Exact sums over the last axis, int32, in the scratch: each call overwrites what the one before returned."""
    flat = levels.reshape(-1, levels.shape[-1])
    sums = _exact_product(*weights.shape)(flat, weights, scratch)
    return sums.reshape(*levels.shape[:-1], weights.shape[1])


def float_product(levels: Tensor, weights: Tensor, scratch: Scratch) -> Tensor:
    """Product in float32; exact, whatever the order of the sums, because no sum leaves ``LARGEST_SUM``.

    Levels have 7 bits, so nothing changes where torch may round the factors of float32 products to bfloat16 or TF32.
    """
    shape = (len(levels), weights.shape[1])
    numbers = scratch.array("float levels", tuple(levels.shape), np.float32).copy_(levels)
    products = scratch.array("float sums", shape, np.float32)
    torch.mm(numbers, weights.to(torch.float32), out=products)
    return scratch.array("sums", shape, np.int32).copy_(products)


def integer_product(levels: Tensor, weights: Tensor, scratch: Scratch) -> Tensor:
    """Product in int32 with the 8-bit instructions of the processor."""
    if len(levels) <= 16:  # some kernels want more rows
        padded = levels.new_zeros((32, levels.shape[1]))
        padded[: len(levels)] = levels
        return torch._int_mm(padded, weights)[: len(levels)]
    return torch._int_mm(levels, weights, out=scratch.array("sums", (len(levels), weights.shape[1]), np.int32))


@functools.cache
def _exact_product(inputs: int, outputs: int) -> Product:
    """The faster of the two products on this machine for one shape of weights; both give the same numbers.

    That is checked here: processors without instructions for 8-bit products emulate them, slowly, and with some of
    their instructions sums of two products saturate. Kernels are chosen by shape, so each shape is checked.
    """
    random = np.random.default_rng(0)
    levels = random.integers(-LARGEST, LARGEST + 1, (_ROWS_TRIED, inputs), dtype=np.int8)
    weights = random.integers(-LARGEST, LARGEST + 1, (inputs, outputs), dtype=np.int8)
    levels[0::4], levels[1::4] = LARGEST, -LARGEST  # the largest sums of two and more products, of both signs
    weights[:, 0::4], weights[:, 1::4] = LARGEST, -LARGEST
    expected = torch.from_numpy(levels.astype(np.float64) @ weights.astype(np.float64)).long()
    levels, weights, scratch = torch.from_numpy(levels), torch.from_numpy(weights), Scratch()
    try:
        for rows in (_ROWS_TRIED, 17, 5):
            if not torch.equal(integer_product(levels[:rows], weights, scratch).long(), expected[:rows]):
                return float_product
    except (AttributeError, RuntimeError):  # a build of torch without it
        return float_product
    return min((integer_product, float_product), key=lambda product: _seconds(product, levels, weights, scratch))


def _seconds(product: Product, levels: Tensor, weights: Tensor, scratch: Scratch) -> float:
    """Shortest of three timings."""
    durations = []
    for _ in range(3):
        start = time.perf_counter()
        product(levels, weights, scratch)
        durations.append(time.perf_counter() - start)
    return min(durations)


def _check(arrays: Mapping[str, NDArray], config: RefinerConfig) -> None:
    """Refuse arrays that are not this network's or that could leave the exact range."""
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
    if (levels < -LARGEST).any():
        raise ModelIntegrityError(f"network array {name} holds -128, expected -{LARGEST} to {LARGEST}")
    largest = LARGEST * int(np.abs(levels).sum(0, dtype=np.int64).max())
    if largest >= LARGEST_SUM:
        raise ModelIntegrityError(
            f"sums over network array {name} may reach {largest}, expected less than {LARGEST_SUM}"
        )
