"""Products in processes that are forked while threads of the parent multiply and end."""

import faulthandler
import os
import signal
import threading

import numpy as np
import pytest
import torch

from xsarcomp.codec.network.layers import Scratch
from xsarcomp.codec.network.products import float_product

SECONDS = 30
"""After so long a child hangs: its work takes milliseconds."""
random = np.random.default_rng(1)
LEVELS = torch.from_numpy(random.integers(-127, 128, (300, 576), dtype=np.int8))
WEIGHTS = torch.from_numpy(random.integers(-127, 128, (576, 128), dtype=np.int8))
EXPECTED = LEVELS.numpy().astype(np.int64) @ WEIGHTS.numpy().astype(np.int64)


def products_are_exact():
    found = [float_product(LEVELS, WEIGHTS, scratch).numpy() for scratch in (None, Scratch())]
    return all(np.array_equal(sums, EXPECTED) for sums in found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_multiplies_exactly_whatever_threads_of_its_parent_were_doing():
    """With products of torch, 17 of 60 such children waited forever for a lock."""
    stop = threading.Event()

    def begin_and_end():
        while not stop.is_set():
            thread = threading.Thread(target=float_product, args=(LEVELS, WEIGHTS, Scratch()))
            thread.start()
            thread.join()

    threads = [threading.Thread(target=begin_and_end) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(40):
            if (child := os.fork()) == 0:
                faulthandler.dump_traceback_later(SECONDS - 5)
                signal.alarm(SECONDS)
                os._exit(0 if products_are_exact() else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert products_are_exact()
