"""The table of synthetic speckle: its metrics are those of compare, without and with it."""

import numpy as np
import pytest
import speckle
from click.testing import CliRunner
from speckle import METRICS, decoding_time_ratio, speckle_tables

from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow

MODEL = "s1-grd-10m-lapped"


def test_cells_hold_what_compare_says_of_single_bands_and_the_last_rows_the_extremes_and_all_bands(tmp_path):
    path = tmp_path / "scene1.nc"
    scene = simulated_dataset((160, 176), 1)
    scene.to_netcdf(path)
    lines = list(speckle_tables([str(path)], model=MODEL, rates=(0.5, 2.0)))
    header, _, *looks = lines[: lines.index("")]
    assert header == "| ENL ratio | 0.5 bit | 2 bit |"
    assert [row.split("|")[1].strip() for row in looks] == ["scene1 vv", "scene1 vh", "lowest", "highest"]
    found = np.array([[float(cell.split("->")[1]) for cell in row.split("|")[2:-1]] for row in looks])
    np.testing.assert_array_equal(found[2:], [found[:2].min(axis=0), found[:2].max(axis=0)])
    band = scene.vh.rename("sigma0").to_dataset()
    encoded = band.sarcomp.encode(bits_per_pixel=0.5, model=MODEL)
    assert f"{encoded.sarcomp.decode(restore='speckle').sarcomp.compare(band)['enl_ratio']:.3f}" == f"{found[1, 0]:.3f}"
    header, _, *pooled = lines[lines.index("") + 1 :]
    assert header.count("|") == 2 + len(METRICS)
    assert [row.split("|")[1].strip() for row in pooled] == ["0.5 bit", "2 bit"]
    assert float(pooled[0].split("|")[2].split("->")[1]) == pytest.approx(found[:2, 0].mean(), abs=0.002)


def test_restoring_costs_less_than_three_times_the_time(monkeypatch):
    monkeypatch.setattr(speckle, "_TIMED_EDGE", 512)
    assert 0.8 < decoding_time_ratio(model=MODEL) < 3


def test_the_command_writes_a_table_for_each_model(tmp_path, monkeypatch):
    monkeypatch.setattr(speckle, "speckle_tables", lambda paths, *, model: iter([f"| {model} of {' '.join(paths)} |"]))
    monkeypatch.setattr(speckle, "decoding_time_ratio", lambda *, model: 1.25)
    result = CliRunner().invoke(speckle.main, ["a.tif", "simulated", "--model", "m", "--output", str(tmp_path)])
    page = (tmp_path / "speckle.md").read_text(encoding="utf-8")
    assert result.output == f"{page}\nwrote {tmp_path / 'speckle.md'}\n"
    assert page.splitlines()[:3] == ["### m", "", "| m of a.tif simulated |"]
    assert "Decoding takes 1.25 times the processor time" in page
