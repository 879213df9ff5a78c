"""Compilation of kernels with numba; no other file of the package imports it.

**Make a kernel.** Write a function whose arguments and result are annotated with the types below, and decorate it::

    @compiled
    def limit(values: ReadOnly1D[np.int32], largest: int, limited: Writable1D[np.int32]) -> None:
        for i in range(values.size):
            limited[i] = min(values[i], largest)

The annotations become the one signature of the kernel. It is compiled, or read from the cache, while its module is imported.
Calls never compile: threads and forks cannot meet in the compiler, and an array of another type is an error.

**Use a kernel.** Importing numba takes 0.16 s and compiling all kernels some seconds, so modules of kernels are imported
inside functions, where they are needed::

    with FIRST_USE:
        from xsarcomp.codec.kernels import trellis

**The cache.** numba writes machine code to ``NUMBA_CACHE_DIR`` if that is set, else to ``__pycache__`` beside the module, else
to the user's cache folder. It compiles anew when the file of a kernel, its closure, numba's version or the processor has
changed. It does not notice changes of what a kernel takes from other files, which are other kernels and constants. Kernels
that call each other therefore stand in one file where possible; :mod:`xsarcomp.codec.kernels.channels` puts a digest of the
files that it calls into its closure. After an edit of any other constant or kernel, delete ``__pycache__``.

``docs/decisions/0007-compiled-kernels.md`` says why kernels are compiled this way.
"""

import functools
import os
import threading
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

FIRST_USE = threading.RLock()
"""Lock to hold while kernels are imported: of several threads that come first together, one compiles and the others wait.
A fork waits too. A child that was forked meanwhile would inherit locks of the import system and of the compiler that no
thread of the child releases."""
os.register_at_fork(before=FIRST_USE.acquire, after_in_parent=FIRST_USE.release, after_in_child=FIRST_USE.release)


@dataclass(frozen=True, slots=True)
class _ArrayLayout:
    """Number of dimensions of an array in C order, and whether a kernel only reads it."""

    dimensions: int
    readonly: bool


Number = TypeVar("Number", bound=np.generic)

# arrays in C order that a kernel only reads; callers may pass writable ones too
ReadOnly1D = Annotated[NDArray[Number], _ArrayLayout(1, readonly=True)]
ReadOnly2D = Annotated[NDArray[Number], _ArrayLayout(2, readonly=True)]
ReadOnly3D = Annotated[NDArray[Number], _ArrayLayout(3, readonly=True)]
ReadOnly4D = Annotated[NDArray[Number], _ArrayLayout(4, readonly=True)]
# arrays in C order that a kernel writes
Writable1D = Annotated[NDArray[Number], _ArrayLayout(1, readonly=False)]
Writable2D = Annotated[NDArray[Number], _ArrayLayout(2, readonly=False)]
Writable3D = Annotated[NDArray[Number], _ArrayLayout(3, readonly=False)]
Writable4D = Annotated[NDArray[Number], _ArrayLayout(4, readonly=False)]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for the types of its annotations; use as a decorator.

    The kernel runs without the interpreter lock and only on the calling thread: Dask and the pool of the tiles share out
    the work. Floating point keeps its order and rounding, so the results are those of NumPy to the last bit.

    Parameters
    ----------
    function : callable
        Every argument is annotated with ``ReadOnly1D[np.int32]`` or another array type of this file, with a NumPy scalar
        type, or with ``bool``, ``int`` (64 bits) or ``float`` (64 bits). The result is a scalar or None.

    Returns
    -------
    callable
        The compiled function. numba checks arrays and converts numbers at each call, which is why the hint says ``...``.
    """
    import numba

    # "numpy": a division does not check for zero to raise an error, which would keep loops from being vectorized
    compiler = functools.partial(numba.njit, _signature(function), nogil=True, fastmath=False, error_model="numpy")
    try:
        return compiler(cache=True)(function)
    except (RuntimeError, OSError) as error:
        if isinstance(error, RuntimeError) and "no locator available" not in str(error):
            raise
        # no cache folder can be written, or it is full: each process compiles for itself
        return compiler()(function)


def _signature(function: Callable[..., Any]) -> Any:
    """Signature of numba from the annotations of a function."""
    types = typing.get_type_hints(function, include_extras=True)
    result = _numba_type(types.pop("return"))
    return result(*map(_numba_type, types.values()))


def _numba_type(annotation: Any) -> Any:
    """Type of numba that stands for an annotation."""
    import numba

    if annotation is type(None):
        return numba.types.void
    if typing.get_origin(annotation) is not Annotated:
        return numba.from_dtype(np.dtype(annotation))
    array, layout = typing.get_args(annotation)
    _, dtype = typing.get_args(array)
    (number,) = typing.get_args(dtype)
    return numba.types.Array(numba.from_dtype(np.dtype(number)), layout.dimensions, "C", readonly=layout.readonly)
