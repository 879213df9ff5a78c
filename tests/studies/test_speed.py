"""The speed of stores: what is timed, what it is compared with, and what the lines say."""

import numpy as np
import pytest
import speed
from click.testing import CliRunner

from xsarcomp.benchmarks.classical import Jpeg2000, JpegXl
from xsarcomp.scenes.simulation import simulate_scene

pytestmark = pytest.mark.slow

MODEL = "s1-grd-10m-lapped"

pytest.importorskip("imagecodecs", reason="the classical codecs are optional: pip install imagecodecs")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Lines of a small run, and what it wrote."""
    folder = tmp_path_factory.mktemp("speed") / "report"
    lines = list(speed.run_speed([MODEL], chunks_a_side=2, chunk_edge=128, turns=2, output=folder))
    return lines, (folder / "speed.md").read_text(encoding="utf-8")


def rows(lines):
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [dict(zip(table[0], row, strict=True)) for row in table[2:]]


def test_the_scene_is_laid_of_simulated_ones_without_gaps():
    scene = speed.assemble_scene(2, 64)
    assert scene.vv.chunks == ((64, 64), (64, 64))
    assert scene.vh.dtype == np.float32
    assert np.isfinite(scene.vh.values).all()
    expected = 10 * np.log10(simulate_scene((64, 64), seed=2, nodata_border=False))
    np.testing.assert_array_equal(scene.vv.values[64:, :64], expected[0])
    np.testing.assert_array_equal(scene.vh.values[64:, :64], expected[1])


@pytest.mark.parametrize(("codec", "settings"), [(Jpeg2000(), range(20, 80)), (JpegXl(), range(1, 25))])
def test_the_setting_is_the_one_whose_rate_is_nearest(codec, settings):
    plane = 10 * np.log10(simulate_scene((96, 96), seed=4, nodata_border=False)[0])
    off = {s: abs(np.log(8 * len(codec.encode(plane, s)) / plane.size)) for s in settings}
    assert speed._setting_for_rate(codec, plane, settings) == min(off, key=off.get)


def test_all_stores_hold_the_scene_at_about_the_same_rate(report):
    stores = rows(report[0])
    assert [row["store"].split(",")[0] for row in stores] == ["JPEG 2000", MODEL, MODEL]
    for row in stores:
        assert 0.8 < float(row["bits per pixel"]) < 3.5  # small stores: the metadata counts
        assert 0.5 < float(row["RMSE dB"]) < 1.5
        assert float(row["write Mpx/s"]) > 0
        assert float(row["read Mpx/s"]) > 0


def test_ratios_are_those_of_the_speeds(report):
    reference, *others = rows(report[0])
    assert {reference[f"{what}, times JPEG 2000"] for what in ("write", "read", "both")} == {"1.00"}
    for row in others:
        ratios = [float(row[f"{what}, times JPEG 2000"]) for what in ("write", "read", "both")]
        for what, ratio in zip(("write", "read"), ratios[:2], strict=True):
            expected = float(row[f"{what} Mpx/s"]) / float(reference[f"{what} Mpx/s"])
            assert ratio == pytest.approx(expected, abs=0.02, rel=0.02)
        assert min(ratios[:2]) - 0.01 <= ratios[2] <= max(ratios[:2]) + 0.01


def test_av1_is_measured_or_its_absence_is_said(report):
    (line,) = [line for line in report[0] if line.startswith("AV1")]
    assert "times as fast" in line or "is left out: " in line


def test_the_file_holds_the_table_and_how_it_was_made(report):
    lines, text = report
    assert rows(text.splitlines()) == rows(lines)
    assert text.startswith("Simulated scene of 256 x 256 pixels, VV and VH, ")
    assert "best of 2:" in text.splitlines()[0]


def test_the_fastest_turn_counts_and_size_and_error_are_measured_once(tmp_path):
    scene = speed.assemble_scene(1, 64)
    written = []

    def write(path):
        written.append(path)
        scene.to_zarr(path, zarr_format=2, consolidated=False)

    contender = speed.Contender(name="plain", write=write)
    contender.write_seconds = contender.read_seconds = 1e-9
    for _ in range(2):
        contender.take_turn(scene)
    assert (contender.write_seconds, contender.read_seconds) == (1e-9, 1e-9)
    assert contender.rmse_db == 0
    assert contender.bits_per_pixel > 8
    assert len(set(written)) == 2


def test_the_command_passes_its_options_on(monkeypatch, tmp_path):
    called = {}

    def run_speed(models, **options):
        called.update(options, models=models)
        yield "a line"

    monkeypatch.setattr(speed, "run_speed", run_speed)
    result = CliRunner().invoke(speed.main, ["--no-slow", "--model", "m", "--output", str(tmp_path)])
    assert result.output == "a line\n"
    assert called == {"models": ("m",), "slow": False, "output": tmp_path}
