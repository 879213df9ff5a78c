"""Exact products of int8 levels and int8 weights, as matrix products of torch.

No sum of a network's products leaves ``LARGEST_SUM`` (model files are checked for that), so int32 and float32 hold every sum
without rounding, in any order of its terms. Products of integers and of float32 are then equal to the bit, and each device
uses the faster one that it computes exactly.
"""

import functools
import os
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from xsarcomp.codec.network.arithmetic import LARGEST_LEVEL
from xsarcomp.codec.network.layers import Scratch

Product = Callable[[Tensor, Tensor, Scratch | None], Tensor]
"""Matrix product of levels (row, input) and weights (input, output), both int8; with a scratch the result is in its memory."""
_ROWS_TRIED = 256
_forked = False
"""True in a process that was forked after this module was imported."""


def _remember_fork() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_remember_fork)


def convolve(levels: Tensor, weights: Tensor, product: Product, scratch: Scratch | None = None) -> Tensor:
    """Convolve levels with 3x3 weights, without padding, as one matrix product.

    Parameters
    ----------
    levels : Tensor of int8, shape (..., y, x, channel)
    weights : Tensor of int8, shape (9 * channel, output)
        Rows are in the order (row, column, channel).
    product : callable
        :func:`integer_product` or :func:`float_product`.
    scratch : Scratch, optional
        Memory of the processor for windows and sums; each call overwrites what the one before returned.

    Returns
    -------
    Tensor of int32 or float32, shape (..., y - 2, x - 2, output)
        Exact sums.
    """
    *tiles, height, width, channels = levels.shape
    levels = levels.contiguous()
    *tile_strides, row, column, _ = levels.stride()
    shape = (*tiles, height - 2, width - 2, 3, 3 * channels)
    windows = levels.as_strided(shape, (*tile_strides, row, column, row, 1))
    # a copy always: where one column is left, a reshaped view would have rows that overlap, and products of these are wrong
    if scratch is None:
        windows = windows.clone(memory_format=torch.contiguous_format)
    else:
        windows = scratch.array("windows", shape, np.int8).copy_(windows)
    return multiply(windows.reshape(*shape[:-2], 9 * channels), weights, product, scratch)


def multiply(levels: Tensor, weights: Tensor, product: Product, scratch: Scratch | None = None) -> Tensor:
    """Multiply the last axis of levels by weights (input, output); see :func:`convolve`."""
    flat = levels.reshape(-1, levels.shape[-1])
    return product(flat, weights, scratch).reshape(*levels.shape[:-1], weights.shape[1])


def integer_product(levels: Tensor, weights: Tensor, scratch: Scratch | None = None) -> Tensor:
    """Multiply in int32 with the 8-bit instructions of the device; a :data:`Product`."""
    if len(levels) <= 16:  # some kernels of torch want more rows
        padded = levels.new_zeros((32, levels.shape[1]))
        padded[: len(levels)] = levels
        return torch._int_mm(padded, weights)[: len(levels)]
    if scratch is None:
        return torch._int_mm(levels, weights)
    return torch._int_mm(levels, weights, out=scratch.array("sums", (len(levels), weights.shape[1]), np.int32))


def float_product(levels: Tensor, weights: Tensor, scratch: Scratch | None = None) -> Tensor:
    """Multiply in float32; a :data:`Product`. The result is int32 with a scratch, else float32.

    Levels have 7 bits, so nothing changes where torch may round the factors of float32 products to bfloat16 or TF32. A forked
    process multiplies with NumPy: MKL, which torch uses, guards its memory by spin locks that a thread of the parent may have held;
    then the child waits forever.
    """
    if _forked and levels.device.type == "cpu":
        sums = np.matmul(levels.numpy().astype(np.float32), weights.numpy().astype(np.float32))
        return torch.from_numpy(sums if scratch is None else sums.astype(np.int32))
    if scratch is None:
        return levels.to(torch.float32) @ weights.to(torch.float32)
    shape = (len(levels), weights.shape[1])
    factors = scratch.array("float levels", tuple(levels.shape), np.float32).copy_(levels)
    sums = scratch.array("float sums", shape, np.float32)
    torch.mm(factors, weights.to(torch.float32), out=sums)
    return scratch.array("sums", shape, np.int32).copy_(sums)


@functools.cache
def fastest_product(inputs: int, outputs: int) -> Product:
    """Choose the faster product of this processor for one shape of weights, after a check that it is exact.

    Processors without instructions for 8-bit products emulate them, slowly, and with some instructions sums of two products
    saturate. torch chooses kernels by shape, so each shape is checked.

    Parameters
    ----------
    inputs, outputs : int
        Shape of the weights.

    Returns
    -------
    callable
        :func:`integer_product` or :func:`float_product`.
    """
    random = np.random.default_rng(0)
    drawn_levels = random.integers(-LARGEST_LEVEL, LARGEST_LEVEL + 1, (_ROWS_TRIED, inputs), dtype=np.int8)
    drawn_weights = random.integers(-LARGEST_LEVEL, LARGEST_LEVEL + 1, (inputs, outputs), dtype=np.int8)
    # the largest sums of two and more products, of both signs
    drawn_levels[0::4], drawn_levels[1::4] = LARGEST_LEVEL, -LARGEST_LEVEL
    drawn_weights[:, 0::4], drawn_weights[:, 1::4] = LARGEST_LEVEL, -LARGEST_LEVEL
    expected = torch.from_numpy(drawn_levels.astype(np.float64) @ drawn_weights.astype(np.float64)).long()
    levels, weights, scratch = torch.from_numpy(drawn_levels), torch.from_numpy(drawn_weights), Scratch()
    try:
        for rows in (_ROWS_TRIED, 17, 5):
            if not torch.equal(integer_product(levels[:rows], weights, scratch).long(), expected[:rows]):
                return float_product
    except (AttributeError, RuntimeError):  # a build of torch without the product of integers
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
