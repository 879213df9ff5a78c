"""The benchmark: the same planes for every codec, rates of whole streams, tables, a CSV and a plot."""

import copy
import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from xsarcomp.benchmarks import table, video
from xsarcomp.benchmarks.classical import CLASSICAL_CODECS, Jpeg2000, JpegXl
from xsarcomp.benchmarks.gaussian_bound import GAUSSIAN_BOUND
from xsarcomp.benchmarks.measurement import measured_curve
from xsarcomp.benchmarks.model_codecs import MEAN_OF_DECIBEL, ModelCodec, model_codecs
from xsarcomp.benchmarks.planes import read_scenes
from xsarcomp.benchmarks.table import TimedCodec, choose_codecs, run_benchmark
from xsarcomp.cli import cli
from xsarcomp.codec.residual_coding import encode_integers
from xsarcomp.errors import ConfigurationError, ModelNotFoundError, RateError
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow

MODEL = "s1-grd-10m-lapped"
PLAIN = f"{MODEL}, {MEAN_OF_DECIBEL}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A scene with NaN borders in power, one in dB with nodata zero, one without a valid pixel."""
    folder = tmp_path_factory.mktemp("benchmark")
    power, decibel = simulated_dataset((96, 104), 1), simulated_dataset((88, 96), 2, "decibel")
    power.to_netcdf(folder / "power.nc")
    bands = xr.concat([decibel.vv, decibel.vh], dim="band", combine_attrs="drop").fillna(0)
    bands.rio.write_nodata(0.0).rio.to_raster(folder / "decibel.tif")
    xr.full_like(power.vv, np.nan).rio.to_raster(folder / "empty.tif")
    return folder


def scenes_of(folder, *names):
    return read_scenes([str(folder / name) for name in names])


def test_planes_are_decibel_with_gaps_whatever_the_file(folder):
    scenes = scenes_of(folder, "power.nc", "decibel.tif")
    assert [[plane.shape for plane in scene.planes] for scene in scenes] == [[(96, 104)] * 2, [(88, 96)] * 2]
    for plane in (plane for scene in scenes for plane in scene.planes):
        assert plane.dtype == np.float32
        assert 0 < np.isnan(plane).mean() < 0.2
        assert -30 < np.nanmedian(plane) < 0
    expected = 10 * np.log10(simulated_dataset((96, 104), 1).vv.values)
    np.testing.assert_allclose(scenes[0].planes[0], expected, rtol=0, atol=1e-4)


def test_scenes_are_named_by_their_files_and_empty_ones_are_left_out(folder, tmp_path):
    assert [scene.name for scene in scenes_of(folder, "power.nc", "empty.tif", "decibel.tif")] == ["power", "decibel"]
    same = tmp_path / "power.nc"
    same.write_bytes((folder / "power.nc").read_bytes())
    paths = [str(folder / "power.nc"), str(same)]
    assert [scene.name for scene in read_scenes(paths)] == paths


def test_own_model_is_measured_with_whole_frames(coder, folder):
    codec = ModelCodec(name="small", coder=coder, settings=(1.0, 3.6))
    (scene,) = scenes_of(folder, "decibel.tif")
    points = measured_curve(codec, scene.planes)
    assert [point.setting for point in points] == [3.6, 1.0]
    sizes = [len(codec.encode(np.nan_to_num(plane, nan=-15.0), 3.6)) for plane in scene.planes]
    assert points[0].bits_per_pixel == pytest.approx(8 * sum(sizes) / sum(p.size for p in scene.planes), rel=0.2)
    assert points[1].rmse_db < points[0].rmse_db


def test_mean_of_the_decibels_is_the_same_stream_with_a_shift(coder, speckled):
    coder = copy.copy(coder)
    object.__setattr__(
        coder, "card", replace(coder.card, mean_corrections_db=(0.25,) * len(coder.card.anchor_steps_db))
    )
    users, plain = (ModelCodec(name="small", coder=coder, keeps_power=keeps) for keeps in (True, False))
    data = users.encode(speckled, 3.6)
    assert plain.encode(speckled, 3.6) == data
    difference = users.decode(data, speckled.shape) - plain.decode(data, speckled.shape)
    np.testing.assert_allclose(difference, 0.25, rtol=0, atol=1e-5)


def test_times_are_summed_over_all_calls(coder, speckled):
    timed = TimedCodec(ModelCodec(name="small", coder=coder, settings=(3.6,)))
    for _ in range(2):
        timed.decode(timed.encode(speckled, 3.6), speckled.shape)
    assert timed.pixels == 2 * speckled.size
    assert timed.name == "small"
    assert timed.encode_seconds > 0
    assert timed.speed().decode == pytest.approx(2 * speckled.size / 1e6 / timed.decode_seconds)


