"""The network on a GPU: batches of tiles at once, with the same bits as the processor.

Only the network runs there. Dequantization, transform and conversion stay in float32 on the processor, so pixels do not
depend on the device either. Before a device is used its results are compared with those of the processor, bit by bit; a
device that differs, or fails, is named in a warning and not used (``docs/decisions/0021-gpu.md``).
"""

import functools
import os
import threading
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xsarcomp.codec.network.arithmetic import FEATURES, LARGEST_LEVEL
from xsarcomp.codec.network.layers import Scale, scaled
from xsarcomp.codec.network.network import STEPS_CACHED, IntegerNetwork
from xsarcomp.codec.network.products import Product, convolve, float_product, integer_product, multiply
from xsarcomp.errors import ConfigurationError, callers_level

DEVICE_VARIABLE = "XSARCOMP_DEVICE"
"""Environment variable with the device of the network: "cpu", "cuda", "cuda:1", ..., or "auto", a GPU if there is one."""
LARGEST_BATCH = 2**28
"""Largest number of levels in the windows of one batch: 256 MiB, and four times as much for their sums."""
_STEPS_CHECKED_DB = (0.3, 3.0)
_FIRST_USE = threading.Lock()
_DEVICE_IN_USE = threading.Lock()  # one batch at a time: that bounds memory, and the device is busy all the same


