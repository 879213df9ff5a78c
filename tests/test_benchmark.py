"""The benchmark: the same planes for every codec, rates of whole streams, a table, a CSV and a plot."""

import csv

import numpy as np
import pytest
import xarray as xr

from xsarcomp.errors import ModelNotFoundError, RateError
from xsarcomp.evaluation import benchmark
from xsarcomp.evaluation.benchmark import ModelCodec, Timed, read_planes, run_benchmark
from xsarcomp.evaluation.classical import Jpeg2000, JpegXl
from xsarcomp.evaluation.rate_distortion import curve
from xsarcomp.evaluation.simulation import simulated_dataset


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


def test_planes_are_decibel_with_gaps_whatever_the_file(folder):
    planes = read_planes([str(folder / name) for name in ("power.nc", "decibel.tif", "empty.tif")])
    assert [plane.shape for plane in planes] == [(96, 104)] * 2 + [(88, 96)] * 2
    for plane in planes:
        assert plane.dtype == np.float32
        assert 0 < np.isnan(plane).mean() < 0.2
        assert -30 < np.nanmedian(plane) < 0
    expected = 10 * np.log10(simulated_dataset((96, 104), 1).vv.values)
    np.testing.assert_allclose(planes[0], expected, rtol=0, atol=1e-4)


def test_own_model_is_measured_with_whole_frames(coder, folder):
    codec = ModelCodec(name="small", coder=coder, settings=(1.0, 3.6))
    planes = read_planes([str(folder / "decibel.tif")])
    points = curve(codec, planes)
    assert [point.setting for point in points] == [3.6, 1.0]
    sizes = [len(codec.encode(np.nan_to_num(plane, nan=-15.0), 3.6)) for plane in planes]
    assert points[0].bits_per_pixel == pytest.approx(8 * sum(sizes) / sum(p.size for p in planes), rel=0.2)
    assert points[1].rmse_db < points[0].rmse_db


def test_times_are_summed_over_all_calls(coder, speckled):
    timed = Timed(ModelCodec(name="small", coder=coder, settings=(3.6,)))
    for _ in range(2):
        timed.decode(timed.encode(speckled, 3.6), speckled.shape)
    assert timed.pixels == 2 * speckled.size
    assert timed.name == "small"
    assert timed.seconds["encode"] > 0
    assert timed.megapixels_per_second("decode") == pytest.approx(2 * speckled.size / 1e6 / timed.seconds["decode"])


@pytest.fixture(scope="module")
def lines(folder):
    pytest.importorskip("imagecodecs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            benchmark, "CLASSICAL_CODECS", (Jpeg2000(settings=(36.0, 42.0, 48.0)), JpegXl(settings=(0.7, 2.0, 6.0)))
        )
        paths = [str(folder / name) for name in ("power.nc", "decibel.tif")]
        return list(run_benchmark(paths, ["s1-grd-10m-lapped"], folder / "report"))


def test_table_has_a_row_for_each_codec(lines):
    assert lines[0].startswith("4 planes")
    rows = [line for line in lines if line.startswith("|")]
    names = [row.split("|")[1].strip() for row in rows]
    assert names == ["codec", "---", "s1-grd-10m-lapped", "JPEG 2000", "JPEG XL"]
    assert len({row.count("|") for row in rows}) == 1
    assert lines[-1].startswith("wrote ")


def test_files_hold_what_was_printed(lines, folder):
    table = (folder / "report/rate_distortion.md").read_text(encoding="utf-8")
    assert table.splitlines() == [line for line in lines if line.startswith("|")]
    with (folder / "report/rate_distortion.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["codec"] for row in rows} == {"s1-grd-10m-lapped", "JPEG 2000", "JPEG XL"}
    assert all(float(row["bits_per_pixel"]) > 0 and float(row["rmse_db"]) > 0 for row in rows)
    assert (folder / "report/rate_distortion.png").read_bytes().startswith(b"\x89PNG")


def test_scenes_without_a_valid_pixel_are_refused(folder):
    with pytest.raises(RateError, match="no valid pixel"):
        list(run_benchmark([str(folder / "empty.tif")], [], None))


def test_unknown_model_is_refused(folder):
    with pytest.raises(ModelNotFoundError):
        list(run_benchmark([str(folder / "power.nc")], ["other"], None))


def test_missing_scene_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(run_benchmark([str(tmp_path / "absent.tif")], [], None))
