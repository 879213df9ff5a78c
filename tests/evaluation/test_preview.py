"""The preview of rates: the figures of a full encoding, on a sample that is bounded and says so, beside pictures of one crop."""

import base64
import io
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tests.support.markup import checked_markup
from xsarcomp.errors import AlreadyLossyError, ConfigurationError, DimensionError, RateError
from xsarcomp.evaluation import preview_sample
from xsarcomp.evaluation.preview_pictures import gray_image
from xsarcomp.evaluation.preview_sample import AREA, structured_crop, take_sample
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.report import store_report

RATES = [0.5, 2.0]


@pytest.fixture(scope="module")
def small():
    return simulated_dataset((120, 136), 1)


@pytest.fixture(scope="module")
def preview(small):
    return small.sarcomp.preview(RATES, crop=64)


@pytest.fixture
def small_areas(monkeypatch):
    """Scenes of more than 128 x 128 pixels are large, and sampled in areas of 64 x 64."""
    monkeypatch.setattr(preview_sample, "WHOLE_PIXELS", 128 * 128)
    monkeypatch.setattr(preview_sample, "AREA_PIXELS", 64)


@pytest.mark.parametrize("rate", RATES)
def test_the_figures_of_a_small_scene_are_those_of_encoding_all_of_it(preview, small, tmp_path, rate):
    encoded = small.sarcomp.encode(bits_per_pixel=rate)
    encoded.sarcomp.to_zarr(tmp_path / "store.zarr", consolidated=False)
    report, decoded = store_report(tmp_path / "store.zarr"), encoded.sarcomp.decode()
    found = preview.table.sel(variable="all", bits_per_pixel=rate)
    assert found.stored_bytes == report.payload_bytes
    assert found.stored_bits_per_pixel == pytest.approx(report.bits_per_pixel)
    assert found.ratio == pytest.approx(report.ratio)
    for name, metrics in {
        "all": decoded.sarcomp.compare(small),
        **{name: decoded[name].sarcomp.compare(small[name]) for name in ("vv", "vh")},
    }.items():
        for key in ("rmse_db", "bias_db", "enl_ratio", "edge_preservation"):
            assert float(preview.table[key].sel(variable=name, bits_per_pixel=rate)) == pytest.approx(metrics[key])
    for name in ("vv", "vh"):
        expected = decoded[name].isel(preview.crop)
        xr.testing.assert_equal(preview.crops[name].sel(bits_per_pixel=rate, drop=True), expected)


def test_the_table_is_a_dataset_of_variables_and_rates(preview):
    assert dict(preview.table.sizes) == {"variable": 3, "bits_per_pixel": 2}
    assert preview.table["variable"].values.tolist() == ["all", "vv", "vh"]
    parts = preview.table.stored_bytes.sel(variable=["vv", "vh"]).sum("variable")
    np.testing.assert_array_equal(parts, preview.table.stored_bytes.sel(variable="all"))
    assert (preview.table.rmse_db.diff("bits_per_pixel") < 0).all()


def test_crops_lie_on_the_grid_of_the_scene(preview, small):
    xr.testing.assert_identical(preview.original.vv, small.vv.isel(preview.crop))
    difference = preview.crops - preview.original
    assert dict(difference.sizes) == {"bits_per_pixel": 2, "y": 64, "x": 64}
    assert preview.original.vv.notnull().all()  # the crop avoids the border


def test_text_says_sizes_and_how_much_was_measured(preview):
    text = repr(preview)
    assert text.startswith("<xsarcomp> preview of vv, vh at 2 rates\n")
    assert "Measured on all 120 x 136 pixels" in text
    row = next(line for line in text.splitlines() if line.split()[:2] == ["2", "all"])
    found = preview.table.sel(variable="all", bits_per_pixel=2)
    assert f"{float(found.stored_bytes) / 1000:.3g} kB" in row
    assert f"{float(found.rmse_db):.3f} dB" in row