def test_codecs_are_chosen_by_name_in_any_case(monkeypatch):
    monkeypatch.setattr(table, "missing_reason", lambda codec: "")
    assert [codec.name for codec in choose_codecs(["jpeg xl", " av1 "])[0]] == ["AV1", "JPEG XL"]
    assert len(choose_codecs([])[0]) == len(CLASSICAL_CODECS) + 2
    assert choose_codecs([], slow=False)[0] == list(CLASSICAL_CODECS)
    assert [codec.name for codec in choose_codecs(["AV1"], slow=False)[0]] == ["AV1"]
    with pytest.raises(ConfigurationError, match="no codec 'webp', expected some of AV1, HEVC, JPEG 2000"):
        choose_codecs(["JPEG XL", "webp"])


def test_codecs_that_the_machine_lacks_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    codecs, left_out = choose_codecs([])
    assert codecs == list(CLASSICAL_CODECS)
    assert left_out == [f"{name} is left out: the program ffmpeg is not installed." for name in ("AV1", "HEVC")]


@pytest.fixture(scope="module")
def lines(folder):
    pytest.importorskip("imagecodecs", reason="the classical codecs are optional: pip install imagecodecs")
    codecs = (Jpeg2000(settings=(32.0, 38.0, 44.0, 50.0, 56.0)), JpegXl(settings=(0.3, 0.7, 2.0, 6.0, 12.0)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "CLASSICAL_CODECS", codecs)
        patch.setattr(video.shutil, "which", lambda name: None)
        paths = [str(folder / name) for name in ("power.nc", "decibel.tif")]
        return list(run_benchmark(paths, [MODEL], folder / "report"))


def tables(lines):
    """The tables among the lines, as rows of cells."""
    found, inside = [], False
    for line in lines:
        if line.startswith("|"):
            if not inside:
                found.append([])
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        inside = line.startswith("|")
    return found


def test_the_summary_has_a_row_for_each_codec_and_for_the_bound(lines):
    summary, *_ = tables(lines)
    assert lines[0].startswith("2 scenes, 4 planes")
    assert [row[0] for row in summary] == ["codec", "---", MODEL, PLAIN, "JPEG 2000", "JPEG XL", GAUSSIAN_BOUND]
    assert len({len(row) for row in summary}) == 1
    header = summary[0]
    for row in summary[2:6]:
        cells = dict(zip(header, row, strict=True))
        assert float(cells["2"]) < float(cells["1"]) < float(cells["0.5"])
        assert 0.5 < float(cells["ENL ratio"]) < 2
        assert 0.3 < float(cells["edges"]) < 1
        assert abs(float(cells["bias dB"])) < 1
        assert float(cells["encode Mpx/s"]) > 0
        assert cells[f"rate vs {row[0]}"] == "0" if row[0] in header else True
    assert summary[-1][-5:] == ["-"] * 5


def test_each_rate_has_the_interval_of_the_bootstrap(lines):
    summary, *_ = tables(lines)
    own = dict(zip(summary[0], summary[2], strict=True))["rate vs JPEG XL"]
    percent, low, high = (
        float(text)
        for text in own.replace("%", "").replace("*", "").replace("(", "").replace(")", "").replace("to", "").split()
    )
    assert low <= percent <= high


def test_each_reference_has_a_table_by_scene(lines):
    _, jpeg_xl, jpeg_2000, _ = tables(lines)
    assert jpeg_xl[0] == ["scene, rate vs JPEG XL", MODEL, PLAIN, "JPEG 2000", GAUSSIAN_BOUND]
    assert jpeg_2000[0] == ["scene, rate vs JPEG 2000", MODEL, PLAIN, "JPEG XL", GAUSSIAN_BOUND]
    assert [row[0] for row in jpeg_xl[2:]] == ["power", "decibel"]
    assert all(cell.split()[0] != "-" for row in jpeg_xl[2:] for cell in row)


def test_every_figure_of_the_first_codec_is_listed_by_scene_and_rate(lines):
    *_, card = tables(lines)
    assert card[0] == [f"{MODEL}, scene", "bits per pixel", "RMSE dB", "ENL ratio", "edges", "bias dB"]
    assert [row[:2] for row in card[2:]] == [
        [scene, rate] for scene in ("power", "decibel") for rate in ("0.1", "0.25", "0.5", "1", "2")
    ]
    for scene in ("power", "decibel"):
        errors = [float(row[2]) for row in card[2:] if row[0] == scene and row[2] != "-"]
        assert len(errors) >= 4
        assert errors == sorted(errors, reverse=True)


def test_what_is_missing_stands_before_and_in_the_report(lines, folder):
    note = "AV1 is left out: the program ffmpeg is not installed."
    assert lines.count(note) == 2
    assert note in (folder / "report/rate_distortion.md").read_text(encoding="utf-8").splitlines()


def test_files_hold_what_was_printed(lines, folder):
    text = (folder / "report/rate_distortion.md").read_text(encoding="utf-8")
    assert tables(text.splitlines()) == tables(lines)
    with (folder / "report/rate_distortion.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["codec"] for row in rows} == {MODEL, PLAIN, "JPEG 2000", "JPEG XL", GAUSSIAN_BOUND}
    assert {row["scene"] for row in rows} == {"all", "power", "decibel"}
    assert all(float(row["rmse_db"]) > 0 for row in rows)
    assert all((row["enl_ratio"] == "") == (row["codec"] == GAUSSIAN_BOUND) for row in rows)
    assert (folder / "report/rate_distortion.png").read_bytes().startswith(b"\x89PNG")


def test_rows_of_scenes_add_up_to_those_of_all(lines, folder):
    with (folder / "report/rate_distortion.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["codec"] == "JPEG XL" and row["setting"] == "2"]
    rates = {row["scene"]: float(row["bits_per_pixel"]) for row in rows}
    pixels = {"power": 96 * 104, "decibel": 88 * 96}
    expected = sum(rates[name] * pixels[name] for name in pixels) / sum(pixels.values())
    assert rates["all"] == pytest.approx(expected, abs=1e-4)


def test_the_command_passes_its_options_on(folder, monkeypatch):
    pytest.importorskip("imagecodecs", reason="the classical codecs are optional: pip install imagecodecs")
    monkeypatch.setattr(table, "CLASSICAL_CODECS", (JpegXl(settings=(0.7, 2.0, 6.0)),))
    scene = str(folder / "decibel.tif")
    result = CliRunner().invoke(cli, ["benchmark", scene, "--model", MODEL, "--codecs", "jpeg xl", "--no-slow"])
    assert result.exit_code == 0, result.output
    assert [row[0] for row in tables(result.output.splitlines())[0]][2:] == [MODEL, PLAIN, "JPEG XL", GAUSSIAN_BOUND]


def test_the_command_asks_for_scenes():
    result = CliRunner().invoke(cli, ["benchmark", "--no-slow"])
    assert result.exit_code == 2
    assert "Missing argument 'SCENES" in result.output


def test_scenes_without_a_valid_pixel_are_refused(folder):
    with pytest.raises(RateError, match="no valid pixel"):
        list(run_benchmark([str(folder / "empty.tif")], [], None))


def test_unknown_model_is_refused(folder):
    with pytest.raises(ModelNotFoundError):
        list(run_benchmark([str(folder / "power.nc")], ["other"], None))


def test_missing_scene_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(run_benchmark([str(tmp_path / "absent.tif")], [], None))


def test_a_classic_autoencoder_is_measured_beside_the_models(
    classic_codec, classic_content, folder, tmp_path, monkeypatch
):
    (tmp_path / "classic.safetensors").write_bytes(classic_content)
    (tmp_path / "classic.json").write_text(json.dumps({"id": classic_codec.model_id}))
    monkeypatch.setenv("XSARCOMP_MODEL_PATH", str(tmp_path))
    (codec,) = model_codecs("classic")
    (scene,) = scenes_of(folder, "decibel.tif")
    points = measured_curve(replace(codec, settings=(0.1, 0.5)), scene.planes)
    assert [point.setting for point in points] == [0.5, 0.1]
    filled = [np.nan_to_num(plane, nan=float(np.nanmedian(plane))) for plane in scene.planes]
    sizes = [4 + len(encode_integers(classic_codec.encode_planes(plane[None], 0.5)[0])) for plane in filled]
    assert points[0].bits_per_pixel == pytest.approx(8 * sum(sizes) / sum(plane.size for plane in filled))
    symbols = classic_codec.encode_planes(filled[0][None], 0.5)
    expected = classic_codec.decode_planes(symbols, 0.5, filled[0].shape)[0]
    np.testing.assert_array_equal(codec.decode(codec.encode(filled[0], 0.5), filled[0].shape), expected)
