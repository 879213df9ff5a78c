"""Dimensions, polarizations and nodata of variables, from names and attributes."""

import numpy as np
import pytest
import xarray as xr

from xsarcomp.errors import DimensionError
from xsarcomp.scenes.variables import (
    declared_nodata,
    has_spatial_dimensions,
    plane_polarizations,
    spatial_dimensions,
)


def array(*dims, dtype=np.float32, **attributes):
    return xr.DataArray(np.zeros([2] * len(dims), dtype), dims=dims, attrs=attributes)


@pytest.mark.parametrize(
    ("dims", "expected"),
    [
        (("y", "x"), ("y", "x")),
        (("x", "y"), ("y", "x")),
        (("x", "time", "y"), ("y", "x")),
        (("time", "band", "Y", "X"), ("Y", "X")),
        (("time", "latitude", "longitude"), ("latitude", "longitude")),
        (("lon", "lat"), ("lat", "lon")),
        (("azimuth_time", "ground_range"), ("azimuth_time", "ground_range")),
        (("slant_range_time", "pol", "azimuth_time"), ("azimuth_time", "slant_range_time")),
        (("rows_of_mine", "columns_of_mine"), ("rows_of_mine", "columns_of_mine")),
        (("dim_0", "dim_1", "dim_2"), ("dim_1", "dim_2")),
    ],
)
def test_spatial_dimensions_are_found_by_name_in_any_order(dims, expected):
    assert spatial_dimensions(array(*dims)) == expected


@pytest.mark.parametrize("dims", [("time", "band", "sample"), ("y",), (), ("time", "y", "band")])
def test_an_array_without_a_known_pair_is_refused_with_its_dimensions(dims):
    assert not has_spatial_dimensions(array(*dims))
    with pytest.raises(DimensionError, match="Rename them") as caught:
        spatial_dimensions(array(*dims))
    assert str(dims) in str(caught.value)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, None),
        ({"_FillValue": -9999}, -9999.0),
        ({"nodata": np.float32(-32768)}, -32768.0),
        ({"missing_value": 0}, 0.0),
        ({"nodatavals": (0.0, 0.0)}, 0.0),
        ({"nodatavals": (0.0, 1.0)}, None),
        ({"nodata": np.nan}, None),
        ({"nodata": float("inf")}, None),
        ({"nodata": "none"}, None),
        ({"nodata": None}, None),
        ({"nodatavals": ()}, None),
        ({"_FillValue": np.nan, "nodata": -9999}, -9999.0),
    ],
    ids=str,
)
def test_nodata_is_read_from_the_attributes(attributes, expected):
    assert declared_nodata(array("y", "x", **attributes)) == expected


def test_a_fill_value_in_the_encoding_no_longer_stands_among_the_values():
    opened = array("y", "x")
    opened.encoding["_FillValue"] = -9999.0
    assert declared_nodata(opened) is None


@pytest.mark.parametrize(
    ("planes", "expected"),
    [
        (array("y", "x").rename("VH"), ["vh"]),
        (array("y", "x").rename("backscatter"), [None]),
        (array("y", "x"), [None]),
        (array("y", "x", polarization="HH"), ["hh"]),
        (array("band", "y", "x", long_name="VH"), ["vh", "vh"]),
        (array("time", "y", "x").rename("gamma0_vv"), ["vv", "vv"]),
        (array("band", "y", "x", long_name=("VV", "vh")), ["vv", "vh"]),
        (array("band", "y", "x", long_name=("vv_ascending", "angle")), ["vv", None]),
        (array("band", "y", "x", long_name="sigma nought"), [None, None]),
        (array("band", "y", "x", long_name=("vv", "vh", "more")), [None, None]),
        (array("y", "x", "pol").assign_coords(pol=["VV", "VH"]), ["vv", "vh"]),
        (array("pol", "time", "y", "x").assign_coords(pol=["VV", "VH"]), ["vv", "vv", "vh", "vh"]),
        (array("time", "y", "pol", "x").assign_coords(pol=["VV", "VH"], time=[1, 2]), ["vv", "vh", "vv", "vh"]),
        (array("time", "y", "x").isel(time=slice(0, 0)).rename("vv"), []),
    ],
    ids=str,
)
def test_the_polarization_of_each_plane_is_told_by_names_where_they_tell_it(planes, expected):
    assert plane_polarizations(planes) == expected
