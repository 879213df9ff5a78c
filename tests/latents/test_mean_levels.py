"""Mean levels of latents stores: kept in every region, chunking and stack, with synthetic speckle too, and only where asked."""

import shutil

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.leveled import tile_errors_db
from tests.support.paths import GOLDEN
from xsarcomp.codec.mean_levels import LEVEL_STEP_DB
from xsarcomp.codec.tile_means import GUARANTEED_DB
from xsarcomp.errors import BitstreamError, CorruptStreamError, DimensionError, SarcompError
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.verification import verify_store

pytestmark = pytest.mark.slow

MODEL = "s1-grd-10m-lapped"
SHAPE = (203, 331)
HALF_STEP_DB = LEVEL_STEP_DB / 2 + 2e-4
REGION_TOLERANCE = 5e-4


def tile_errors(decoded, scene):
    """Largest error of the mean power of a tile of any variable, dB."""
    errors = []
    for name in ("vv", "vh"):
        found, expected = (data[name].transpose(..., "y", "x").values for data in (decoded, scene))
        errors.append(np.abs(tile_errors_db(found, expected, "power", np.isfinite(expected) & (expected > 0))).max())
    return max(errors)


@pytest.fixture(scope="module")
def scene():
    """Two polarizations with a border without data, zeros, and ships far brighter than the sea."""
    data = simulated_dataset(SHAPE, seed=5)
    data.vv[90:93, 120:124] = 900.0
    data.vh[:, 200:] *= 1e-3
    data.vh[:9, 210:] = 0.0
    return data


@pytest.fixture(scope="module")
def encoded(scene):
    return scene.sarcomp.encode(bits_per_pixel=0.4)


@pytest.fixture(scope="module")
def decoded(encoded):
    return encoded.sarcomp.decode()


