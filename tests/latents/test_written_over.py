"""Scenes and regions that are written over others: decoded with their own step, or refused."""

import numpy as np
import pytest
import xarray as xr
import zarr

from tests.support.part_scenes import MODEL, STORED, encode, opened, scene, ways_to_read
from xsarcomp.errors import CorruptStreamError, DimensionError, NotEncodedError
from xsarcomp.latents.metadata import ATTRIBUTE
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.verification import verify_store, write_manifest


@pytest.mark.parametrize("mode", ["a", "r+"])
def test_a_scene_written_over_another_is_decoded_with_its_own_step(tmp_path, mode):
    older, newer = encode(scene(1)), encode(scene(1), rmse_db=2.0)
    older.to_zarr(tmp_path / "a", **STORED)
    newer.to_zarr(tmp_path / "a", mode=mode, consolidated=False)
    assert opened(tmp_path / "a").vv_latents.attrs == older.vv_latents.attrs  # xarray leaves attributes as they are
    right = {False: newer.sarcomp.decode().vv, True: newer.sarcomp.decode(overview=8).vv}
    for name, read in ways_to_read(tmp_path / "a").items():
        np.testing.assert_allclose(read(), right["overview" in name], rtol=1e-5, err_msg=name)
    assert opened(tmp_path / "a").sarcomp.info()["vv"]["step_db"] == newer.sarcomp.info()["vv"]["step_db"]
    assert write_manifest(tmp_path / "a").ok


def decibel(dataset):
    return (10 * np.log10(np.abs(dataset))).sarcomp.encode(rmse_db=1, model=MODEL, scale="decibel")


def declared(dataset):
    dataset.vv.attrs["_FillValue"] = -9999.0
    return dataset


