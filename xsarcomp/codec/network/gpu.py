"""The network on a GPU: whole blocks of tiles at once, with the bits that the processor gives.

Only the network goes there. Dequantization, transform and conversion stay in float32 on the processor, so that pixels do not
depend on the device either. Before a device is used its results are compared with those of the processor, bit by bit; one
that differs, or fails, is named in a warning and left alone.
"""

import functools
import os
import threading
import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xsarcomp.codec.network.arithmetic import FEATURES, LARGEST
from xsarcomp.codec.network.network import IntegerNetwork
from xsarcomp.errors import ConfigurationError, caller_stacklevel

VARIABLE = "XSARCOMP_DEVICE"
"""Environment variable that says where the network runs: "cpu", "cuda", "cuda:1", ..., or "auto", a GPU if there is one."""
BATCH_VALUES = 2**28
"""Levels that the windows of one batch hold at most: 256 MiB, and four times as much for their sums in between."""
_STEPS_CHECKED_DB = (0.3, 3.0)
_FIRST_USE = threading.Lock()
_IN_USE = threading.Lock()  # one batch at a time: memory is bounded, and the device is busy all the same


def chosen_device() -> torch.device | None:
    """The device that the environment asks for; None for the processor.

    Raises
    ------
    ConfigurationError
        If there is no such device.
    """
    name = os.environ.get(VARIABLE, "cpu").strip().lower()
    if name == "cpu" or (name == "auto" and not _has_gpu()):
        return None
    if name == "auto":
        return torch.device("cuda")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(f"{VARIABLE} is {name!r}, expected cpu, auto, cuda or cuda:0, cuda:1, ...") from error
    if device.type != "cuda" or not _has_gpu() or (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(
            f"{VARIABLE} asks for {name!r}, and torch {torch.__version__} sees {torch.cuda.device_count()} GPUs: set it to "
            "cpu or auto, or install a build of torch for this GPU"
        )
    return device


def _has_gpu() -> bool:
    # a GPU that the parent has used is out of reach for its forks
    return torch.cuda.is_available() and not torch.cuda._is_in_bad_fork()


class AcceleratedNetwork:
    """A network whose weights lie on a device.

    Parameters
    ----------
    network : IntegerNetwork
    device : torch.device
    """

    def __init__(self, network: IntegerNetwork, device: torch.device):
        self.network, self.device = network, device
        self._levels = {name: levels.to(device) for name, levels in network.levels.items()}
        self._inverses = {name: inverse.to(device) for name, inverse in network.inverses.items()}
        self._scales: dict[float, list[tuple[Tensor, Tensor]]] = {}
        self._product = self._exact_product()

    @property
    def agrees(self) -> bool:
        """Whether the device gives the bits of the processor, on levels that are drawn, and on the largest."""
        random = np.random.default_rng(0)
        side = 2 * self.network.reach + 9
        tiles = random.integers(-LARGEST, LARGEST + 1, (3, side, side, FEATURES), np.int8)
        tiles[1] //= 16
        tiles[2] = np.where(tiles[2] < 0, -LARGEST, LARGEST)
        for step_db in _STEPS_CHECKED_DB:
            found = self(tiles, step_db)
            expected = np.stack([self.network(torch.from_numpy(tile), step_db).numpy() for tile in tiles])
            if not np.array_equal(found.view(np.uint32), expected.view(np.uint32)):
                return False
        return True

    def __call__(self, tiles: NDArray[np.int8], step_db: float) -> NDArray[np.float32]:
        """Offsets in steps of tiles of one size.

        Parameters
        ----------
        tiles : ndarray of int8, shape (tile, y, x, feature=72)
        step_db : float
            Quantization step in dB.

        Returns
        -------
        ndarray of float32, shape (tile, y - 2 (reach - 1), x - 2 (reach - 1), latent=64)
        """
        levels = torch.from_numpy(tiles)
        with _IN_USE, torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            if self.device.type == "cuda":
                levels = levels.pin_memory()
            return self._offsets(levels.to(self.device, non_blocking=True), float(step_db)).cpu().numpy()

    def _offsets(self, levels: Tensor, step_db: float) -> Tensor:
        """The layers in turn; what each does is one line of ``docs/format.md``, section 6.3."""
        scales = iter(self._scales_on_device(step_db))
        features = self._scaled(self._convolved(levels, "entry"), next(scales))
        for block in range(self.network.config.blocks):
            prefix = f"blocks.{block}"
            levels = _levels(features, self._inverses[f"{prefix}.entry_levels.unit"])
            hidden = self._scaled(self._convolved(levels, f"{prefix}.spatial"), next(scales)).clamp_min_(0)
            mixed = self._scaled(self._multiplied(_rounded(hidden), f"{prefix}.mix"), next(scales))
            features = features[:, 1:-1, 1:-1] + mixed
        levels = _levels(features.clamp_min(0), self._inverses["exit_levels.unit"])
        return self._scaled(self._multiplied(levels, "exit"), next(scales))

    def _scales_on_device(self, step_db: float) -> list[tuple[Tensor, Tensor]]:
        if step_db not in self._scales:
            if len(self._scales) >= 64:
                self._scales.clear()
            scales = self.network.scales(step_db)
            self._scales[step_db] = [(factor.to(self.device), addend.to(self.device)) for factor, addend in scales]
        return self._scales[step_db]

    @staticmethod
    def _scaled(sums: Tensor, scale: tuple[Tensor, Tensor]) -> Tensor:
        # two operations, so that none is fused
        return sums.to(torch.float32).mul_(scale[0]).add_(scale[1])

    def _convolved(self, levels: Tensor, layer: str) -> Tensor:
        """3x3 convolution of (tile, y, x, channel) without padding, as one matrix product."""
        windows = levels.unfold(1, 3, 1).unfold(2, 3, 1)  # (tile, y, x, channel, row, column)
        windows = windows.permute(0, 1, 2, 4, 5, 3).reshape(*windows.shape[:3], 9 * levels.shape[-1])
        return self._multiplied(windows, layer)

    def _multiplied(self, levels: Tensor, layer: str) -> Tensor:
        """Exact sums over the last axis."""
        weights = self._levels[f"{layer}.levels"]
        sums = self._product(levels.reshape(-1, levels.shape[-1]).contiguous(), weights)
        return sums.reshape(*levels.shape[:-1], weights.shape[1])

    def _exact_product(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Product of 8-bit integers where the device has one, else of float32, which holds every sum."""
        weights = self._levels["entry.levels"]
        levels = weights.new_full((64, weights.shape[0]), LARGEST)
        expected = levels.cpu().double() @ weights.cpu().double()
        try:
            if torch.equal(_integer_product(levels, weights).cpu().double(), expected):
                return _integer_product
        except (AttributeError, RuntimeError):
            pass
        return _float_product


def _integer_product(levels: Tensor, weights: Tensor) -> Tensor:
    if len(levels) > 16:
        return torch._int_mm(levels, weights)
    padded = levels.new_zeros((32, levels.shape[1]))  # some kernels want more rows
    padded[: len(levels)] = levels
    return torch._int_mm(padded, weights)[: len(levels)]


def _float_product(levels: Tensor, weights: Tensor) -> Tensor:
    return levels.to(torch.float32) @ weights.to(torch.float32)


def _rounded(values: Tensor) -> Tensor:
    return values.round().clamp(-LARGEST, LARGEST).to(torch.int8)


def _levels(values: Tensor, inverse: Tensor) -> Tensor:
    return _rounded(values * inverse)


@functools.lru_cache(maxsize=8)
def _on_device(network: IntegerNetwork, device: torch.device) -> AcceleratedNetwork | None:
    """The network on a device; None, with a warning, where that is unfit."""
    try:
        result = AcceleratedNetwork(network, device)
        if result.agrees:
            return result
        problem = "gives other bits than the processor"
    except RuntimeError as error:  # all that goes wrong on a device
        problem = f"failed ({str(error).splitlines()[0]})"
    warnings.warn(
        f"{device} {problem}: the network runs on the processor. Set {VARIABLE}=cpu to say so",
        RuntimeWarning,
        stacklevel=caller_stacklevel(),
    )
    return None


os.register_at_fork(after_in_child=_on_device.cache_clear)  # what lies on a GPU is the parent's


def accelerated(network: IntegerNetwork) -> AcceleratedNetwork | None:
    """The network on the device that the environment asks for; None where that is the processor, or unfit."""
    device = chosen_device()
    if device is None:
        return None
    with _FIRST_USE:
        return _on_device(network, device)


def most_tiles(network: IntegerNetwork, places: int) -> int:
    """Tiles of so many places that go through the network at once."""
    return max(1, BATCH_VALUES // (9 * max(FEATURES, network.config.channels) * places))
