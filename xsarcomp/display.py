"""Words, tables and short descriptions with which results show themselves in terminals and notebooks.

Names and attributes may come from a stranger's store: all text goes through :func:`short`, and all markup is made here. It needs no
script and no other file. Colors follow the theme of the notebook: the variables of xarray, JupyterLab and VS Code are used where there
are some, else the color of the text around.
"""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
_MOST_CHARACTERS = 200
_MOST_NAMES = 8
_GAP = 3  # spaces between columns

STYLE = """
.xsarcomp { color: var(--xr-font-color0, var(--jp-content-font-color0, var(--vscode-editor-foreground, inherit)));
  line-height: 1.45; max-width: 84rem; }
.xsarcomp p { margin: .25em 0; }
.xsarcomp .title { font-weight: 600; }
.xsarcomp .scroll { overflow-x: auto; }
.xsarcomp table { border-collapse: collapse; margin: .4em 0; border: none; font-size: inherit; width: auto; color: inherit; }
.xsarcomp table tr, .xsarcomp table tbody tr:nth-child(n), .xsarcomp table tbody tr:nth-child(n):hover { background: none; }
.xsarcomp table td, .xsarcomp table th { text-align: left; vertical-align: top; padding: .2em 1.4em .2em 0; max-width: 46em;
  border: none; border-bottom: 1px solid var(--xr-border-color, rgba(128, 128, 128, .4)); white-space: normal;
  overflow-wrap: anywhere; font-weight: normal; }
.xsarcomp table thead th, .xsarcomp .soft, .xsarcomp table tbody th { opacity: .7; }
.xsarcomp table td.number, .xsarcomp table th.number { text-align: right; white-space: nowrap; overflow-wrap: normal;
  font-variant-numeric: tabular-nums; }
.xsarcomp code { font-size: .92em; background: none; color: inherit; padding: 0; }
.xsarcomp table td.good { color: #1f8f4f; font-weight: 600; white-space: nowrap; }
.xsarcomp table td.bad { color: #d9483b; font-weight: 600; white-space: nowrap; }
.xsarcomp summary { cursor: pointer; opacity: .7; }
"""
"""Style of everything that is shown in notebooks; the two colors can be read on white and on black."""


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


@dataclass(frozen=True, slots=True)
class Cell:
    """Text in a table, with a meaning that HTML shows as well."""

    text: str
    kind: str = ""
    """"number", "good", "bad", "code", or empty."""


Row = Sequence[Cell | str]


def text_table(rows: Iterable[Row], *, indent: int = 0) -> str:
    """Lines with aligned columns.

    Parameters
    ----------
    rows : iterable of sequences of Cell or str
        Visible text in one line each, see :func:`short`.
    indent : int
        Spaces before each line.

    Returns
    -------
    str
        One line for each row, without spaces at the end.
    """
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    columns = max(map(len, cells), default=0)
    # the last cell of a row may be long, and widens no column
    widths = [
        max((len(row[column].text) for row in cells if column < len(row) - 1), default=0) for column in range(columns)
    ]
    lines = []
    for row in cells:
        padded = [
            cell.text.rjust(width) if cell.kind == "number" else cell.text.ljust(width)
            for cell, width in zip(row, widths, strict=False)
        ]
        lines.append(" " * indent + (" " * _GAP).join(padded).rstrip())
    return "\n".join(lines)


def html_table(rows: Iterable[Row], *, header: Row = ()) -> str:
    """Table as HTML; the first cell of each row is its heading.

    Parameters
    ----------
    rows : iterable of sequences of Cell or str
        Any text: it is escaped here.
    header : sequence of Cell or str
        Headings of the columns; none if empty.

    Returns
    -------
    str
    """
    head = f"<thead><tr>{''.join(_html_cell(cell, 'th', 'col') for cell in header)}</tr></thead>" if header else ""
    body = "".join(
        f"<tr>{''.join(_html_cell(cell, 'td' if column else 'th', '' if column else 'row') for column, cell in enumerate(row))}</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _html_cell(cell: Cell | str, tag: str, scope: str) -> str:
    cell = cell if isinstance(cell, Cell) else Cell(cell)
    attributes = (f' scope="{scope}"' if scope else "") + (
        f' class="{cell.kind}"' if cell.kind not in ("", "code") else ""
    )
    text = f"<code>{escape(cell.text)}</code>" if cell.kind == "code" else escape(cell.text)
    return f"<{tag}{attributes}>{text}</{tag}>"


def html_block(title: str, *parts: str) -> str:
    """Everything that a notebook shows of one object.

    Parameters
    ----------
    title : str
        First line; it is escaped here.
    *parts : str
        Markup below it.

    Returns
    -------
    str
    """
    return f'<div class="xsarcomp"><style>{STYLE}</style><p class="title">{escape(title)}</p>{"".join(parts)}</div>'


def escape(text: str) -> str:
    """Text as HTML shows it, in elements and in attributes.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    return html.escape(text, quote=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Short description of an object: title, facts, and what to do next."""

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    """Headings and visible text."""
    methods: tuple[tuple[str, str], ...] = ()
    """Code, and what it does."""

    def text(self) -> str:
        """Lines for a terminal."""
        lines = [f"<xsarcomp> {self.title}"]
        if self.facts:
            lines.append(text_table(self.facts, indent=2))
        if self.methods:
            lines += ["next", text_table(self.methods, indent=2)]
        return "\n".join(lines)

    def html(self) -> str:
        """Markup for a notebook."""
        methods = [(Cell(code, "code"), words) for code, words in self.methods]
        return html_block(
            f"xsarcomp: {self.title}",
            html_table(self.facts) if self.facts else "",
            f'<p class="soft">Next</p>{html_table(methods)}' if methods else "",
        )
