"""The one door to numba: how a kernel is compiled, where its machine code is kept, and who may be first.

Importing this file loads no numba; :mod:`xsarcomp.codec.kernels.contexts` does, and is imported where a kernel is needed::

    with FIRST_USE:
        from xsarcomp import kernels

Each kernel has exactly one signature and is compiled, or read from the cache, when that file is imported. Calls never
compile.
"""

import os
import threading
from collections.abc import Callable
from typing import Any

FIRST_USE = threading.RLock()
"""Held while kernels are imported: threads that come first together wait for one of them. A fork waits too, because a
child that was made meanwhile would have locks, of the import and of the compiler, that nobody opens again."""
os.register_at_fork(before=FIRST_USE.acquire, after_in_parent=FIRST_USE.release, after_in_child=FIRST_USE.release)


def read_only(dtype: str, dimensions: int) -> Any:
    """Type of an array in C order that a kernel only reads; writable arrays are accepted too."""
    from numba import types

    return types.Array(getattr(types, dtype), dimensions, "C", readonly=True)


def written(dtype: str, dimensions: int) -> Any:
    """Type of an array in C order that a kernel fills."""
    from numba import types

    return types.Array(getattr(types, dtype), dimensions, "C")


def scalar(dtype: str) -> Any:
    """Type of a number; "void" is none."""
    from numba import types

    return getattr(types, dtype)


def compiled(*arguments: Any, result: str = "void") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator that compiles a function for one signature.

    It runs without the interpreter lock and on the calling thread alone: Dask and the pool of the tiles share out the
    work. Floating point keeps its order and rounding, so the results are those of NumPy to the last bit.

    Parameters
    ----------
    *arguments
        Types of the arguments, see :func:`read_only`, :func:`written` and :func:`scalar`.
    result : str
        Type of the number that the function returns; "void" for none.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        import numba

        signature = scalar(result)(*arguments)
        # "numpy": a division does not look for a zero to raise an error, which would keep loops from being vectorised
        options = {"nogil": True, "fastmath": False, "error_model": "numpy"}
        try:
            return numba.njit(signature, cache=True, **options)(function)
        except (RuntimeError, OSError) as error:
            if isinstance(error, RuntimeError) and "no locator available" not in str(error):
                raise
            # no folder can be written, or it is full: each process compiles for itself
            return numba.njit(signature, **options)(function)

    return decorate
