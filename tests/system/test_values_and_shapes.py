"""Any array through any way of storing chunks: what is no backscatter to the bit, the rest within the step, or a typed error.

The law stands in :mod:`tests.support.value_tables`. ``test_values_and_shapes_of_latents`` has the same for latents stores.
Every day a pairwise sample of the tables runs; ``make soak`` runs the rest.
"""

import itertools

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support.pairwise import sampled
from tests.support.value_tables import (
    FLOATS,
    INTEGERS,
    LARGEST_ERROR_STEPS,
    LAYOUTS,
    SHAPE,
    SHAPES,
    VALUES,
    applies,
    assert_kept,
    native,
    speckle,
    type_factors,
)
from xsarcomp.codec.chunk import decode_backscatter, encode_backscatter
from xsarcomp.codec.installed_models import resolve_model
from xsarcomp.codec.settings import Settings
from xsarcomp.errors import DimensionError, RadiometryError
from xsarcomp.stores import codec_numcodecs, codec_zarr

pytestmark = pytest.mark.slow

LARGEST_EXCESS = 128  # bytes of a frame beyond those of its values
STEP_DB = 0.3
FINE, COARSE = 0.02, 8.0
ALL_VALUES = [
    (name, dtype, scale)
    for name in VALUES
    for dtype in (*FLOATS, *INTEGERS)
    for scale in ("power", "amplitude", "decibel")
    if applies(name, dtype, scale)
]


def identifier(parts):
    return "-".join(map(str, parts))


def through_frame(values, scale, nodata, coder, step_db=STEP_DB):
    """What a frame gives back; the same bytes each time, the same pixels each time, the input as it was."""
    before, flags = values.tobytes(), str(values.flags)
    chunk_settings = Settings(step_db=step_db, scale=scale, nodata=nodata)
    content = encode_backscatter(values, chunk_settings, coder)
    assert content == encode_backscatter(values, chunk_settings, coder)
    assert (values.tobytes(), str(values.flags)) == (before, flags)
    assert len(content) <= values.nbytes + LARGEST_EXCESS
    found = decode_backscatter(content, nodata, coder)
    assert found.tobytes("A") == decode_backscatter(content, nodata, coder).tobytes("A")
    assert found.dtype == values.dtype
    assert found.flags.writeable
    return found


def factors_of_values(case):
    name, dtype, scale = case
    return name, *type_factors(dtype), scale


@pytest.mark.parametrize("case", sampled(ALL_VALUES, identifier, factors_of_values))
def test_every_kind_of_value_of_every_type_comes_back_from_a_frame(coder, case):
    name, dtype, scale = case
    make, nodata, _ = VALUES[name]
    values = make(SHAPE, dtype, scale)
    for step_db in (STEP_DB, COARSE):
        found = through_frame(values, scale, nodata, coder, step_db)
        assert_kept(values, found, scale, nodata, LARGEST_ERROR_STEPS * step_db)


def factors_of_layouts(case):
    shape, layout = case
    return min(len(shape), 4), layout


@pytest.mark.parametrize("case", sampled(itertools.product(SHAPES, LAYOUTS), identifier, factors_of_layouts))
def test_every_shape_and_memory_layout_comes_back_from_a_frame(coder, case):
    shape, layout = case
    plain = speckle(shape, "<f4", "power")
    plain[..., 0] = np.nan
    values = LAYOUTS[layout](plain)
    np.testing.assert_array_equal(values, plain)
    found = through_frame(values, "power", None, coder)
    assert_kept(values, found, "power", None, LARGEST_ERROR_STEPS * STEP_DB)
    np.testing.assert_array_equal(native(found), native(through_frame(plain, "power", None, coder)))


@given(
    data=st.data(),
    dtype=st.sampled_from([*FLOATS, *INTEGERS]),
    scale=st.sampled_from(["power", "amplitude", "decibel"]),
)
@settings(deadline=None, max_examples=150)
def test_whatever_numbers_an_array_holds_they_come_back_from_a_frame(coder, data, dtype, scale):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=9))
    values = data.draw(hnp.arrays(np.dtype(dtype), shape))
    own = float(values.reshape(-1)[0])
    nodata = data.draw(st.sampled_from([None, 0.0, -9999.0, 1, 7, own if np.isfinite(own) else None]))
    step_db = data.draw(st.sampled_from([FINE, STEP_DB, COARSE]))
    found = through_frame(values, scale, nodata, coder, step_db)
    assert_kept(values, found, scale, nodata, LARGEST_ERROR_STEPS * step_db)


REFUSED_SHAPES = [(), (9,), (0, 8), (8, 0), (0, 0), (0, 8, 8), (8, 0, 8), (1,) * 9]
REFUSED_TYPES = ["?", "c8", "c16", "O", "U3", "S2", "M8[s]", "m8[s]", "f16", "i8", "u8", "V4"]


@pytest.mark.parametrize("shape", REFUSED_SHAPES, ids=str)
def test_shapes_that_a_chunk_cannot_have_are_refused_by_every_codec(coder, shape):
    values = np.ones(shape, np.float32)
    with pytest.raises(DimensionError, match=r"shape .* (cannot be coded: )?expected"):
        encode_backscatter(values, Settings(step_db=1.0, scale="power"), coder)
    with pytest.raises(DimensionError, match=r"shape .* (cannot be coded: )?expected"):
        codec_numcodecs.BackscatterCodec(resolve_model("s1-grd-10m-lapped"), 1.0, "power").encode(values)


