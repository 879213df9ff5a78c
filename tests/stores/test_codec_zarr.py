"""Codecs of Zarr format 3: strict metadata, any pipeline around them, no guess where bytes are wrong."""

import json
import pickle

import numpy as np
import pytest
import zarr
from zarr.core.array_spec import ArrayConfig, ArraySpec
from zarr.core.buffer import default_buffer_prototype

from tests.support.laws import check_near
from xsarcomp.codec import chunk
from xsarcomp.codec.installed_models import load_coder, resolve_model
from xsarcomp.errors import (
    ConfigurationError,
    CorruptStreamError,
    DimensionError,
    LimitExceededError,
    ModelNotFoundError,
    RadiometryError,
    SarcompError,
)
from xsarcomp.stores.codec_zarr import BackscatterCodec, LatentsCodec

MODEL = "ab" * 32
BACKSCATTER = {"model": MODEL, "step_db": 1.5, "scale": "power", "nodata": None}
LATENTS = {"model": MODEL, "anchor": 3}
BOTH = pytest.mark.parametrize(
    ("codec", "settings"), [(BackscatterCodec, BACKSCATTER), (LatentsCodec, LATENTS)], ids=["backscatter", "latents"]
)


def metadata(codec, settings):
    return {"name": codec.codec_name, "configuration": settings}


@pytest.fixture
def values():
    return np.random.default_rng(0).gamma(4.4, 0.1 / 4.4, (100, 130)).astype(np.float32)


@pytest.fixture
def codec():
    return BackscatterCodec(model=resolve_model(), step_db=2.0, scale="power")


def create(codec, shape=(100, 130), chunks=(64, 64), dtype="float32", **options):
    options = {"fill_value": np.nan, "compressors": None} | options
    return zarr.create_array(store={}, shape=shape, chunks=chunks, dtype=dtype, serializer=codec, **options)


@BOTH
def test_metadata_is_json_both_ways(codec, settings):
    instance = codec(**settings)
    text = json.dumps(instance.to_dict(), allow_nan=False)
    assert codec.from_dict(json.loads(text)) == instance
    assert json.loads(text) == metadata(codec, settings)


@BOTH
def test_equal_codecs_are_equal_hash_alike_and_pickle_small(codec, settings):
    one, other = codec(**settings), codec(**settings)
    assert one == other
    assert hash(one) == hash(other)
    assert one != codec(**(settings | {"model": "cd" * 32}))
    assert pickle.loads(pickle.dumps(one)) == one
    assert len(pickle.dumps(one)) < 500


@BOTH
@pytest.mark.parametrize("change", [{"unknown": 1}, {"model": ...}], ids=str)
def test_unknown_and_missing_keys_are_refused(codec, settings, change):
    changed = {key: value for key, value in (settings | change).items() if value is not ...}
    with pytest.raises(ConfigurationError, match=r"missing or unknown keys.*update xsarcomp"):
        codec.from_dict(metadata(codec, changed))


@BOTH
def test_a_missing_configuration_and_another_name_are_refused(codec, settings):
    with pytest.raises(ConfigurationError):
        codec.from_dict({"name": codec.codec_name})
    with pytest.raises(ConfigurationError, match="expected codec"):
        codec.from_dict({"name": "bytes", "configuration": settings})


@pytest.mark.parametrize(
    "model", [None, 5, "", "s1-grd-10m", "AB" * 32, "ab" * 31, "ab" * 32 + "\n", "../" * 21 + "x"], ids=repr
)
@BOTH
def test_a_model_that_is_no_id_is_refused(codec, settings, model):
    with pytest.raises(ConfigurationError, match="64 hexadecimal digits"):
        codec.from_dict(metadata(codec, settings | {"model": model}))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"step_db": np.nan}, ConfigurationError),
        ({"step_db": np.inf}, ConfigurationError),
        ({"step_db": 0}, ConfigurationError),
        ({"step_db": -1.0}, ConfigurationError),
        ({"step_db": True}, ConfigurationError),
        ({"step_db": "1"}, ConfigurationError),
        ({"nodata": np.nan}, ConfigurationError),
        ({"nodata": False}, ConfigurationError),
        ({"nodata": "0"}, ConfigurationError),
        ({"scale": "linear"}, RadiometryError),
        ({"scale": None}, RadiometryError),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(change, error):
    with pytest.raises(error):
        BackscatterCodec.from_dict(metadata(BackscatterCodec, BACKSCATTER | change))


