"""A small sample of a large table of cases that still tries every pair of factor levels together.

:func:`pairwise_sample` chooses the cases; :func:`sampled` makes parameters of the whole table for
``pytest.mark.parametrize``, in which the cases outside the sample have the marker ``soak``.

Most faults need one setting or two that meet, hardly one needs three: Kuhn, Wallace and Gallo (2004), Software fault
interactions and implications for software testing, IEEE Transactions on Software Engineering 30(6).
"""

import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import pytest

Case = Sequence[Any]
Level = tuple[int, Hashable]
"""Number of a factor, and one of its levels."""


def pairs(levels: Sequence[Hashable]) -> set[tuple[Level, Level]]:
    """Every pair of levels of two factors in one case."""
    return set(itertools.combinations(enumerate(levels), 2))


def pairwise_sample(cases: Iterable[Case], factors: Callable[[Case], Sequence[Hashable]] = tuple) -> list[Case]:
    """Choose cases that together have every pair of factor levels of the table, and every member of its cases.

    Greedy: the next case is always the one with most pairs that are still missing, the earlier one of equals. So the
    same table gives the same sample, and a pair that no case of the table has (an integer NaN) is not asked for.

    Parameters
    ----------
    cases : iterable of sequences
        The table: one sequence of parameters a case.
    factors : callable, optional
        Levels of the factors of a case, as many for each case: the parameters themselves if not given. Coarser factors
        (the kind and the width of a data type) give a smaller sample.

    Returns
    -------
    list of sequences
        Chosen cases, in the order of the table.
    """
    table = list(cases)
    wanted = [pairs(factors(case)) | set(enumerate(map(repr, case))) for case in table]
    missing: set[Any] = set().union(*wanted)
    chosen: list[int] = []
    while missing:
        best = max(range(len(table)), key=lambda number: len(wanted[number] & missing))
        chosen.append(best)
        missing -= wanted[best]
    return [table[number] for number in sorted(chosen)]


def sampled(
    cases: Iterable[Case],
    ids: Callable[[Case], str],
    factors: Callable[[Case], Sequence[Hashable]] = tuple,
) -> list[Any]:
    """Make parameters of a whole table: the pairwise sample as it is, all other cases with the marker ``soak``.

    A single argument of the test takes a case: ``parametrize("case", sampled(...))``.
    """
    table = list(cases)
    chosen = {repr(case) for case in pairwise_sample(table, factors)}
    return [pytest.param(case, id=ids(case), marks=() if repr(case) in chosen else pytest.mark.soak) for case in table]