@pytest.fixture(scope="module")
def path(encoded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("leveled") / "store"
    encoded.to_zarr(folder, consolidated=False)
    return folder


def test_by_default_a_store_keeps_the_means_in_a_65th_latent_and_no_variable_more(scene, encoded, decoded):
    assert encoded.sizes["latent"] == 65
    assert encoded.vv_latents.attrs["sarcomp"]["mean_levels"] is True
    assert not [name for name in encoded.variables if str(name).endswith(("_gains", "_residual"))]
    assert tile_errors(decoded, scene) <= HALF_STEP_DB
    assert "the mean power of tiles of 64 x 64 pixels is kept" in decoded.vv.encoding["sarcomp_settings"]


def test_without_means_there_are_64_latents_and_the_means_are_off(scene):
    plain = scene.sarcomp.encode(bits_per_pixel=0.4, keep_means=False)
    assert plain.sizes["latent"] == 64
    assert not {"mean_levels", "keep_means", "max_error_db"} & plain.vv_latents.attrs["sarcomp"].keys()
    assert tile_errors(plain.sarcomp.decode(), scene) > 5 * HALF_STEP_DB


def test_a_bound_alone_keeps_no_means_and_with_them_by_gains(scene):
    bound = scene.sarcomp.encode(max_error_db=2.0)
    assert bound.sizes["latent"] == 64
    assert bound.vv_latents.attrs["sarcomp"]["keep_means"] is False
    assert "vv_gains" not in bound
    both = scene.sarcomp.encode(max_error_db=2.0, keep_means=True)
    assert (both.sizes["latent"], both.sizes["gain"]) == (64, 2)
    assert "mean_levels" not in both.vv_latents.attrs["sarcomp"]
    assert tile_errors(both.sarcomp.decode(), scene) <= GUARANTEED_DB


def spans(size):
    """A number or a slice of an axis."""
    ends = st.tuples(st.integers(0, size), st.integers(0, size))
    return st.integers(0, size - 1) | ends.map(lambda pair: slice(*sorted(pair)))


@given(rows=spans(SHAPE[0]), columns=spans(SHAPE[1]), way=st.sampled_from(["lazy", "engine", "memory"]))
@settings(max_examples=40, deadline=None)
def test_any_region_is_that_of_the_whole(encoded, decoded, path, rows, columns, way):
    dataset = {
        "lazy": lambda: xr.open_zarr(path, consolidated=False).sarcomp.decode(),
        "engine": lambda: xr.open_dataset(path, engine="sarcomp"),
        "memory": lambda: encoded.chunk().sarcomp.decode(),
    }[way]()
    found = dataset.vv.isel(y=rows, x=columns).load()
    expected = decoded.vv.isel(y=rows, x=columns)
    np.testing.assert_allclose(found.values, expected.values, rtol=REGION_TOLERANCE)


@pytest.mark.parametrize("blocks", [1, 3, 8, (5, 17)], ids=str)
def test_latents_that_a_user_rechunks_decode_to_the_same(decoded, path, blocks):
    rows, columns = blocks if isinstance(blocks, tuple) else (blocks, 40)
    stored = xr.open_zarr(path, consolidated=False).chunk(y_latent=rows, x_latent=columns, latent=13)
    np.testing.assert_allclose(stored.sarcomp.decode().vv.values, decoded.vv.values, rtol=REGION_TOLERANCE)


@pytest.mark.parametrize("chunks", [{"y": 1, "x": 331}, {"y": 64, "x": 200}, {"y": 100, "x": 77}], ids=str)
def test_levels_are_the_same_for_every_chunking_of_the_scene(scene, encoded, chunks):
    lazy = scene.chunk(chunks).sarcomp.encode(bits_per_pixel=0.4)
    for name in ("vv_latents", "vh_latents"):
        np.testing.assert_array_equal(lazy[name].values, encoded[name].values)


def test_synthetic_speckle_keeps_the_means_too(scene, encoded, decoded):
    restored = encoded.sarcomp.decode(restore="speckle")
    assert float(np.abs(np.log(restored.vv / decoded.vv)).max()) > 0.1
    assert tile_errors(restored, scene) <= HALF_STEP_DB
    assert "is kept" in restored.vv.encoding["sarcomp_settings"]


@pytest.mark.parametrize("scale", ["amplitude", "decibel"])
def test_the_mean_is_that_of_power_in_every_scale(scene, scale):
    values = {"amplitude": np.sqrt, "decibel": lambda power: 10 * np.log10(power)}[scale](scene.vv.where(scene.vv > 0))
    found = values.to_dataset().sarcomp.encode(bits_per_pixel=0.4, scale=scale).sarcomp.decode().vv.values
    assert np.abs(tile_errors_db(found, values.values, scale, np.isfinite(values.values))).max() <= HALF_STEP_DB


def stack_of(steps, lazy=False):
    """Dates of different steps in one dataset of latents, and the originals."""
    dates = [simulated_dataset((70, 90), seed=seed).expand_dims(time=[seed]) for seed in range(len(steps))]
    pieces = [
        (date.chunk(y=64) if lazy else date).sarcomp.encode(rmse_db=rmse_db, model=MODEL, scale="power")
        for date, rmse_db in zip(dates, steps, strict=True)
    ]
    return xr.concat(pieces, "time"), xr.concat(dates, "time")


@pytest.mark.parametrize("lazy", [False, True])
def test_planes_of_different_steps_keep_their_means(lazy, tmp_path):
    encoded, dates = stack_of((0.4, 1.8, 0.4), lazy)
    assert len({*encoded.vv_coding.values[:, 0].tolist()}) > 1
    assert tile_errors(encoded.sarcomp.decode(), dates) <= HALF_STEP_DB
    encoded.to_zarr(tmp_path / "stack", consolidated=False)
    one = xr.open_dataset(tmp_path / "stack", engine="sarcomp").isel(time=1, y=slice(60, 70)).vv.load()
    whole = encoded.sarcomp.decode().vv.isel(time=1, y=slice(60, 70))
    np.testing.assert_allclose(one.values, whole.values, rtol=REGION_TOLERANCE)


def test_a_date_without_means_does_not_get_into_a_store_with_them(tmp_path):
    dates = [simulated_dataset((40, 48), seed=seed).expand_dims(time=[seed]) for seed in (1, 2)]
    dates[0].sarcomp.encode(rmse_db=1.0, model=MODEL).to_zarr(tmp_path / "a", consolidated=False)
    other = dates[1].sarcomp.encode(rmse_db=1.0, model=MODEL, keep_means=False)
    with pytest.raises(ValueError, match="latent"):
        other.to_zarr(tmp_path / "a", append_dim="time", consolidated=False)
    joined = dates[1].sarcomp.encode(like=xr.open_zarr(tmp_path / "a", consolidated=False))
    joined.to_zarr(tmp_path / "a", append_dim="time", consolidated=False)
    decoded = xr.open_zarr(tmp_path / "a", consolidated=False).sarcomp.decode()
    assert tile_errors(decoded, xr.concat(dates, "time")) <= HALF_STEP_DB


@pytest.mark.parametrize(("version", "part"), [("1.0", None), ("1.1", "vv_gains")])
def test_like_an_older_store_means_are_kept_as_there(version, part):
    older = xr.open_zarr(GOLDEN / f"latents-{version}", consolidated=False)
    encoded = simulated_dataset((70, 90), 11).sarcomp.encode(like=older)
    assert encoded.sizes["latent"] == 64
    assert part is None or part in encoded
    assert "mean_levels" not in encoded.vv_latents.attrs["sarcomp"]


def test_a_scene_without_a_valid_pixel_and_one_of_a_single_one_come_back():
    for filled in (0, 1):
        data = simulated_dataset((60, 70), 1).vv[10:50, 10:60]
        data = data.where(np.arange(40 * 50).reshape(40, 50) < filled).to_dataset()
        found = data.sarcomp.encode(bits_per_pixel=1, scale="power").sarcomp.decode().vv
        np.testing.assert_array_equal(np.isnan(found), np.isnan(data.vv))
        np.testing.assert_allclose(found.values[:1, :filled], data.vv.values[:1, :filled], rtol=HALF_STEP_DB / 4.3)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.isel(latent=slice(64)),
        lambda data: data.isel(latent=slice(1, None)),
        lambda data: data.assign(
            vv_latents=xr.concat([data.vv_latents, data.vv_latents[:1]], "latent").rename(latent="l2")
        ),
    ],
    ids=["no levels", "no lowest", "66"],
)
def test_latents_that_lack_their_levels_are_refused(encoded, change, lazy):
    source = encoded.chunk(y_latent=8) if lazy else encoded
    with pytest.raises(SarcompError):
        change(source).sarcomp.decode().vv.load()


