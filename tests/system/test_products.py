"""Backscatter as tools and archives hand it out, there and back: nothing lost but what was asked for, nothing said in vain."""

import functools

import numpy as np
import pytest
import xarray as xr
import zarr.storage

from tests.support import products
from xsarcomp.errors import RadiometryError

KINDS = ("latents", "transparent")


# Zarr says so of each coordinate that holds text
pytestmark = [pytest.mark.filterwarnings("ignore:The data type .FixedLengthUTF32"), pytest.mark.slow]


REQUESTS = {"rate": {"bits_per_pixel": 2.0}, "bound": {"max_error_db": 0.5}}


@pytest.fixture(scope="module", params=products.PRODUCTS, ids=lambda make: make.__name__)
def product(request):
    return request.param()


@pytest.fixture(scope="module")
def backs(product):
    """Function (kind, request) -> the product after the way there and back; each way is gone once."""
    return functools.cache(lambda kind, request: there_and_back(product.data, kind, **REQUESTS[request]))


def storable(data):
    """Without what no Zarr store can hold: objects of Python, which stackstac leaves in coordinates and attributes."""
    objects = [name for name, coordinate in data.coords.items() if coordinate.dtype == object]
    return data.drop_vars(objects)


def there_and_back(data, kind, **request):
    """Written to a store and read from it: a Dataset."""
    store = zarr.storage.MemoryStore()
    data = storable(data)
    if kind == "latents":
        data.sarcomp.encode(**request).to_zarr(store, consolidated=False)
        return xr.open_dataset(store, engine="sarcomp")
    encoding = data.sarcomp.encoding(**request)
    # what xarray cannot write, with or without a codec: objects among attributes, encodings that xee uses for its own purposes
    whole = as_dataset(data).drop_encoding()
    for array in whole.data_vars.values():
        array.attrs = {name: value for name, value in array.attrs.items() if name not in ("spec", "transform")}
    whole.to_zarr(store, encoding=encoding, consolidated=False)
    # as it stands: a reader turns a fill value that an attribute declares into NaN, unless it is asked not to
    masks = not any("_FillValue" in array.attrs for array in whole.data_vars.values())
    return xr.open_zarr(store, consolidated=False, decode_coords="all", chunks=None, mask_and_scale=masks)


def as_dataset(data):
    return data.to_dataset() if isinstance(data, xr.DataArray) else data


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_product_comes_back_with_its_grid_its_labels_and_its_invalid_pixels(product, backs, kind, request_name):
    original = as_dataset(storable(product.data))
    found = backs(kind, request_name)
    assert set(found.data_vars) == set(original.data_vars)
    assert set(found.coords) == set(original.coords)
    for name, coordinate in original.coords.items():
        np.testing.assert_array_equal(found[name].values, coordinate.values)
        assert found[name].dims == coordinate.dims
        assert found[name].dtype.kind == coordinate.dtype.kind
    for name in product.names:
        assert found[name].dims == original[name].dims
        assert found[name].dtype == original[name].dtype
        kept = {key: value for key, value in original[name].attrs.items() if key not in product.left_out}
        assert {key: value for key, value in found[name].attrs.items() if key in kept} == kept
        values, expected = found[name].values, original[name].values
        np.testing.assert_array_equal(np.isnan(values), np.isnan(expected))
        for number in {0.0, product.nodata} - {None}:
            np.testing.assert_array_equal(values == number, expected == number)
        errors = np.abs(in_decibel(values, product) - in_decibel(expected, product))
        assert 0.001 < np.nanmean(errors) < 0.6
        if request_name == "bound":
            assert np.nanmax(errors) <= 0.5 + (0.01 if values.dtype == np.float16 else 1e-4)
    for name in set(original.data_vars) - set(product.names):
        np.testing.assert_array_equal(found[name].values, original[name].values)
        assert found[name].dtype == original[name].dtype


def in_decibel(values, product):
    """Valid values in decibels, NaN elsewhere."""
    values = values.astype(np.float64)
    values[(values == product.nodata) | (values == 0)] = np.nan
    return values if product.scale == "decibel" else (20 if product.scale == "amplitude" else 10) * np.log10(values)