@pytest.mark.parametrize("anchor", [-1, 256, 1.0, True, "1", None], ids=repr)
def test_a_wrong_table_set_is_refused(anchor):
    with pytest.raises(ConfigurationError, match="integer from 0 to 255"):
        LatentsCodec(model=MODEL, anchor=anchor)


def test_arrays_that_hold_no_backscatter_are_refused_when_they_are_created(codec):
    with pytest.raises(RadiometryError):
        create(codec, dtype="complex64", fill_value=0)
    with pytest.raises(RadiometryError):
        create(codec, dtype="bool", fill_value=False)
    with pytest.raises(DimensionError, match="at least 2 dimensions"):
        create(codec, shape=(100,), chunks=(10,))


@pytest.mark.parametrize(("dtype", "shape"), [("float32", (64, 5, 5)), ("int32", (5, 5))])
def test_arrays_that_hold_no_latents_are_refused_when_they_are_created(dtype, shape):
    with pytest.raises(DimensionError, match="int32 arrays"):
        create(LatentsCodec(model=resolve_model(), anchor=0), dtype=dtype, shape=shape, chunks=shape, fill_value=0)


def test_chunks_of_any_place_come_back(codec, values):
    stored = create(codec)
    stored[:] = values
    check_near(stored[:], values)
    check_near(stored[70:75, 60:70], values[70:75, 60:70])
    again = zarr.open_array(stored.store, mode="r")
    np.testing.assert_array_equal(again[:], stored[:])


@pytest.mark.parametrize("fill_value", [0.0, -9999.0, np.nan])
def test_the_fill_value_of_the_array_is_no_backscatter(codec, values, fill_value):
    holes = values.copy()
    holes[40:50, 100:] = fill_value
    stored = create(codec, fill_value=fill_value)
    stored[:] = holes
    np.testing.assert_array_equal(stored[40:50, 100:], holes[40:50, 100:])
    # had the filling bled into the border, the neighbors would be off by tens of decibels
    check_near(stored[38:40], values[38:40])
    check_near(stored[90:, 120:], values[90:, 120:])


def test_shards_of_chunks(codec, values):
    stored = create(codec, chunks=(32, 32), shards=(64, 64))
    stored[:] = values
    check_near(stored[:], values)


def test_a_transposition_before_the_codec_and_a_compressor_after_it(codec, values):
    filters = [zarr.codecs.TransposeCodec(order=(1, 0))]
    stored = create(codec, filters=filters, compressors=[zarr.codecs.ZstdCodec(level=1)])
    stored[:] = values
    check_near(stored[:], values)


def test_big_endian_arrays(codec, values):
    stored = create(codec, dtype=">f4")
    stored[:] = values
    check_near(stored[:], values.astype(stored.dtype))


def test_writing_and_reading_in_many_threads_gives_the_same(codec, values):
    large = np.tile(values, (2, 2))
    results = []
    for concurrency in (1, 10):
        with zarr.config.set({"async.concurrency": concurrency}):
            stored = create(codec, shape=large.shape, chunks=(50, 65))
            stored[:] = large
            results.append(stored[:])
    np.testing.assert_array_equal(*results)
    check_near(results[0], large)


