"""Overviews: the mean in decibels that the lowest latents hold, from them alone, on a grid that says where it lies."""

import pickle

import numpy as np
import pytest
import rioxarray  # noqa: F401  registers .rio
import xarray as xr

import xsarcomp  # noqa: F401  registers .sarcomp
from xsarcomp.codec import chunk, lapped
from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.errors import ConfigurationError, CorruptStreamError, NotEncodedError
from xsarcomp.latents import overview
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.scenes.simulation import simulate_scene

pytestmark = pytest.mark.slow

MODEL = "s1-grd-10m-lapped"
SIZES = (600, 571)


@pytest.fixture(scope="module")
def original():
    """Two dates of 600 x 571 pixels, 2 x 2 chunks of latents each: holes, a margin, power that is no backscatter."""
    values = np.stack([simulate_scene(SIZES, seed=seed, nodata_border=False)[0] for seed in (1, 2)])
    values[0, 100:157, 200:280] = np.nan
    values[1, :, :30] = 0.0
    values[1, 300:330, 300:330] = -1e-3
    coords = {
        "time": np.array(["2024-01-01", "2024-01-13"], "M8[ns]"),
        "y": 5_400_000 - 10 * (np.arange(SIZES[0]) + 0.5),
        "x": 600_000 + 10 * (np.arange(SIZES[1]) + 0.5),
    }
    array = xr.DataArray(values, dims=("time", "y", "x"), name="vv", coords=coords, attrs={"units": "1"})
    return array.to_dataset().rio.write_crs("EPSG:32632")


@pytest.fixture(scope="module")
def encoded(original):
    return original.chunk(x=512, y=512).sarcomp.encode(bits_per_pixel=1, model=MODEL, scale="power").compute()


@pytest.fixture(scope="module")
def store(encoded, tmp_path_factory):
    path = tmp_path_factory.mktemp("overview") / "scene.zarr"
    encoded.to_zarr(path, zarr_format=3, consolidated=False)
    return path


@pytest.fixture(scope="module")
def whole(encoded):
    return encoded.sarcomp.decode(overview=8)


@pytest.fixture
def decodings(monkeypatch):
    """Counts of the chunks of which all latents, and of which only the lowest were decoded."""
    counts = {"all": 0, "lowest": 0}

    def counted(name, decode):
        def function(*arguments):
            counts[name] += 1
            return decode(*arguments)

        return function

    monkeypatch.setattr(chunk, "decode_latents", counted("all", chunk.decode_latents))
    monkeypatch.setattr(chunk, "decode_lowest_latents", counted("lowest", chunk.decode_lowest_latents))
    return counts


def in_db(values):
    with np.errstate(invalid="ignore", divide="ignore"):
        return 10 * np.log10(values.astype(np.float64))


