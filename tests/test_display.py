"""Words and tables that results show: right to three digits, one line each, and text wherever they come from."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.markup import checked_markup
from xsarcomp.display import Cell, Summary, html_table, listed, number, short, size, text_table, visible

WORDS = {
    0: "0 bytes", 1: "1 byte", 999: "999 bytes", 1000: "1 kB", 66123.0: "66.1 kB", 999_499: "999 kB", 999_600: "1 MB",
    5e9: "5 GB", 2.5e15: "2.5 PB", 2e19: "20,000 PB", math.inf: "unknown", math.nan: "unknown",
}  # fmt: skip
PREFIXES = {"bytes": 1, "byte": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15}


@pytest.mark.parametrize("count", WORDS)
def test_sizes_have_units(count):
    assert size(count) == WORDS[count]


@given(st.integers(0, 10**20))
def test_sizes_are_right_to_three_digits(count):
    digits, unit = size(count).split()
    assert float(digits.replace(",", "")) * PREFIXES[unit] == pytest.approx(count, rel=5.1e-3)
    assert unit == "PB" or len(digits) <= 4


def test_numbers_are_words_where_they_are_none():
    assert [number(value) for value in (1234567, 0.12345, math.nan, math.inf, -math.inf, True, None, "a\nb")] == [
        "1,234,567", "0.1235", "undefined", "infinite", "-infinite", "True", "None", "a\\nb",
    ]  # fmt: skip


@given(st.text(), st.integers(1, 50))
def test_short_text_is_short_and_in_one_line(text, most):
    assert short(text, most).isprintable()
    assert short(text, 10**6) == visible(text)
    assert short("a" * 100, most) == "a" * (most - 1) + "…"


def test_of_many_names_the_others_are_counted():
    assert listed([]) == ""
    assert listed(["a", 1]) == "a, 1"
    assert listed(range(1008)) == "0, 1, 2, 3, 4, 5, 6, 7, and 1,000 more"


@given(st.lists(st.lists(st.text(max_size=6).map(short), min_size=1, max_size=4), max_size=4))
def test_columns_begin_in_the_same_place(rows):
    lines = text_table(rows).split("\n")
    assert len(lines) == max(1, len(rows))
    for column in range(3):
        filled = [line for line, row in zip(lines, rows, strict=False) if len(row) > column + 1 and row[column + 1]]
        starts = {
            sum(max(len(row[c]) for row in rows if len(row) > c + 1) + 3 for c in range(column + 1)) for _ in filled
        }
        for line, row in zip(lines, rows, strict=False):
            if len(row) > column + 1:
                (start,) = starts or {0}
                assert not starts or line[start:].startswith(row[column + 1].rstrip())


@given(st.lists(st.lists(st.text(max_size=8), min_size=1, max_size=3), max_size=3), st.text(max_size=9))
def test_markup_shows_every_text_as_it_is(rows, title):
    page = checked_markup(html_table([[Cell(text, "code") for text in row] for row in rows]))
    clean = [[text.replace("\r\n", "\n").replace("\r", "\n") for text in row] for row in rows]
    assert [[cell.replace("\r\n", "\n").replace("\r", "\n") for cell in row] for row in page.rows] == clean
    summary = Summary(
        title=title, facts=tuple((title, text) for row in rows for text in row), methods=(("a<b", title),)
    )
    assert "a<b" in checked_markup(summary.html()).text
