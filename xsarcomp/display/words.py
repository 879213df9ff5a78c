"""Words for names, numbers and sizes, as terminals and notebooks show them."""

import math
from collections.abc import Iterable
from typing import Any

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
_MOST_CHARACTERS = 200
_MOST_NAMES = 8


def visible(text: str) -> str:
    """Text with everything that is no visible character written as text: escape sequences and line breaks of names do nothing.

    Parameters
    ----------
    text : str
        Anything: names, attributes and file names may come from a stranger's store.

    Returns
    -------
    str
        Control characters, line breaks, marks of direction and of no width, and broken file names as in Python: ``\\x1b``.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def short(value: Any, most: int = _MOST_CHARACTERS) -> str:
    """Visible text of a value, cut where it is longer than a few lines.

    Parameters
    ----------
    value : object
    most : int
        Number of characters at most.

    Returns
    -------
    str
    """
    text = str(value)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return visible(text)


def listed(names: Iterable[Any], most: int = _MOST_NAMES) -> str:
    """Names with commas between them; of many, the first and the number of the others.

    Parameters
    ----------
    names : iterable
    most : int
        Number of names at most.

    Returns
    -------
    str
    """
    names = list(names)
    shown = [short(name, 60) for name in names[:most]]
    more = [f"and {len(names) - most:,} more"] if len(names) > most else []
    return ", ".join(shown + more)


def number(value: Any) -> str:
    """Number with four digits, a count in full, "undefined" for NaN; anything else as short text.

    Parameters
    ----------
    value : object

    Returns
    -------
    str
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return short(value)
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return "undefined"
    return ("infinite" if value > 0 else "-infinite") if math.isinf(value) else f"{value:.4g}"


def size(count: float) -> str:
    """Size in words, with three digits: 66123 bytes are "66.1 kB".

    Parameters
    ----------
    count : float
        Bytes, not negative.

    Returns
    -------
    str
        Units are powers of 1000; "unknown" for NaN and infinity.
    """
    if not math.isfinite(count):
        return "unknown"
    for unit in _UNITS:
        if count < 999.5 or unit == _UNITS[-1]:
            break
        count /= 1000
    if unit == _UNITS[0]:
        return "1 byte" if round(count) == 1 else f"{count:.0f} bytes"
    return f"{count:.3g} {unit}" if count < 999.5 else f"{count:,.0f} {unit}"
