"""A task computes on the thread that runs it, however many threads OpenMP and BLAS would take.

Run as a program it does the tasks of a scene on one thread of a pool and prints the processor time of each thread.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

MODEL = "s1-grd-10m"  # with a network, so that torch works too


def processor_nanoseconds():
    """What each thread of this process has run, as the kernel counts it."""
    found = {}
    for folder in Path("/proc/self/task").iterdir():
        found[folder.name] = int((folder / "schedstat").read_text().split()[0])
    return found


def main():
    """Print nanoseconds of the thread that worked and of all others, for tasks alone, and how many threads torch would take."""
    import threading

    import torch

    from xsarcomp.scenes.large_scene import large_scene

    scene = large_scene((520, 520), chunk=512)
    encoded = scene.sarcomp.encode(bits_per_pixel=1, scale="decibel", model=MODEL, keep_means=True)
    # nothing of this goes through Zarr, which has threads of its own: test_schedulers.py
    decoded = encoded.sarcomp.decode()

    def work():
        decoded.compute(scheduler="synchronous")  # libraries are loaded
        before = processor_nanoseconds()
        decoded.compute(scheduler="synchronous")
        took = {thread: now - before.get(thread, 0) for thread, now in processor_nanoseconds().items()}
        return took.pop(str(threading.get_native_id())), sum(took.values())

    with ThreadPoolExecutor(1) as pool:
        own, others = pool.submit(work).result()
    print(json.dumps({"own": own, "others": others, "torch": torch.get_num_threads()}))


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="needs Linux, which counts by thread")
@pytest.mark.skipif(os.cpu_count() == 1, reason="torch takes one thread on one core")
def test_tasks_compute_on_the_thread_that_runs_them():
    # all of them: clusters of other tests leave some of these behind at 1
    libraries = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    environment = {**os.environ, **{f"{library}_NUM_THREADS": "4" for library in libraries}}
    command = [sys.executable, "-m", __name__]
    found = json.loads(
        subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True, timeout=600).stdout
    )
    assert found["torch"] > 1  # it would take them
    assert found["own"] > 0
    # a thread that shared the work would have a good part of it; 0.4 % were seen, and 90 % without the limit
    assert found["others"] < 0.1 * found["own"], found


if __name__ == "__main__":
    main()