def test_notebooks_see_the_table_and_the_crop_at_each_rate(preview, tmp_path):
    from PIL import Image

    page = checked_markup(preview._repr_html_())
    assert len(page.rows) == 1 + 2 * 3
    pictures = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert len(pictures) == 2 * (1 + 2)
    image = Image.open(io.BytesIO(base64.b64decode(pictures[0].partition(",")[2])))
    assert image.size == (64, 64)
    shown = {value for tag, name, value in page.attributes if tag == "img" and name in ("width", "height")}
    assert shown == {"256"}  # small crops are enlarged
    preview.save(tmp_path / "preview.html")
    saved = (tmp_path / "preview.html").read_text(encoding="utf-8")
    assert preview._repr_html_() in saved
    assert saved.startswith("<!DOCTYPE html>")
    for wrong in (tmp_path / "preview.png", tmp_path / "absent" / "preview.html"):
        with pytest.raises(ConfigurationError, match=r"ends in \.html"):
            preview.save(wrong)


def test_invalid_pixels_are_transparent_and_grays_are_those_of_the_limits():
    from PIL import Image

    content = gray_image(np.array([[-20.0, -10.0, -5.0], [np.nan, -15.0, 0.0]]), (-20.0, 0.0)).partition(",")[2]
    values = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    np.testing.assert_array_equal(values[..., 1], [[255, 255, 255], [0, 255, 255]])
    np.testing.assert_array_equal(values[..., 0], [[0, 128, 191], [0, 64, 255]])


def counted(scene):
    """Scene of Dask blocks of 64 x 64 pixels, and a list of those that were computed."""
    read = []

    def note(block):
        if block.size > 1:
            read.append(block.shape)
        return block

    return scene.chunk(y=64, x=64).map(lambda array: array.copy(data=array.data.map_blocks(note))), read


def test_of_a_large_lazy_scene_only_some_areas_are_read_and_the_preview_says_so(small_areas):
    scene, read = counted(simulated_dataset((640, 704), 1)[["vv"]])
    read.clear()
    preview = scene.sarcomp.preview([1], crop=32)
    assert 4 <= len(read) <= 12
    assert "4 areas of 64 x 64 pixels of 640 x 704, 3.64% of all pixels" in repr(preview)
    assert preview.table.sizes["variable"] == 1
    assert preview.table.stored_bits_per_pixel.item() == pytest.approx(1, rel=0.2)
    assert preview.table.stored_bytes.item() == pytest.approx(640 * 704 / 8, rel=0.2)
    xr.testing.assert_equal(preview.original.vv, scene.vv.isel(preview.crop).compute())


def test_areas_without_data_are_passed_over(small_areas):
    scene = simulated_dataset((640, 640), 1)[["vv"]]
    sample = take_sample(scene.where((scene.x > scene.x[320]).drop_vars("spatial_ref")), ["vv"])
    assert sample.planes.vv.dims == (AREA, "y", "x")
    assert all(columns.start >= 320 - 64 for _, columns in sample.areas)
    assert all(rows.start % 64 == columns.start % 64 == 0 for rows, columns in sample.areas)


def test_a_crop_may_be_chosen_by_its_pixels(small, small_areas):
    scene = simulated_dataset((200, 210), 2)
    crop = {"y": slice(150, 190), "x": slice(101, 131)}
    preview = scene.sarcomp.preview([1], crop=crop)
    assert preview.crop == crop
    xr.testing.assert_equal(preview.original.vh, scene.vh.isel(crop))
    again = small.sarcomp.preview([1], crop={"x": slice(-20, None), "y": slice(5, 15)})
    assert again.crop == {"y": slice(5, 15), "x": slice(116, 136)}


@pytest.mark.parametrize(
    "crop",
    [
        0,
        3,
        True,
        "x",
        2.5,
        {"y": slice(5, 5)},
        {"x": slice(0, 50, 2)},
        {"time": slice(0, 1)},
        {"y": 3},
        {"y": slice(0, 9999)},
    ],
    ids=str,
)
def test_a_crop_that_is_none_is_refused_with_what_is_expected(small, crop):
    scene = small if crop != {"y": slice(0, 9999)} else small.isel(y=np.arange(600) % 120, x=slice(8)).drop_vars("y")
    with pytest.raises(ConfigurationError, match="expected"):
        scene.sarcomp.preview([1], crop=crop)


@pytest.mark.parametrize("rates", [[], [0], [-1], [float("nan")], ["1"], [True], "1"], ids=str)
def test_rates_that_are_none_are_refused(small, rates):
    with pytest.raises(RateError):
        small.sarcomp.preview(rates)