def requested_device() -> torch.device | None:
    """Return the device that the environment variable asks for; None for the processor.

    Raises
    ------
    ConfigurationError
        If there is no such device.
    """
    name = os.environ.get(DEVICE_VARIABLE, "cpu").strip().lower()
    if name == "cpu" or (name == "auto" and not _has_gpu()):
        return None
    if name == "auto":
        return torch.device("cuda")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(
            f"{DEVICE_VARIABLE} is {name!r}, expected cpu, auto, cuda or cuda:0, cuda:1, ..."
        ) from error
    if device.type != "cuda" or not _has_gpu() or (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(
            f"{DEVICE_VARIABLE} asks for {name!r}, and torch {torch.__version__} sees {torch.cuda.device_count()} GPUs: set "
            "it to cpu or auto, or install a build of torch for this GPU"
        )
    return device


def _has_gpu() -> bool:
    # a forked process cannot use a GPU that its parent has used
    return torch.cuda.is_available() and not torch.cuda._is_in_bad_fork()


class DeviceNetwork:
    """A network whose weights lie on a device of torch.

    Parameters
    ----------
    network : IntegerNetwork
    device : torch.device
    """

    def __init__(self, network: IntegerNetwork, device: torch.device):
        self.network, self.device = network, device
        self._weights = {layer: weights.to(device) for layer, weights in network.weights.items()}
        self._inverse_units = {name: inverse.to(device) for name, inverse in network.inverse_units.items()}
        self._scales_by_step: dict[float, list[Scale]] = {}
        self._product = self._exact_product()

    def agrees(self) -> bool:
        """Check that the device gives the bits of the processor, for random levels and for the largest ones."""
        random = np.random.default_rng(0)
        side = 2 * self.network.config.reach + 9
        tiles = random.integers(-LARGEST_LEVEL, LARGEST_LEVEL + 1, (3, side, side, FEATURES), np.int8)
        tiles[1] //= 16
        tiles[2] = np.where(tiles[2] < 0, -LARGEST_LEVEL, LARGEST_LEVEL)
        for step_db in _STEPS_CHECKED_DB:
            offsets = self(tiles, step_db)
            expected = np.stack([self.network(torch.from_numpy(tile), step_db).numpy() for tile in tiles])
            if not np.array_equal(offsets.view(np.uint32), expected.view(np.uint32)):
                return False
        return True

    def __call__(self, tiles: NDArray[np.int8], step_db: float) -> NDArray[np.float32]:
        """Predict the offsets of tiles of one size.

        Parameters
        ----------
        tiles : ndarray of int8, shape (tile, y, x, feature=72)
            See :func:`xsarcomp.codec.network.arithmetic.input_levels`.
        step_db : float
            Quantization step in dB.

        Returns
        -------
        ndarray of float32, shape (tile, y - 2 (reach - 1), x - 2 (reach - 1), latent=64)
            Offsets from the reconstruction points, in steps.
        """
        levels = torch.from_numpy(tiles)
        with _DEVICE_IN_USE, torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            if self.device.type == "cuda":
                levels = levels.pin_memory()
            return self._offsets(levels.to(self.device, non_blocking=True), float(step_db)).cpu().numpy()

    def _offsets(self, levels: Tensor, step_db: float) -> Tensor:
        """Run layer after layer, each of which is one line of ``docs/format.md``, section 6.3."""
        scales = iter(self._scales_on_device(step_db))
        features = scaled(self._convolve(levels, "entry"), next(scales))
        for block in range(self.network.config.blocks):
            prefix = f"blocks.{block}"
            levels = _round_to_levels(features * self._inverse_units[f"{prefix}.entry_levels"])
            hidden = scaled(self._convolve(levels, f"{prefix}.spatial"), next(scales)).clamp_min_(0)
            mixed = scaled(self._multiply(_round_to_levels(hidden), f"{prefix}.mix"), next(scales))
            features = features[:, 1:-1, 1:-1] + mixed
        levels = _round_to_levels(features.clamp_min(0) * self._inverse_units["exit_levels"])
        return scaled(self._multiply(levels, "exit"), next(scales))

    def _scales_on_device(self, step_db: float) -> list[Scale]:
        if step_db not in self._scales_by_step:
            if len(self._scales_by_step) >= STEPS_CACHED:
                self._scales_by_step.clear()
            scales = self.network.scales(step_db)
            self._scales_by_step[step_db] = [
                Scale(scale.factor.to(self.device), scale.addend.to(self.device)) for scale in scales
            ]
        return self._scales_by_step[step_db]

    def _convolve(self, levels: Tensor, layer: str) -> Tensor:
        """Convolve levels with the 3x3 weights of a layer; see :func:`xsarcomp.codec.network.products.convolve`."""
        return convolve(levels, self._weights[layer], self._product)

    def _multiply(self, levels: Tensor, layer: str) -> Tensor:
        """Multiply levels by the 1x1 weights of a layer; see :func:`xsarcomp.codec.network.products.multiply`."""
        return multiply(levels, self._weights[layer], self._product)

    def _exact_product(self) -> Product:
        """Choose the product of 8-bit integers where the device has one, else that of float32, which holds every sum."""
        weights = self._weights["entry"]
        levels = weights.new_full((64, weights.shape[0]), LARGEST_LEVEL)
        expected = levels.cpu().double() @ weights.cpu().double()
        try:
            if torch.equal(integer_product(levels, weights).cpu().double(), expected):
                return integer_product
        except (AttributeError, RuntimeError):  # torch has none, or none for this device
            pass
        return float_product


def _round_to_levels(values: Tensor) -> Tensor:
    """Round values in units of a level to int8, of two nearest integers to the even one."""
    return values.round().clamp(-LARGEST_LEVEL, LARGEST_LEVEL).to(torch.int8)


@functools.lru_cache(maxsize=8)
def _on_device(network: IntegerNetwork, device: torch.device) -> DeviceNetwork | None:
    """Put the network on a device; None, with a warning, if that fails or gives other bits."""
    try:
        result = DeviceNetwork(network, device)
        if result.agrees():
            return result
        problem = "gives other bits than the processor"
    except RuntimeError as error:  # the error of torch for everything that goes wrong on a device
        problem = f"failed ({str(error).splitlines()[0]})"
    warnings.warn(
        f"{device} {problem}: the network runs on the processor. Set {DEVICE_VARIABLE}=cpu to avoid this warning",
        RuntimeWarning,
        stacklevel=callers_level(),
    )
    return None


os.register_at_fork(after_in_child=_on_device.cache_clear)  # memory of a GPU belongs to the parent


def network_on_device(network: IntegerNetwork) -> DeviceNetwork | None:
    """Put a network on the device that the environment variable asks for.

    Parameters
    ----------
    network : IntegerNetwork

    Returns
    -------
    DeviceNetwork or None
        None if the network runs on the processor: because that is asked for, or because the device is unfit.

    Raises
    ------
    ConfigurationError
        If there is no such device.
    """
    device = requested_device()
    if device is None:
        return None
    with _FIRST_USE:
        return _on_device(network, device)


def tiles_per_batch(network: IntegerNetwork, places: int) -> int:
    """Number of tiles that go through the network at once, each with so many places (y * x with its surroundings)."""
    return max(1, LARGEST_BATCH // (9 * max(FEATURES, network.config.channels) * places))
