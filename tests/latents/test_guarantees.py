"""Guarantees in latents stores and transparent ones: kept after Zarr, with every chunking, and never lost silently."""

import numpy as np
import pytest
import xarray as xr

import xsarcomp  # noqa: F401  registers .sarcomp
from tests.support.paths import GOLDEN
from xsarcomp.codec.tile_means import GUARANTEED_DB, TILE
from xsarcomp.errors import DimensionError, NotEncodedError, RateError
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow

REQUESTS = (
    {"max_error_db": 1.0},
    {"bits_per_pixel": 1.0},
    {"bits_per_pixel": 1.5, "max_error_db": 3.0, "keep_means": True, "model": "s1-grd-10m-lapped"},
)
IDS = ("bound", "means", "both")


@pytest.fixture(scope="module")
def scene():
    """Two polarizations with a border without data, in sizes that are no multiples of anything."""
    return simulated_dataset((203, 331), seed=5)


def errors_db(decoded, scene, name):
    ratio = decoded[name].values / scene[name].values
    return 10 * np.log10(ratio[np.isfinite(ratio)])


def tile_errors_db(decoded, scene, name):
    """Errors of the mean power of tiles."""
    sums = []
    for array in (decoded[name], scene[name]):
        values = np.nan_to_num(array.transpose("y", "x").values.astype(np.float64))
        rows, columns = (np.arange(0, size, TILE) for size in values.shape)
        sums.append(np.add.reduceat(np.add.reduceat(values, rows, 0), columns, 1))
    filled = sums[1] > 0
    return 10 * np.log10(sums[0][filled] / sums[1][filled])


def check(decoded, scene, request):
    for name in ("vv", "vh"):
        np.testing.assert_array_equal(np.isnan(decoded[name].values), np.isnan(scene[name].values))
        if "max_error_db" in request:
            assert np.abs(errors_db(decoded, scene, name)).max() <= request["max_error_db"]
        if request.get("keep_means", "max_error_db" not in request):
            assert np.abs(tile_errors_db(decoded, scene, name)).max() <= GUARANTEED_DB


@pytest.mark.parametrize("request_", REQUESTS, ids=IDS)
@pytest.mark.parametrize("chunks", [None, {"y": 64, "x": 200}, {"y": 203, "x": 331}, {"y": 100, "x": 77}])
def test_a_latents_store_keeps_its_guarantees(scene, request_, chunks, tmp_path):
    source = scene if chunks is None else scene.chunk(chunks)
    source.sarcomp.encode(**request_).to_zarr(tmp_path / "store", consolidated=False)
    stored = xr.open_zarr(tmp_path / "store", consolidated=False)
    decoded = stored.sarcomp.decode()
    check(decoded.compute(), scene, request_)
    window = {"y": slice(61, 140), "x": slice(63, 300)}
    np.testing.assert_allclose(decoded.vv.isel(window).values, decoded.vv.values[61:140, 63:300], rtol=2e-6)
    assert all(
        str(value) in decoded.vv.encoding["sarcomp_settings"] for value in request_.values() if value is not True
    )


@pytest.mark.parametrize("request_", REQUESTS, ids=IDS)
def test_the_engine_and_datasets_in_memory_keep_it_too(scene, request_, tmp_path):
    encoded = scene.sarcomp.encode(**request_)
    check(encoded.sarcomp.decode(), scene, request_)
    encoded.to_zarr(tmp_path / "store", consolidated=False)
    with xr.open_dataset(tmp_path / "store", engine="sarcomp") as opened:
        part = opened.isel(y=slice(70, 180), x=slice(5, 290)).load()
    whole = encoded.sarcomp.decode().isel(y=slice(70, 180), x=slice(5, 290))
    np.testing.assert_allclose(part.vv.values, whole.vv.values, rtol=2e-6)


@pytest.mark.parametrize("zarr_format", [3, 2])
@pytest.mark.parametrize("request_", REQUESTS, ids=IDS)
def test_a_transparent_store_keeps_its_guarantees(scene, request_, zarr_format, tmp_path):
    chunked = scene.chunk(y=128, x=192)
    encoding = chunked.sarcomp.encoding(**request_, zarr_format=zarr_format)
    chunked.to_zarr(tmp_path / "store", encoding=encoding, zarr_format=zarr_format, consolidated=False)
    opened = xr.open_zarr(tmp_path / "store", consolidated=False)
    check(opened.compute(), scene, request_)
    configuration = opened.sarcomp.info()["vv"]
    assert configuration.get("max_error_db") == request_.get("max_error_db")
    assert configuration.get("keep_means", False) == request_.get("keep_means", "max_error_db" not in request_)


