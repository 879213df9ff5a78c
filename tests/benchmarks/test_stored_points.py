"""Points of a codec that was measured elsewhere: the same row as if it had been measured here, or a reason why not."""

import json
from dataclasses import replace

import numpy as np
import pytest

from xsarcomp.benchmarks.classical import Jpeg2000
from xsarcomp.benchmarks.measurement import pooled_curve, sweep
from xsarcomp.benchmarks.planes import Scene
from xsarcomp.benchmarks.stored_points import read_points
from xsarcomp.benchmarks.table import run_benchmark
from xsarcomp.errors import ConfigurationError
from xsarcomp.scenes.simulation import simulated_dataset

CODEC = replace(Jpeg2000(), settings=Jpeg2000().settings[::6])


@pytest.fixture(scope="module")
def scene():
    decibel = [simulated_dataset((96, 104), 2, "decibel")[name].values for name in ("vv", "vh")]
    return Scene(name="power", planes=decibel, polarizations=("vv", "vh"))


@pytest.fixture(scope="module")
def points(scene):
    """Points of JPEG 2000 on the scene, as a file holds them."""
    pytest.importorskip("imagecodecs")
    found = {"vv": [], "vh": []}
    for setting, ((vv, vh),) in sweep(CODEC, [scene]).items():
        for polarization, plane in (("vv", vv), ("vh", vh)):
            bias = 10 * np.log10(plane.restored_power / plane.original_power)
            found[polarization].append([setting, plane.coded_bits / 8, plane.valid_pixels, plane.squared_error, bias])
    return {"power": found}


def written(points, folder):
    path = folder / "points.json"
    path.write_text(json.dumps(points))
    return path


def test_points_of_a_codec_are_its_curve(scene, points, tmp_path):
    read, reason = read_points(written(points, tmp_path), [scene])
    assert reason == ""
    expected = pooled_curve(sweep(CODEC, [scene]), [0])
    found = sorted(pooled_curve(read, [0]), key=lambda point: point.setting)
    for one, other in zip(found, sorted(expected, key=lambda point: point.setting), strict=True):
        assert one.setting == other.setting
        assert one.bits_per_pixel == pytest.approx(other.bits_per_pixel, rel=1e-12)
        assert one.rmse_db == pytest.approx(other.rmse_db, rel=1e-12)
        assert one.bias_db == pytest.approx(other.bias_db, abs=1e-9)


def test_a_scene_without_points_leaves_the_codec_out_and_says_so(scene, points, tmp_path):
    path = written(points, tmp_path)
    other = replace(scene, name="other")
    read, reason = read_points(path, [scene, other])
    assert read is None
    assert "other vv, other vh" in reason
    unknown = replace(scene, polarizations=(None, "vh"))
    assert "of unknown polarization" in read_points(path, [unknown])[1]


def test_points_of_other_pixels_are_refused(scene, points, tmp_path):
    cut = replace(scene, planes=[plane[:80] for plane in scene.planes])
    with pytest.raises(ConfigurationError, match=r"points of 'power' were measured on \d+ valid pixels, and vv has"):
        read_points(written(points, tmp_path), [cut])


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"power": {"vv": [[1, 2]], "vh": [[1, 2]]}}', '{"power": 3}', '{"power": {"vv": 1, "vh": 2}}'],
)
def test_a_file_that_holds_no_points_is_refused(scene, tmp_path, content):
    (tmp_path / "points.json").write_text(content)
    with pytest.raises(ConfigurationError, match="found no points in"):
        read_points(tmp_path / "points.json", [scene])


@pytest.mark.slow
def test_the_table_shows_the_points_as_a_row_and_a_reference(points, tmp_path):
    simulated_dataset((96, 104), 2, "decibel")[["vv", "vh"]].to_netcdf(tmp_path / "power.nc")
    points_file, source = written(points, tmp_path), str(tmp_path / "power.nc")
    lines = list(
        run_benchmark([source], ["s1-grd-10m-lapped"], None, codecs=["JPEG 2000"], points={"VVC": points_file})
    )
    assert any(line.startswith("| VVC | ") for line in lines)
    assert any("rate vs VVC" in line for line in lines)
