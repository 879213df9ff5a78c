"""Presets through whole stores: sizes that the files really have, goals that can be missed, a mosaic of the scenes."""

import math
from pathlib import Path

import numpy as np
import presets
import pytest
from click.testing import CliRunner

from xsarcomp.benchmarks.planes import Scene, planes_dataset
from xsarcomp.codec.target import FLOAT32_BITS, PRESETS
from xsarcomp.errors import RateError
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow

MODEL = "s1-grd-10m-lapped"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Lines of a small run of three presets, and what it wrote."""
    folder = tmp_path_factory.mktemp("presets")
    simulated_dataset((96, 104), 1, "decibel").to_netcdf(folder / "a.nc")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presets, "PRESETS", {"browse": 0.25, "archive": 2.0, "16x": 2.0})
        patch.setattr(presets, "MOSAIC_PIXELS", 150)
        lines = list(presets.run_presets([str(folder / "a.nc")], MODEL, folder / "report"))
    return lines, (folder / "report/presets.md").read_text(encoding="utf-8")


def rows(lines):
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [dict(zip(table[0], row, strict=True)) for row in table[2:]]


def result(name="16x", psnr_db=40.0, enl_ratio=1.0, edge_preservation=0.95, mosaic_ratio=32.0):
    metrics = {"enl_ratio": enl_ratio, "edge_preservation": edge_preservation, "rmse_db": 0.3, "bias_db": 0.0}
    return presets.PresetResult(
        name=name,
        store="latents",
        scenes_ratio=1,
        mosaic_ratio=mosaic_ratio,
        bits_per_pixel=2,
        psnr_db=psnr_db,
        metrics=metrics,
    )


def test_the_classic_ratios_are_presets_with_the_bits_that_they_mean():
    assert {name: FLOAT32_BITS / PRESETS[name] for name in ("8x", "16x", "32x")} == {"8x": 8, "16x": 16, "32x": 32}


def test_each_preset_goes_through_both_stores_and_comes_back_at_its_rate(report):
    found = rows(report[0])
    names = [name for name in ("archive", "16x", "browse") for _ in range(2)]
    assert [(row["preset"], row["store"]) for row in found] == list(
        zip(names, ("latents", "transparent") * 3, strict=True)
    )
    for row, bits in zip(found, (2, 2, 1.9, 1.9, 0.25, 0.25), strict=True):
        assert float(row["bits per pixel"]) == pytest.approx(bits, rel=0.1)
        # the mosaic is larger than a scene, so its metadata weighs less; chunks alone would reach 32 / bits
        assert float(row["ratio, scenes"]) < float(row["ratio, mosaic"]) < FLOAT32_BITS / float(row["bits per pixel"])
        assert 20 * math.log10(78.5 / float(row["RMSE dB"])) == pytest.approx(float(row["PSNR dB"]), abs=0.1)
    assert [row["goals"] == "-" for row in found] == [True, True, False, False, True, True]
    assert float(found[4]["RMSE dB"]) > float(found[2]["RMSE dB"]) > float(found[0]["RMSE dB"])


@pytest.mark.parametrize(("store", "ratio"), [("latents", 8), ("transparent", 16)])
def test_a_preset_of_a_ratio_counts_every_byte_of_a_store_that_is_not_small(tmp_path, store, ratio):
    scene = simulated_dataset((1000, 1024), 4)
    report = presets._write_store(scene, str(tmp_path / "store.zarr"), store, f"{ratio}x", MODEL)
    assert ratio * 0.98 < FLOAT32_BITS / report.stored_bits_per_pixel < ratio * 1.05


def test_the_pixels_of_a_small_scene_do_not_pay_for_its_coordinates(tmp_path):
    scene = simulated_dataset((200, 220), 4)
    report = presets._write_store(scene, str(tmp_path / "store.zarr"), "latents", "16x", MODEL)
    assert report.bits_per_pixel > 1.8


def test_the_file_holds_the_table_and_says_what_was_measured(report):
    lines, written = report
    table = [line for line in lines if line.startswith("|")]
    assert "\n".join(table) in written
    assert "1 scenes (a)" in written
    assert "192 x 208 pixels" in written


def test_stored_ratios_count_every_file(tmp_path):
    planes = [np.float32(10) * np.log10(simulated_dataset((64, 72), 2)[name].values) for name in ("vv", "vh")]
    chip = planes_dataset(planes)
    measured = presets.measure_preset("8x", "latents", [chip], chip, MODEL, 78.0)
    report = presets._write_store(chip, str(tmp_path / "one.zarr"), "latents", "8x", MODEL)
    stored = sum(path.stat().st_size for path in Path(tmp_path).rglob("*") if path.is_file())
    assert report.stored_bytes == stored
    assert measured.scenes_ratio == pytest.approx(2 * 64 * 72 * 4 / stored, rel=0.01)
    assert measured.mosaic_ratio == pytest.approx(measured.scenes_ratio, rel=0.01)


def test_the_mosaic_repeats_the_scenes_in_turn_cut_to_the_smallest(monkeypatch):
    monkeypatch.setattr(presets, "MOSAIC_PIXELS", 10)
    scenes = [
        Scene(name="a", planes=[np.full((6, 5), 1, np.float32), np.full((6, 5), 2, np.float32)]),
        Scene(name="b", planes=[np.full((7, 5), 3, np.float32)]),
    ]
    found = presets.mosaic_dataset(scenes)
    assert list(found.data_vars) == ["plane_0"]
    assert found.plane_0.shape == (12, 10)
    assert found.plane_0.values[::6, ::5].tolist() == [[1, 3], [1, 3]]


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({}, []),
        ({"psnr_db": 29.9}, ["PSNR below 30 dB"]),
        ({"psnr_db": math.nan}, ["PSNR below 30 dB"]),
        ({"enl_ratio": 1.2}, ["ENL ratio beyond 0.9 to 1.1"]),
        ({"enl_ratio": math.nan}, ["ENL ratio beyond 0.9 to 1.1"]),
        ({"edge_preservation": 0.8}, ["edges below 0.9"]),
        ({"edge_preservation": 0.8, "name": "32x"}, []),
        ({"psnr_db": 0.0, "edge_preservation": 0.1, "enl_ratio": 9.0, "name": "browse"}, []),
        ({"name": "16x", "psnr_db": 1.0}, ["PSNR below 30 dB"]),
        ({"mosaic_ratio": 15.9}, ["stored ratio below 16"]),
        ({"name": "archive", "mosaic_ratio": 15.9, "psnr_db": 1.0}, []),
    ],
    ids=str,
)
def test_goals_that_are_missed_are_named(changed, missed):
    assert result(**changed).missed_goals() == missed


def test_scenes_without_a_valid_pixel_are_refused(tmp_path):
    scene = simulated_dataset((16, 16), 1, "decibel")
    (scene * np.nan).to_netcdf(tmp_path / "empty.nc")
    with pytest.raises(RateError, match="no valid pixel"):
        list(presets.run_presets([str(tmp_path / "empty.nc")], MODEL))


def test_the_command_asks_for_scenes():
    found = CliRunner().invoke(presets.main, [])
    assert found.exit_code != 0
    assert "SCENES" in found.output
