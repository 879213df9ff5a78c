"""Forks, spawned processes and many threads decode the same frames to the same numbers, and change no state of torch.

Run as a program (FOLDER) it prints digests of what a fresh process decodes, see ``main``.
"""

import hashlib
import os
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from tests.support.paths import ROOT
from xsarcomp.codec import chunk, integer_chunk
from xsarcomp.codec.frame import INTEGERS, LATENTS, read_frame
from xsarcomp.codec.installed_models import load_coder, resolve_model
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.codec_zarr import BackscatterCodec

pytestmark = pytest.mark.slow

MODEL = "s1-grd-10m"  # with a network, so that torch works too
QUICK, LONG = 25, 500
THREADS = 8
FORK_SECONDS = 600
"""A fork that hangs is given up after so long: far beyond what it needs on a busy machine."""
PROMISES = {"plain": {}, "promised": {"max_error_db": 1.5, "keep_means": True}}


def digest(array):
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest()


def make_jobs(folder):
    """Frames of each kind in files, and two latents stores of a scene."""
    scene = simulated_dataset((72, 88), 6)
    values, coder = np.ascontiguousarray(scene.vv.values), load_coder(MODEL)
    for name, guarantees in PROMISES.items():
        settings = BackscatterCodec(resolve_model(MODEL), 2.9, "power", **guarantees).encoder_settings(
            values.dtype, None
        )
        (folder / f"{name}.frame").write_bytes(chunk.encode_backscatter(values, settings, coder))
    symbols = np.rint(np.random.default_rng(4).laplace(0, 1.5, (2, 64, 9, 11))).astype(np.int32)
    (folder / "latents.frame").write_bytes(chunk.encode_latents(symbols, coder.anchor(2.9), coder))
    residual = np.random.default_rng(5).integers(-3, 4, (72, 88)).astype(np.int32)
    (folder / "residual.frame").write_bytes(integer_chunk.encode_integer_chunk(residual))
    for name, target in {"bounded": {"max_error_db": 2.0}, "coarse": {"bits_per_pixel": 0.5}}.items():
        encoded = scene.sarcomp.encode(model=MODEL, scale="power", keep_means=True, **target)
        encoded.to_zarr(folder / f"{name}.zarr", zarr_format=3, consolidated=False)


def decode_frame(path):
    """Digests of the integers in a frame and, for backscatter, of classes, corrections and pixels."""
    content, coder = Path(path).read_bytes(), load_coder(MODEL)
    kind = read_frame(content).kind
    if kind == INTEGERS:
        return [digest(integer_chunk.decode_integer_chunk(content))]
    if kind == LATENTS:
        return [digest(chunk.decode_latents(content, coder))]
    _, symbols, classes, exact, added = chunk.read_backscatter(content, coder)
    parts = [symbols, classes, exact]
    parts += [] if added is None else [part for part in (added.residuals, added.gains) if part is not None]
    return [*map(digest, parts), digest(chunk.decode_backscatter(content, None, coder))]


def decode_store(path, restore):
    """Digests of a decoded scene."""
    scene = xr.open_zarr(path, consolidated=False, chunks=None).sarcomp.decode(restore=restore)
    return [digest(scene.vv.values), digest(scene.vh.values)]


def jobs_of(folder):
    """Every job by its name: a function without arguments that gives digests."""
    folder = Path(folder)
    jobs = {path.stem: (decode_frame, path) for path in sorted(folder.glob("*.frame"))}
    stores = ("bounded", None), ("coarse", None), ("coarse", "speckle")
    return jobs | {f"{name} {restore}": (decode_store, folder / f"{name}.zarr", restore) for name, restore in stores}


def run(job):
    function, *arguments = job
    return function(*arguments)


def main(folder):
    """Print what a process without any history decodes."""
    for name, job in jobs_of(folder).items():
        print(name, *run(job), sep="\t")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("jobs")
    make_jobs(path)
    return path