def test_equal_chunks_give_equal_bytes(codec, values):
    stores = [{}, {}]
    for store in stores:
        array = zarr.create_array(
            store=store,
            shape=(100, 130),
            chunks=(64, 64),
            dtype="float32",
            serializer=codec,
            compressors=None,
            fill_value=np.nan,
        )
        array[:] = values
    assert {key: value.to_bytes() for key, value in stores[0].items()} == {
        key: value.to_bytes() for key, value in stores[1].items()
    }


def test_latents_come_back_without_loss():
    latents = np.random.default_rng(0).integers(-3, 4, (2, 64, 9, 11)).astype(np.int32)
    stored = create(
        LatentsCodec(model=resolve_model(), anchor=2),
        shape=latents.shape,
        chunks=(1, 64, 4, 4),
        dtype="int32",
        fill_value=0,
    )
    stored[:] = latents
    np.testing.assert_array_equal(stored[:], latents)


def test_chunks_that_split_the_latents_are_refused_with_advice():
    stored = create(
        LatentsCodec(model=resolve_model(), anchor=2), shape=(64, 4, 4), chunks=(32, 4, 4), dtype="int32", fill_value=0
    )
    with pytest.raises(DimensionError, match="chunks that encode"):
        stored[:] = np.ones((64, 4, 4), np.int32)


def test_symbols_beyond_the_format_are_refused():
    stored = create(
        LatentsCodec(model=resolve_model(), anchor=2), shape=(64, 4, 4), chunks=(64, 4, 4), dtype="int32", fill_value=0
    )
    with pytest.raises(LimitExceededError):
        stored[:] = np.full((64, 4, 4), 2**30, np.int32)


def test_a_model_that_is_not_installed_is_named(values):
    stored = create(BackscatterCodec(**BACKSCATTER))
    with pytest.raises(ModelNotFoundError, match="abab"):
        stored[:] = values


def test_the_two_kinds_of_chunks_are_told_apart(codec, values):
    import asyncio

    stored = create(codec, shape=(64, 64, 8), chunks=(64, 64, 8))
    stored[:] = 0.1
    content = asyncio.run(stored.store_path.store.get("c/0/0/0", zarr.core.buffer.default_buffer_prototype()))
    other = create(
        LatentsCodec(model=resolve_model(), anchor=2),
        shape=(64, 64, 8),
        chunks=(64, 64, 8),
        dtype="int32",
        fill_value=0,
    )
    asyncio.run(other.store_path.store.set("c/0/0/0", content))
    with pytest.raises(SarcompError, match="kind"):
        other[:]


def test_the_size_of_a_chunk_is_not_known_before(codec):
    with pytest.raises(NotImplementedError):
        codec.compute_encoded_size(100, None)


def test_the_names_are_registered(codec):
    from zarr.registry import get_codec_class

    assert get_codec_class("xsarcomp.backscatter") is BackscatterCodec
    assert get_codec_class("xsarcomp.latents") is LatentsCodec


@pytest.fixture
def latents_array():
    """Latents of 2 x 90 x 70 in chunks of 64, some of which were never written."""
    latents = np.random.default_rng(2).integers(-4, 5, (2, 64, 90, 70)).astype(np.int32)
    latents[1, :, :64, :64] = 0
    codec = LatentsCodec(model=resolve_model("s1-grd-10m-lapped"), anchor=3)
    array = create(codec, latents.shape, (1, 64, 64, 64), "int32", fill_value=0, config={"write_empty_chunks": False})
    array[:] = latents
    return array, latents


