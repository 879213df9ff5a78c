"""Decoding latents that were selected, turned, cut or damaged since encoding: followed, or refused by name."""

import numpy as np
import pytest
import xarray as xr

from tests.support.metadata import changed
from tests.support.speckle_arrays import array, speckle, through_store
from xsarcomp.errors import (
    CorruptStreamError,
    DimensionError,
    ModelNotFoundError,
    NotEncodedError,
    RadiometryError,
    SarcompError,
)
from xsarcomp.latents import decode as decode_module
from xsarcomp.latents.loss import LOSS_ATTRIBUTE, loss_note
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata
from xsarcomp.latents.plane_steps import with_fingerprint
from xsarcomp.scenes.simulation import simulate_scene, simulated_dataset
from xsarcomp.stores import files


@pytest.fixture(scope="module")
def stack():
    """Three dates in two frames of a small simulated scene."""
    planes = np.stack([simulate_scene((40, 48), seed=seed)[0] for seed in range(6)]).reshape(3, 2, 40, 48)
    coords = {"time": [1, 2, 3], "y": np.arange(40)[::-1] * 10.0, "x": np.arange(48) * 10.0}
    return xr.DataArray(planes, dims=("time", "frame", "y", "x"), coords=coords, name="vv").to_dataset()


@pytest.fixture(scope="module")
def encoded(stack):
    return stack.sarcomp.encode(bits_per_pixel=2, scale="power")


def stored(dataset, path):
    """The dataset in a store, with chunks that fit it as it is now."""
    for variable in dataset.variables.values():
        variable.encoding.pop("chunks", None)
    dataset.to_zarr(path, consolidated=False)
    return path


@pytest.mark.parametrize(
    "change",
    [lambda data: data.transpose("frame", "time", ...), lambda data: data.isel(time=1)],
    ids=["transposed", "one date selected"],
)
def test_engine_and_decode_agree_on_what_was_changed_before_writing(encoded, change, tmp_path):
    expected = change(encoded.sarcomp.decode())
    path = stored(change(encoded.copy()), tmp_path / "a.zarr")
    by_engine = xr.open_dataset(path, engine="sarcomp")
    by_decode = xr.open_zarr(path, consolidated=False).sarcomp.decode()
    for found in (by_engine, by_decode):
        xr.testing.assert_allclose(found.vv.transpose(*expected.vv.dims), expected.vv, rtol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.sortby("y"),
        lambda data: data.isel(x=slice(None, None, -1)),
        lambda data: data.roll(y=8, roll_coords=True),
    ],
    ids=["sorted", "flipped", "rolled"],
)
def test_a_scene_that_was_reordered_after_encoding_is_refused(encoded, change):
    with pytest.raises(DimensionError, match="Decode first"):
        change(encoded).sarcomp.decode()


def test_a_scene_without_coordinates_is_not_asked_for_them(encoded):
    assert encoded.drop_vars(["y", "x"]).sarcomp.decode().vv.shape == (3, 2, 40, 48)


@pytest.mark.parametrize("as_coordinate", [False, True])
def test_a_mask_of_the_users_own_is_not_overwritten(stack, as_coordinate):
    crowded = stack.assign(vv_mask=(("y", "x"), np.zeros((40, 48), np.int8)))
    crowded = crowded.set_coords("vv_mask") if as_coordinate else crowded
    with pytest.raises(DimensionError, match=r"vv_mask.*rename"):
        crowded.sarcomp.encode(scale="power")


def test_each_loss_is_described(encoded):
    twice = encoded.sarcomp.decode().sarcomp.encode(bits_per_pixel=1, scale="power", recompress=True).sarcomp.decode()
    assert twice.vv.attrs[LOSS_ATTRIBUTE] == f"{loss_note('power')}; then {loss_note('power')}"
    assert "bits_per_pixel=1" in twice.vv.encoding["sarcomp_settings"]
    assert "bits_per_pixel=1" in twice.sarcomp.info()["vv"]["settings"]


def test_a_region_is_decoded_in_blocks_and_gives_the_whole(monkeypatch):
    scene = simulated_dataset((300, 200), 5)
    encoded = scene.sarcomp.encode(bits_per_pixel=1)
    whole = encoded.sarcomp.decode()
    monkeypatch.setattr(decode_module, "REGION_PIXELS", 64)
    in_blocks = encoded.sarcomp.decode()
    np.testing.assert_allclose(in_blocks.vv, whole.vv, rtol=2e-5)


def test_decibels_that_are_called_power_are_refused():
    scene = simulated_dataset((64, 64), 3, scale="decibel")
    with pytest.raises(RadiometryError, match="decibel"):
        scene.sarcomp.encode(scale="power")


