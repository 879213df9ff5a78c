"""The study of maps: its tables are what the detectors say, and what was written around them stays."""

import maps
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from maps import change_rows, encode_and_decode, run_maps, split_tables, water_rows

from xsarcomp.errors import ConfigurationError
from xsarcomp.evaluation.compare import compare
from xsarcomp.scenes.simulation import simulate_scene

pytestmark = pytest.mark.slow

pytest.importorskip("netCDF4", reason="the stacks are NetCDF files: pip install netCDF4")
MODEL = "s1-grd-10m-lapped"
RATES = (0.5, 2.0)


def write_chip(folder, name, seed):
    """A chip with a lake in its lower half, and a mask that knows all but the last columns."""
    planes = 10 * np.log10(simulate_scene((72, 80), seed=seed, nodata_border=False))
    planes[:, 40:] += np.array([-25 - np.median(planes[0]), -32 - np.median(planes[1])])[:, None, None]
    mask = np.zeros((72, 80), np.int16)
    mask[40:], mask[:, 70:] = 1, -1
    coords = {"y": 500.0 - 10 * np.arange(72), "x": 10.0 * np.arange(80)}
    chip = xr.DataArray(planes, dims=("band", "y", "x"), coords=coords, attrs={"long_name": ("vv", "vh")})
    chip.rio.write_crs("EPSG:32632").rio.to_raster(folder / f"{name}.tif")
    drawn = xr.DataArray(mask, dims=("y", "x"), coords=coords)
    drawn.rio.write_crs("EPSG:32632").rio.to_raster(folder / f"{name}_water.tif")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    import rioxarray  # noqa: F401  registers .rio

    root = tmp_path_factory.mktemp("study")
    for number, split in enumerate(maps.SPLITS):
        chips, stacks = root / split / "grd_decibel", root / split / "rtc_stacks"
        chips.mkdir(parents=True)
        stacks.mkdir()
        write_chip(chips, f"chip{number}", number)
        dates = [simulate_scene((48, 56), seed=10 * number + date, nodata_border=False) for date in range(3)]
        names = dict(zip(("vv", "vh"), np.stack(dates, axis=1), strict=True))
        variables = {name: (("time", "y", "x"), values, {"units": "1"}) for name, values in names.items()}
        times = np.array(["2024-01-01", "2024-01-13", "2024-01-25"], "M8[ns]")
        xr.Dataset(variables, coords={"time": times}).to_netcdf(stacks / "stack.nc", engine="netcdf4")
    return root


def test_water_is_measured_against_the_mask_and_the_original(data):
    rows = list(water_rows([data / "validation/grd_decibel/chip0.tif"], RATES, MODEL))
    assert [(row.plane, row.rate) for row in rows] == [("vv", 0.5), ("vh", 0.5), ("vv", 2.0), ("vh", 2.0)]
    for row in rows:
        assert row.water_fraction == pytest.approx(32 / 72)
        assert row.original_to_mask > 0.7
        assert row.restored_to_mask == pytest.approx(row.original_to_mask, abs=0.1)
        assert row.estimated_rate == pytest.approx(row.rate, rel=0.2)
    assert rows[0].agreement < rows[2].agreement < 1


def test_change_is_that_of_the_comparison(data):
    path = data / "validation/rtc_stacks/stack.nc"
    rows = list(change_rows([path], RATES, MODEL))
    with xr.open_dataset(path, engine="netcdf4") as stack:
        restored, _ = encode_and_decode(stack.load(), 0.5, MODEL)
        expected = compare(stack[["vv"]], restored[["vv"]])
    found = next(row for row in rows if (row.plane, row.rate) == ("vv", 0.5)).sums.metrics()
    for key in ("change_fraction", "change_false_alarm_rate", "change_miss_rate"):
        assert found[key] == pytest.approx(expected[key], rel=1e-6)
    twice = list(change_rows([path, path], RATES[:1], MODEL))
    assert twice[0].sums.metrics() == pytest.approx(found, nan_ok=True)
    assert twice[0].sums.changed == 2 * rows[0].sums.changed


def test_tables_have_a_column_for_each_rate(data):
    water = list(water_rows([data / "test/grd_decibel/chip1.tif"], RATES, MODEL))
    change = list(change_rows([data / "test/rtc_stacks/stack.nc"], RATES, MODEL))
    lines = list(split_tables("test", water, change))
    assert "| chip | plane | water | map | original | 0.5 | 2 |" in lines
    tables = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in tables if line.startswith(("| chip", "| chip1"))} == {8}
    assert {line.count("|") for line in tables if not line.startswith(("| chip", "|---|---|---|---|---"))} == {6}
    row = next(line for line in lines if line.startswith("| chip1 | VH | 44.4% | against the mask"))
    assert (
        f"| {water[1].original_to_mask:.3f} | {water[1].restored_to_mask:.3f} | {water[3].restored_to_mask:.3f} |"
        in row
    )


def test_the_page_keeps_what_was_written_around_the_tables(data, tmp_path):
    page = tmp_path / maps.FILE_NAME
    first = list(run_maps(data, MODEL, tmp_path, rates=RATES[:1]))
    assert page.read_text().startswith("# Maps after compression")
    assert page.read_text().count("### validation: water") == 1
    page.write_text(page.read_text().replace("# Maps", "# My maps") + "the end\n")
    assert list(run_maps(data, MODEL, tmp_path, rates=RATES[:1])) == first
    text = page.read_text()
    assert text.startswith("# My maps")
    assert text.endswith("the end\n")
    assert text.count("### test: change") == 1


def test_a_folder_without_scenes_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="found 0 chips"):
        list(run_maps(tmp_path))


def test_the_command_writes_the_page_only_on_request(data, tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "run_maps", lambda *arguments: iter([str(arguments)]))
    arguments = [str(data), "--model", MODEL, "--output", str(tmp_path)]
    assert CliRunner().invoke(maps.main, arguments).output == f"{(data, MODEL, tmp_path)}\n"
    assert CliRunner().invoke(maps.main, arguments[:1]).output == f"{(data, None, None)}\n"