@pytest.mark.parametrize("dtype", REFUSED_TYPES)
def test_types_that_hold_no_backscatter_or_have_no_code_are_refused_by_every_codec(coder, dtype):
    values = np.zeros((8, 8), dtype)
    with pytest.raises(RadiometryError, match="type"):
        encode_backscatter(values, Settings(step_db=1.0, scale="power"), coder)
    with pytest.raises(RadiometryError, match="type"):
        codec_numcodecs.BackscatterCodec(resolve_model("s1-grd-10m-lapped"), 1.0, "power").encode(values)


def test_masked_pixels_are_refused_because_nobody_sees_the_mask_afterwards(coder):
    values = np.ma.masked_less(speckle(SHAPE, "<f4", "power"), 0.1)
    with pytest.raises(RadiometryError, match=r"masked pixels.*filled"):
        encode_backscatter(values, Settings(step_db=1.0, scale="power"), coder)
    codec = codec_numcodecs.BackscatterCodec(resolve_model("s1-grd-10m-lapped"), 1.0, "power")
    with pytest.raises(RadiometryError, match=r"masked pixels.*filled"):
        codec.encode(values)
    nothing_masked = np.ma.masked_less(values.data, 0)
    assert codec.encode(nothing_masked) == codec.encode(values.data)


def stored_array(values, codec, chunks, zarr_format, order="C", **options):
    """A Zarr array in memory that holds the values, read back with a handle of its own."""
    place = {"compressors": [codec], "order": order} if zarr_format == 2 else {"serializer": codec, "compressors": None}
    fill_value = np.nan if values.dtype.kind == "f" else 0
    array = zarr.create_array(
        store={}, shape=values.shape, chunks=chunks, dtype=values.dtype, zarr_format=zarr_format,
        **({"fill_value": fill_value} | place | options),
    )  # fmt: skip
    array[...] = values
    return array


WAYS = {
    "format 3": (3, {}),
    "format 3, Fortran memory": (3, {"config": {"order": "F"}}),
    "format 2": (2, {}),
    "format 2, Fortran order": (2, {"order": "F"}),
}
CHUNKED = [
    (name, dtype, chunks, way)
    for name in ("speckle", "nan", "zero", "some nodata 1", "some nan", "all kinds", "300 dB", "a pixel of 1e30")
    for dtype in ("<f4", ">f4", "<f8", ">f2", "<u2", ">i4", "|u1")
    for chunks in ((1, 1), (3, 7), (19, 21))
    for way in WAYS
    if applies(name, dtype, "power") and not (chunks == (1, 1) and dtype not in ("<f4", "<u2"))
]


def factors_of_chunks(case):
    name, dtype, chunks, way = case
    return name, *type_factors(dtype), chunks, way


@pytest.mark.parametrize("case", sampled(CHUNKED, identifier, factors_of_chunks))
def test_every_kind_of_value_comes_back_from_zarr_arrays_of_small_chunks(case):
    name, dtype, chunks, way = case
    make, nodata, _ = VALUES[name]
    shape = (3, 4) if chunks == (1, 1) else (8, 9) if chunks == (3, 7) else SHAPE
    values = make(shape, dtype, "power")
    values.setflags(write=False)
    zarr_format, options = WAYS[way]
    codecs = codec_numcodecs if zarr_format == 2 else codec_zarr
    codec = codecs.BackscatterCodec(resolve_model("s1-grd-10m-lapped"), STEP_DB, "power", nodata)
    stored = [stored_array(values, codec, chunks, zarr_format, **options) for _ in range(2)]
    found = stored[0][...]
    if zarr_format == 3 and nodata is None and values.dtype.kind != "f":
        nodata = 0  # the fill value of the array
    assert_kept(values, found, "power", nodata, LARGEST_ERROR_STEPS * STEP_DB)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(stored[0][...], found)
    contents = [{key: value.to_bytes() for key, value in one.store._store_dict.items()} for one in stored]
    assert contents[0] == contents[1]
    raw = int(np.prod(chunks)) * values.dtype.itemsize
    frames = [content for key, content in contents[0].items() if content[:4] == b"XSAR"]
    assert all(len(content) <= raw + LARGEST_EXCESS for content in frames)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shape", [(0, 8), (8, 0), (0, 0), (3, 0, 5)], ids=str)
def test_empty_zarr_arrays_stay_empty(shape, zarr_format):
    codecs = codec_numcodecs if zarr_format == 2 else codec_zarr
    codec = codecs.BackscatterCodec(resolve_model("s1-grd-10m-lapped"), STEP_DB, "power")
    array = stored_array(np.ones(shape, np.float32), codec, tuple(max(1, size) for size in shape), zarr_format)
    assert array[...].shape == shape


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shape", [(), (9,)], ids=str)
def test_zarr_arrays_without_a_plane_are_refused(shape, zarr_format):
    codecs = codec_numcodecs if zarr_format == 2 else codec_zarr
    codec = codecs.BackscatterCodec(resolve_model("s1-grd-10m-lapped"), STEP_DB, "power")
    with pytest.raises(DimensionError, match="at least 2 dimensions"):
        stored_array(np.ones(shape, np.float32), codec, shape, zarr_format)