def test_any_order_of_dimensions_and_time_stacks_keep_it(tmp_path):
    scene = xr.concat([simulated_dataset((90, 110), seed) for seed in (1, 2, 3)], "time").transpose("x", "time", "y")
    encoded = scene.chunk(time=2, x=50).sarcomp.encode(max_error_db=1.5)
    encoded.to_zarr(tmp_path / "store", consolidated=False)
    decoded = xr.open_zarr(tmp_path / "store", consolidated=False).sarcomp.decode().compute()
    assert decoded.vv.dims == scene.vv.dims
    check(decoded, scene, {"max_error_db": 1.5})
    one = xr.open_zarr(tmp_path / "store", consolidated=False).isel(time=1).sarcomp.decode().compute()
    np.testing.assert_allclose(one.vv.values, decoded.vv.isel(time=1).values, rtol=2e-6)


def test_a_scene_without_a_valid_pixel_keeps_every_guarantee():
    scene = simulated_dataset((40, 50), 1)
    scene = scene.assign({name: scene[name] * np.float32(np.nan) for name in ("vv", "vh")})
    decoded = scene.sarcomp.encode(bits_per_pixel=1, max_error_db=1.0, keep_means=True, scale="power").sarcomp.decode()
    assert np.isnan(decoded.vv.values).all()


@pytest.mark.parametrize("part", ["residual", "gains"])
def test_latents_without_their_residuals_or_gains_are_refused(scene, part):
    encoded = scene.sarcomp.encode(bits_per_pixel=1.5, max_error_db=3.0, keep_means=True)
    with pytest.raises(NotEncodedError, match=f"{part} 'vv_{part}'"):
        encoded.drop_vars(f"vv_{part}").sarcomp.decode()


def test_a_rate_that_is_too_low_for_the_bound_is_refused_with_the_lowest_that_would_do(scene):
    with pytest.raises(RateError, match=r"bits_per_pixel=0\.25, max_error_db=0\.5 cannot be met.*Ask for at least"):
        scene.sarcomp.encode(bits_per_pixel=0.25, max_error_db=0.5)


def test_a_bound_alone_takes_a_lower_rate_than_steps_around_it(scene):
    """The cheapest step is found: half and twice the step need more bits for the same bound."""
    from xsarcomp.codec.chunk import encode_backscatter
    from xsarcomp.codec.installed_models import load_coder
    from xsarcomp.codec.settings import Guarantees, Settings

    found = scene.sarcomp.encode(max_error_db=1.0).sarcomp.info()["vv"]["step_db"]
    guarantees = Guarantees.from_request(1.0, False, np.dtype(np.float32))
    sizes = [
        len(
            encode_backscatter(
                scene.vv.values, Settings(step_db=step, scale="power", guarantees=guarantees), load_coder(None)
            )
        )
        for step in (found / 2, found, found * 2)
    ]
    assert sizes[1] == min(sizes)


def test_smaller_bounds_cost_more_and_become_nearly_lossless(scene):
    rates = []
    for bound in (4.0, 1.0, 0.2, 0.03):
        encoded = scene.sarcomp.encode(max_error_db=bound)
        rates.append(encoded.sarcomp.info()["vv"]["estimated_bits_per_pixel"])
        check(encoded.sarcomp.decode(), scene, {"max_error_db": bound})
    assert rates == sorted(rates)
    assert rates[0] < 0.6


def test_without_guarantees_a_store_has_no_residuals_and_gains(scene):
    encoded = scene.sarcomp.encode(bits_per_pixel=1, keep_means=False)
    assert not [name for name in encoded.variables if str(name).endswith(("_residual", "_gains"))]
    assert "max_error_db" not in encoded.vv_latents.attrs["sarcomp"]


