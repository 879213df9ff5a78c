"""Effort that is counted instead of timed, so that the answer is the same on a busy machine.

:func:`at_most_lines` bounds the lines of Python that a block executes. It is for code that must refuse hostile input, or
handle a large one, without a loop over what the input claims; memory is bounded beside it, with tracemalloc.
"""

import contextlib
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def at_most_lines(limit: int) -> Iterator[None]:
    """Fail if the functions that a block calls in this thread execute more lines of Python than ``limit``."""
    executed = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal executed
        executed += event == "line"
        if executed > limit:
            sys.settrace(None)
            raise AssertionError(f"more than {limit} lines were executed")
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        yield
    finally:
        sys.settrace(before)
