"""What lies between two products of the network in integers: float32 arithmetic, number by number, and rounding.

Each operation stands on its own: a product and a sum that a processor fuses would round differently. All of it for a layer
is one pass over its sums (:mod:`xsarcomp.codec.kernels.decoder`); a pass for each operation took a fifth of the network's time.
"""

import math
import threading
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from xsarcomp.codec.kernels.compile import FIRST_USE

STRIP_BYTES = 2**20
"""Levels that a product reads, nine for each level around: what is between two products stays in the cache."""


def strips(levels: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows of what a 3x3 layer returns for ``levels`` (y, x, channel), part by part, and the rows that it reads for them."""
    rows = max(1, STRIP_BYTES // (9 * levels.shape[1] * levels.shape[2]))
    for start in range(0, len(levels) - 2, rows):
        stop = min(start + rows, len(levels) - 2)
        yield slice(start, stop), slice(start, stop + 2)


class Scratch(threading.local):
    """Memory of a thread for what stands between the layers: about 10 MB for a tile of 68 latents and 128 channels.

    It is kept from tile to tile. The 80 arrays of a tile are large enough for the system to take each back when it is
    freed and to clear its pages when the next one asks, where the allocator was told to give memory back soon. Workers
    of Dask are told so, and spent more time on that than on the products.
    """

    def __init__(self) -> None:
        self._held: dict[str, NDArray[np.uint8]] = {}

    def __reduce__(self) -> tuple[type["Scratch"], tuple[()]]:
        """A copy begins empty."""
        return Scratch, ()

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Tensor:
        """Tensor with any values, valid until the same thread asks for this name again."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        held = self._held.get(name)
        if held is None or len(held) < size:
            self._held[name] = held = np.empty(size, np.uint8)
        # from NumPy: torch's own factories follow the default device and type of the caller
        return torch.from_numpy(held[:size].view(dtype).reshape(shape))

    def activations(self, layer: int, levels: Tensor, channels: int) -> tuple[Tensor, Tensor]:
        """Room for the features of a 3x3 layer that reads ``levels`` (y, x, channel), and for their levels.

        What the layer before was given stays.
        """
        shape = (levels.shape[0] - 2, levels.shape[1] - 2, channels)
        names = (f"features {layer % 2}", f"levels {layer % 2}")
        return self.array(names[0], shape, np.float32), self.array(names[1], shape, np.int8)


def first_features(
    sums: Tensor, factor: Tensor, addend: Tensor, inverse: Tensor, features: Tensor, levels: Tensor
) -> None:
    """Features from the sums of the first layer, and their levels.

    Parameters
    ----------
    sums : Tensor of int32, shape (y, x, channel)
    factor, addend : Tensor of float32, shape (channel,)
    inverse : Tensor of float32, shape (1,)
        One over the unit of the levels.
    features : Tensor of float32, shape (y, x, channel)
        Filled here.
    levels : Tensor of int8, same shape
        Filled here.
    """
    numbers = (sums.numpy(), factor.numpy(), addend.numpy())
    _kernels().first_features(*numbers, inverse.numpy()[0], features.numpy(), levels.numpy())


def hidden_levels(sums: Tensor, factor: Tensor, addend: Tensor, scratch: Scratch) -> Tensor:
    """Levels of what is positive of a layer, in the scratch; see :func:`first_features`. Its unit is one."""
    levels = scratch.array("hidden levels", tuple(sums.shape), np.int8)
    _kernels().hidden_levels(sums.numpy(), factor.numpy(), addend.numpy(), levels.numpy())
    return levels


def next_features(
    sums: Tensor,
    factor: Tensor,
    addend: Tensor,
    before: Tensor,
    is_last: bool,
    inverse: Tensor,
    features: Tensor,
    levels: Tensor,
) -> None:
    """Features behind a block, and their levels; see :func:`first_features`.

    Parameters
    ----------
    sums, factor, addend, inverse, features, levels
        Of the last layer of the block.
    before : Tensor of float32, shape (y + 2, x + 2, channel)
        Features that the block was given.
    is_last : bool
        Whether only what is positive goes on: behind the last block.
    """
    smallest = np.float32(0 if is_last else -np.inf)
    numbers = (sums.numpy(), factor.numpy(), addend.numpy(), before.numpy())
    _kernels().next_features(*numbers, smallest, inverse.numpy()[0], features.numpy(), levels.numpy())


def scaled(sums: Tensor, factor: Tensor, addend: Tensor) -> Tensor:
    """Sums of a layer times a factor plus an addend for each channel; two operations, so that none is fused."""
    return sums.to(torch.float32).mul_(factor).add_(addend)


def _kernels() -> ModuleType:
    with FIRST_USE:
        from xsarcomp.codec.kernels import decoder as decoder_kernels
    return decoder_kernels
