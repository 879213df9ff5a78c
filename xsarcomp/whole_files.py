"""Files that have their name only when all of their content is on the disk."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to, in the folder of a file and with its ending; at the end it replaces the file in one step.

    After an error nothing is left of it, and an earlier file stays. Writers of one file at the same time do not meet.

    Parameters
    ----------
    path : str or path-like
        Its folder must exist.
    """
    target = Path(path).resolve()  # a link stays, and what it leads to is replaced
    temporary = target.with_name(f".partial-{os.getpid()}-{os.urandom(4).hex()}-{target.name}")
    try:
        yield temporary
        flush(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    flush(target.parent)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that its name always stands for either the old or the complete new content.

    Parameters
    ----------
    path : Path
        Its folder must exist.
    content : bytes or str
        Text is written as UTF-8.
    """
    with whole_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk: some file systems report only then that there was no space.

    Raises
    ------
    OSError
        If it cannot be written there.
    """
    if path.is_dir() and os.name != "posix":  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
