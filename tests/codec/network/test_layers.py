"""Memory between the layers: kept by each thread for itself, of any shape that is asked for, and never in a result."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from xsarcomp.codec.network import layers
from xsarcomp.codec.network.layers import Scratch
from xsarcomp.codec.network.network import IntegerNetwork
from xsarcomp.models.refiner.export import integer_arrays
from xsarcomp.models.refiner.network import RefinerConfig

CONFIG = RefinerConfig(channels=8, blocks=2)


@pytest.fixture
def network(disturbed_refiner):
    return IntegerNetwork(integer_arrays(disturbed_refiner(CONFIG)), CONFIG)


def tile(height, width, seed=0):
    levels = np.random.default_rng(seed).integers(-127, 128, (height, width, 72))
    return torch.from_numpy(levels.astype(np.int8))


def test_the_same_memory_serves_every_shape_that_fits():
    scratch = Scratch()
    large = scratch.array("sums", (4, 6), np.int32)
    small = scratch.array("sums", (3, 2, 2), np.float32)
    assert (large.shape, large.dtype) == ((4, 6), torch.int32)
    assert (small.shape, small.dtype) == ((3, 2, 2), torch.float32)
    assert small.data_ptr() == large.data_ptr()
    assert scratch.array("others", (4, 6), np.int32).data_ptr() != large.data_ptr()
    assert scratch.array("sums", (50, 60), np.int32).shape == (50, 60)


def test_what_the_layer_before_was_given_stays():
    scratch, levels = Scratch(), tile(9, 8)
    before = scratch.activations(0, levels, 8)
    after = scratch.activations(1, before[1], 8)
    assert [tuple(part.shape) for part in (*before, *after)] == [(7, 6, 8)] * 2 + [(5, 4, 8)] * 2
    assert len({part.data_ptr() for part in (*before, *after)}) == 4


def test_each_thread_has_its_own_and_a_copy_begins_empty():
    scratch = Scratch()
    own = scratch.array("sums", (4, 6), np.int32)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(scratch.array, "sums", (4, 6), np.int32).result()
    assert other.data_ptr() != own.data_ptr()
    assert pickle.loads(pickle.dumps(scratch)).array("sums", (4, 6), np.int32).data_ptr() != own.data_ptr()


def test_no_result_lies_in_memory_that_the_next_tile_uses(network):
    first = network(tile(12, 13), 2.0)
    kept = first.clone()
    network(tile(20, 11, seed=1), 2.0)
    network(tile(7, 7, seed=2), 9.0)
    assert torch.equal(first, kept)
    assert torch.equal(network(tile(12, 13), 2.0), kept)


def test_a_second_tile_takes_no_new_memory_between_the_layers(network, monkeypatch):
    tiles = [tile(20, 20, seed) for seed in range(2)]
    network(tiles[0], 2.0)
    made, empty = [], np.empty
    monkeypatch.setattr(layers.np, "empty", lambda *arguments: made.append(arguments) or empty(*arguments))
    network(tiles[1], 2.0)
    assert made == []
