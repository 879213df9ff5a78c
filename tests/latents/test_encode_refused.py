"""Decoding only a part: what can be selected or turned before decoding, and what is refused by name."""

import numpy as np
import pytest
import xarray as xr

from xsarcomp.errors import CorruptStreamError, DimensionError, ModelNotFoundError, NotEncodedError, SarcompError
from xsarcomp.latents.metadata import ATTRIBUTE


def speckle(shape, seed=0, dtype=np.float32):
    """Power of uncorrelated speckle of 4.4 looks, mean 0.1."""
    return np.random.default_rng(seed).gamma(4.4, 0.1 / 4.4, shape).astype(dtype)


def array(values, *dims, name="vv", **attributes):
    return xr.DataArray(values, dims=dims or ("y", "x"), name=name, attrs=attributes)


def through_store(encoded, path):
    encoded.to_zarr(path, zarr_format=3, consolidated=False)
    return xr.open_zarr(path, consolidated=False)


@pytest.fixture
def encoded():
    values = speckle((40, 48))
    values[0, 0] = -1e-3
    return array(values).sarcomp.encode(bits_per_pixel=2)


def test_a_dataset_without_latents_is_refused_with_advice(scene):
    with pytest.raises(NotEncodedError, match="decode\\(\\) takes what encode\\(\\) made"):
        scene.sarcomp.decode()


def test_a_missing_mask_is_named(encoded):
    with pytest.raises(NotEncodedError, match="mask 'vv_mask' of the latents 'vv_latents' is missing"):
        encoded.drop_vars("vv_mask").sarcomp.decode()


def test_missing_exact_values_are_an_error_and_no_guess(encoded):
    with pytest.raises(SarcompError, match="exact"):
        encoded.drop_vars("vv_exact").sarcomp.decode().load()


def test_a_part_cut_out_is_refused_with_advice(encoded):
    for part in (encoded.isel(y=slice(0, 8)), encoded.isel(x_latent=slice(1, 3)), encoded.isel(latent=slice(0, 10))):
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


def test_a_model_that_is_not_installed_is_named(encoded):
    attribute = {**encoded.vv_latents.attrs[ATTRIBUTE], "model_id": "ab" * 32}
    encoded.vv_latents.attrs[ATTRIBUTE] = attribute
    with pytest.raises(ModelNotFoundError, match=r"abab.* is not installed"):
        encoded.sarcomp.decode()


def test_a_damaged_chunk_on_disk_is_an_error_and_no_picture(encoded, tmp_path):
    stored = through_store(encoded, tmp_path / "a.zarr")
    file = tmp_path / "a.zarr/vv_latents/c/0/0/0"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(bytes(content))
    with pytest.raises(CorruptStreamError):
        stored.sarcomp.decode().load()


def test_nodata_in_the_mask_of_a_store_that_declares_none_is_an_error(encoded):
    encoded.vv_mask[3, 4] = 5
    with pytest.raises(CorruptStreamError, match="declare nodata=None"):
        encoded.sarcomp.decode().load()
