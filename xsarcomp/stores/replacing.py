"""Targets that have their name only when they are whole: written beside it, and swapped in one step.

A store is written into the folder ``.partial-NAME``, where an interrupted writer is resumed; a file inside a folder of that name.
When a store replaces another, the old one is ``.replaced-NAME`` until it is removed.
"""

import contextlib
import ctypes
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

_EXCHANGE = 2  # RENAME_EXCHANGE of Linux
_WORKING_FOLDER = -100  # AT_FDCWD of Linux


@contextlib.contextmanager
def partial_file(path: Path) -> Iterator[str]:
    """Give a path to write a file to; at the end it replaces ``path`` in one step, and an earlier file stays until then.

    After an error or an interruption nothing is left. The name is new each time: threads that a failed writer left behind may
    open it once more.
    """
    target = path.resolve()
    folder = target.with_name(f".partial-{target.name}")
    remove(folder)
    folder.mkdir()
    partial = folder / f"{uuid.uuid4().hex}{target.suffix}"
    try:
        yield str(partial)
        for sidecar in folder.glob(f"{partial.name}?*"):  # what GDAL cannot write into a raster
            sidecar.replace(target.with_name(target.name + sidecar.name.removeprefix(partial.name)))
        partial.replace(target)
    finally:
        remove(folder)


@contextlib.contextmanager
def partial_store(path: Path, resume: bool | None, *, can_go_on: bool) -> Iterator[str]:
    """Give a path to write a store to; at the end it replaces ``path``.

    Parameters
    ----------
    path : Path
    resume : bool or None
        After an error the partial store is removed unless this is True; after an interruption from the keyboard only if it is
        None, because it may be the work of hours.
    can_go_on : bool
        Keep what an earlier writer left there.
    """
    target = path.resolve()
    partial = partial_path(target)
    if not can_go_on:
        remove(partial)
    try:
        yield str(partial)
        _replace_store(target, partial)
    except KeyboardInterrupt as stop:
        if resume is None:
            remove(partial)
        else:
            stop.add_note(f"interrupted: finished blocks stay in {partial}, the same command with --resume goes on")
        raise
    except BaseException:
        if not resume:
            remove(partial)
        raise


def partial_path(path: Path) -> Path:
    """Path at which a store is written before it has its name."""
    return path.resolve().with_name(f".partial-{path.resolve().name}")


def replaced_path(path: Path) -> Path:
    """Path of an old store while a new one takes its place."""
    return path.resolve().with_name(f".replaced-{path.resolve().name}")


def recover(path: Path) -> None:
    """Put back the old store if its writer was killed between two renames; remove it if the new one is in its place."""
    aside = replaced_path(path)
    if aside.exists() and not path.exists():
        aside.rename(path.resolve())
    else:
        remove(aside)


def _replace_store(target: Path, partial: Path) -> None:
    """Rename a whole store to its final name. At any moment that name holds a whole store, or ``.replaced-NAME`` does."""
    aside = replaced_path(target)
    if not target.exists():
        partial.rename(target)
        return
    remove(aside)
    partial.rename(aside)  # no more a partial store: one may be there that must not be resumed
    if not _exchange(aside, target):
        aside.rename(partial)
        target.rename(aside)
        partial.rename(target)
    remove(aside)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two paths in one step; False where the system or the file system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    return rename(_WORKING_FOLDER, os.fsencode(first), _WORKING_FOLDER, os.fsencode(second), _EXCHANGE) == 0


def remove(path: Path) -> None:
    """Remove a file or folder, if there is one; tasks that a failed writer left may still make files in it."""
    for _ in range(100):
        if not path.is_dir() or path.is_symlink():
            break
        with contextlib.suppress(OSError):
            shutil.rmtree(path)
    else:
        shutil.rmtree(path)
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
