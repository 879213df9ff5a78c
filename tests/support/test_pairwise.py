"""The sample of cases that the tests of large tables take: every pair is there, and it is small."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.support.pairwise import pairs, pairwise_sample, sampled

TABLES = st.lists(st.integers(1, 5), min_size=2, max_size=4).flatmap(
    lambda sizes: st.lists(st.tuples(*(st.integers(0, size - 1) for size in sizes)), min_size=1, max_size=60)
)
"""Tables with holes: not every combination is a case."""


def all_pairs(cases):
    return set().union(*map(pairs, cases))


@given(table=TABLES)
def test_every_pair_of_a_table_is_in_its_sample(table):
    sample = pairwise_sample(table)
    assert all_pairs(sample) == all_pairs(table)
    assert set(sample) <= set(table)
    assert len(sample) == len(set(sample))


@given(table=TABLES)
def test_coarser_factors_still_give_each_member_of_a_case(table):
    def coarse(case):
        return [level // 2 for level in case]

    sample = pairwise_sample(table, coarse)
    assert all_pairs(map(coarse, sample)) == all_pairs(map(coarse, table))
    assert set().union(*map(enumerate, sample)) == set().union(*map(enumerate, table))


def test_a_sample_is_far_smaller_than_its_table_and_the_same_each_time():
    table = list(itertools.product(range(6), range(5), range(4), range(3)))
    sample = pairwise_sample(table)
    assert 30 <= len(sample) <= 36  # 6 x 5 pairs are the least possible
    assert sample == pairwise_sample(table)
    assert sample == sorted(sample)


def test_cases_outside_the_sample_wait_for_the_soak():
    table = list(itertools.product("abc", "xyz", "12"))
    parameters = sampled(table, "-".join)
    assert [parameter.values for parameter in parameters] == [(case,) for case in table]
    assert [parameter.id for parameter in parameters] == ["-".join(case) for case in table]
    everyday = [parameter.values[0] for parameter in parameters if not parameter.marks]
    assert everyday == pairwise_sample(table)
    assert {mark.name for parameter in parameters for mark in parameter.marks} == {"soak"}