@pytest.mark.parametrize("part", ["residual", "gains"])
def test_a_missing_chunk_of_residuals_or_gains_is_an_error_and_no_broken_guarantee(part, scene, tmp_path):
    import shutil

    from xsarcomp.errors import CorruptStreamError
    from xsarcomp.stores.verification import verify_store

    scene.sarcomp.encode(bits_per_pixel=2.0, max_error_db=6.0, keep_means=True).to_zarr(
        tmp_path / "store", consolidated=False
    )
    folder = tmp_path / "store" / f"vh_{part}" / "c"
    assert any(path.is_file() for path in folder.rglob("*"))
    shutil.rmtree(folder)
    stored = xr.open_zarr(tmp_path / "store", consolidated=False)
    decoded = stored.sarcomp.decode()
    decoded.vv.load()
    with pytest.raises(CorruptStreamError, match=f"a chunk of the {part.rstrip('s')}s of 'vh' is missing"):
        decoded.vh.load()
    (problem,) = verify_store(tmp_path / "store").problems
    assert (problem.array, problem.problem) == (f"vh_{part}", "missing")


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda encoded: encoded.isel(y_tile=slice(1, None)),
        lambda encoded: encoded.isel(gain=0),
        lambda encoded: encoded.assign(vv_residual=(("y", "other"), encoded.vv_residual.values)),
        lambda encoded: xr.concat([encoded, encoded], "time"),
    ],
    ids=["tiles", "gain", "residual", "dates"],
)
def test_residuals_and_gains_that_do_not_fit_the_latents_are_refused(scene, change, lazy):
    source = scene.chunk(y=128, x=128) if lazy else scene
    encoded = change(source.sarcomp.encode(bits_per_pixel=1.5, max_error_db=3.0, keep_means=True))
    with pytest.raises(DimensionError, match="Decode first"):
        encoded.sarcomp.decode()


@pytest.mark.parametrize("overview", [None, 8])
@pytest.mark.parametrize("name", ["vv_residual", "vv_gains"])
def test_without_guarantees_a_variable_named_like_gains_is_the_users_own(scene, name, overview):
    own = xr.Variable(("band",), [1.0, 2.0])
    encoded = scene.assign({name: own}).sarcomp.encode(bits_per_pixel=1)
    decoded = encoded.sarcomp.decode(overview=overview)
    assert decoded[name].variable.identical(own)
    with pytest.raises(DimensionError, match=f"{name}.*rename"):
        scene.assign({name: own}).sarcomp.encode(max_error_db=3.0, keep_means=True)


@pytest.mark.parametrize("dim", ["gain", "x_tile", "latent"])
def test_a_dimension_called_like_one_of_the_parts_is_refused_by_name(scene, dim):
    for crowded in (scene.expand_dims({dim: 2}), scene.assign(table=((dim,), np.arange(5.0)))):
        with pytest.raises(DimensionError, match=f"dimensions {dim}, .*rename"):
            crowded.sarcomp.encode(max_error_db=3.0, keep_means=True)


def test_bright_undeclared_fill_values_keep_every_guarantee(scene):
    values = scene.vv.values.copy()
    values[20:30, 20:30] = 3.4e38
    filled = scene[["vv"]].assign(vv=scene.vv.copy(data=values).assign_attrs(nodata=np.nan))
    decoded = filled.sarcomp.encode(max_error_db=1.0, keep_means=True, scale="power").sarcomp.decode()
    assert np.abs(errors_db(decoded.astype(np.float64), filled, "vv")).max() <= 1.0


def test_means_that_gains_keep_and_synthetic_speckle_breaks_are_not_claimed():
    older = xr.open_zarr(GOLDEN / "streams-1.1/latents-uint16-means", consolidated=False)
    kept = "the mean power of tiles of 64 x 64 pixels is kept"
    assert kept in older.sarcomp.decode().vv.encoding["sarcomp_settings"]
    assert kept not in older.sarcomp.decode(restore="speckle").vv.encoding["sarcomp_settings"]


def test_a_users_own_variable_named_like_gains_is_no_payload(scene, tmp_path):
    from xsarcomp.stores.report import store_report

    payloads = []
    for name, source in (("plain", scene), ("own", scene.assign(vv_gains=(("band",), np.arange(5000.0))))):
        source.sarcomp.encode(bits_per_pixel=1).to_zarr(tmp_path / name, consolidated=False)
        payloads.append(store_report(str(tmp_path / name)).payload_bytes)
    assert payloads[0] == payloads[1]
