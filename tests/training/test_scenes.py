"""Reading scenes: what is invalid is found and filled, levels come out as asked, mistakes are refused."""

import numpy as np
import pytest

from xsarcomp.errors import ConfigurationError
from xsarcomp.training.patches import PatchConfig, PatchSampler
from xsarcomp.training.planes import assert_disjoint
from xsarcomp.training.scenes import MEDIAN_DECIBEL, SceneSource, load_planes


def write_geotiff(path, bands, names=("vv", "vh"), nodata=None):
    rasterio = pytest.importorskip("rasterio")
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "count": len(bands),
        "dtype": "float32",
        "height": bands[0].shape[0],
        "width": bands[0].shape[1],
    }
    transform = rasterio.Affine(10, 0, 0, 0, -10, 0)
    with rasterio.open(path, "w", driver="GTiff", nodata=nodata, transform=transform, **profile) as file:
        file.write(np.stack(bands).astype(np.float32))
        file.descriptions = names


@pytest.fixture
def bands():
    generator = np.random.default_rng(0)
    return generator.normal(-10, 3, (20, 30)).astype(np.float32), generator.normal(-17, 3, (20, 30)).astype(np.float32)


def test_invalid_pixels_are_found_and_filled_from_the_nearest_valid_one(tmp_path, bands):
    vv, vh = bands
    vv[:, :3] = 0  # declared nodata
    vh[5, 7] = np.nan
    vh[0, 0] = -np.inf
    vh[10, 10] = 3.0  # at the ceiling
    write_geotiff(tmp_path / "a.tif", (vv, vh), nodata=0)
    planes = {
        p.polarization: p for p in load_planes(tmp_path, [SceneSource(pattern="*.tif", scale="decibel", ceiling=3.0)])
    }
    assert planes["vv"].name == "a"
    np.testing.assert_array_equal(planes["vv"].valid, vv != 0)
    np.testing.assert_array_equal(planes["vv"].decibel[:, :3], np.repeat(vv[:, 3:4], 3, axis=1))
    assert set(zip(*np.nonzero(~planes["vh"].valid), strict=True)) == {(5, 7), (0, 0), (10, 10)}
    assert planes["vh"].decibel[5, 7] in (vh[5, 6], vh[5, 8], vh[4, 7], vh[6, 7])
    np.testing.assert_array_equal(planes["vh"].decibel[planes["vh"].valid], vh[planes["vh"].valid])


def test_power_is_converted_and_brought_to_the_wanted_median(tmp_path, bands):
    power = [10 ** (band / 10) * 5e7 for band in bands]
    power[0][3, 3] = 0
    power[1][4, 4] = -1
    write_geotiff(tmp_path / "a.tif", power)
    source = SceneSource(pattern="*.tif", scale="power", median_db=MEDIAN_DECIBEL)
    for plane, band in zip(load_planes(tmp_path, [source]), bands, strict=True):
        assert (~plane.valid).sum() == 1
        assert np.median(plane.decibel[plane.valid]) == pytest.approx(MEDIAN_DECIBEL[plane.polarization], abs=1e-4)
        shift = (plane.decibel - band)[plane.valid]
        assert np.ptp(shift) < 1e-3
    unshifted = load_planes(tmp_path, [SceneSource(pattern="*.tif", scale="power")])[0]
    valid = unshifted.valid
    np.testing.assert_allclose(unshifted.decibel[valid], (bands[0] + 10 * np.log10(5e7))[valid], atol=1e-3)


def test_a_median_can_be_given_as_pairs_and_must_name_each_polarization(tmp_path, bands):
    write_geotiff(tmp_path / "a.tif", bands)
    source = SceneSource(pattern="*.tif", scale="decibel", median_db=(("vv", -11.0), ("vh", -17.0)))
    assert np.median(load_planes(tmp_path, [source])[0].decibel) == pytest.approx(-11, abs=1e-4)
    with pytest.raises(ConfigurationError, match="expected 'vh' too"):
        load_planes(tmp_path, [SceneSource(pattern="*.tif", scale="decibel", median_db={"vv": -11.0})])


def test_planes_that_are_nearly_empty_are_dropped_and_counted(tmp_path, bands, caplog):
    vh = np.full_like(bands[1], np.nan)
    vh[0, :5] = -17  # 5 of 600 pixels
    write_geotiff(tmp_path / "a.tif", (bands[0], vh))
    planes = load_planes(tmp_path, [SceneSource(pattern="*.tif", scale="decibel")])
    assert [plane.polarization for plane in planes] == ["vv"]
    assert "dropped 1 of 2 planes" in caplog.text
    assert "a vh" in caplog.text


def test_companion_files_are_skipped_and_an_empty_pattern_is_an_error(tmp_path, bands):
    write_geotiff(tmp_path / "chips" / "a.tif", bands)
    write_geotiff(tmp_path / "chips" / "a_water.tif", bands[:1], names=("water",))
    assert len(load_planes(tmp_path, [SceneSource(pattern="chips/*.tif", scale="decibel")])) == 2
    with pytest.raises(ConfigurationError, match="no backscatter file"):
        load_planes(tmp_path, [SceneSource(pattern="chips/*_water.tif", scale="decibel")])


def test_bands_without_polarization_names_and_scenes_that_come_twice_are_refused(tmp_path, bands):
    write_geotiff(tmp_path / "a.tif", bands)
    twice = SceneSource(pattern="a.tif", scale="decibel")
    with pytest.raises(ConfigurationError, match="comes twice"):
        load_planes(tmp_path, [twice, twice])
    write_geotiff(tmp_path / "b.tif", bands, names=("red", "green"))
    with pytest.raises(ConfigurationError, match="red"):
        load_planes(tmp_path, [SceneSource(pattern="b.tif", scale="decibel")])


def test_an_unknown_scale_is_refused():
    with pytest.raises(ConfigurationError, match="amplitude"):
        SceneSource(pattern="*.tif", scale="amplitude")


def real_sources(split):
    return [
        SceneSource(pattern=f"{split}/grd_decibel/*.tif", scale="decibel"),
        SceneSource(pattern=f"{split}/patches/bigearthnet.nc", scale="decibel"),
        SceneSource(pattern=f"{split}/grd_intensity_uncalibrated/*.tif", scale="power", median_db=MEDIAN_DECIBEL),
    ]


@pytest.mark.data
def test_real_scenes_are_read_split_and_sampled(sar_data, caplog):
    train, validation = (load_planes(sar_data, real_sources(split)) for split in ("train", "validation"))
    assert_disjoint(train, validation)
    # Paraguay_34417 is all NaN; awc00 has 27 % zeros that are declared nodata
    assert "Paraguay_34417 vv" in caplog.text
    assert "Paraguay_34417" not in {plane.name for plane in validation}
    awc00 = next(plane for plane in validation if plane.name == "awc00")
    assert awc00.valid.mean() == pytest.approx(0.7325, abs=1e-3)
    for plane in train + validation:
        assert np.isfinite(plane.decibel).all()
        assert -60 < plane.decibel.min() < plane.decibel.max() < 40
    assert sum(plane.name.startswith("bigearthnet/") for plane in train) == 180
    batch = next(PatchSampler(train, PatchConfig(patch=128, batch=32)))
    assert batch.shape == (32, 128, 128)
    assert -22 < np.median(batch) < -8
