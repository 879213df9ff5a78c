"""Latents of several encodings in one store: each date is decoded with its own step, and what does not fit is refused."""

import numpy as np
import pytest
import xarray as xr

from xsarcomp.errors import ConfigurationError, CorruptStreamError, NotEncodedError, RadiometryError
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.plane_steps import CHECK, _hash, _shared
from xsarcomp.latents.statistics import latent_statistics
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.verification import verify_store, write_manifest

pytestmark = pytest.mark.slow

MODEL = "s1-grd-10m-lapped"
FORMAT = {"zarr_format": 3, "consolidated": False}
SHAPE = (80, 72)


def scene(time, **keep):
    """One date (time=1, y, x) of two polarizations in power."""
    values = simulated_dataset(SHAPE, seed=time, **keep).drop_vars("spatial_ref", errors="ignore")
    return values.expand_dims(time=[time])


def encode(time, rmse_db, **options):
    return scene(time).sarcomp.encode(rmse_db=rmse_db, model=MODEL, scale="power", **options)


def opened(path, **options):
    return xr.open_zarr(path, consolidated=False, **options)


def root_mean_square_db(decoded, original):
    error = 10 * np.log10(decoded.astype("f8") / original)
    return np.sqrt((error**2).mean(("y", "x"))).values


@pytest.fixture(scope="module")
def first():
    return encode(1, 0.5)


@pytest.fixture(scope="module")
def later():
    return encode(2, 2.0)


@pytest.fixture
def stack(first, later, tmp_path):
    """A store of a date to which one of another step was appended."""
    first.to_zarr(tmp_path / "stack", **FORMAT)
    later.to_zarr(tmp_path / "stack", append_dim="time", consolidated=False)
    return tmp_path / "stack"


def expected(*encoded):
    return [one.sarcomp.decode() for one in encoded]


def test_appended_dates_are_decoded_as_each_would_be_alone(stack, first, later):
    whole = opened(stack).sarcomp.decode()
    for position, alone in enumerate(expected(first, later)):
        for name in ("vv", "vh"):
            np.testing.assert_array_equal(whole[name][position], alone[name][0])
    errors = root_mean_square_db(whole.vv, xr.concat([scene(1), scene(2)], "time").vv)
    np.testing.assert_allclose(errors, [0.5, 2.0], rtol=0.1)