def test_metadata_without_the_key_and_levels_without_it_are_refused(encoded):
    changed = encoded.copy()
    record = dict(encoded.vv_latents.attrs["sarcomp"])
    del record["mean_levels"]
    changed["vv_latents"] = encoded.vv_latents.assign_attrs(sarcomp=record)
    with pytest.raises(SarcompError):
        changed.sarcomp.decode().vv.load()


@pytest.mark.parametrize("value", [False, 1, "true", None, {"float": "nan"}])
def test_a_key_with_a_value_that_no_encoder_writes_is_refused(encoded, value):
    changed = encoded.copy()
    changed["vv_latents"] = encoded.vv_latents.assign_attrs(
        sarcomp=dict(encoded.vv_latents.attrs["sarcomp"]) | {"mean_levels": value}
    )
    with pytest.raises(SarcompError):
        changed.sarcomp.decode().vv.load()


def test_levels_beside_the_first_blocks_of_tiles_are_refused(encoded):
    changed = encoded.copy(deep=True)
    changed.vv_latents[64, 3, 3] = 5
    with pytest.raises(SarcompError, match="tile"):
        changed.sarcomp.decode()


def test_chunks_in_zarr_that_do_not_begin_at_tiles_are_refused_by_name(encoded, tmp_path):
    latents = encoded.vv_latents.encoding
    encoding = {"vv_latents": {"serializer": latents["serializer"], "compressors": None, "chunks": (65, 12, 12)}}
    with pytest.raises(DimensionError, match="does not begin at a tile"):
        encoded.to_zarr(tmp_path / "a", encoding=encoding, consolidated=False)


def test_the_lowest_latents_of_a_store_with_levels_and_its_overviews_are_those_of_the_whole(encoded, path):
    array = zarr.open_array(path / "vv_latents", mode="r")
    np.testing.assert_array_equal(array[:1], encoded.vv_latents.values[:1])
    found = xr.open_dataset(path, engine="sarcomp", overview=8).vv.load()
    xr.testing.assert_allclose(found, encoded.sarcomp.decode(overview=8).vv, rtol=1e-6, atol=0)


def test_a_store_with_levels_is_verified_and_every_flipped_byte_is_found(encoded, path, tmp_path):
    assert verify_store(path).ok
    shutil.copytree(path, tmp_path / "copy")
    chunk = tmp_path / "copy/vv_latents/c/0/0/0"
    content = chunk.read_bytes()
    for position in range(len(content) - 30, len(content)):  # the levels are the last section
        chunk.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        (problem,) = verify_store(tmp_path / "copy").problems
        assert (problem.array, problem.problem) == ("vv_latents", "damaged")
        with pytest.raises(BitstreamError):
            xr.open_zarr(tmp_path / "copy", consolidated=False).vv_latents.load()
    chunk.unlink()
    with pytest.raises(CorruptStreamError, match="missing"):
        xr.open_zarr(tmp_path / "copy", consolidated=False).sarcomp.decode().vv.load()
