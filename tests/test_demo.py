"""The demonstration: metrics of a simulated scene or of a file, a store and a picture."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xsarcomp import demo
from xsarcomp.demo import run_demo
from xsarcomp.errors import ConfigurationError, MissingDependencyError, RateError
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores import files, report

pytestmark = pytest.mark.slow

FIGURES = {"scene", "scale", "model", "store", "rate", "error", "ENL ratio", "edge preservation", "radiometric bias"}


def figures(source, folder, **request):
    return dict(run_demo(None if source is None else str(source), folder, request))


def test_simulated_scene_gives_all_figures_and_a_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SIMULATED_SHAPE", (192, 200))
    found = figures(None, tmp_path / "new/demo", bits_per_pixel=1)
    assert set(found) >= FIGURES
    assert "192 x 200" in found["scene"]
    assert found["model"] == "s1-grd-10m"
    assert found["rate"].startswith(("0.9", "1.0"))
    assert "mask differs in 0" in found["valid pixels"]
    assert (tmp_path / "new/demo/comparison.png").stat().st_size > 10_000
    assert report.store_report(found["store"]).payload_bytes > 0


def test_demonstration_can_be_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SIMULATED_SHAPE", (96, 96))
    assert figures(None, tmp_path, bits_per_pixel=1) == figures(None, tmp_path, bits_per_pixel=1)


@pytest.fixture
def sources(tmp_path):
    scene = simulated_dataset((96, 104), 2)
    bands = xr.concat([scene.vv, scene.vh], dim="band", combine_attrs="drop").fillna(0)
    bands.rio.write_nodata(0.0).rio.to_raster(tmp_path / "bands.tif")
    scene.vv.rio.to_raster(tmp_path / "one.tif")
    times = pd.date_range("2024-01-01", periods=3, name="time")
    stack = xr.concat([scene] * 3, dim=times, coords="minimal", compat="override")
    stack["angle"] = (("y", "x"), np.full((96, 104), 38, np.float32))
    stack.to_netcdf(tmp_path / "stack.nc")
    stack.drop_vars("vh").to_zarr(tmp_path / "stack.zarr", zarr_format=3, consolidated=False)
    xr.full_like(scene.vv, np.nan).rio.to_raster(tmp_path / "empty.tif")
    return tmp_path


@pytest.mark.parametrize("name", ["bands.tif", "one.tif", "stack.nc", "stack.zarr"])
def test_own_scenes_of_all_kinds_are_shown(sources, name):
    found = figures(sources / name, sources / "output", preset="analysis")
    assert set(found) >= FIGURES
    assert name in found["scene"]
    assert (sources / "output/comparison.png").stat().st_size > 10_000


def test_scene_without_a_valid_pixel_is_no_crash(sources):
    assert "0 of" in figures(sources / "empty.tif", sources / "output")["valid pixels"]


def test_source_is_not_overwritten_by_the_store(sources):
    (sources / "stack.zarr").rename(sources / "scene.zarr")
    with pytest.raises(ConfigurationError, match="choose another name"):
        figures(sources / "scene.zarr", sources)
    assert "vv" in files.open_store(str(sources / "scene.zarr"))


def test_figures_do_without_matplotlib(sources, monkeypatch):
    def missing(*_arguments, **_options):
        raise MissingDependencyError("no matplotlib")

    monkeypatch.setattr("xsarcomp.evaluation.pictures.save_comparison", missing)
    assert figures(sources / "one.tif", sources / "output")["picture"] == "not drawn: no matplotlib"


def test_contradictory_request_is_refused(sources):
    with pytest.raises(RateError):
        figures(sources / "one.tif", sources / "output", ratio=3, rmse_db=1)
