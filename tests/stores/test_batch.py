"""Several sources: one target each, failures that do not stop the others, and what is told of them."""

import shutil
import warnings

import numpy as np
import pytest
import rasterio
import xarray as xr

from tests.support.commands import NODATA, run_here, strict_json, write_geotiff
from xsarcomp.errors import ConfigurationError
from xsarcomp.stores.batch import Job, plan_jobs, run_jobs

FAST = ["--model", "s1-grd-10m-lapped"]


def test_each_source_gets_a_target_of_its_name(tmp_path):
    sources = ["a.tif", "sub/b.nc", "c.zarr/", "s3://bucket/d.tif?v=1"]
    jobs = plan_jobs(sources, str(tmp_path), ".zarr")
    assert [job.source for job in jobs] == sources
    assert [job.target for job in jobs] == [str(tmp_path / f"{name}.zarr") for name in "abcd"]
    assert plan_jobs(["a.tif"], "s3://bucket/out/", ".zarr") == [Job(source="a.tif", target="s3://bucket/out/a.zarr")]


@pytest.mark.parametrize("sources", [["a.tif", "sub/a.tif"], ["a.tif", "a.nc"], ["a.tif", "a.tif"]])
def test_sources_of_the_same_name_are_refused_before_anything_is_done(tmp_path, sources):
    with pytest.raises(ConfigurationError, match=r"would both become .*a\.zarr, and nothing was written"):
        plan_jobs(sources, str(tmp_path / "out"), ".zarr")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["out.zarr", "out.tif", "file", "store"])