@pytest.mark.parametrize("way", ["engine", "engine with chunks", "in memory", "concatenated", "selected", "transposed"])
def test_every_way_to_read_gives_the_same_dates(stack, first, later, way):
    right = opened(stack).sarcomp.decode().vv
    found = {
        "engine": lambda: xr.open_dataset(stack, engine="sarcomp").vv,
        "engine with chunks": lambda: xr.open_dataset(stack, engine="sarcomp", chunks={}).vv,
        "in memory": lambda: opened(stack).load().sarcomp.decode().vv,
        "concatenated": lambda: xr.concat([first, later], "time").sarcomp.decode().vv,
        "selected": lambda: opened(stack).sel(time=[2, 1]).sarcomp.decode().vv.sel(time=[1, 2]),
        "transposed": lambda: opened(stack).transpose("coding", ..., "time").sarcomp.decode().vv,
    }[way]()
    xr.testing.assert_allclose(found.load(), right.load(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("time", [1, 2])
def test_a_single_date_keeps_its_step(stack, time):
    alone = opened(stack).sel(time=time).sarcomp.decode().vv
    xr.testing.assert_allclose(alone.load(), opened(stack).sarcomp.decode().vv.sel(time=time).load(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("lazy", [False, True])
def test_overviews_of_joined_dates_are_those_of_each_alone(stack, first, later, lazy):
    store = opened(stack) if lazy else opened(stack).load()
    found = store.sarcomp.decode(overview=8).vv
    for position, one in enumerate((first, later)):
        np.testing.assert_array_equal(found[position], one.sarcomp.decode(overview=8).vv[0])
    xr.testing.assert_equal(found.load(), xr.open_dataset(stack, engine="sarcomp", overview=8).vv.load())


def test_synthetic_speckle_of_a_joined_date_is_like_that_of_the_date_by_itself(stack, later):
    found = opened(stack).sarcomp.decode(restore="speckle").vv[1]
    plain = opened(stack).sarcomp.decode().vv[1]
    assert float(np.log(found / plain).std()) > 0.01
    alone = later.sarcomp.decode(restore="speckle").vv[0]  # its metadata may hold other variances in homogeneous areas
    assert float(np.log(alone / plain).std()) == pytest.approx(float(np.log(found / plain).std()), rel=0.5)


def test_joined_dates_with_kept_means_and_a_bound_keep_them(tmp_path):
    pair = [encode(time, rmse, max_error_db=3.0, keep_means=True) for time, rmse in ((1, 0.5), (2, 0.9))]
    pair[0].to_zarr(tmp_path / "a", **FORMAT)
    pair[1].to_zarr(tmp_path / "a", append_dim="time", consolidated=False)
    decoded = opened(tmp_path / "a").sarcomp.decode().vv
    original = xr.concat([scene(1), scene(2)], "time").vv
    assert float(np.abs(10 * np.log10(decoded / original)).max()) <= 3.0
    np.testing.assert_allclose(decoded.mean(("y", "x")), original.mean(("y", "x")), rtol=0.005)


def test_info_and_statistics_know_the_steps(stack, first, later):
    steps = [one.sarcomp.info()["vv"]["step_db"] for one in (first, later)]
    assert opened(stack).sarcomp.info()["vv"]["steps_db"] == steps
    assert "steps_db" not in first.sarcomp.info()["vv"]
    bands = [np.array(latent_statistics(one)["vv"]["variance_by_band"]) for one in (first, later, opened(stack))]
    means = [latent_statistics(one)["vv"]["mean_magnitude_by_band"][3] for one in (first, later, opened(stack))]
    assert means[2] == pytest.approx((means[0] + means[1]) / 2)
    np.testing.assert_allclose(bands[2][1:], (bands[0] + bands[1])[1:] / 2, rtol=0.05)


@pytest.mark.parametrize("options", [{"max_error_db": 4.0}, {"keep_means": False}])
def test_other_guarantees_do_not_get_into_a_store_with_mean_levels(first, tmp_path, options):
    first.to_zarr(tmp_path / "a", **FORMAT)
    with pytest.raises(ValueError, match="'latent': 65"):  # of xarray: before anything is written
        encode(2, 0.5, **options).to_zarr(tmp_path / "a", append_dim="time", consolidated=False)
    xr.testing.assert_equal(opened(tmp_path / "a").load(), first.load())


def test_other_guarantees_do_not_get_into_a_store_unnoticed(tmp_path):
    encode(1, 0.5, keep_means=False).to_zarr(tmp_path / "a", **FORMAT)
    encode(2, 0.5, max_error_db=4.0).to_zarr(tmp_path / "a", append_dim="time", consolidated=False)
    with pytest.raises(
        ValueError, match=r"conflicting sizes for dimension 'time'"
    ):  # of xarray: dates without residuals
        opened(tmp_path / "a")


def decibel(dataset):
    return 10 * np.log10(dataset)


def declared(dataset):
    for array in dataset.values():
        array.attrs["_FillValue"] = -9999.0
    return dataset


OTHERS = {
    "scale": lambda: decibel(scene(2)).sarcomp.encode(rmse_db=0.5, model=MODEL, scale="decibel"),
    "model": lambda: scene(2).sarcomp.encode(rmse_db=0.5, model="s1-grd-10m", scale="power"),
    "type": lambda: scene(2).astype("f8").sarcomp.encode(rmse_db=0.5, model=MODEL, scale="power"),
    "nodata": lambda: declared(scene(2)).sarcomp.encode(rmse_db=0.5, model=MODEL, scale="power"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", OTHERS)
def test_dates_of_other_settings_are_refused_and_the_others_read(first, tmp_path, what):
    path = tmp_path / "a"
    first.to_zarr(path, **FORMAT)
    other = OTHERS[what]()
    if what == "model":  # the codec of the store names its own model, so that the latents alone do not tell
        other.vv_latents.encoding.clear()
    other.to_zarr(path, append_dim="time", consolidated=False)
    store = opened(path)
    for read in (store.sarcomp.decode(), store.sarcomp.decode(overview=8), xr.open_dataset(path, engine="sarcomp")):
        with pytest.raises(NotEncodedError, match="another model, scale, nodata"):
            read.vv.load()
    right = store.sel(time=[1]).sarcomp.decode().vv
    np.testing.assert_array_equal(right, first.sarcomp.decode().vv)
    problems = verify_store(path).problems
    assert any(one.problem == "metadata" and "another model" in one.message for one in problems)


def test_a_date_that_was_never_written_is_an_error(first, later, tmp_path):
    path = tmp_path / "a"
    both = xr.concat([first, later], "time").chunk(time=1)
    both.to_zarr(path, compute=False, **FORMAT)
    for position, one in enumerate((first, later)):
        with pytest.raises(CorruptStreamError, match="missing"):
            opened(path).isel(time=position).sarcomp.decode().vv.load()
        if position == 1:
            np.testing.assert_array_equal(opened(path).isel(time=0).sarcomp.decode().vv, first.sarcomp.decode().vv[0])
        part = one.drop_vars([name for name, variable in one.variables.items() if "time" not in variable.dims])
        part.to_zarr(path, region={"time": slice(position, position + 1)}, consolidated=False)
    for position, alone in enumerate(expected(first, later)):
        np.testing.assert_array_equal(opened(path).sarcomp.decode().vv[position], alone.vv[0])
    assert write_manifest(path).ok


def test_a_lost_coding_is_an_error_and_a_finding(stack):
    lost = stack / "vv_coding/c/1/0"
    lost.unlink()
    with pytest.raises(CorruptStreamError, match="coding"):
        opened(stack).sarcomp.decode().vv.load()
    found = {(one.array, one.chunk, one.problem) for one in verify_store(stack).problems}
    assert found == {("vv_coding", (1, 0), "missing")}
    with pytest.raises(NotEncodedError, match="vv_coding"):
        opened(stack).drop_vars("vv_coding").sarcomp.decode()


def test_the_dimension_of_the_coding_may_not_be_taken():
    taken = scene(1).rename(time="coding")
    with pytest.raises(ValueError, match="rename them"):
        taken.sarcomp.encode(rmse_db=1, model=MODEL, scale="power")


def as_first_written(encoded):
    """The dataset as the first encoders made it: a fingerprint without the grid, which stands in the coding, and no positions."""
    old = encoded.drop_vars(["y_latent", "x_latent"])
    for name in ("vv", "vh"):
        record = LatentsMetadata.from_attribute(old[f"{name}_latents"].attrs["sarcomp"])
        fingerprint = _hash(_shared(record))
        old[f"{name}_latents"].attrs["sarcomp"] = {**record.to_attribute(), "fingerprint": fingerprint}
        old[f"{name}_coding"][..., CHECK] = fingerprint
    return old


@pytest.mark.parametrize("how", ["like", "target"])
def test_dates_are_appended_to_stores_of_the_first_encoders(first, later, tmp_path, how):
    as_first_written(first.copy(deep=True)).to_zarr(tmp_path / "a", **FORMAT)
    new = scene(2).sarcomp.encode(like=opened(tmp_path / "a")) if how == "like" else later
    new.to_zarr(tmp_path / "a", append_dim="time", consolidated=False)
    decoded = opened(tmp_path / "a").sarcomp.decode()
    for position, alone in enumerate(expected(first, new)):
        np.testing.assert_array_equal(decoded.vv[position], alone.vv[0])
    assert write_manifest(tmp_path / "a").ok


# encode(like=...)


def test_latents_encoded_like_others_have_their_step_and_guarantees(stack, first):
    like = scene(3).sarcomp.encode(like=opened(stack))
    info, right = like.sarcomp.info()["vv"], first.sarcomp.info()["vv"]
    for name in ("step_db", "anchor", "model_id", "scale", "target", "max_error_db", "keep_means"):
        assert info[name] == right[name]
    np.testing.assert_array_equal(like.vv_coding, first.vv_coding)
    like.to_zarr(stack, append_dim="time", consolidated=False)
    error = root_mean_square_db(opened(stack).sarcomp.decode().vv[2], scene(3).vv[0])
    assert error == pytest.approx(0.5, rel=0.15)


def test_guarantees_are_taken_from_the_store_too(tmp_path):
    encode(1, 0.9, max_error_db=3.0).to_zarr(tmp_path / "a", **FORMAT)
    like = scene(2).sarcomp.encode(like=opened(tmp_path / "a"))
    like.to_zarr(tmp_path / "a", append_dim="time", consolidated=False)
    error = 10 * np.log10(opened(tmp_path / "a").sarcomp.decode().vv[1] / scene(2).vv[0])
    assert float(np.abs(error).max()) <= 3.0


@pytest.mark.parametrize(
    "request_", [{"bits_per_pixel": 1}, {"preset": "archive"}, {"keep_means": True}, {"model": MODEL}]
)
def test_a_target_beside_like_is_refused(first, request_):
    with pytest.raises(ConfigurationError, match=f"{next(iter(request_))} and like="):
        scene(2).sarcomp.encode(like=first, **request_)


def test_what_does_not_fit_the_store_is_refused_before_anything_is_written(first):
    with pytest.raises(ConfigurationError, match="dtype '<f8' instead of '<f4'"):
        scene(2).astype("f8").sarcomp.encode(like=first)
    with pytest.raises(ConfigurationError, match="scale 'decibel' instead of 'power'"):
        decibel(scene(2)).sarcomp.encode(like=first, scale="decibel")
    with pytest.raises(RadiometryError):
        scene(2).sarcomp.encode(like=first, scale="loud")
    with pytest.raises(NotEncodedError, match="none of hh"):
        scene(2).rename(vv="hh").sarcomp.encode(like=first)
    with pytest.raises(NotEncodedError, match="no latents"):
        scene(2).sarcomp.encode(like=scene(1))


# mosaics: one encoding, written region by region


@pytest.mark.slow
def test_a_mosaic_written_region_by_region_is_that_written_at_once(tmp_path):
    mosaic = simulated_dataset((1040, 600), seed=5).chunk(y=512, x=512)
    encoded = mosaic.sarcomp.encode(bits_per_pixel=1, model=MODEL)
    encoded.to_zarr(tmp_path / "at once", **FORMAT)
    encoded.to_zarr(tmp_path / "regions", compute=False, **FORMAT)
    pieces = {}
    for row in (0, 512, 1024):
        spans = {"y": slice(row, min(row + 512, 1040)), "y_latent": slice(row // 8, min(row // 8 + 64, 130))}
        piece = encoded.isel(spans)
        aside = [name for name, variable in piece.variables.items() if not {*spans} & {*variable.dims}]
        region = {name: span for name, span in spans.items() if name in piece.dims}
        pieces[row] = piece.drop_vars(aside), region
    pieces[1024][0].to_zarr(tmp_path / "regions", region=pieces[1024][1], consolidated=False)
    with pytest.raises(CorruptStreamError, match="not written yet"):
        opened(tmp_path / "regions").sarcomp.decode().vv[:600].load()
    before = {file: file.read_bytes() for file in (tmp_path / "regions").rglob("*/c/2/*") if file.is_file()}
    for row in (512, 0):
        pieces[row][0].to_zarr(tmp_path / "regions", region=pieces[row][1], consolidated=False)
    assert all(file.read_bytes() == content for file, content in before.items())
    stores = [
        {file.relative_to(root): file.read_bytes() for file in root.rglob("*") if file.is_file()}
        for root in (tmp_path / "at once", tmp_path / "regions")
    ]
    assert stores[0] == stores[1]