OTHERS = {
    "bound": (
        lambda: encode(scene(), rmse_db=None, max_error_db=1),
        lambda: encode(scene(), rmse_db=None, max_error_db=4),
    ),
    "scale": (lambda: encode(scene()), lambda: decibel(scene())),
    "model": (
        lambda: encode(scene()),
        lambda: scene().sarcomp.encode(rmse_db=1, model="s1-grd-10m", scale="power"),
    ),
    "nodata": (lambda: encode(scene()), lambda: encode(declared(scene()))),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_scene_of_other_settings_written_over_another_is_refused(tmp_path, other):
    older, newer = (make() for make in OTHERS[other])
    older.to_zarr(tmp_path / "a", **STORED)
    newer.to_zarr(tmp_path / "a", mode="a", consolidated=False)
    for name, read in ways_to_read(tmp_path / "a").items():
        with pytest.raises(NotEncodedError, match="another model, scale, nodata"):
            pytest.fail(f"{name}: {read()}")
    assert any("another model" in finding.message for finding in verify_store(tmp_path / "a").problems)


def as_first_written(encoded):
    """The dataset as the first encoders made it: no coding and no positions."""
    old = encoded.drop_vars(["vv_coding", "y_latent", "x_latent"])
    record = old.vv_latents.attrs[ATTRIBUTE]
    old.vv_latents.attrs[ATTRIBUTE] = {key: value for key, value in record.items() if key != "fingerprint"}
    return old


def test_stores_of_the_first_encoders_are_decoded_as_before(tmp_path):
    encoded = encode(scene())
    as_first_written(encoded.copy(deep=True)).to_zarr(tmp_path / "a", **STORED)
    assert "fingerprint" not in opened(tmp_path / "a").vv_latents.attrs[ATTRIBUTE]
    for name, read in ways_to_read(tmp_path / "a").items():
        right = encoded.sarcomp.decode(overview=8 if "overview" in name else None).vv
        np.testing.assert_allclose(read(), right, rtol=1e-5)
    assert write_manifest(tmp_path / "a").ok


def test_a_scene_written_over_a_store_of_the_first_encoders_is_decoded_with_its_own_step_or_refused(tmp_path):
    as_first_written(encode(scene())).to_zarr(tmp_path / "a", **STORED)
    newer = encode(scene(), rmse_db=2.0)
    newer.to_zarr(tmp_path / "a", mode="a", consolidated=False)
    for name, read in ways_to_read(tmp_path / "a").items():
        right = newer.sarcomp.decode(overview=8 if "overview" in name else None).vv
        np.testing.assert_allclose(read(), right, rtol=1e-5)
    assert opened(tmp_path / "a").sarcomp.info()["vv"]["step_db"] == newer.sarcomp.info()["vv"]["step_db"]
    encode(declared(scene())).to_zarr(tmp_path / "a", mode="a", consolidated=False)
    for name, read in ways_to_read(tmp_path / "a").items():
        with pytest.raises(NotEncodedError, match="another model"):
            pytest.fail(f"{name}: {read()}")


def region(rows=slice(None), columns=slice(None)):
    """Region of a scene in blocks of 8 x 8 pixels, for ``to_zarr``."""
    spans = {}
    for dim, blocks in (("y", rows), ("x", columns)):
        if blocks != slice(None):
            spans |= {dim: slice(8 * blocks.start, 8 * blocks.stop), f"{dim}_latent": blocks}
    return spans


def write_region(newer, path, spans, select=True):
    part = newer.isel(spans) if select else newer
    aside = [name for name, variable in part.variables.items() if not {*spans} & {*variable.dims}]
    part = part.drop_vars(aside)
    part.to_zarr(path, region={dim: span for dim, span in spans.items() if dim in part.dims}, consolidated=False)


@pytest.mark.parametrize(
    "spans",
    [
        region(slice(0, 4)),
        region(columns=slice(4, 8)),
        region(slice(2, 5), slice(0, 4)),
        region(slice(7, 8), slice(7, 8)),
    ],
    ids=["rows", "columns", "both", "the last block"],
)
def test_a_region_from_another_encoding_is_an_error_and_no_picture(tmp_path, spans):
    encode(scene(1)).to_zarr(tmp_path / "a", **STORED)
    write_region(encode(scene(1), rmse_db=2.0), tmp_path / "a", spans)
    for name, read in ways_to_read(tmp_path / "a").items():
        with pytest.raises(NotEncodedError, match=r"2 encodings .* region was written"):
            pytest.fail(f"{name}: {read()}")
    assert any("2 encodings" in finding.message for finding in verify_store(tmp_path / "a").problems)


def test_windows_far_from_a_foreign_region_are_decoded_and_those_near_it_are_not(tmp_path):
    whole = scene(1, 320)
    encode(whole).to_zarr(tmp_path / "a", **STORED)
    right = opened(tmp_path / "a").sarcomp.decode().vv.load()
    write_region(encode(whole, rmse_db=2.0), tmp_path / "a", region(slice(0, 4)))
    by_engine = xr.open_dataset(tmp_path / "a", engine="sarcomp").vv
    np.testing.assert_allclose(by_engine[160:], right[160:], rtol=1e-5)
    with pytest.raises(NotEncodedError, match="2 encodings"):
        by_engine[33:160].load()


def test_a_tile_that_was_encoded_by_itself_does_not_fit_into_a_scene(tmp_path):
    whole = scene(1)
    encode(whole).to_zarr(tmp_path / "a", **STORED)
    tile = encode(whole.isel(y=slice(32, 64)))
    with pytest.raises(DimensionError, match="does not begin at a tile"):
        write_region(tile, tmp_path / "a", region(slice(4, 8)), select=False)


def test_a_lost_coding_of_a_plane_is_an_error_and_a_finding(tmp_path):
    encode(scene(1)).to_zarr(tmp_path / "a", **STORED)
    (tmp_path / "a/vv_coding/c/0/0/0").unlink()
    for read in ways_to_read(tmp_path / "a").values():
        with pytest.raises(CorruptStreamError, match="coding"):
            read()
    found = [(finding.array, finding.problem) for finding in verify_store(tmp_path / "a").problems]
    assert found == [("vv_coding", "missing")]


def test_the_coding_of_a_large_plane_has_few_chunks_and_few_bytes(tmp_path):
    narrow = xr.Dataset({"vv": (("y", "x"), simulated_dataset((4104, 16), seed=1).vv.values)})
    encode(narrow).to_zarr(tmp_path / "a", **STORED)
    sizes = [path.stat().st_size for path in (tmp_path / "a/vv_coding/c").rglob("*") if path.is_file()]
    assert len(sizes) == 3
    assert max(sizes) < 100


def test_a_store_that_encode_began_has_its_coding_before_any_region_is_written(tmp_path):
    encoded = encode(scene().chunk(y=32))
    encoded.to_zarr(tmp_path / "a", compute=False, **STORED)
    np.testing.assert_array_equal(opened(tmp_path / "a").vv_coding, encoded.vv_coding)


def test_regions_that_another_process_overwrote_in_the_coding_are_named(tmp_path):
    encode(scene()).to_zarr(tmp_path / "a", **STORED)
    zarr.open_array(tmp_path / "a/vv_coding", mode="r+")[:, 4:] = np.nan  # what a lost write of another process leaves
    for name, read in ways_to_read(tmp_path / "a").items():
        with pytest.raises(CorruptStreamError, match="wrote regions inside the same 2048 pixels at the same time"):
            pytest.fail(f"{name}: {read()}")
