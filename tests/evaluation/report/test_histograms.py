"""Histograms: everything is counted once, and counts of pieces add up."""

import numpy as np
import pytest

from xsarcomp.evaluation.report import histograms


@pytest.mark.parametrize("largest", [0.0, 0.004, 0.4, 1.6, 7.3, 99.0])
def test_every_error_is_in_the_histogram_once(largest):
    errors = np.linspace(-largest, largest, 451)
    found = histograms.error_histogram(histograms.count_errors(errors))
    (counts,) = found.counts
    np.testing.assert_array_equal(counts, np.histogram(errors, found.edges)[0])
    assert counts.sum() == errors.size
    assert len(counts) % 2 == 1
    assert len(counts) <= 161
    assert found.edges[0] == pytest.approx(-found.edges[-1])


def test_errors_beyond_all_bins_are_in_the_last_ones():
    found = histograms.error_histogram(histograms.count_errors(np.array([-1e6, 0.0, 3e5])))
    assert found.counts[0][[0, -1]].tolist() == [1, 1]


def test_values_have_common_bins_without_outliers():
    rng = np.random.default_rng(1)
    original, restored = rng.normal(-12, 2, (2, 20_000))
    original[0] = -90.0
    found = histograms.value_histogram(histograms.count_values(original, restored))
    assert -25 < found.edges[0] < -18
    assert found.edges[-1] < 0
    for counts, values in zip(found.counts, (original, restored), strict=True):
        expected = np.histogram(values, found.edges)[0]
        assert np.abs(counts - expected).sum() <= 2  # a value on an edge may be rounded to the other side
        assert counts.sum() > 19_980


def test_counts_of_pieces_add_up():
    rng = np.random.default_rng(1)
    original, restored = rng.normal(-12, 2, (2, 1000))
    parts = [histograms.count_values(original[part], restored[part]) for part in (slice(300), slice(300, None))]
    np.testing.assert_array_equal(sum(parts), histograms.count_values(original, restored))


def test_nothing_counted_gives_empty_bins():
    nothing = np.empty(0)
    values = histograms.value_histogram(histograms.count_values(nothing, nothing))
    errors = histograms.error_histogram(histograms.count_errors(nothing))
    assert not any(counts.any() for counts in (*values.counts, *errors.counts))
    assert len(values.edges) > 10