def blocks(values, factor):
    """Blocks of pixels of a plane, padded with NaN: (y block, x block, pixel)."""
    padded = np.pad(values, [(0, -size % factor) for size in values.shape], constant_values=np.nan)
    cut = padded.reshape(padded.shape[0] // factor, factor, -1, factor).swapaxes(1, 2)
    return cut.reshape(*cut.shape[:2], -1)


def test_a_constant_scene_comes_back_as_that_constant():
    coder = load_coder(MODEL)
    step_db = 2.0
    symbol = 11
    constant = symbol * step_db / lapped.constant_gain(coder.basis)
    tile = np.full((1, 40, 48), constant)
    latents = lapped.analyze(tile, coder.basis)
    np.testing.assert_allclose(latents[:, 0] / lapped.constant_gain(coder.basis), constant, rtol=1e-14)
    symbols = np.rint(latents[:, 0] / step_db).astype(np.int32)
    np.testing.assert_allclose(overview.signal_from_lowest(symbols, coder, step_db), constant, rtol=1e-7)


@pytest.mark.parametrize("level_db", [-22.0, -8.5])
def test_a_constant_scene_keeps_its_level_through_a_store(level_db):
    flat = xr.DataArray(np.full((70, 90), level_db, np.float32), dims=("y", "x"), name="vv", attrs={"units": "dB"})
    encoded = flat.sarcomp.encode(rmse_db=0.5, model=MODEL, scale="decibel")
    step_db = LatentsMetadata.from_attribute(encoded.vv_latents.attrs["sarcomp"]).settings.step_db
    found = encoded.sarcomp.decode(overview=8).vv
    assert found.shape == (9, 12)
    assert np.abs(found - level_db).max() <= step_db / 16 + 0.001


def test_a_value_is_the_weighted_mean_around_its_block_to_half_a_step_of_its_latent(original, encoded, whole):
    """Computed from the pixels, with weights that are those of nothing but the basis."""
    metadata = LatentsMetadata.from_attribute(encoded.vv_latents.attrs["sarcomp"])
    taps = load_coder(MODEL).basis[:, 0].astype(np.float64)
    weights = np.outer(taps, taps) / taps.sum() ** 2
    np.testing.assert_allclose(weights.sum(), 1)
    decibel, found = in_db(original.vv[0].values), in_db(whole.vv[0].values)
    for row, column in [(3, 5), (40, 3), (60, 60), (70, 41)]:
        around = decibel[8 * row - 4 : 8 * row + 12, 8 * column - 4 : 8 * column + 12]
        assert abs(found[row, column] - (weights * around).sum()) <= metadata.settings.step_db / 16 + 0.002


def test_on_the_whole_it_is_the_mean_in_decibels_of_the_blocks(original, whole):
    values = original.vv[0].values
    expected = blocks(in_db(values), 8).mean(axis=2)
    error = in_db(whole.vv[0].values) - expected
    valid = np.isfinite(expected)
    assert valid.mean() > 0.9
    assert abs(error[valid].mean()) < 0.02
    assert np.sqrt((error[valid] ** 2).mean()) < 0.5
    # the decibels of the mean power are higher: that is what speckle does
    multilooked = in_db(blocks(values, 8)[valid].mean(axis=1))
    assert multilooked.mean() - in_db(whole.vv[0].values)[valid].mean() > 0.3


@pytest.mark.parametrize("factor", [8, 16, 64, 512])
def test_every_way_of_reading_gives_the_same(encoded, store, factor):
    expected = encoded.sarcomp.decode(overview=factor)
    assert expected.vv.shape == (2, -(-SIZES[0] // factor), -(-SIZES[1] // factor))
    ways = [
        xr.open_dataset(store, engine="sarcomp", overview=factor),
        xr.open_dataset(store, engine="sarcomp", overview=factor, chunks={}),
        xr.open_dataset(store, engine="zarr", consolidated=False, decode_coords="all").sarcomp.decode(overview=factor),
        xr.open_zarr(store, consolidated=False, decode_coords="all").sarcomp.decode(overview=factor),
        encoded.chunk(y_latent=17, x_latent=5, y=333, x=99, time=2).sarcomp.decode(overview=factor),
    ]
    assert [found.vv.chunks is not None for found in ways] == [False, True, False, True, True]
    for found in ways:
        xr.testing.assert_allclose(found, expected, rtol=1e-6, atol=0)
        assert found.vv.attrs == expected.vv.attrs
        assert found.vv.dtype == np.float32


def test_only_the_lowest_latents_are_decoded_without_network_or_synthesis(store, decodings, monkeypatch):
    def refuse(*_):
        raise AssertionError("an overview reconstructs no latents")

    monkeypatch.setattr(LappedCoder, "reconstruct", refuse)
    monkeypatch.setattr(LappedCoder, "synthesize", refuse)
    opened = xr.open_dataset(store, engine="sarcomp", overview=8)
    lazy = xr.open_zarr(store, consolidated=False).sarcomp.decode(overview=8)
    assert decodings == {"all": 0, "lowest": 0}
    opened.load()
    assert decodings == {"all": 0, "lowest": 8}
    lazy.compute()
    assert decodings == {"all": 0, "lowest": 16}


@pytest.mark.parametrize(
    ("window", "count"),
    [(np.s_[0, 3:9, 70], 1), (np.s_[1, 60:66, ::-9], 4), (np.s_[:, 74, 71], 2), (np.s_[0, 5:5, :], 0)],
    ids=str,
)
def test_a_window_reads_only_the_chunks_that_it_touches(store, whole, decodings, window, count):
    found = xr.open_dataset(store, engine="sarcomp", overview=8).vv[window].load()
    assert decodings == {"all": 0, "lowest": count}
    xr.testing.assert_allclose(found, whole.vv[window], rtol=1e-6, atol=0)


def test_an_opened_overview_can_be_pickled_and_is_small(store, whole):
    content = pickle.dumps(xr.open_dataset(store, engine="sarcomp", overview=8).vv[0, 3:7])
    assert len(content) < 100_000
    xr.testing.assert_allclose(pickle.loads(content).load(), whole.vv[0, 3:7], rtol=1e-6)


def test_blocks_without_a_valid_pixel_are_what_their_first_pixel_is_and_others_are_valid(original, whole):
    values = original.vv.values
    for date, plane in enumerate(values):
        valid = np.isfinite(plane) & (plane > 0)
        some = np.nanmax(blocks(np.where(valid, 1.0, 0.0), 8), axis=2) > 0
        found = whole.vv[date].values
        assert (np.isfinite(found) & (found > 0))[some].all()
        np.testing.assert_array_equal(found[~some], plane[::8, ::8][~some])
    assert {"nan", "0.0", "-0.001"} <= set(map(str, whole.vv.values[~(whole.vv.values > 0)]))


def test_an_invalid_part_of_a_block_takes_part_as_it_was_filled(original, encoded):
    """One pixel of a bright block is left: its block has about its level, not that of nothing."""
    bright = original.vv[0].values.copy()
    bright[200:208, 200:208] = np.nan
    bright[203, 203] = 10.0
    array = xr.DataArray(bright, dims=("y", "x"), name="vv", attrs={"units": "1"})
    found = array.sarcomp.encode(rmse_db=0.3, model=MODEL, scale="power").sarcomp.decode(overview=8).vv
    assert found[25, 25] > 3 * np.nanmedian(found)


@pytest.mark.parametrize("factor", [16, 32, 256])
def test_larger_blocks_are_means_of_smaller_ones_weighted_with_their_valid_pixels(original, encoded, whole, factor):
    found = encoded.sarcomp.decode(overview=factor).vv
    for date, plane in enumerate(original.vv.values):
        weights = np.nansum(blocks(np.where(plane > 0, 1.0, 0.0), 8), axis=2)
        decibel = np.where(weights > 0, in_db(np.where(weights > 0, whole.vv[date].values, 1.0)), 0.0)
        sums, counts = (np.nansum(blocks(part, factor // 8), axis=2) for part in (weights * decibel, weights))
        expected = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
        np.testing.assert_allclose(in_db(found[date].values)[counts > 0], expected[counts > 0], atol=1e-5)
        np.testing.assert_array_equal(found[date].values[counts == 0], plane[::factor, ::factor][counts == 0])


@pytest.mark.filterwarnings("ignore:100.0% of the values of 'vv' lie outside")  # amplitudes that fill an integer
@pytest.mark.parametrize(
    ("dtype", "scale", "nodata"),
    [
        ("u2", "amplitude", 0),
        ("i2", "decibel", -9999),
        (">f4", "decibel", -9999.0),
        ("f2", "power", None),
        ("f8", "power", None),
    ],
)
def test_scale_type_and_nodata_are_those_of_the_original(dtype, scale, nodata):
    decibel = in_db(simulate_scene((61, 75), seed=4, nodata_border=False)[0])
    values = {"power": 10 ** (decibel / 10), "amplitude": 3000 * 10 ** (decibel / 20), "decibel": decibel}[scale]
    values = values.astype(dtype)
    attributes = {} if nodata is None else {"_FillValue": np.dtype(dtype).type(nodata)}
    if nodata is not None:
        values[:17, :23] = nodata
    array = xr.DataArray(values, dims=("y", "x"), name="vv", attrs=attributes)
    found = array.sarcomp.encode(rmse_db=1, model=MODEL, scale=scale).sarcomp.decode(overview=8).vv
    assert found.dtype == np.dtype(dtype)
    assert found.shape == (8, 10)
    assert {key: found.attrs[key] for key in attributes} == attributes
    if nodata is not None:
        assert (found[:2, :2] == nodata).all()
        assert (found.values == nodata).sum() == 4
    back = found.values[4:7, 4:9].astype(np.float64)
    back = {"power": in_db(back), "amplitude": 2 * in_db(back / 3000), "decibel": back}[scale]
    assert np.abs(back - blocks(decibel, 8).mean(axis=2)[4:7, 4:9]).max() < 2


@pytest.mark.parametrize("shape", [(1, 1), (3, 9), (8, 8), (0, 4), (4, 0)], ids=str)
def test_scenes_of_any_size(shape, tmp_path):
    values = xr.DataArray(np.full(shape, 0.1, np.float32), dims=("y", "x"), name="vv")
    encoded = values.sarcomp.encode(rmse_db=1, model=MODEL, scale="power")
    encoded.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    expected_shape = tuple(-(-size // 8) for size in shape)
    for found in (
        encoded.sarcomp.decode(overview=8),
        encoded.chunk().sarcomp.decode(overview=8),
        xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp", overview=8).load(),
    ):
        assert found.vv.shape == expected_shape
        np.testing.assert_allclose(found.vv.values, 0.1, rtol=0.2)


def test_dimensions_keep_their_order(original, encoded):
    turned = original.transpose("x", "time", "y").sarcomp.encode(bits_per_pixel=1, model=MODEL, scale="power")
    assert turned.sarcomp.decode(overview=8).vv.dims == ("x", "time", "y")
    one = encoded.isel(time=1).sarcomp.decode(overview=64).vv
    xr.testing.assert_allclose(one, encoded.sarcomp.decode(overview=64).vv.isel(time=1))


def test_the_grid_is_known_to_rioxarray(original, store):
    whole_blocks = {"y": slice(0, 592), "x": slice(0, 568)}
    transform = original.vv.rio.transform()
    for found in (
        xr.open_dataset(store, engine="sarcomp", overview=8),
        original.isel(whole_blocks)
        .sarcomp.encode(bits_per_pixel=1, model=MODEL, scale="power")
        .sarcomp.decode(overview=8),
    ):
        assert found.vv.rio.crs == original.rio.crs
        assert found.vv.rio.transform() == transform * transform.scale(8)
        assert found.vv.rio.resolution() == (80, -80)
    assert found.vv.rio.transform(recalc=True) == transform * transform.scale(8)
    assert found.vv.rio.bounds() == original.isel(whole_blocks).vv.rio.bounds()
    np.testing.assert_array_equal(found.x, original.x.coarsen(x=8, boundary="trim").mean())
    opened = xr.open_dataset(store, engine="sarcomp", overview=8)
    assert opened.y[-1] == original.y[-8:].mean()
    assert opened.x[-1] == original.x[568:].mean()
    assert (opened.time == original.time).all()


def with_coordinates(original):
    latitude = np.linspace(48, 49, SIZES[0])[:, None] + np.linspace(0, 0.1, SIZES[1])
    longitude = np.linspace(179.5, 180.5, SIZES[1]) + np.linspace(0, 0.1, SIZES[0])[:, None]
    longitude = (longitude + 180) % 360 - 180
    return original.drop_vars(["x", "spatial_ref"]).assign_coords(
        y=np.datetime64("2024-01-01", "ns") + np.arange(SIZES[0]).astype("m8[ms]"),
        latitude=(("y", "x"), latitude),
        longitude=(("y", "x"), longitude, {"units": "degrees_east"}),
        line=("y", np.arange(SIZES[0])),
        quality=("x", np.ones(SIZES[1], bool)),
    )


def test_any_coordinate_is_averaged_or_left_out_with_a_reason(original, tmp_path):
    scene = with_coordinates(original).assign(angle=(("y", "x"), np.full(SIZES, 35.0)), count=3)
    encoded = scene.sarcomp.encode(bits_per_pixel=0.5, model=MODEL, scale="power")
    encoded.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    for open_overview in (
        lambda: encoded.sarcomp.decode(overview=8),
        lambda: xr.open_zarr(tmp_path / "a.zarr", consolidated=False).sarcomp.decode(overview=8),
        lambda: xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp", overview=8),
    ):
        with pytest.warns(UserWarning, match=r"left out of the overview: angle, quality\. They stand on the full grid"):
            found = open_overview()
        assert set(found.coords) == {"time", "y", "latitude", "longitude", "line"}
        assert set(found.data_vars) == {"vv", "count"}
        assert found["count"] == 3
        assert found.y.values[0] == scene.y.values[0] + np.timedelta64(3500, "us")
        assert found.line.values[:2].tolist() == [3.5, 11.5]
        np.testing.assert_allclose(found.latitude[:, :71], blocks(scene.latitude.values, 8).mean(axis=2)[:, :71])
        assert (np.mod(found.longitude[0], 360).diff("x") > 0).all()
        assert np.abs(found.longitude).min() > 179


def test_the_loss_says_that_it_is_an_overview(encoded, whole):
    note = whole.vv.attrs["sarcomp_lossy"]
    assert note.startswith("xsarcomp: ")
    assert note.endswith("overview of 8 x 8 pixels, their mean in decibels from the lowest latents alone")
    assert whole.vv.attrs["units"] == "1"
    assert "overview" not in encoded.sarcomp.decode().vv.attrs["sarcomp_lossy"]


def test_an_overview_can_be_stored_again(store, tmp_path):
    found = xr.open_dataset(store, engine="sarcomp", overview=8)
    found.to_zarr(tmp_path / "plain.zarr", zarr_format=3, consolidated=False)
    xr.testing.assert_allclose(
        xr.open_zarr(tmp_path / "plain.zarr", consolidated=False, decode_coords="all").vv, found.vv
    )


@pytest.mark.parametrize("wrong", [0, 1, 4, 7, 12, 24, 1024, -8, 8.0, True, "8"], ids=repr)
def test_other_overviews_are_refused(encoded, store, wrong):
    with pytest.raises(ConfigurationError, match=r"expected one of 8, 16, 32, 64, 128, 256, 512"):
        encoded.sarcomp.decode(overview=wrong)
    with pytest.raises(ConfigurationError, match="expected one of"):
        xr.open_dataset(store, engine="sarcomp", overview=wrong)


def test_an_overview_takes_no_synthetic_speckle():
    with pytest.raises(ConfigurationError, match=r"overview=8 and restore='speckle'.*Leave one of them out"):
        overview.check_factor(8, restore="speckle")
    assert overview.check_factor(np.int64(16)) == 16


def test_what_holds_no_latents_has_no_overview(original):
    with pytest.raises(NotEncodedError, match="holds no latents"):
        original.sarcomp.decode(overview=8)


def test_variables_can_be_left_out(store):
    assert not xr.open_dataset(store, engine="sarcomp", overview=8, drop_variables="vv").data_vars


def test_damage_behind_the_lowest_latents_is_noticed(encoded, tmp_path):
    encoded.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    file = tmp_path / "a.zarr/vv_latents/c/0/0/0/0"
    content = bytearray(file.read_bytes())
    content[-3] ^= 16
    file.write_bytes(content)
    opened = xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp", overview=8).vv
    with pytest.raises(CorruptStreamError):
        opened[0, :10, :10].load()
    assert np.isfinite(opened[0, 70:, 70:].load()).all()
