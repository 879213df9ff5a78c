"""The table of synthetic speckle: its metrics are those of compare, without and with it."""

import numpy as np
import pytest
import speckle
from click.testing import CliRunner
from speckle import METRICS, decoding_time_ratio, speckle_table

from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow

MODEL = "s1-grd-10m-lapped"


def test_rows_hold_what_compare_says_and_the_last_pool_the_scenes(tmp_path):
    paths = []
    for seed in (1, 2):
        paths.append(str(tmp_path / f"scene{seed}.nc"))
        simulated_dataset((160, 176), seed).to_netcdf(paths[-1])
    header, _, *rows = speckle_table(paths, model=MODEL, rates=(0.5,))
    assert header.count("|") == 3 + len(METRICS)
    assert [row.split("|")[1].strip() for row in rows] == ["scene1", "scene2", "all"]
    scene = simulated_dataset((160, 176), 1)
    encoded = scene.sarcomp.encode(bits_per_pixel=0.5, model=MODEL)
    for place, restore in enumerate((None, "speckle")):
        metrics = encoded.sarcomp.decode(restore=restore).sarcomp.compare(scene)
        for cell, (_, key, form) in zip(rows[0].split("|")[3:-1], METRICS, strict=True):
            assert cell.split("->")[place].strip() == form.format(metrics[key])
    errors = np.array([float(row.split("|")[8].split("->")[0]) for row in rows])
    assert errors[:2].min() <= errors[2] <= errors[:2].max()


def test_restoring_costs_less_than_three_times_the_time(monkeypatch):
    monkeypatch.setattr(speckle, "_TIMED_EDGE", 512)
    assert 0.8 < decoding_time_ratio(model=MODEL) < 3


def test_the_command_writes_a_table_for_each_model(tmp_path, monkeypatch):
    monkeypatch.setattr(speckle, "speckle_table", lambda paths, *, model: iter([f"| {model} of {' '.join(paths)} |"]))
    monkeypatch.setattr(speckle, "decoding_time_ratio", lambda *, model: 1.25)
    result = CliRunner().invoke(speckle.main, ["a.tif", "simulated", "--model", "m", "--output", str(tmp_path)])
    page = (tmp_path / "speckle.md").read_text(encoding="utf-8")
    assert result.output == f"{page}\nwrote {tmp_path / 'speckle.md'}\n"
    assert page.splitlines()[:3] == ["### m", "", "| m of a.tif simulated |"]
    assert "Decoding takes 1.25 times the processor time" in page
