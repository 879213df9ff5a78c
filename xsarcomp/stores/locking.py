"""A lock for writers: one process at a time writes a store or file, and a process that is killed frees its lock.

It is a lock of the operating system (``flock``) on an empty file beside the target. Where there is none (stores without a local
path, Windows, some network file systems) writers are not kept apart; a writer of a compressed store then notices chunks that
another one has written, when it writes the manifest.
"""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from xsarcomp.errors import ConfigurationError
from xsarcomp.stores.locations import store_location

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_HELD: ContextVar[tuple[Path, ...]] = ContextVar("_HELD", default=())
"""Paths that the caller of the present function may write already."""
_METADATA = ("zarr.json", ".zgroup")
_SEPARATOR = "%2F"  # of groups in names of lock files


@contextlib.contextmanager
def writer_lock(
    store: Any, *, group: str | None = None, storage_options: dict[str, Any] | None = None
) -> Iterator[None]:
    """Context in which no other process or thread writes a store, or a file, through xsarcomp.

    Groups of one store that do not contain each other may be written at the same time. The context may be entered again for
    what it already covers.

    Parameters
    ----------
    store : str, path or Zarr store
        Its folder should exist: without one there is nothing to lock.
    group : str, optional
        Path of the group in the store.
    storage_options : dict, optional
        Passed to the file system of a URL.

    Raises
    ------
    ConfigurationError
        If another one is writing there.
    """
    location = store_location(store, group, storage_options)
    if fcntl is None or location.path is None:
        yield
        return
    path = Path(*location.parts)
    if any(path.is_relative_to(held) for held in _HELD.get()):
        yield
        return
    with contextlib.ExitStack() as locks:
        files = _lock_files(path, location.path)
        for number, file in enumerate(files):
            locks.enter_context(_locked(file, location.name, is_shared=number < len(files) - 1))
        token = _HELD.set((*_HELD.get(), path))
        try:
            yield
        finally:
            _HELD.reset(token)


def _lock_files(path: Path, store: Path) -> list[Path]:
    """Lock files of a store and of the groups down to a path; beside the outermost store, so that nothing strange lies in it."""
    for parent in store.parents:
        if any((parent / name).exists() for name in _METADATA):
            store = parent
    names = [store.name, *path.relative_to(store).parts]
    return [store.with_name(f".lock-{_SEPARATOR.join(names[:count])}") for count in range(1, len(names) + 1)]


@contextlib.contextmanager
def _locked(file: Path, name: str, *, is_shared: bool) -> Iterator[None]:
    """Hold the lock of a file, which is removed at the end."""
    try:
        descriptor = _acquire(file, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX)
    except BlockingIOError as error:
        raise ConfigurationError(
            f"{name} is being written by another process, which holds {file}: wait until it has ended and try again, or choose "
            "another name"
        ) from error
    try:
        yield
    finally:
        if descriptor is not None:
            _release(file, descriptor)


def _acquire(file: Path, kind: int) -> int | None:
    """Lock a file and give its descriptor; None where the file system has no locks, BlockingIOError if another holds it."""
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:  # no folder, or one that cannot be written, of which the store itself may be an exception
            return None
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            if _is_same(file, descriptor):
                return descriptor
            os.close(descriptor)  # it was removed meanwhile by the one that held it
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise
            return None


def _release(file: Path, descriptor: int) -> None:
    """Unlock a file, and remove it unless others share it."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_same(file, descriptor):
            file.unlink()
    os.close(descriptor)


def _is_same(file: Path, descriptor: int) -> bool:
    """Return whether a path still leads to the file that was opened."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    return False