def test_the_scale_and_the_nodata_of_a_product_are_found(product):
    said = storable(product.data).sarcomp.encode(bits_per_pixel=2).sarcomp.info()
    assert set(said) == set(product.names)
    assert {one["scale"] for one in said.values()} == {product.scale}
    assert {one["nodata"] for one in said.values()} == {product.nodata}


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_system_of_a_product_comes_back(product, backs, kind):
    if product.epsg is None:
        pytest.skip("a reference system for each sample is an ordinary coordinate")
    original = as_dataset(product.data)
    name = product.names[0]
    found = backs(kind, "rate")
    assert original[name].rio.crs.to_epsg() == product.epsg
    assert found[name].rio.crs.to_epsg() == product.epsg


@pytest.mark.parametrize("kind", KINDS)
def test_a_product_that_was_decoded_can_be_written_again(product, backs, kind):
    found = backs(kind, "rate").load().drop_encoding()
    again = zarr.storage.MemoryStore()
    found.to_zarr(again, consolidated=False)
    np.testing.assert_array_equal(
        xr.open_zarr(again, consolidated=False, mask_and_scale=False)[product.names[0]].values,
        found[product.names[0]].values,
    )


def test_of_the_objects_of_stackstac_the_transform_is_kept_as_numbers_and_the_grid_stands_in_other_attributes():
    array = storable(products.stackstac().data)
    attributes = array.sarcomp.encode(bits_per_pixel=2).sarcomp.decode()[array.name].attrs
    assert attributes["transform"] == (10.0, 0.0, 600_000.0, 0.0, -10.0, 5_400_000.0)
    assert (attributes["crs"], attributes["resolution"]) == ("epsg:32632", 10.0)
    assert "spec" not in attributes


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_digital_numbers_are_refused_with_advice(kind, dtype):
    with pytest.raises(RadiometryError, match=r"uncalibrated digital numbers.*Calibrate to sigma0 or gamma0 first"):
        there_and_back(products.eopf(dtype), kind, bits_per_pixel=2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fill_value_that_nobody_declared_is_recognized_kept_and_named(kind):
    undeclared = products.odc_stac().data
    for name in ("vv", "vh"):
        del undeclared[name].attrs["nodata"]
    with pytest.warns(UserWarning, match="10.5 % of the sample of 'vv' are exactly -32768"):
        found = there_and_back(undeclared, kind, bits_per_pixel=2)
    for name in ("vv", "vh"):
        np.testing.assert_array_equal(found[name] == -32768, undeclared[name] == -32768)


# imitations, held against the libraries


def described(data):
    """What code can rely on: names, dimensions, types, attributes, encodings; values of attributes where they are plain."""
    data = as_dataset(data)
    return {
        name: (
            variable.dims,
            variable.dtype.str if variable.dtype.kind != "U" else "text",
            {key: type(value).__name__ for key, value in variable.attrs.items()},
            sorted(variable.encoding),
        )
        for name, variable in data.variables.items()
    }


@pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning")  # odc-geo 0.5.3 with shapely 2.2
@pytest.mark.parametrize("declared", [True, False])
def test_data_of_odc_stac_are_as_imitated_and_come_back(declared, tmp_path):
    pytest.importorskip("odc.stac", reason="pip install odc-stac")
    found = products.real_odc_stac(tmp_path, declared=declared)
    imitated = products.odc_stac(-32768 if declared else None).data
    assert described(found) == described(imitated)
    xr.testing.assert_allclose(found.compute(), imitated)
    back = there_and_back(found, "latents", max_error_db=0.5)
    assert back.sarcomp.compare(imitated)["max_error_db"] <= 0.5
    assert back.odc.geobox == found.odc.geobox


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_data_of_stackstac_are_as_imitated_and_come_back(tmp_path):
    pytest.importorskip("stackstac", reason="pip install stackstac, with pandas before 3")
    pytest.importorskip("pystac", reason="pip install pystac")
    found, imitated = products.real_stackstac(tmp_path), products.stackstac().data
    assert described(found.rename("a")) == described(imitated.rename("a"))
    np.testing.assert_array_equal(found.values, imitated.values)
    back = there_and_back(found, "latents", max_error_db=0.5)
    assert back[found.name].rio.crs.to_epsg() == 32632
    assert back[found.name].sarcomp.compare(storable(found))["max_error_db"] <= 0.5
