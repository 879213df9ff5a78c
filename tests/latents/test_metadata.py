"""Metadata of latents: every attribute that JSON can carry comes back as it was, and wrong metadata are refused by name."""

import dataclasses
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xsarcomp.codec.settings import Settings
from xsarcomp.errors import NotEncodedError, SarcompError, UnsupportedFormatError
from xsarcomp.latents.loss import loss_text
from xsarcomp.latents.metadata import LatentsMetadata, from_json, storable_attributes, to_json

METADATA = LatentsMetadata(
    name="vv",
    dims=("time", "y", "x"),
    spatial=("y", "x"),
    pixels=(300, 200),
    corners=(None, None, None, None),
    dtype="<f4",
    settings=Settings(step_db=2.25, scale="power"),
    scale_reason="given by the caller",
    model="some-model",
    model_id="0" * 64,
    anchor=3,
    target="bits_per_pixel=1",
    estimated_bits_per_pixel=0.99,
    estimated_rmse_db=None,
    outside_training_range=0.0,
    attributes={"units": "1", "transform": (10.0, 0.0, 5.0), "valid": np.float32(0.5)},
    encoding={"_FillValue": np.float32(np.nan), "grid_mapping": "spatial_ref"},
)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NUMPY = hnp.arrays(
    st.sampled_from(["f2", "f4", ">f8", "i1", "u2", ">i4", "i8", "u8", "?"]), hnp.array_shapes(min_dims=0, max_side=3)
)
ATTRIBUTES = st.recursive(
    SCALARS | NUMPY | NUMPY.filter(lambda array: array.ndim == 0).map(lambda array: array[()]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(
            st.text(max_size=3) | st.sampled_from(["float", "tuple", "numpy", "mapping"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def through_text(value):
    return from_json(json.loads(json.dumps(to_json(value), allow_nan=False)))


def assert_same(expected, found):
    if isinstance(expected, np.ndarray) and expected.ndim == 0:
        expected = expected[()]
    if isinstance(expected, np.float64):  # it is a float of Python, and JSON has those
        np.testing.assert_equal(float(found), float(expected))
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected)
        assert len(found) == len(expected)
        for left, right in zip(expected, found, strict=True):
            assert_same(left, right)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_same(expected[key], found[key])
    elif isinstance(expected, np.ndarray | np.generic):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    else:
        assert type(found) is type(expected)
        assert found == expected or (found != found and expected != expected)


@settings(max_examples=300, deadline=None)
@given(ATTRIBUTES)
def test_any_attribute_survives_strict_json_with_its_type(value):
    assert_same(value, through_text(value))


@pytest.mark.parametrize(
    "value", [object(), 1j, b"bytes", np.datetime64("2024-01-01"), np.longdouble(1), {"a": [object()]}, {1, 2}]
)
def test_a_value_without_json_form_is_refused_when_it_is_written_and_not_when_it_is_read(value):
    with pytest.raises(TypeError):
        to_json(value)


def test_text_arrays_of_numpy_become_lists():
    assert through_text(np.array(["VV", "VH"])) == ["VV", "VH"]
    assert through_text(np.str_("VV")) == "VV"


def test_metadata_survive_json():
    text = json.dumps(METADATA.to_attribute(), allow_nan=False)
    found = LatentsMetadata.from_attribute(json.loads(text))
    assert isinstance(found.dims, tuple)
    assert isinstance(found.pixels, tuple)
    assert np.isnan(found.encoding["_FillValue"])
    without = {"encoding": {}}
    assert dataclasses.replace(found, **without) == dataclasses.replace(METADATA, **without)


def test_variances_in_homogeneous_areas_are_optional_and_survive():
    assert "calm_variances_db2" not in METADATA.to_attribute()
    measured = dataclasses.replace(METADATA, calm_variances_db2=(0.0, *(float(number) for number in range(1, 64))))
    found = LatentsMetadata.from_attribute(json.loads(json.dumps(measured.to_attribute(), allow_nan=False)))
    assert found.calm_variances_db2 == measured.calm_variances_db2
    assert LatentsMetadata.from_attribute(METADATA.to_attribute()).calm_variances_db2 is None


def test_scales_of_speckle_are_optional_and_survive():
    assert "speckle_scales" not in METADATA.to_attribute()
    measured = dataclasses.replace(METADATA, speckle_scales={"": 0.93, "band=2": 1.07})
    found = LatentsMetadata.from_attribute(json.loads(json.dumps(measured.to_attribute(), allow_nan=False)))
    assert found.speckle_scales == measured.speckle_scales
    assert LatentsMetadata.from_attribute(METADATA.to_attribute()).speckle_scales is None


@pytest.mark.parametrize("value", [None, "text", 3, {}, {"name": "vv"}])
def test_what_are_no_metadata_is_named_so(value):
    with pytest.raises(NotEncodedError, match="holds no metadata of xsarcomp"):
        LatentsMetadata.from_attribute(value)


@pytest.mark.parametrize("change", [{"format": 2}, {"new_field": 1}, {"step_db": ...}])
def test_metadata_with_another_format_or_other_keys_ask_for_an_update(change):
    value = {key: item for key, item in (METADATA.to_attribute() | change).items() if item is not ...}
    with pytest.raises(UnsupportedFormatError, match="update xsarcomp"):
        LatentsMetadata.from_attribute(value)


@pytest.mark.parametrize(
    "change",
    [
        {"nodata": {"unknown tag": 1}},
        {"nodata": {"numpy": "O", "shape": [], "values": ["1"]}},
        {"nodata": {"numpy": "<f4", "shape": [1000000000], "values": []}},
        {"nodata": {"numpy": "no type", "shape": [], "values": []}},
        {"nodata": {"float": "no number"}},
        {"dims": 5},
        {"calm_variances_db2": 5},
        {"calm_variances_db2": {"tuple": [1.0] * 63}},
        {"calm_variances_db2": {"tuple": [1.0] * 63 + [-1.0]}},
        {"calm_variances_db2": {"tuple": [1.0] * 63 + [{"float": "nan"}]}},
        {"speckle_scales": 0.9},
        {"speckle_scales": [0.9]},
        {"speckle_scales": {"mapping": {"": 0}}},
        {"speckle_scales": {"mapping": {"": -1.0}}},
        {"speckle_scales": {"mapping": {"": 101.0}}},
        {"speckle_scales": {"mapping": {"": "much"}}},
        {"speckle_scales": {"mapping": {"": True}}},
        {"speckle_scales": {"mapping": {"": {"float": "nan"}}}},
    ],
    ids=str,
)
def test_damaged_metadata_give_an_error_of_xsarcomp(change):
    with pytest.raises(SarcompError):
        LatentsMetadata.from_attribute(METADATA.to_attribute() | change)


def test_the_loss_names_model_step_and_target():
    text = loss_text(METADATA)
    assert all(part in text for part in ("some-model", "0000", "2.25 dB", "bits_per_pixel=1"))
    assert "speckle" not in text
    assert loss_text(METADATA, with_speckle=True) == f"{text}; synthetic speckle was added"


def test_python_objects_are_left_out_with_a_warning_that_names_them():
    attributes = {"units": "1", "spec": object(), "transform": (1.0, 2.0), "when": np.datetime64("2024-01-01")}
    with pytest.warns(UserWarning, match=r"'vv'.*spec \(object\), when \(datetime64\)"):
        kept = storable_attributes(attributes, "vv")
    assert kept == {"units": "1", "transform": (1.0, 2.0)}


def test_attributes_that_all_can_be_stored_cause_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert storable_attributes({1: "key that is no text"}, "vv") == {"1": "key that is no text"}
