"""Result of a comparison: a dictionary that shows itself with units, goals, and whether they are met."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xsarcomp.display import Cell, Row, escape, html_block, html_table, number, short, text_table
from xsarcomp.evaluation.glossary import METRICS

GOALS = tuple(key for key, metric in METRICS.items() if metric.goal)
"""Metrics with a goal, in the order of the glossary."""
LEADING = (*GOALS, "rmse_db", "max_error_db")
"""Metrics that are shown first: those with a goal, and the errors that everybody asks for."""
ORDER = (*LEADING, *METRICS)
"""Order of the metrics of a comparison; a repeated name counts where it stands first."""
_NEVER_MEASURED = "no pixel is valid in both scenes, so nothing was measured"
_SIGNS = {"good": "✓ ", "bad": "✗ "}
_MEANT_FOR = "The goals are meant for about 1 bit per pixel. At lower rates, expect smoothed speckle."


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Goals that a comparison meets."""

    met: int = 0
    """Number of goals that are met."""
    known: int = 0
    """Number of goals whose metric is not NaN; 0 if nothing was measured."""
    missed: tuple[str, ...] = ()
    """Keys of the metrics that miss their goal."""


def verdict(metrics: Mapping[str, Any]) -> Verdict:
    """Compare metrics with their goals.

    Parameters
    ----------
    metrics : mapping of str to float
        As :func:`xsarcomp.evaluation.compare.compare` returns them.

    Returns
    -------
    Verdict
    """
    if not metrics.get("valid_pixels", True):  # the mask has a goal, but says nothing without a valid pixel
        return Verdict()
    answers = {key: _is_met(key, metrics[key]) for key in GOALS if key in metrics}
    known = {key: is_met for key, is_met in answers.items() if is_met is not None}
    missed = tuple(key for key, is_met in known.items() if not is_met)
    return Verdict(met=len(known) - len(missed), known=len(known), missed=missed)


def _is_met(key: str, value: Any) -> bool | None:
    """Whether a value meets the goal of its metric; None without a goal, and for what is no number."""
    return METRICS[key].is_met(value) if key in METRICS and isinstance(value, int | float) else None


class Comparison(dict[str, Any]):
    """Metrics by name, those with goals first: a dictionary that terminals and notebooks show as a table.

    It is made by :func:`xsarcomp.evaluation.compare.compare` and ``.sarcomp.compare``.
    """

    __slots__ = ()

    @classmethod
    def ordered(cls, metrics: Mapping[str, Any]) -> "Comparison":
        """Put metrics into their order: those with goals, the errors, the others as in the glossary.

        Parameters
        ----------
        metrics : mapping of str to float, int or str

        Returns
        -------
        Comparison
            What the glossary does not know comes last.
        """
        known = {key: metrics[key] for key in ORDER if key in metrics}
        return cls(known | {key: value for key, value in metrics.items() if key not in known})

    def _title(self) -> str:
        if not self.get("valid_pixels", True):
            return f"comparison: {_NEVER_MEASURED}"
        found = verdict(self)
        words = [f"{found.met} of {found.known} goals met"] if found.known else []
        if found.missed:
            words.append("not met: " + ", ".join(found.missed))
        if "rmse_db" in self:
            words.append(f"RMSE {number(self['rmse_db'])} dB")
        return f"comparison: {'; '.join(words)}" if words else "comparison"

    def __repr__(self) -> str:
        # first words of the lines are the keys, as the command prints them for other programs
        rows: list[Row] = [[f"<xsarcomp> {self._title()}"]]
        rows += [[short(key), _value(key, value), _goal(key), _answer(key, value)] for key, value in self.items()]
        return text_table(rows)

    def _repr_html_(self) -> str:
        leading = [key for key in self if key in LEADING]
        others = [key for key in self if key not in leading]
        header = ("metric", Cell("value", "number"), "goal", "", "key")
        parts = [html_table(map(self._html_row, leading), header=header)]
        if others:
            table = html_table(map(self._html_row, others), header=header)
            parts.append(f"<details><summary>{len(others)} more, without goals</summary>{table}</details>")
        return html_block(f"xsarcomp {self._title()}", *parts, f'<p class="soft">{escape(_MEANT_FOR)}</p>')

    def _html_row(self, key: str) -> list[Cell | str]:
        title = METRICS[key].title if key in METRICS else short(key)
        answer = _answer(key, self[key])
        answer = Cell(_SIGNS.get(answer.kind, "") + answer.text, answer.kind)  # colors alone do not say it to everybody
        return [title, Cell(_value(key, self[key]), "number"), _goal(key), answer, Cell(short(key), "code")]


def _value(key: str, value: Any) -> str:
    is_known = isinstance(value, int | float) and not math.isnan(value)
    unit = METRICS[key].unit if key in METRICS and is_known else ""
    return f"{number(value)} {unit}".rstrip()


def _goal(key: str) -> str:
    return METRICS[key].goal if key in METRICS else ""


def _answer(key: str, value: Any) -> Cell:
    is_met = _is_met(key, value)
    return Cell("") if is_met is None else Cell("met", "good") if is_met else Cell("not met", "bad")
