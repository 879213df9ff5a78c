"""The engine's options: they mean what they mean to xarray's Zarr engine, and backscatter is decoded whatever they say."""

import asyncio
import re
import shutil

import dask
import numpy as np
import pytest
import xarray as xr

from xsarcomp.errors import ConfigurationError, NotEncodedError
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The data type .NullTerminatedBytes:zarr.errors.UnstableSpecificationWarning"),
]

MODEL = "s1-grd-10m-lapped"
BACKSCATTER = {"vv", "vh"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Backscatter on a grid of times and scaled numbers, beside variables of every convention that an option is about."""
    scene = simulated_dataset((40, 48), seed=5).rename(y="azimuth_time", x="ground_range")
    for name in BACKSCATTER:
        scene[name].attrs["grid_mapping"] = "spatial_ref"
    times = np.datetime64("2024-01-01", "ns") + np.arange(40) * np.timedelta64(2, "s")
    scene = scene.assign_coords(
        azimuth_time=times,
        ground_range=(
            "ground_range",
            10.0 * np.arange(48),
            {},
            {"dtype": "int16", "scale_factor": 10.0, "_FillValue": -1},
        ),
        latitude=(("azimuth_time", "ground_range"), np.linspace(40, 41, 40 * 48).reshape(40, 48)),
        orbit_date=np.datetime64("2023-12-31", "ns"),
    )
    scene["inc"] = (
        ("azimuth_time", "ground_range"),
        np.linspace(30, 40, 40 * 48).reshape(40, 48).round(2),
        {"units": "degrees"},
        {"dtype": "int16", "scale_factor": 0.01, "_FillValue": -1},
    )
    scene["acquired"] = ("azimuth_time", times)
    scene["lag"] = ("azimuth_time", np.arange(40).astype("timedelta64[s]"))
    scene["letters"] = (("azimuth_time", "character"), np.full((40, 3), b"a", "S1"))
    path = tmp_path_factory.mktemp("options") / "scene.zarr"
    encoded = scene.sarcomp.encode(rmse_db=1, model=MODEL)
    encoded.to_zarr(path, zarr_format=3, consolidated=False)
    return path


@pytest.fixture(scope="module")
def whole(store):
    return xr.open_dataset(store, engine="sarcomp", decode_timedelta=True).load()


OPTIONS = [
    {},
    {"consolidated": False},
    {"zarr_format": 3},
    {"mask_and_scale": False},
    {"mask_and_scale": {"inc": False}},
    {"decode_times": False},
    {"decode_times": xr.coders.CFDatetimeCoder(time_unit="s")},
    {"decode_times": xr.coders.CFDatetimeCoder(use_cftime=True)},
    {"decode_timedelta": False},
    {"concat_characters": False},
    {"decode_coords": True},
    {"decode_coords": "coordinates"},
    {"decode_coords": "all"},
    {"decode_coords": False},
    {"decode_cf": False},
    {"drop_variables": ["inc", "azimuth_time"]},
    {"create_default_indexes": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: re.sub(" object at 0x[0-9a-f]+", "", str(options)))
def test_other_variables_are_as_the_zarr_engine_opens_them(store, whole, options):
    options = {"decode_timedelta": True} | options
    found = xr.open_dataset(store, engine="sarcomp", **options)
    plain = xr.open_dataset(store, engine="zarr", **{"decode_coords": "all", "consolidated": False} | options)
    parts = ("_latents", "_mask", "_coding", "_latent")
    expected = plain.drop_vars([name for name in plain.variables if str(name).endswith(parts)])
    assert set(found.variables) == {*expected.variables, *BACKSCATTER}
    assert set(found.coords) == set(expected.coords)
    assert set(found.indexes) <= set(expected.indexes)
    for name in expected.variables:
        xr.testing.assert_identical(found[name].variable, expected[name].variable)
    for name in BACKSCATTER:
        np.testing.assert_array_equal(found[name].values, whole[name].values)
        assert found[name].attrs == whole[name].attrs


@pytest.mark.parametrize("options", [{}, {"decode_times": False}, {"mask_and_scale": False}], ids=str)
def test_synthetic_speckle_does_not_depend_on_how_times_are_decoded(store, options):
    expected = xr.open_zarr(store, consolidated=False, decode_timedelta=True).sarcomp.decode(restore="speckle").vv
    found = xr.open_dataset(store, engine="sarcomp", restore="speckle", decode_timedelta=True, **options).vv
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:left out of the overview:UserWarning")
def test_an_overview_follows_what_it_can_and_refuses_the_rest(store):
    usual = xr.open_dataset(store, engine="sarcomp", overview=8, decode_timedelta=True)
    found = xr.open_dataset(store, engine="sarcomp", overview=8, decode_timedelta=False, decode_times=False)
    xr.testing.assert_identical(found.vv.variable.load(), usual.vv.variable.load())
    assert found.azimuth_time.dtype == usual.azimuth_time.dtype
    assert found.orbit_date.dtype.kind == "i"
    for option in ({"mask_and_scale": False}, {"decode_coords": False}, {"decode_coords": True}):
        with pytest.raises(ConfigurationError, match=f"{next(iter(option))}=.*Leave"):
            xr.open_dataset(store, engine="sarcomp", overview=8, decode_timedelta=True, **option)


def test_backscatter_that_is_dropped_need_not_be_readable(store, tmp_path):
    damaged = shutil.copytree(store, tmp_path / "damaged.zarr")
    shutil.rmtree(damaged / "vv_mask")
    options = {"engine": "sarcomp", "decode_timedelta": True}
    with pytest.raises(NotEncodedError, match="vv_mask"):
        xr.open_dataset(damaged, **options)
    found = xr.open_dataset(damaged, drop_variables="vv", **options)
    assert BACKSCATTER & set(found.variables) == {"vh"}
    assert not BACKSCATTER & set(xr.open_dataset(store, drop_variables=["vv", "vh"], **options).variables)


def test_an_unknown_option_is_refused_with_those_that_are_known(store):
    with pytest.raises(TypeError, match=r"does not know the options overviev, expected some of .*overview"):
        xr.open_dataset(store, engine="sarcomp", overviev=8)
    with pytest.raises(TypeError, match="mode"):
        xr.open_dataset(store, engine="sarcomp", mode="w")
    assert (store / "zarr.json").exists()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nowhere.zarr", {}),
        ("scene.zarr", {"group": "nowhere", "consolidated": False}),
        ("scene.zarr", {"consolidated": True}),
        ("scene.zarr", {"chunks": "several", "consolidated": False}),
        ("scene.zarr", {"zarr_format": 2}),
    ],
    ids=str,
)
def test_mistakes_are_the_errors_of_the_zarr_engine(store, name, options):
    errors = []
    for engine in ("sarcomp", "zarr"):
        with pytest.raises((OSError, KeyError, ValueError)) as error:
            xr.open_dataset(store.with_name(name), engine=engine, decode_timedelta=True, **options)
        errors.append((error.type, str(error.value)))
    assert errors[0] == errors[1]


@pytest.mark.filterwarnings("ignore:The specified chunks separate the stored chunks:UserWarning")
@pytest.mark.parametrize(
    ("chunks", "expected"),
    [({}, ((40,), (48,))), (-1, ((40,), (48,))), ({"ground_range": 20}, ((40,), (20, 20, 8)))],
    ids=str,
)
def test_chunks_are_those_that_are_asked_for(store, whole, chunks, expected):
    found = xr.open_dataset(store, engine="sarcomp", chunks=chunks, decode_timedelta=True)
    assert found.vv.chunks == expected
    np.testing.assert_allclose(found.vv.values, whole.vv.values, rtol=1e-5)


def test_automatic_chunks_are_whole_chunks_of_the_store(tmp_path):
    scene = simulated_dataset((520, 40), seed=5)[["vv"]]
    scene.sarcomp.encode(rmse_db=1, model=MODEL).to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    with dask.config.set({"array.chunk-size": "82 kB"}):
        found = xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp", chunks="auto").vv
    assert found.chunks == ((512, 8), (40,))


def test_several_stores_open_as_one(tmp_path):
    scene = simulated_dataset((24, 32), seed=5)[["vv"]]
    for number in range(2):
        dated = scene.assign_coords(time=np.datetime64("2024-01-01", "ns") + np.timedelta64(number, "D"))
        encoded = dated.expand_dims("time").sarcomp.encode(rmse_db=1, model=MODEL)
        encoded.to_zarr(tmp_path / f"{number}.zarr", zarr_format=3, consolidated=False)
    for paths in (str(tmp_path / "*.zarr"), sorted(tmp_path.glob("*.zarr"))):
        opened = xr.open_mfdataset(paths, engine="sarcomp", compat="override", coords="minimal", join="exact")
        assert opened.vv.chunks == ((1, 1), (24,), (32,))
        assert opened.vv.rio.crs == scene.vv.rio.crs
        ratio = opened.vv.values / scene.vv.values
        assert np.nanmax(np.abs(10 * np.log10(ratio))) < 10


def test_one_variable_opens_as_an_array(store):
    opened = xr.open_dataarray(
        store, engine="sarcomp", drop_variables=["vh", "inc", "acquired", "lag", "letters"], decode_timedelta=True
    )
    assert opened.name == "vv"


def test_values_can_be_loaded_asynchronously(store, whole):
    opened = xr.open_dataset(store, engine="sarcomp", decode_timedelta=True)
    loaded = asyncio.run(opened[["vv", "vh"]].load_async())
    np.testing.assert_array_equal(loaded.vv.values, whole.vv.values)
