"""Products of levels and weights: exact with and without scratch, and never one that saturates."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.codec.network import products
from xsarcomp.codec.network.layers import Scratch
from xsarcomp.codec.network.products import convolve, fastest_product, float_product, integer_product


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 70), inputs=st.integers(1, 1032), outputs=st.integers(1, 70))
def test_integer_and_float_products_are_equal_to_the_sums(seed, rows, inputs, outputs):
    random = np.random.default_rng(seed)
    levels = random.integers(-127, 128, (rows, inputs)).astype(np.int8)
    weights = random.integers(-127, 128, (inputs, outputs)).astype(np.int8)
    levels[:: random.integers(1, 4)] = 127  # 1032 products of 127 and 127 stay just below 2^24
    weights[:, :: random.integers(1, 4)] = random.choice([-127, 127])
    expected = levels.astype(np.int64) @ weights.astype(np.int64)
    for product in (integer_product, float_product):
        for scratch in (Scratch(), None):
            sums = product(torch.from_numpy(levels), torch.from_numpy(weights), scratch)
            assert sums.shape == (rows, outputs)
            np.testing.assert_array_equal(sums.numpy().astype(np.int64), expected)


@pytest.mark.parametrize("shape", [(3, 3), (9, 3), (3, 7), (8, 11)])
@pytest.mark.parametrize("product", [integer_product, float_product])
def test_convolutions_of_tiles_are_those_of_torch(shape, product):
    random = np.random.default_rng(6)
    levels = torch.from_numpy(random.integers(-127, 128, (2, *shape, 5), dtype=np.int8))
    weights = torch.from_numpy(random.integers(-127, 128, (9 * 5, 7), dtype=np.int8))
    kernel = weights.reshape(3, 3, 5, 7).permute(3, 2, 0, 1).double()
    expected = torch.nn.functional.conv2d(levels.permute(0, 3, 1, 2).double(), kernel).permute(0, 2, 3, 1)
    batch = convolve(levels, weights, product)
    assert torch.equal(batch.double(), expected)
    transposed = levels.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(convolve(transposed, weights, product), batch)
    for tile, sums in zip(levels, batch, strict=True):
        assert torch.equal(convolve(tile, weights, product, Scratch()).double(), sums.double())


def test_product_that_saturates_is_not_used(monkeypatch):
    def saturating(levels, weights, _scratch):
        # as instructions do that multiply unsigned by signed numbers: sums of two products have 16 bits
        pairs = (levels.long() + 128)[:, :, None] * weights.long()[None]
        sums = (pairs[:, ::2] + pairs[:, 1::2]).clamp(-(2**15), 2**15 - 1).sum(1)
        return (sums - 128 * weights.long().sum(0)).int()

    monkeypatch.setattr(products, "integer_product", saturating)
    assert fastest_product.__wrapped__(8, 6) is float_product


def test_build_of_torch_without_the_integer_product_uses_the_other(monkeypatch):
    monkeypatch.delattr(torch, "_int_mm")
    assert fastest_product.__wrapped__(9, 5) is float_product