def test_the_crop_shows_structure():
    generator = np.random.default_rng(1)
    values = (0.1 * generator.gamma(4, 0.25, (256, 256))).astype("f4")
    values[150:200, 60:100] *= 20
    sample = take_sample(xr.Dataset({"vv": (("y", "x"), values)}), ["vv"])
    _, (rows, columns) = structured_crop(sample, 80, {"vv": "power"})
    assert rows.start < 200
    assert rows.stop > 150
    assert columns.start < 100
    assert columns.stop > 60


def test_dates_and_polarizations_are_told_apart():
    dates = pd.date_range("2024-01-01", periods=3, freq="12D", name="time")
    scenes = [simulated_dataset((64, 72), seed).drop_vars("spatial_ref") for seed in range(3)]
    stack = xr.concat(scenes, dates).to_dataarray("polarization", name="sigma0")
    stack = stack.transpose("y", "time", "x", "polarization").assign_attrs(units="1")
    preview = stack.sarcomp.preview([1])
    assert list(preview.original) == ["vv", "vh"]
    assert "all 64 x 72 pixels (time 2024-01-01T00:00, the first of 3), 33.33% of all pixels" in repr(preview)
    np.testing.assert_array_equal(preview.original.vv, scenes[0].vv)
    assert float(preview.table.stored_bytes.sel(variable="vv").item()) == pytest.approx(3 * 64 * 72 / 8, rel=0.15)
    later = stack.isel(time=1).sarcomp.preview([1])
    np.testing.assert_array_equal(later.original.vh, scenes[1].vh)


def test_a_raster_of_bands_without_a_name_and_scenes_without_data_have_previews_too():
    values = np.stack([simulated_dataset((64, 72), 1)[name].values for name in ("vv", "vh")])
    preview = xr.DataArray(values, dims=("band", "y", "x")).sarcomp.preview([1], scale="power")
    assert preview.table.sizes["variable"] == 3
    assert len(checked_markup(preview._repr_html_()).rows) == 4
    nothing = xr.DataArray(np.full((64, 72), np.nan, "f4"), dims=("y", "x"), name="vv")
    empty = nothing.sarcomp.preview([1], scale="power")
    assert np.isnan(empty.table.rmse_db).all()
    checked_markup(empty._repr_html_())
    assert "nan dB" in repr(empty)


def test_names_and_attributes_are_text_and_not_markup():
    name = "<script>alert(1)</script> vv"
    scene = simulated_dataset((64, 72), 1)[["vv"]].rename(vv=name)
    preview = scene.sarcomp.preview([1], variables=[name])
    assert name in checked_markup(preview._repr_html_()).text
    assert "<script" not in preview._repr_html_()


def test_what_cannot_be_encoded_has_no_preview(small):
    with pytest.raises(AlreadyLossyError):
        small.sarcomp.encode(bits_per_pixel=1).sarcomp.preview()
    decoded = small.sarcomp.encode(bits_per_pixel=1).sarcomp.decode()
    with pytest.raises(AlreadyLossyError, match="recompress"):
        decoded.sarcomp.preview([1])
    assert decoded.sarcomp.preview([1], recompress=True).table.rmse_db.notnull().all()
    with pytest.raises(DimensionError, match="a preview needs pixels"):
        small.isel(y=slice(0)).sarcomp.preview([1])
    two = xr.Dataset({"vv": small.vv, "vh": small.vh.isel(x=slice(9)).rename(x="lon", y="lat")})
    with pytest.raises(DimensionError, match="one grid"):
        two.sarcomp.preview([1])


def test_a_warning_is_given_once_and_not_for_each_rate():
    values = simulated_dataset((96, 104), 1).vv.values.copy()
    values[:, :40] = -9999
    odd = xr.DataArray(values, dims=("y", "x"), name="vv")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        odd.sarcomp.preview(RATES, scale="power")
    assert len(caught) == 1
    assert "-9999" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_a_rate_out_of_reach_is_left_out_and_named():
    tiny = simulated_dataset((64, 64), 1)
    preview = tiny.sarcomp.preview([0.05, 1], crop=64)
    assert preview.table.bits_per_pixel.values.tolist() == [1]
    assert list(preview.out_of_reach) == [0.05]
    assert "Left out: bits_per_pixel=0.05 cannot be met" in repr(preview)
    assert "Left out: bits_per_pixel=0.05" in preview._repr_html_()
    with pytest.raises(RateError, match=r"bits_per_pixel=0\.05 cannot be met"):
        tiny.sarcomp.preview([0.05])
