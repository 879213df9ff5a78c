"""The gate that keeps forks and products of torch apart."""

import os
import signal
import threading

import pytest

from xsarcomp.codec.network.forks import FORK_GATE, ForkGate

SECONDS = 60


def test_a_fork_waits_until_nobody_is_inside_and_nobody_enters_before_it_is_over():
    gate, order = ForkGate(), []
    inside, leave, closed, forked = (threading.Event() for _ in range(4))

    def compute():
        with gate:
            inside.set()
            leave.wait(SECONDS)
            order.append("left")

    def fork():
        gate.close()
        order.append("closed")
        closed.set()
        forked.wait(SECONDS)
        order.append("opened")
        gate.open()

    def enter_later():
        closed.wait(SECONDS)
        with gate:
            order.append("entered")

    threads = [threading.Thread(target=target) for target in (compute, fork, enter_later)]
    threads[0].start()
    assert inside.wait(SECONDS)
    threads[1].start()
    threads[2].start()
    assert not closed.wait(0.05)
    leave.set()
    assert closed.wait(SECONDS)
    forked.set()
    for thread in threads:
        thread.join(SECONDS)
    assert order == ["left", "closed", "opened", "entered"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_that_was_forked_beside_busy_threads_finds_the_gate_open():
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            with FORK_GATE:
                pass

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            if (child := os.fork()) == 0:
                signal.alarm(SECONDS)
                with FORK_GATE:
                    os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join(SECONDS)