def test_a_folder_of_targets_is_no_file_and_no_store(tmp_path, folder):
    (tmp_path / "file").touch()
    (tmp_path / "store").mkdir()
    (tmp_path / "store/zarr.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="expected a folder"):
        plan_jobs(["a.tif"], str(tmp_path / folder), ".zarr")


def test_a_failure_does_not_stop_the_others_but_an_interruption_does(tmp_path):
    def work(job):
        if job.source == "bad.tif":
            raise ValueError("bad")
        if job.source == "stop.tif":
            raise KeyboardInterrupt
        return job.source

    jobs = plan_jobs(["a.tif", "bad.tif", "b.tif", "stop.tif", "c.tif"], str(tmp_path), ".zarr")
    outcomes = run_jobs(jobs, work)
    told = [next(outcomes) for _ in range(3)]
    assert [outcome.status for outcome in told] == ["done", "failed", "done"]
    assert [outcome.result for outcome in told] == ["a.tif", None, "b.tif"]
    assert str(told[1].error) == "bad"
    with pytest.raises(KeyboardInterrupt):
        next(outcomes)


def test_what_is_finished_is_skipped_only_on_request(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    jobs = plan_jobs(["a.tif", "b.tif"], str(tmp_path), ".zarr")
    assert [outcome.status for outcome in run_jobs(jobs, lambda job: "new")] == ["done", "done"]
    outcomes = list(run_jobs(jobs, lambda job: "new", finished=lambda job: "old"))
    assert [(outcome.status, outcome.result) for outcome in outcomes] == [("skipped", "old"), ("done", "new")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two scenes, a broken one among them, and their stores."""
    folder = tmp_path_factory.mktemp("batch")
    for name in ("nan", "zero"):
        write_geotiff(folder / f"{name}.tif", *NODATA[name], shape=(64, 72))
    (folder / "broken.tif").write_bytes((folder / "nan.tif").read_bytes()[:9000])
    return folder


@pytest.fixture(scope="module")
def encoded(folder):
    """What the command says about three sources, and the folder with their stores."""
    sources = ["nan.tif", "broken.tif", "zero.tif"]
    return run_here("encode", *sources, "--output", "stores", *FAST, folder=folder, status=1)


def test_each_source_is_a_line_and_the_end_a_summary(folder, encoded):
    output, errors = encoded
    first, second, last = output.splitlines()
    for line, name in ((first, "nan"), (second, "zero")):
        assert line.startswith(f"{name}.tif: stores/{name}.zarr, ")
        assert " kB, " in line
        assert " bits per pixel, " in line
        assert line.endswith(" s")
    assert last.startswith("2 encoded, 1 failed (broken.tif): 73.7 kB in, ")
    assert errors.startswith("xsarcomp: broken.tif: Read failed")
    assert errors.count("\n") == 1
    assert {path.name for path in (folder / "stores").iterdir()} == {"nan.zarr", "zero.zarr"}


def test_finished_stores_are_skipped_with_resume_and_refused_without(folder, encoded):
    inodes = {path: path.stat().st_ino for path in (folder / "stores").rglob("zarr.json")}
    output, _ = run_here("encode", "nan.tif", "zero.tif", "--output", "stores", "--resume", *FAST, folder=folder)
    assert output.count("finished before") == 3
    assert "0 encoded, 2 finished before: 73.7 kB in" in output
    assert inodes == {path: path.stat().st_ino for path in (folder / "stores").rglob("zarr.json")}
    output, errors = run_here("encode", "nan.tif", "--output", "stores", *FAST, folder=folder, status=1)
    assert "stores/nan.zarr exists" in errors
    assert "0 encoded, 1 failed (nan.tif)" in output


def test_json_of_several_sources_is_a_list_with_the_report_of_each(folder, encoded, tmp_path):
    arguments = ["nan.tif", "broken.tif", "--output", tmp_path / "new", "--json", *FAST]
    output, _ = run_here("encode", *arguments, folder=folder, status=1)
    good, bad = strict_json(output)
    assert (good["source"], good["status"], good["error"]) == ("nan.tif", "done", None)
    one = strict_json(run_here("info", tmp_path / "new/nan.zarr", "--json", folder=folder)[0])
    assert good["report"] == one
    assert (bad["source"], bad["status"], bad["report"]) == ("broken.tif", "failed", None)
    assert "Read failed" in bad["error"]


@pytest.mark.parametrize("kind", ["tif", "nc", "zarr"])
def test_several_stores_are_decoded_into_a_folder(folder, encoded, tmp_path, kind):
    shutil.copytree(folder / "stores", tmp_path / "stores")
    (tmp_path / "stores/zero.zarr/zarr.json").write_text("{")
    arguments = [] if kind == "tif" else ["--format", kind]
    stores = ["stores/nan.zarr", "stores/zero.zarr"]
    output, errors = run_here("decode", *stores, "--output", "out", *arguments, folder=tmp_path, status=1)
    assert output.startswith(f"stores/nan.zarr: out/nan.{kind}, ")
    assert "1 decoded, 1 failed (stores/zero.zarr)" in output
    assert errors.startswith("xsarcomp: stores/zero.zarr: ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"nan.{kind}"]


def test_warnings_about_one_of_several_sources_name_it(tmp_path):
    write_geotiff(tmp_path / "a.tif", "decibel", -9999.0, shape=(64, 72))
    with rasterio.open(tmp_path / "a.tif", "r+") as file:
        file.nodata = None
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        output, errors = run_here("encode", "a.tif", "--output", "out", *FAST, folder=tmp_path)
    assert errors.startswith("xsarcomp: warning: a.tif: ")
    assert "-9999" in errors
    assert "1 encoded" in output


def test_a_series_of_geotiffs_grows_by_the_command(tmp_path):
    write_geotiff(tmp_path / "a.tif", shape=(64, 72))
    run_here("encode", "a.tif", "series.zarr", "--time", "2024-05-01T05:30", *FAST, folder=tmp_path)
    run_here("decode", "series.zarr", "one.tif", folder=tmp_path)
    said, _ = run_here("append", "a.tif", "series.zarr", "--time", "2024-05-13T07:30+02:00", folder=tmp_path)
    assert said == "time: 1 before, 2 now\n"
    series = xr.open_dataset(tmp_path / "series.zarr", engine="sarcomp")
    assert series.band_data.dims == ("time", "band", "y", "x")
    assert list(series.time.values) == [np.datetime64(f"2024-05-{day}T05:30", "ns") for day in ("01", "13")]
    with rasterio.open(tmp_path / "one.tif") as file:
        np.testing.assert_array_equal(file.read(), series.band_data[0])
