"""Errors and warnings of the commands as text: one line each, in the words of the command line."""

import errno
import os
import re
from collections.abc import Callable

from xsarcomp.errors import SarcompError

TRACEBACK = "XSARCOMP_TRACEBACK"
"""Environment variable that asks for the traceback of errors."""
ARGUMENTS = (
    "bits_per_pixel", "ratio", "rmse_db", "preset", "max_error_db", "keep_means", "model", "scale", "recompress", "variables",
    "overview", "restore", "quality", "resume", "dim",
)  # fmt: skip
"""Arguments in Python that are options of the commands with hyphens."""
_NAMES = "|".join(ARGUMENTS)
_PYTHON = r"(?:array|dataset|scene)(?:\.\w+)+(?:\((?:[^()]|\([^()]*\))*\)|\[[^\]]*\](?: = \w+)?)(?:\.\w+\([^()]*\))*"


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _assigned(found: re.Match[str]) -> str:
    """Option with its value, for ``name=value``."""
    option, value = _option(found[1]), found[2] or ""
    if value == "True":
        return option
    if value == "False":
        return option.replace("--", "--no-", 1)
    words = ",".join(word.strip(" '\"") for word in value.strip("[]").split(","))
    return f"{option} {words}".rstrip()


def _called(found: re.Match[str]) -> str:
    """Command for a call, with its argument."""
    argument = f" {_option(found[2])} {found[3]}" if found[2] else ""
    return f"xsarcomp {found[1]}{argument}"


WORDS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r" To replace a date, write its region, encode\(like=store\)\.to_zarr\(\.\.\., region=\.\.\.\)", ""),
    (r"(?:\w+\.)?sarcomp\.encode\(\.\.\.\)\.sarcomp\.to_zarr\(\.\.\.\)", "xsarcomp encode SOURCE STORE"),
    (
        r"scene\.expand_dims\('?time'?\)\.sarcomp\.encode\(\.\.\.\)",
        "xsarcomp encode SOURCE STORE --time 2024-05-01T05:30",
    ),
    (r"scene\.assign_coords\(time=\.\.\.\)", "--time 2024-05-01T05:30"),
    (r"\.sarcomp\.(decode|encode|append|compare)\((?:\.\.\.)?\)", r"xsarcomp \1"),
    (r"with \.sarcomp\.to_zarr", "with xsarcomp encode"),
    (r"(?<![\w.])(encode|decode)\((?!like)(?:(\w+)='(\w+)')?\)", _called),
    (r"encode\(like=store\)", "xsarcomp append"),
    (r"scene\.rio\.reproject_match", "gdalwarp"),
    (r"array\.attrs\['nodata'\] = (-?[\w.+]*\w)", r"gdal_edit.py -a_nodata \1 FILE for a GeoTIFF"),
    (_PYTHON, lambda found: f"{found[0]} in Python"),
    (r"mode=['\"]w['\"]", "--overwrite"),
    (r"variables=\[\.\.\.\]", "--variables NAME,NAME"),
    (rf"(?<![\w./-])({_NAMES})=(?!=)(\[[^\]]*\]|'[^']*'|\"[^\"]*\"|\.\.\.|[\w.+-]*\w)?", _assigned),
    (rf"(?<![\w./'-])({_NAMES})(?=(?:, [\w-]+)* were given)", lambda found: _option(found[1])),
    (rf"(?<![\w./'-])({_NAMES})(?= is (?:'|-?\d|nan|inf))", lambda found: _option(found[1])),
    (r"(?<![\w./'-])((?:bits_per|rmse|max_error)_\w+)(?= \d)", lambda found: _option(found[1])),
    (r"without resume\b", "without --resume"),
)
"""Patterns in messages, which speak of Python, and what stands for them on the command line; in this order."""


def options_in_text(text: str) -> str:
    """Text in one line, with options of the command in place of arguments in Python.

    Parameters
    ----------
    text : str
        Message of an error or a warning.

    Returns
    -------
    str
    """
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    return " ".join(text.split())


_ADVICE = {
    errno.EACCES: "check the permissions there, or choose another name",
    errno.EPERM: "check the permissions there, or choose another name",
    errno.EROFS: "nothing can be written there, choose another name",
    errno.ENOENT: "check the name, and that its folder exists",
    errno.ENOTDIR: "check the name: a part of it is no folder",
    errno.EISDIR: "check the name: it is a folder",
    errno.EEXIST: "choose another name",
    errno.ENOSPC: "free some space, or choose another disk",
    errno.EDQUOT: "free some space, or choose another disk",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def describe(error: BaseException) -> str:
    """Describe an error in one line: what failed, and what to do.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    str
        In the words of the command line.
    """
    text = ". ".join([_text(error), *getattr(error, "__notes__", ())])
    return options_in_text(text)


def _text(error: BaseException) -> str:
    """Words for an error without its notes."""
    hint = f"{TRACEBACK}=1 in the environment shows where"
    if isinstance(error, SarcompError):
        return str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        return (
            f"not enough memory{f' ({error})' if str(error) else ''}: let fewer blocks be worked on at once, DASK_NUM_WORKERS=1 in the "
            "environment"
        )
    if isinstance(error, ImportError):
        name = error.name.partition(".")[0] if error.name else ""
        return f"a library is missing ({error}). Install it with pip{f': pip install {name}' if name else ''}"
    if isinstance(error, OSError):
        if error.strerror and error.filename is not None:
            text = f"{error.filename}: {error.strerror}"
        else:
            text = str(error) or type(error).__name__
        if type(error).__module__.startswith("rasterio") and error.__cause__ is not None:
            text = text.removesuffix(" See previous exception for details.")
            text = f"{text} {str(error.__cause__).rstrip('.')}: the file may be damaged or cut off"
        return f"{text}: {_ADVICE[error.errno]}" if error.errno in _ADVICE else text
    return f"unforeseen {type(error).__name__}{f': {error}' if str(error) else ''}. {hint}"


def wants_traceback() -> bool:
    """Return whether the environment asks for the traceback of errors."""
    return os.environ.get(TRACEBACK, "") not in ("", "0")