@pytest.fixture
def lowest_decodings(monkeypatch):
    shapes = []
    decode = chunk.decode_lowest_latents
    monkeypatch.setattr(
        chunk, "decode_lowest_latents", lambda *given: shapes.append(decode(*given).shape) or decode(*given)
    )
    return shapes


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        (np.s_[:, :1], 7),
        (np.s_[:, 0], 7),
        (np.s_[0, 0:1, 3:70:2, 66], 2),
        (np.s_[0, 0, 5, 5], 1),
        (np.s_[1, 0, :64, :64], 0),
        (np.s_[:, :2], 0),
        (np.s_[:, 1:2, :9], 0),
        (np.s_[0, -1, 5, 5], 0),
        (np.s_[:], 0),
    ],
    ids=str,
)
def test_of_a_selection_of_the_lowest_latent_no_other_is_decoded(latents_array, lowest_decodings, selection, count):
    array, latents = latents_array
    found = array[selection]
    np.testing.assert_array_equal(found, latents[selection])
    assert np.shape(found) == latents[selection].shape
    assert len(lowest_decodings) == count


def test_any_other_way_of_selecting_gives_the_same(latents_array):
    array, latents = latents_array
    rows, columns = [3, 80, 64], [69, 0]
    np.testing.assert_array_equal(
        array.oindex[np.array([1]), slice(0, 1), np.array(rows), np.array(columns)],
        latents[np.ix_([1], [0], rows, columns)],
    )
    np.testing.assert_array_equal(
        array.vindex[[0, 1, 1], [0, 0, 5], [80, 3, 89], [1, 69, 2]],
        latents[[0, 1, 1], [0, 0, 5], [80, 3, 89], [1, 69, 2]],
    )
    np.testing.assert_array_equal(array.blocks[0, 0, 1, 1], latents[:1, :, 64:, 64:])


def test_the_lowest_latent_of_chunks_in_shards(lowest_decodings):
    latents = np.random.default_rng(2).integers(-4, 5, (64, 64, 64)).astype(np.int32)
    codec = LatentsCodec(model=resolve_model("s1-grd-10m-lapped"), anchor=3)
    array = create(codec, latents.shape, (64, 32, 32), "int32", fill_value=0, shards=(64, 64, 64))
    array[:] = latents
    np.testing.assert_array_equal(array[:1, 5:40, :10], latents[:1, 5:40, :10])
    assert lowest_decodings == [(32, 32)] * 2


def test_the_lowest_latent_of_a_chunk_of_another_shape_is_refused(tmp_path):
    codec = LatentsCodec(model=resolve_model("s1-grd-10m-lapped"), anchor=3)
    options = {"chunks": (64, 8, 8), "dtype": "int32", "serializer": codec, "compressors": None}
    array = zarr.create_array(store=tmp_path / "a.zarr", shape=(64, 8, 8), **options)
    array[:] = 1
    content = chunk.encode_latents(np.ones((64, 4, 4), np.int32), 3, load_coder(codec.model))
    (tmp_path / "a.zarr/c/0/0/0").write_bytes(content)
    for selection in (np.s_[:1], np.s_[:]):
        with pytest.raises(CorruptStreamError, match="the array's metadata says"):
            array[selection]


def test_a_pipeline_without_an_event_loop_gets_the_same_parts(latents_array, lowest_decodings):
    array, latents = latents_array
    part = latents[:1, :, :64, :64]

    class Getter:
        def __init__(self, content):
            self.content = content

        def get_sync(self, prototype):
            return self.content and prototype.buffer.from_bytes(self.content)

    codec = LatentsCodec(model=resolve_model("s1-grd-10m-lapped"), anchor=3)
    specification = ArraySpec(
        part.shape, array.metadata.data_type, 0, ArrayConfig.from_dict({}), default_buffer_prototype()
    )
    stored = Getter(chunk.encode_latents(part, 3, load_coder(codec.model)))
    for selection, count in [(np.s_[:, :1, 5:9, :], 1), (np.s_[0, 0, 3, :], 2), (np.s_[:, 2:4, :, 7], 2)]:
        found = codec._decode_partial_sync(stored, selection, specification)
        np.testing.assert_array_equal(found.as_numpy_array(), part[selection])
        assert len(lowest_decodings) == count
    assert codec._decode_partial_sync(Getter(None), np.s_[:, :1, :, :], specification) is None
