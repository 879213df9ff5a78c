"""The table of restored speckle: its figures are those of compare, without and with restoration."""

import numpy as np
import speckle as restoration_study
from speckle import FIGURES, study_lines, time_ratio

from xsarcomp.scenes.simulation import simulated_dataset

MODEL = "s1-grd-10m-lapped"


def test_rows_hold_what_compare_says_and_the_last_pool_the_scenes(tmp_path):
    paths = []
    for seed in (1, 2):
        paths.append(str(tmp_path / f"scene{seed}.nc"))
        simulated_dataset((160, 176), seed).to_netcdf(paths[-1])
    header, _, *rows = study_lines(paths, model=MODEL, rates=(0.5,))
    assert header.count("|") == 3 + len(FIGURES)
    assert [row.split("|")[1].strip() for row in rows] == ["scene1", "scene2", "all"]
    scene = simulated_dataset((160, 176), 1)
    encoded = scene.sarcomp.encode(bits_per_pixel=0.5, model=MODEL)
    for place, restore in enumerate((None, "speckle")):
        figures = encoded.sarcomp.decode(restore=restore).sarcomp.compare(scene)
        for cell, (_, key, form) in zip(rows[0].split("|")[3:-1], FIGURES, strict=True):
            assert cell.split("->")[place].strip() == form.format(figures[key])
    errors = np.array([float(row.split("|")[8].split("->")[0]) for row in rows])
    assert errors[:2].min() <= errors[2] <= errors[:2].max()


def test_restoring_costs_less_than_three_times_the_time(monkeypatch):
    monkeypatch.setattr(restoration_study, "_TIMED_EDGE", 512)
    assert 0.8 < time_ratio(model=MODEL) < 3
