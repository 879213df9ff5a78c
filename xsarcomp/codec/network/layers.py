"""Per-element scaling, ReLU and rounding between integer convolutions, and the memory for it.

Each float32 operation stands on its own: a product and a sum that a processor fuses would round differently. All of it for
one layer is one pass over the sums (:mod:`xsarcomp.codec.kernels.decoder`); a pass for each operation took a fifth of the
network's time.

*Features* are float32 activations, *levels* are activations quantized to int8.
"""

import math
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from xsarcomp.codec.kernels.compile import FIRST_USE

STRIP_BYTES = 2**20
"""Size of the windows of a strip, nine levels for each level around: memory between two products stays in the cache."""


class Scale(NamedTuple):
    """Factor and addend that turn the sums of a layer into activations, float32, shape (channel,) each."""

    factor: Tensor
    addend: Tensor


def strips(levels: Tensor) -> Iterator[tuple[slice, slice]]:
    """Divide the output of a 3x3 layer into strips of rows.

    Parameters
    ----------
    levels : Tensor of int8, shape (y, x, channel)
        Input of the layer.

    Yields
    ------
    rows : slice
        Rows of the output.
    around : slice
        Rows of the input that these depend on.
    """
    rows = max(1, STRIP_BYTES // (9 * levels.shape[1] * levels.shape[2]))
    for start in range(0, len(levels) - 2, rows):
        stop = min(start + rows, len(levels) - 2)
        yield slice(start, stop), slice(start, stop + 2)


class Scratch(threading.local):
    """Memory of a thread for activations between the layers: about 10 MB for a tile of 68 latents and 128 channels.

    It is kept from tile to tile. The 80 arrays of a tile are large enough for the system to take each back when it is
    freed and to clear its pages when the next one is allocated, where the allocator was told to give memory back soon.
    Workers of Dask are told so, and spent more time on that than on the products.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray[np.uint8]] = {}

    def __reduce__(self) -> tuple[type["Scratch"], tuple[()]]:
        """Pickle without the memory: a copy begins empty."""
        return Scratch, ()

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Tensor:
        """Return a tensor with undefined values, valid until the same thread asks for this name again.

        Parameters
        ----------
        name : str
            Purpose of the memory.
        shape : tuple of int
        dtype : data type of NumPy

        Returns
        -------
        Tensor, shape as given
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            self._buffers[name] = buffer = np.empty(size, np.uint8)
        # from NumPy: torch's own factories follow the default device and type of the caller
        return torch.from_numpy(buffer[:size].view(dtype).reshape(shape))

    def activations(self, layer: int, levels: Tensor, channels: int) -> tuple[Tensor, Tensor]:
        """Return room for the output of a 3x3 layer; that of the layer before stays valid.

        Parameters
        ----------
        layer : int
            Number of the layer, from 0.
        levels : Tensor of int8, shape (y, x, channel)
            Input of the layer.
        channels : int
            Channels of its output.

        Returns
        -------
        features : Tensor of float32, shape (y - 2, x - 2, channels)
        levels : Tensor of int8, same shape
        """
        shape = (levels.shape[0] - 2, levels.shape[1] - 2, channels)
        names = (f"features {layer % 2}", f"levels {layer % 2}")
        return self.array(names[0], shape, np.float32), self.array(names[1], shape, np.int8)


def entry_features(sums: Tensor, scale: Scale, inverse_unit: Tensor, features: Tensor, levels: Tensor) -> None:
    """Fill in the features and levels behind the entry layer.

    Parameters
    ----------
    sums : Tensor of int32, shape (y, x, channel)
    scale : Scale
    inverse_unit : Tensor of float32, shape (1,)
        One over the unit of the levels.
    features : Tensor of float32, shape (y, x, channel)
        Filled here.
    levels : Tensor of int8, same shape
        Filled here.
    """
    _kernels().entry_features(sums.numpy(), *_arrays(scale), inverse_unit.numpy()[0], features.numpy(), levels.numpy())


def hidden_levels(sums: Tensor, scale: Scale, scratch: Scratch) -> Tensor:
    """Compute the levels behind the 3x3 layer of a block: scaling, ReLU, rounding. Their unit is in the scale.

    Parameters
    ----------
    sums : Tensor of int32, shape (y, x, channel)
    scale : Scale
    scratch : Scratch
        Memory of the result.

    Returns
    -------
    Tensor of int8, shape (y, x, channel)
    """
    levels = scratch.array("hidden levels", tuple(sums.shape), np.int8)
    _kernels().hidden_levels(sums.numpy(), *_arrays(scale), levels.numpy())
    return levels


def block_features(
    sums: Tensor, scale: Scale, before: Tensor, is_last: bool, inverse_unit: Tensor, features: Tensor, levels: Tensor
) -> None:
    """Fill in the features and levels behind a residual block.

    Parameters
    ----------
    sums : Tensor of int32, shape (y, x, channel)
        Sums of the 1x1 layer of the block.
    scale, inverse_unit, features, levels
        As for :func:`entry_features`.
    before : Tensor of float32, shape (y + 2, x + 2, channel)
        Features before the block.
    is_last : bool
        True for the last block: a ReLU follows.
    """
    smallest = np.float32(0 if is_last else -np.inf)
    inverse = inverse_unit.numpy()[0]
    _kernels().block_features(
        sums.numpy(), *_arrays(scale), before.numpy(), smallest, inverse, features.numpy(), levels.numpy()
    )


def scaled(sums: Tensor, scale: Scale) -> Tensor:
    """Multiply sums (..., channel) by the factor and add the addend; two operations, so that none is fused.

    Parameters
    ----------
    sums : Tensor of int32 or float32, shape (..., channel)
        Overwritten if float32.
    scale : Scale

    Returns
    -------
    Tensor of float32, same shape
    """
    return sums.to(torch.float32).mul_(scale.factor).add_(scale.addend)


def _arrays(scale: Scale) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return scale.factor.numpy(), scale.addend.numpy()


def _kernels() -> ModuleType:
    with FIRST_USE:
        from xsarcomp.codec.kernels import decoder as decoder_kernels
    return decoder_kernels
