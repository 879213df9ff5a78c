"""Forks wait until no thread is inside a product of torch, because its libraries are not made for anything else.

MKL guards its memory by locks. A child that is forked while another thread holds one inherits it locked, has no thread that
would release it, and hangs at its first product (2 of 280 forks beside two threads that decoded).
"""

import os
import threading
from types import TracebackType

# its handler must be registered first: handlers run in reverse order, and a thread inside may wait for this lock
from xsarcomp.codec.kernels.compile import FIRST_USE  # noqa: F401


class ForkGate:
    """Context manager of calls that no fork may interrupt; any number of threads may be inside."""

    def __init__(self) -> None:
        self.reset()

    def __enter__(self) -> None:
        with self._changed:
            while self._forks:  # else busy threads would never let a fork begin
                self._changed.wait()
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Wait until nobody is inside, and let nobody in: before a fork."""
        self._changed.acquire()
        self._forks += 1
        while self._inside:
            self._changed.wait()

    def open(self) -> None:
        """Let threads in again: after a fork, in the parent."""
        self._forks -= 1
        self._changed.notify_all()
        self._changed.release()

    def reset(self) -> None:
        """Begin anew: after a fork, in the child, which has one thread."""
        self._changed = threading.Condition(threading.Lock())
        self._inside, self._forks = 0, 0


FORK_GATE = ForkGate()
"""To hold while torch computes on the processor."""
os.register_at_fork(before=FORK_GATE.close, after_in_parent=FORK_GATE.open, after_in_child=FORK_GATE.reset)
