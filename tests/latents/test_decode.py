"""From latents back to backscatter: what was moved since encoding is followed or refused, never guessed."""

import numpy as np
import pytest
import xarray as xr

import xsarcomp
from xsarcomp.errors import DimensionError, RadiometryError
from xsarcomp.latents import decode
from xsarcomp.latents.encode import without_storage
from xsarcomp.latents.metadata import LOSS_ATTRIBUTE
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


def test_each_loss_is_recorded(encoded):
    twice = encoded.sarcomp.decode().sarcomp.encode(bits_per_pixel=1, scale="power", recompress=True).sarcomp.decode()
    note = twice.vv.attrs[LOSS_ATTRIBUTE]
    assert note.count("quantization step") == 2
    assert "bits_per_pixel=2" in note
    assert "bits_per_pixel=1" in note


def test_a_region_is_decoded_in_blocks_and_gives_the_whole(monkeypatch):
    scene = simulated_dataset((300, 200), 5)
    encoded = scene.sarcomp.encode(bits_per_pixel=1)
    whole = encoded.sarcomp.decode()
    monkeypatch.setattr(decode, "REGION_PIXELS", 64)
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
    with pytest.raises(xsarcomp.SarcompError):
        files.write_scene(files.open_scene(str(store)), str(target))
    assert not target.exists()
    target.write_text("older")
    with pytest.raises(xsarcomp.SarcompError):
        files.write_scene(files.open_scene(str(store)), str(target), overwrite=True)
    assert target.read_text() == "older"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.tif", "a.zarr"]


def test_storage_of_the_source_is_forgotten_but_not_in_the_source(stack):
    stack.vv.encoding = {"chunksizes": (1, 1, 8, 8), "grid_mapping": "spatial_ref"}
    assert without_storage(stack).vv.encoding == {"grid_mapping": "spatial_ref"}
    assert "chunksizes" in stack.vv.encoding
    stack.vv.encoding = {}
