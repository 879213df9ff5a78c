"""The network in batches on a device of torch: the bits of the processor, or the processor.

No GPU is needed: the processor is a device of torch as well, and what runs there are the operations that a GPU gets.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.network import coder as coder_module
from xsarcomp.codec.network import gpu
from xsarcomp.errors import ConfigurationError

pytestmark = pytest.mark.slow

PROCESSOR = torch.device("cpu")
HAS_GPU = torch.cuda.is_available()


CODER = load_coder("s1-grd-10m")


@pytest.fixture(scope="module")
def coder():
    return CODER


@pytest.fixture
def batches(monkeypatch):
    """Run the network in batches, and note how many tiles each had."""
    sizes, call = [], gpu.DeviceNetwork.__call__
    monkeypatch.setattr(gpu, "requested_device", lambda: PROCESSOR)
    gpu._on_device.cache_clear()
    monkeypatch.setattr(
        gpu.DeviceNetwork,
        "__call__",
        lambda self, tiles, step_db: sizes.append(len(tiles)) or call(self, tiles, step_db),
    )
    yield sizes
    gpu._on_device.cache_clear()


def points_of(shape, seed):
    generator = np.random.default_rng(seed)
    decay = 1.0 / (1 + np.add.outer(np.arange(8), np.arange(8)).ravel())
    points = np.rint(generator.laplace(0, 9, shape) * decay[:, None, None]).astype(np.int32)
    points[:, 0] += 200
    return points


@given(
    planes=st.integers(1, 3),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    step_db=st.sampled_from([0.02, 0.7, 3.3, 64.0]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=30)
def test_batches_restore_the_latents_of_the_processor_to_the_bit(planes, height, width, step_db, seed):
    reach = CODER.network.config.reach
    points = points_of((planes, 64, height + 2 * reach, width + 2 * reach), seed)
    network = gpu.DeviceNetwork(CODER.network, PROCESSOR)
    found = CODER._restore_in_batches(network, points, step_db)
    np.testing.assert_array_equal(found.view(np.uint32), CODER.reconstruct(points, step_db).view(np.uint32))


def test_tiles_of_a_block_share_batches(coder, batches, monkeypatch):
    monkeypatch.setattr(coder_module, "DEVICE_TILE_LATENTS", 10)
    reach = coder.network.config.reach
    points = points_of((2, 64, 25 + 2 * reach, 10 + 2 * reach), 1)
    found = coder.reconstruct(points, 1.7)
    assert sum(batches[-2:]) == 2 * 3  # three tiles a plane, of two sizes
    monkeypatch.setattr(gpu, "requested_device", lambda: None)
    np.testing.assert_array_equal(found, coder.reconstruct(points, 1.7))


def test_memory_of_a_batch_is_bounded(coder, batches, monkeypatch):
    reach = coder.network.config.reach
    points = points_of((5, 64, 12 + 2 * reach, 12 + 2 * reach), 2)
    whole = coder.reconstruct(points, 1.7)
    assert batches[-1] == 5
    side = 12 + 2 * reach - 2
    monkeypatch.setattr(gpu, "LARGEST_BATCH", 2 * 9 * coder.network.config.channels * side**2)
    del batches[:]
    np.testing.assert_array_equal(coder.reconstruct(points, 1.7), whole)
    assert batches == [2, 2, 1]


def test_stores_decode_the_same_in_batches(batches, monkeypatch):
    import xsarcomp  # noqa: F401  registers .sarcomp
    from xsarcomp.scenes.simulation import simulated_dataset

    encoded = simulated_dataset((200, 170), seed=4).sarcomp.encode(bits_per_pixel=0.5)
    found = encoded.sarcomp.decode().vv.values
    assert batches
    monkeypatch.setattr(gpu, "requested_device", lambda: None)
    np.testing.assert_array_equal(found, encoded.sarcomp.decode().vv.values)


def test_a_device_of_other_bits_is_named_and_left_alone(coder, batches, monkeypatch):
    right = gpu._round_to_levels
    monkeypatch.setattr(gpu, "_round_to_levels", lambda values: right(values + 2e-3))
    points = points_of((1, 64, 20, 20), 3)
    with pytest.warns(RuntimeWarning, match="other bits than the processor"):
        found = coder.reconstruct(points, 1.7)
    del batches[:]
    np.testing.assert_array_equal(coder.reconstruct(points, 1.7), found)
    assert not batches  # said once


def test_a_device_that_fails_is_named_and_left_alone(coder, batches, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore")

    monkeypatch.setattr(gpu.DeviceNetwork, "_convolve", fail)
    with pytest.warns(RuntimeWarning, match=r"failed \(CUDA out of memory"):
        coder.reconstruct(points_of((1, 64, 20, 20), 3), 1.7)


def test_the_processor_is_the_default(monkeypatch):
    monkeypatch.delenv(gpu.DEVICE_VARIABLE, raising=False)
    assert gpu.requested_device() is None


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_without_a_gpu_auto_is_the_processor_and_cuda_an_error(monkeypatch):
    monkeypatch.setenv(gpu.DEVICE_VARIABLE, "auto")
    assert gpu.requested_device() is None
    monkeypatch.setenv(gpu.DEVICE_VARIABLE, "cuda")
    with pytest.raises(ConfigurationError, match="sees 0 GPUs"):
        gpu.requested_device()


@pytest.mark.parametrize("name", ["gpu", "cuda:", "mps", "meta", "cuda:99"])
def test_other_devices_are_refused(monkeypatch, name):
    monkeypatch.setenv(gpu.DEVICE_VARIABLE, name)
    with pytest.raises(ConfigurationError, match=gpu.DEVICE_VARIABLE):
        gpu.requested_device()


@pytest.mark.skipif(not HAS_GPU, reason="torch sees no GPU")
def test_a_gpu_gives_the_bits_of_the_processor(coder, monkeypatch):
    monkeypatch.setenv(gpu.DEVICE_VARIABLE, "auto")
    network = gpu.network_on_device(coder.network)
    assert network is not None
    assert network.device.type == "cuda"
    for seed, step_db in enumerate((0.02, 0.7, 3.3, 64.0)):
        points = points_of((2, 64, 90, 90), seed)
        found = coder.reconstruct(points, step_db)
        monkeypatch.setenv(gpu.DEVICE_VARIABLE, "cpu")
        np.testing.assert_array_equal(found.view(np.uint32), coder.reconstruct(points, step_db).view(np.uint32))
        monkeypatch.setenv(gpu.DEVICE_VARIABLE, "auto")


def test_an_unknown_device_is_an_error_of_the_command_too(tmp_path):
    import os

    program = (
        "import xsarcomp, sys; from xsarcomp.scenes.simulation import simulated_dataset\n"
        "simulated_dataset((32, 32), 1).sarcomp.encode(bits_per_pixel=1).sarcomp.decode()"
    )
    environment = os.environ | {gpu.DEVICE_VARIABLE: "gpu"}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode
    assert "ConfigurationError: XSARCOMP_DEVICE is 'gpu', expected cpu, auto, cuda" in run.stderr
