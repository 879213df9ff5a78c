"""The same bytes give the same symbols and the same restored latents, to the bit, whoever decodes and how.

Run as a program (MODEL SYMBOLS START_METHOD THREADS) it prints what a process and its child restore, see ``main``.
"""

import contextlib
import hashlib
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.paths import ROOT
from xsarcomp.codec.chunk import decode_latents, encode_latents
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.model_file import coder_from_bytes
from xsarcomp.codec.network import coder as inference
from xsarcomp.codec.network.arithmetic import input_levels
from xsarcomp.codec.network.network import IntegerNetwork, expected_shapes
from xsarcomp.codec.trellis import BLOCK_TRELLIS
from xsarcomp.models.refiner.network import RefinerConfig

pytestmark = pytest.mark.slow

STEP_DB = 2.9
PLANES = 8
OFFSETS_DIGEST = "bec9d6d95c41e38be95fb510dfa26df6"
"""BLAKE2b of the offsets of :func:`integer_example`: not to be changed without a new major version of the format."""

LAYOUTS = {
    "contiguous": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "strided": lambda array: np.repeat(array, 2, axis=3)[..., ::2],
    "reversed": lambda array: np.ascontiguousarray(array[:, :, ::-1])[:, :, ::-1],
}


def symbols_like(planes, height, width, seed=0):
    symbols = np.rint(np.random.default_rng(seed).laplace(0, 1.5, (planes, 64, height, width))).astype(np.int32)
    symbols[:, 0] *= 20
    return symbols


def digest(array):
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest()


@contextlib.contextmanager
def torch_threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def frames(network_coder):
    """A frame of latents for each plane."""
    anchor = network_coder.anchor(STEP_DB)
    return [encode_latents(plane, anchor, network_coder) for plane in symbols_like(PLANES, 23, 19)]


@pytest.fixture(scope="module")
def expected(network_coder):
    """Symbols and latents of all planes, restored plane by plane in one thread and one tile."""
    symbols = symbols_like(PLANES, 23, 19)
    with torch_threads(1):
        restored = [network_coder.reconstruct(symbols[plane : plane + 1], STEP_DB) for plane in range(PLANES)]
    return symbols, np.concatenate(restored)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("planes", [1, 3, 8])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("tile", [3, 64])
def test_given_bytes_decode_to_the_same_bits(
    network_coder, frames, expected, monkeypatch, threads, planes, layout, autocast, tile
):
    monkeypatch.setattr(inference, "TILE_LATENTS", tile)
    with torch_threads(threads), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        symbols = np.stack([decode_latents(frame, network_coder) for frame in frames])
        groups = [LAYOUTS[layout](symbols[start : start + planes]) for start in range(0, PLANES, planes)]
        restored = np.concatenate([network_coder.reconstruct(group, STEP_DB) for group in groups])
    np.testing.assert_array_equal(symbols, expected[0])
    assert restored.dtype == np.float32
    np.testing.assert_array_equal(restored, expected[1])


@pytest.mark.parametrize(("top", "left", "height", "width"), [(0, 0, 9, 9), (5, 3, 12, 16), (14, 10, 9, 9)])
def test_window_restores_as_it_does_in_the_whole(network_coder, expected, top, left, height, width):
    reach = network_coder.latent_reach - 1
    window = expected[0][:, :, top : top + height, left : left + width]
    inside = expected[1][:, :, top : top + height - 2 * reach, left : left + width - 2 * reach]
    np.testing.assert_array_equal(network_coder.reconstruct(window, STEP_DB), inside)


@contextlib.contextmanager
def changed_state(set_to, before, after):
    set_to(before)
    try:
        yield
    finally:
        set_to(after)


