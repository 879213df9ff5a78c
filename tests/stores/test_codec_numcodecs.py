"""The codec of Zarr format 2 and numcodecs: any memory order, strict configuration, bytes checked."""

import json
import pickle

import numcodecs
import numpy as np
import pytest
import zarr

from tests.support.laws import check_near
from xsarcomp.codec.installed_models import resolve_model
from xsarcomp.errors import BitstreamError, ConfigurationError, DimensionError, ModelNotFoundError, RadiometryError
from xsarcomp.stores.codec_numcodecs import BackscatterCodec

pytestmark = pytest.mark.slow


@pytest.fixture
def values():
    return np.random.default_rng(0).gamma(4.4, 0.1 / 4.4, (60, 90)).astype(np.float32)


@pytest.fixture
def codec():
    return BackscatterCodec(model=resolve_model(), step_db=2.0, scale="power")


def test_the_registry_makes_the_codec_from_json(codec):
    configuration = json.loads(json.dumps(codec.get_config(), allow_nan=False))
    again = numcodecs.get_codec(configuration)
    assert isinstance(again, BackscatterCodec)
    assert again == codec
    assert repr(again) == repr(codec)
    assert again.get_config() == codec.get_config()


def test_it_pickles_small_and_compares_by_its_settings(codec):
    assert pickle.loads(pickle.dumps(codec)) == codec
    assert len(pickle.dumps(codec)) < 500
    assert codec != BackscatterCodec(model=resolve_model(), step_db=3.0, scale="power")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"unknown": 1}, (ConfigurationError, TypeError)),
        ({"scale": ...}, (ConfigurationError, TypeError)),
        ({"model": "s1-grd-10m"}, ConfigurationError),
        ({"step_db": float("nan")}, ConfigurationError),
        ({"step_db": True}, ConfigurationError),
        ({"nodata": float("inf")}, ConfigurationError),
        ({"scale": "dB"}, RadiometryError),
    ],
    ids=str,
)
def test_wrong_configurations_are_refused(codec, change, error):
    configuration = {key: value for key, value in (codec.get_config() | change).items() if value is not ...}
    with pytest.raises(error):
        numcodecs.get_codec(configuration)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back_in_their_own_memory_order(codec, values, order):
    given = np.asarray(values, order=order)
    found = codec.decode(codec.encode(given))
    check_near(found, values)
    assert found.flags[f"{order}_CONTIGUOUS"]


@pytest.mark.parametrize("view", [np.s_[::2, ::3], np.s_[::-1], np.s_[5:]], ids=str)
def test_views_of_larger_arrays(codec, values, view):
    check_near(codec.decode(codec.encode(values[view])), values[view])


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda content: np.frombuffer(content, np.uint8)])
def test_bytes_in_any_wrapping(codec, values, wrap):
    content = codec.encode(values)
    np.testing.assert_array_equal(codec.decode(wrap(content)), codec.decode(content))


def test_decoding_into_an_array_that_is_there(codec, values):
    content = codec.encode(values)
    for out in (np.empty_like(values), np.empty_like(values, order="F")):
        codec.decode(content, out=out)
        np.testing.assert_array_equal(out, codec.decode(content))


def test_what_arrives_without_its_shape_is_refused_with_advice(codec, values):
    with pytest.raises(DimensionError, match="the first codec that sees the array"):
        codec.encode(values.ravel())
    with pytest.raises(DimensionError):
        codec.encode(values.tobytes())


def test_damaged_bytes_are_refused(codec, values):
    content = codec.encode(values)
    for damaged in (b"", content[:20], content[:-1], content + b"\0", b"x" * len(content)):
        with pytest.raises(BitstreamError):
            codec.decode(damaged)


def test_a_model_that_is_not_installed_is_named(values):
    with pytest.raises(ModelNotFoundError, match="abab"):
        BackscatterCodec(model="ab" * 32, step_db=1.0, scale="power").encode(values)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_format_2_in_both_orders(codec, values, order):
    stored = zarr.create_array(
        store={},
        shape=values.shape,
        chunks=(32, 32),
        dtype="f4",
        zarr_format=2,
        compressors=[codec],
        filters=None,
        order=order,
        fill_value=np.nan,
    )
    stored[:] = values
    check_near(stored[:], values)
    check_near(stored[30:50, 60:], values[30:50, 60:])


def test_nodata_is_named_in_the_configuration(values):
    codec = BackscatterCodec(model=resolve_model(), step_db=2.0, scale="power", nodata=-9999.0)
    values[:20] = -9999
    found = codec.decode(codec.encode(values))
    np.testing.assert_array_equal(found[:20], values[:20])
    check_near(found[20:], values[20:])