def test_a_decode_that_fails_leaves_no_file_and_keeps_the_old_one(tmp_path):
    store, target = tmp_path / "a.zarr", tmp_path / "a.tif"
    files.write_store(simulated_dataset((600, 64), 3).sarcomp.encode(), str(store))
    chunk = next(path for path in sorted((store / "vv_latents/c").rglob("*")) if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(SarcompError):
        files.write_scene(files.open_scene(str(store)), str(target))
    assert not target.exists()
    target.write_text("older")
    with pytest.raises(SarcompError):
        files.write_scene(files.open_scene(str(store)), str(target), overwrite=True)
    assert target.read_text() == "older"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.tif", "a.zarr"]


@pytest.fixture
def encoded_plane():
    values = speckle((40, 48))
    values[0, 0] = -1e-3
    return array(values).sarcomp.encode(bits_per_pixel=2)


def test_a_dataset_without_latents_is_refused_with_advice(scene):
    with pytest.raises(NotEncodedError, match=r"expected what encode\(\) made"):
        scene.sarcomp.decode()


def test_a_missing_mask_is_named(encoded_plane):
    with pytest.raises(NotEncodedError, match="mask 'vv_mask' of the latents 'vv_latents' is missing"):
        encoded_plane.drop_vars("vv_mask").sarcomp.decode()


def test_missing_exact_values_are_an_error_and_no_guess(encoded_plane):
    with pytest.raises(SarcompError, match="exact"):
        encoded_plane.drop_vars("vv_exact").sarcomp.decode().load()


def test_a_part_cut_out_is_refused_with_advice(encoded_plane):
    for part in (
        encoded_plane.isel(y=slice(0, 8)),
        encoded_plane.isel(x_latent=slice(1, 3)),
        encoded_plane.isel(latent=slice(0, 10)),
    ):
        with pytest.raises(DimensionError, match="Decode first and cut then"):
            part.sarcomp.decode()


@pytest.mark.parametrize("lazy", [False, True])
def test_transposed_variables_decode_to_the_same(lazy):
    values = speckle((2, 40, 40))
    values[0, 0, 1] = -1e-3
    original = array(values, "time", "y", "x")
    encoded = (original.chunk() if lazy else original).sarcomp.encode(bits_per_pixel=2)
    expected = encoded.sarcomp.decode().vv
    turned = encoded.transpose("x_latent", "coding", "x", "latent", "y_latent", "y", "time")
    xr.testing.assert_identical(turned.sarcomp.decode().vv.compute(), expected.compute())
    assert turned.sarcomp.decode().vv.dims == expected.dims


@pytest.mark.parametrize("lazy", [False, True])
def test_a_time_step_can_be_selected_before_decoding(lazy):
    original = array(speckle((3, 40, 48)), "time", "y", "x").assign_coords(time=[1, 2, 3])
    encoded = (original.chunk(time=1) if lazy else original).sarcomp.encode(bits_per_pixel=2)
    whole = encoded.sarcomp.decode().vv
    for selection in ([2, 0], slice(1, 2), 1):
        found = encoded.isel(time=selection).sarcomp.decode().vv
        assert found.dims == whole.isel(time=selection).dims
        # matrix products of another number of planes may round float32 differently
        xr.testing.assert_allclose(found, whole.isel(time=selection), rtol=1e-5, atol=0)


def test_a_model_that_is_not_installed_is_named(encoded_plane):
    metadata = LatentsMetadata.from_attribute(encoded_plane.vv_latents.attrs[ATTRIBUTE])
    unknown = with_fingerprint(changed(metadata, model_id="ab" * 32))
    encoded_plane.vv_latents.attrs[ATTRIBUTE] = unknown.to_attribute()
    with pytest.raises(ModelNotFoundError, match=r"abab.* is not installed"):
        encoded_plane.sarcomp.decode()


def test_a_damaged_chunk_on_disk_is_an_error_and_no_picture(encoded_plane, tmp_path):
    stored = through_store(encoded_plane, tmp_path / "a.zarr")
    file = tmp_path / "a.zarr/vv_latents/c/0/0/0"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(bytes(content))
    with pytest.raises(CorruptStreamError):
        stored.sarcomp.decode().load()


def test_nodata_in_the_mask_of_a_store_that_declares_none_is_an_error(encoded_plane):
    encoded_plane.vv_mask[3, 4] = 5
    with pytest.raises(CorruptStreamError, match="declare nodata=None"):
        encoded_plane.sarcomp.decode().load()