@pytest.fixture(scope="module")
def expected(folder):
    """What this process decodes, in one thread."""
    found = {name: run(job) for name, job in jobs_of(folder).items()}
    assert len(found["promised"]) == 6  # residuals and gains are among the parts
    assert found["coarse None"] != found["coarse speckle"]
    return found


def torch_state():
    """All settings of torch that a library could leave changed."""
    return {
        "threads": torch.get_num_threads(),
        "interop threads": torch.get_num_interop_threads(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "autocast dtype": torch.get_autocast_dtype("cpu"),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "random state": digest(torch.get_rng_state().numpy()),
        "numpy random state": digest(np.random.get_state()[1]),
        "mkldnn": torch.backends.mkldnn.enabled,
    }


def decode_in_threads(folder, expected, rounds):
    """Every job in each of eight threads that start together; number of decodes that were compared."""
    jobs, start = jobs_of(folder), threading.Barrier(THREADS)

    def work(thread):
        start.wait()
        names = sorted(jobs)
        for number in range(rounds):
            name = names[(number + thread) % len(names)]
            assert run(jobs[name]) == expected[name], (name, thread, number)
        return rounds

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(work, range(THREADS)))


def test_eight_threads_decode_the_same_frames_to_the_same_numbers_and_leave_torch_alone(folder, expected):
    before = torch_state()
    assert decode_in_threads(folder, expected, QUICK) == THREADS * QUICK
    assert torch_state() == before


@pytest.mark.soak
def test_eight_threads_decode_very_often_to_the_same_numbers(folder, expected):
    before = torch_state()
    assert decode_in_threads(folder, expected, LONG) == THREADS * LONG
    assert torch_state() == before


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_state_of_torch_is_as_it_was_after_every_kind_of_decoding(folder, expected, threads, autocast, grad, dtype):
    outside = torch_state()
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast), torch.set_grad_enabled(grad):
            before = torch_state()
            for name, job in jobs_of(folder).items():
                assert run(job) == expected[name]
                assert torch_state() == before, name
    finally:
        torch.set_num_threads(outside["threads"])
        torch.set_default_dtype(outside["default dtype"])
    assert torch_state() == outside


def decoded_in_a_fork(folder, expected):
    """Exit status of a fork that decodes everything: 0 if all is as expected, None if it hangs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Python warns of forks beside threads
        child = os.fork()
    if child == 0:
        status = 3
        try:
            status = int(any(run(job) != expected[name] for name, job in jobs_of(folder).items()))
        finally:
            os._exit(status)
    for _ in range(100 * FORK_SECONDS):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None


def fork_often(folder, expected, count):
    """Forks after use, half of them while other threads decode."""
    states = []
    for number in range(count):
        if number % 2 == 0:
            states.append(decoded_in_a_fork(folder, expected))
            continue
        stop = threading.Event()

        def busy(stop=stop):
            job = jobs_of(folder)["promised"]
            while not stop.is_set():
                run(job)

        others = [threading.Thread(target=busy) for _ in range(2)]
        for other in others:
            other.start()
        states.append(decoded_in_a_fork(folder, expected))
        stop.set()
        for other in others:
            other.join()
    return states


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forks_of_a_process_that_has_decoded_and_is_decoding_give_the_same_numbers(folder, expected):
    assert fork_often(folder, expected, 6) == [0] * 6


@pytest.mark.soak
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_many_forks_of_a_process_that_has_decoded_give_the_same_numbers(folder, expected):
    assert fork_often(folder, expected, 50) == [0] * 50


@pytest.mark.parametrize("threads", ["1", "2"])
def test_fresh_processes_decode_to_the_same_numbers(folder, expected, threads):
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
    command = [sys.executable, "-m", __name__, str(folder)]
    output = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=600
    ).stdout
    found = {name: digests for name, *digests in (line.split("\t") for line in output.splitlines())}
    assert found == expected


if __name__ == "__main__":
    main(sys.argv[1])