STATES = {
    "inference_mode": torch.inference_mode,
    "enable_grad": torch.enable_grad,
    "float16 autocast": lambda: torch.autocast("cpu", dtype=torch.float16),
    "default float64": lambda: changed_state(torch.set_default_dtype, torch.float64, torch.float32),
    "default bfloat16": lambda: changed_state(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "default device": lambda: torch.device("meta"),
    "bfloat16 products": lambda: changed_state(torch.set_float32_matmul_precision, "medium", "highest"),
    "flushed subnormals": lambda: changed_state(torch.set_flush_denormal, True, False),
    "deterministic algorithms": lambda: changed_state(torch.use_deterministic_algorithms, True, False),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("product", ["integer_product", "float_product"])
def test_state_of_torch_and_choice_of_product_change_no_bit(network_content, expected, monkeypatch, state, product):
    from xsarcomp.codec.network import network as integer_network
    from xsarcomp.codec.network import products

    monkeypatch.setattr(integer_network, "fastest_product", lambda *_: getattr(products, product))
    with STATES[state]():
        found = coder_from_bytes(network_content).reconstruct(expected[0][:2], STEP_DB)
    np.testing.assert_array_equal(found, expected[1][:2])


def restored_digest(model, symbols):
    """Digest of what a process restores; a fresh coder from the model file."""
    return digest(coder_from_bytes(Path(model).read_bytes()).reconstruct(np.load(symbols), STEP_DB))


def main(model, symbols, method, threads):
    """Print the digests of a process that has restored already, and of a child that it starts."""
    torch.set_num_threads(int(threads))
    print(restored_digest(model, symbols))
    with multiprocessing.get_context(method).Pool(1) as pool:
        print(pool.apply(restored_digest, (model, symbols)))


@pytest.fixture(scope="module")
def stored(network_content, expected, tmp_path_factory):
    """Files of the model and of all symbols."""
    folder = tmp_path_factory.mktemp("determinism")
    (folder / "model.safetensors").write_bytes(network_content)
    np.save(folder / "symbols.npy", expected[0])
    return str(folder / "model.safetensors"), str(folder / "symbols.npy")


PROCESSORS = {
    "this processor": {},
    "without AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "without AVX": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"},
}


@pytest.mark.parametrize(
    ("method", "threads", "processor"),
    [
        pytest.param("fork", 1, "this processor", marks=pytest.mark.soak),
        ("fork", 2, "this processor"),
        pytest.param("spawn", 1, "this processor", marks=pytest.mark.soak),
        ("spawn", 2, "without AVX-512"),
        ("spawn", 1, "without AVX"),
    ],
)
def test_other_processes_and_processors_restore_the_same_bits(stored, expected, method, threads, processor):
    environment = {**os.environ, **PROCESSORS[processor], "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", __name__, *stored, method, str(threads)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=600)
    assert run.stdout.split() == 2 * [digest(expected[1])]


def integer_example():
    """A network and its input without any random or transcendental function of a library."""
    config = RefinerConfig(channels=24, blocks=2)
    arrays = {}
    for number, (name, (shape, dtype)) in enumerate(sorted(expected_shapes(config).items())):
        steps = (np.arange(np.prod(shape), dtype=np.int64) * 7919 + 104729 * number) ** 2 % 65521
        if dtype == "int8":
            array = steps % 201 - 100
        elif name.endswith((".unit", ".units")):
            array = (steps % 1000 + 500) / 2.0**17
        else:
            array = (steps - 2**15) / 2.0**17
        arrays[name] = array.reshape(shape).astype(dtype)
    places = (np.arange(64 * 13 * 12, dtype=np.int64) * 6151) ** 2 % 65521
    symbols = (places % 13 - 6) * (places % 7 // 3)
    return IntegerNetwork(arrays, config), symbols.reshape(1, 64, 13, 12).astype(np.int32)


def test_offsets_have_the_digest_that_every_machine_must_find():
    network, symbols = integer_example()
    levels = input_levels(symbols, STEP_DB, np.zeros(64, bool), BLOCK_TRELLIS.spacing)[0]
    offsets = network(torch.from_numpy(levels), STEP_DB).numpy()
    assert offsets.shape == (5, 4, 64)
    assert np.unique(offsets).size > 1000
    assert digest(offsets.astype("<f4")) == OFFSETS_DIGEST


@pytest.fixture(scope="module")
def shipped():
    return load_coder("s1-grd-10m")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("planes", "autocast", "tile"), [(1, False, 64), (3, True, 64), (3, False, 7), (1, True, 7)])
def test_given_bytes_decode_to_the_same_bits_with_the_shipped_model(
    shipped, monkeypatch, threads, planes, autocast, tile
):
    symbols = symbols_like(3, 27, 25, seed=1)
    frame = encode_latents(symbols, shipped.anchor(STEP_DB), shipped)
    with torch_threads(1):
        whole = np.concatenate([shipped.reconstruct(symbols[plane : plane + 1], STEP_DB) for plane in range(3)])
    monkeypatch.setattr(inference, "TILE_LATENTS", tile)
    with torch_threads(threads), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        decoded = decode_latents(frame, shipped)
        restored = [shipped.reconstruct(decoded[start : start + planes], STEP_DB) for start in range(0, 3, planes)]
    np.testing.assert_array_equal(decoded, symbols)
    np.testing.assert_array_equal(np.concatenate(restored), whole)


if __name__ == "__main__":
    main(*sys.argv[1:])
