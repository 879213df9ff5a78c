"""The study of growing scenes: what is asked for, what a row says, how a line is laid through times."""

import numpy as np
import pytest
import scaling
from click.testing import CliRunner
from scaling_run import Outcome, Phase, Run, measure, measure_in_new_process

from xsarcomp.errors import ConfigurationError

pytestmark = pytest.mark.slow


def outcome(edge, way="threads", factor=1.0):
    """A run that took 2 s a million values there and 1 s back."""
    run, millions = Run(shape=(edge, edge), way=way), 2 * edge**2 / 1e6

    def phase(seconds):
        busy = {"worker 1": 0.75 * seconds, "worker 2": 0.6 * seconds} if way == "cluster-2" else {}
        peaks = {"here": 3, "worker 1": 7_000_000}
        return Phase(seconds=seconds, processor_seconds=2 * seconds, tasks=60, peaks=peaks, task_seconds=busy)

    return Outcome(
        run=run,
        source=phase(0.1),
        plan=phase(1),
        encode=phase(2 * millions * factor),
        decode=phase(millions * factor),
        stored_bytes=edge**2 // 4,
    )


def test_sizes_are_rows_by_columns():
    assert scaling.parse_shape("25000x16000") == (25_000, 16_000)
    for text in ("25000", "a x b", "0x5", "1x2x3"):
        with pytest.raises(ConfigurationError, match="expected rows and columns"):
            scaling.parse_shape(text)


def test_an_unknown_way_is_refused_before_anything_starts():
    with pytest.raises(ConfigurationError, match="expected one of threads"):
        measure_in_new_process(Run(shape=(8, 8), way="magic"))


def test_a_line_through_points_on_a_line_is_that_line():
    slope, intercept, deviation = scaling.linear_fit([1_000_000, 3_000_000, 50_000_000], [2.5, 6.5, 100.5])
    assert (slope, intercept, deviation) == (pytest.approx(2), pytest.approx(0.5), pytest.approx(0, abs=1e-9))


def test_a_point_off_the_line_shows_as_its_share():
    *_, deviation = scaling.linear_fit([1_000_000, 2_000_000, 4_000_000, 8_000_000], [1, 2, 8, 8])
    assert 0.3 < deviation < 0.9


def test_a_row_holds_the_largest_peak_and_the_rate():
    row = scaling.outcome_row(outcome(1000), 1.5, 2.5)
    assert row["encode_peak_mb"] == 7
    assert row["bits_per_pixel"] == 1
    assert row["chunks"] == 2
    assert (row["load_before"], row["load_after"]) == (1.5, 2.5)


def test_rows_are_read_as_they_were_written(tmp_path):
    rows = [scaling.outcome_row(outcome(edge, way), 1, 2) for edge in (1000, 2000) for way in ("threads", "cluster-2")]
    rows = [{name: kind(row[name]) for name, kind in scaling.COLUMNS.items()} for row in rows]
    scaling.write_rows(tmp_path / "rows.csv", rows)
    assert str(scaling.read_rows(tmp_path / "rows.csv")) == str(rows)  # as text, because no NaN equals another


def test_tasks_of_processes_say_how_busy_they_were_and_what_more_of_them_would_give():
    row = scaling.outcome_row(outcome(1000, "cluster-2"), 0, 0)
    assert row["encode_share_in_tasks"] == pytest.approx(0.675)
    assert row["decode_balance"] == pytest.approx(1.35 / 0.75)
    assert np.isnan(scaling.outcome_row(outcome(1000), 0, 0)["encode_balance"])
    idle = Phase(seconds=1, processor_seconds=1, tasks=0, peaks={}, task_seconds={"worker 1": 0.0})
    assert np.isnan(idle.share_in_tasks)
    assert np.isnan(idle.balance)


def test_the_table_says_growth_and_what_a_second_process_gives():
    rows = [scaling.outcome_row(outcome(edge, "cluster-1"), 0, 0) for edge in (1000, 4000)]
    rows += [scaling.outcome_row(outcome(edge, "cluster-2", 0.5), 0, 0) for edge in (1000, 4000)]
    lines = list(scaling.table(rows))
    assert len([line for line in lines if line.startswith("|")]) == 2 + 4
    assert any("1 process: encode 2.000 s a million values, off by 0% at most" in line for line in lines)
    assert any("1000 x 1000: 2.00 times as fast to encode, 2.00 to decode" in line for line in lines)
    assert any("all tasks of two over those of the busier 1.80 and 1.80." in line for line in lines)
    assert [line.count("| 68% | 68% |") for line in lines if "2 processes |" in line] == [1, 1]
    assert not any("nan" in line for line in lines)
    assert [line.count("| - | - |") for line in lines if "1 process |" in line] == [1, 1]


def test_a_new_row_replaces_that_of_the_same_size_and_way(tmp_path, monkeypatch):
    for factor in (1.0, 3.0):
        monkeypatch.setattr(scaling, "measure_in_new_process", lambda run, f=factor: outcome(run.shape[0], run.way, f))
        lines = list(scaling.run_scaling(["1000x1000"], ["threads", "transparent"], output=tmp_path))
    rows = scaling.read_rows(tmp_path / "scaling.csv")
    assert [(row["way"], row["encode_seconds"]) for row in rows] == [("threads", 12.0), ("transparent", 12.0)]
    assert (tmp_path / "scaling.md").read_text(encoding="utf-8").splitlines() == lines[2:]


def test_the_command_hands_on_sizes_and_ways(monkeypatch):
    called = []

    def run_scaling(scenes, ways, **options):
        called.append((scenes, ways))
        yield "a line"

    monkeypatch.setattr(scaling, "run_scaling", run_scaling)
    result = CliRunner().invoke(scaling.main, ["--scene", "64x64", "--way", "threads"])
    assert result.output == "a line\n"
    assert called == [(("64x64",), ("threads",))]


@pytest.mark.parametrize("way", ["threads", "transparent"])
def test_a_small_scene_is_measured(way):
    found = measure(Run(shape=(300, 260), way=way, model="s1-grd-10m-lapped"))
    assert found.samples == 2 * 300 * 260
    assert 0.5 < 8 * found.stored_bytes / found.samples < 4  # metadata counts in a store so small
    for phase in (found.encode, found.decode):
        assert phase.seconds > 0
        assert phase.processor_seconds > 0
        assert phase.tasks > 0
        assert list(phase.peaks) == ["here"]
