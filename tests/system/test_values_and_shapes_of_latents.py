"""Any array through a latents store, in memory, on Dask, on disk and by the engine: the law of ``value_tables``.

All ways must agree: the same error, or the same latents and classes and pixels that differ by rounding only. Every day a
pairwise sample of the tables runs; ``make soak`` runs the rest.
"""

import itertools
import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support.pairwise import sampled
from tests.support.value_tables import (
    INTEGERS,
    LARGEST_ERROR_STEPS,
    LAYOUTS,
    SHAPE,
    VALUES,
    applies,
    assert_kept,
    is_invalid,
    speckle,
    type_factors,
)
from xsarcomp.errors import DimensionError, DomainWarning, RadiometryError, SarcompError

pytestmark = pytest.mark.slow

MODEL = "s1-grd-10m-lapped"
REQUEST = {"bits_per_pixel": 6.0, "model": MODEL}
TEXTURE_SHARE, LARGEST_RANGE_DB = 0.002, 1000
"""What the shipped model adds to contrast at its finest steps, where pixels may lie so far apart."""
TOLERANCE_DB = 0.01
"""What pixels may differ by where other blocks are decoded together."""


def array(values, *dims, coords=None, **attributes):
    dims = dims or ("time", "y", "x")[3 - np.ndim(values) :]
    return xr.DataArray(values, dims=dims, coords=coords, name="vv", attrs=attributes)


def attempt(given, request):
    """The encoded dataset, or type and message of the error; values unlike the training data and constant ones are expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DomainWarning)
        warnings.filterwarnings("ignore", ".* as where the declaration of nodata was lost", UserWarning)
        try:
            return given.to_dataset().sarcomp.encode(**request)
        except SarcompError as error:
            return type(error), str(error)


def assert_near(one, other, scale, nodata):
    """Equal where no backscatter is, and but for rounding where there is."""
    assert_kept(one, other, scale, nodata, TOLERANCE_DB)


def every_way(original, scale, chunks, tmp_path, nodata=None, **request):
    """Encode and decode on all paths and compare them; the step, or the error."""
    request = REQUEST | {"scale": scale} | request
    before = original.copy(deep=True)
    eager, lazy = attempt(original, request), attempt(original.chunk(chunks), request)
    xr.testing.assert_identical(original, before)
    if isinstance(eager, tuple) or isinstance(lazy, tuple):
        assert eager == lazy, "one path refuses what the other accepts"
        assert len(eager[1]) > 40
        return eager
    assert_same_parts(eager, lazy.compute())
    assert_same_parts(eager, attempt(original, request))
    step_db = eager.sarcomp.info()["vv"]["step_db"]
    decoded = eager.sarcomp.decode().vv
    bound = LARGEST_ERROR_STEPS * step_db
    assert decoded.dims == original.dims
    assert decoded.values.dtype.str == original.values.dtype.str
    xr.testing.assert_identical(decoded.coords.to_dataset(), original.coords.to_dataset())
    assert_kept(original.values, decoded.values, scale, nodata, bound)
    np.testing.assert_array_equal(eager.sarcomp.decode().vv.values, decoded.values)
    assert_near(decoded.values, lazy.sarcomp.decode().vv.values, scale, nodata)
    path = tmp_path / "store.zarr"
    lazy.to_zarr(path, zarr_format=3, consolidated=False)
    for opened in (
        xr.open_zarr(path, consolidated=False).sarcomp.decode(),
        xr.open_dataset(path, engine="sarcomp"),
        xr.open_dataset(path, engine="sarcomp", chunks={}),
    ):
        assert opened.vv.dims == original.dims
        assert opened.vv.dtype == original.dtype
        assert_near(decoded.values, opened.vv.values, scale, nodata)
    return step_db


def assert_same_parts(one, other):
    """The same latents and classes; exact values may be left out where there are none."""
    for name in set(one.data_vars) | set(other.data_vars):
        if name == "vv_exact" and (name not in one or name not in other):
            left = one if name in one else other
            assert not left[name].values.any()
        elif name == "vv_coding":  # its check numbers cover the data type with its byte order
            np.testing.assert_array_equal(one[name].isel(coding=0).values, other[name].isel(coding=0).values)
        else:
            np.testing.assert_array_equal(one[name].values, other[name].values)


TYPES = ("<f4", ">f8", "<f2", "<u2", "|i1", ">u4", "<i8", "<u8")
CASES = [
    (name, dtype, scale)
    for name in VALUES
    for dtype in TYPES
    for scale in ("power", "decibel")
    if applies(name, dtype, scale) and (scale == "power" or dtype in ("<f4", "|i1"))
]


def identifier(parts):
    return " ".join("-".join(map(str, part)) if isinstance(part, tuple) else str(part) for part in parts)


def factors_of_values(case):
    name, dtype, scale = case
    return name, type_factors(dtype)[0], scale


@pytest.mark.parametrize("case", sampled(CASES, identifier, factors_of_values))
def test_every_kind_of_value_comes_back_the_same_way_or_is_refused_alike(tmp_path, case):
    name, dtype, scale = case
    make, nodata, _ = VALUES[name]
    attributes = {} if nodata is None else {"nodata": nodata}
    original = array(make(SHAPE, dtype, scale), **attributes)
    outcome = every_way(original, scale, {"y": 8, "x": 21}, tmp_path, nodata)
    if isinstance(outcome, tuple):
        assert (name, outcome[0]) == ("negative", RadiometryError)
    elif name == "speckle":
        assert outcome < 6


@pytest.mark.parametrize("scale", ["auto", "power", "amplitude", "decibel"])
@pytest.mark.parametrize("name", ["speckle", "nan", "zero", "nodata -9999", "300 dB", "all kinds", "negative"])
def test_a_scale_that_is_found_out_is_found_out_alike_or_refused_alike(name, scale):
    make, nodata, _ = VALUES[name]
    original = array(make(SHAPE, "<f4", "power"), **({} if nodata is None else {"nodata": nodata}))
    eager, lazy = (attempt(one, REQUEST | {"scale": scale}) for one in (original, original.chunk(y=5)))
    if isinstance(eager, tuple):
        assert eager == lazy
    else:
        assert_same_parts(eager, lazy.compute())


@given(data=st.data(), dtype=st.sampled_from(TYPES), scale=st.sampled_from(["power", "amplitude", "decibel"]))
@settings(deadline=None, max_examples=30)
def test_whatever_numbers_an_array_holds_they_come_back_or_are_refused_alike(data, dtype, scale):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=12))
    values = data.draw(hnp.arrays(np.dtype(dtype), shape))
    chunks = dict(zip(("y", "x"), data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12))), strict=True))
    original, request = array(values), REQUEST | {"scale": scale, "bits_per_pixel": 2000.0}
    eager, lazy = attempt(original, request), attempt(original.chunk(chunks), request)
    if isinstance(eager, tuple):
        assert eager == lazy
        assert issubclass(eager[0], RadiometryError)
        return
    assert_same_parts(eager, lazy.compute())
    decoded = eager.sarcomp.decode().vv.values
    step_db = eager.sarcomp.info()["vv"]["step_db"]
    assert_kept(values, decoded, scale, None, LARGEST_ERROR_STEPS * step_db + TEXTURE_SHARE * LARGEST_RANGE_DB)
    assert_near(decoded, lazy.sarcomp.decode().vv.values, scale, None)


CHUNKS = {
    "one block": {},
    "smaller than the halo": {"y": 3, "x": 5},
    "one pixel": {"y": 1, "x": 1},
    "irregular": {"y": (1, 7, 2, 9), "x": (20, 1)},
    "one row": {"y": 1},
}


PLANES = ((1, 1), (1, 21), (19, 1), (19, 21), (2, 19, 21), (3, 1, 5))


def factors_of_planes(case):
    shape, chunks = case
    return len(shape), 1 in shape[-2:], chunks


@pytest.mark.parametrize("case", sampled(itertools.product(PLANES, CHUNKS), identifier, factors_of_planes))
def test_every_shape_comes_back_from_blocks_of_every_size(tmp_path, case):
    shape, chunks = case
    values = speckle(shape, "<f4", "power")
    values[..., 0] = np.nan if values.size > 1 else values[..., 0]
    sizes = dict(zip(("y", "x"), shape[-2:], strict=True))
    wanted = {
        name: one for name, one in CHUNKS[chunks].items() if np.sum(one) in (1, 3, 5) or np.sum(one) == sizes[name]
    }
    every_way(array(values), "power", wanted, tmp_path, bits_per_pixel=2000.0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_memory_layout_gives_the_same_latents(tmp_path, layout):
    plain = speckle(SHAPE, "<f4", "power")
    values = LAYOUTS[layout](plain)
    assert_same_parts(
        attempt(array(values), REQUEST | {"scale": "power"}), attempt(array(plain), REQUEST | {"scale": "power"})
    )
    every_way(array(values), "power", {"y": 8}, tmp_path)


DIMENSIONS = [
    ("y", "x"), ("x", "y"), ("band", "y", "x"), ("y", "x", "time"), ("y", "time", "x"), ("x", "time", "y"), ("lon", "lat"),
    ("latitude", "longitude"), ("time", "polarization", "y", "x"), ("x", "b", "y", "a"), ("a", "b", "c", "y", "x"),
]  # fmt: skip
COORDINATES = {
    "none": lambda size: None,
    "integers": lambda size: np.arange(size),
    "unsigned, descending": lambda size: np.arange(100, 100 - size, -1).astype("u2"),
    "floats, descending": lambda size: 5e6 - 10.0 * np.arange(size),
    "float32": lambda size: np.linspace(0, 1, size).astype("f4"),
}


def factors_of_dimensions(case):
    dims, coordinates = case
    return len(dims), coordinates


@pytest.mark.parametrize("case", sampled(itertools.product(DIMENSIONS, COORDINATES), identifier, factors_of_dimensions))
def test_every_order_of_dimensions_with_every_kind_of_coordinates(tmp_path, case):
    dims, coordinates = case
    spatial = dict(zip(("y", "x", "lat", "lon", "latitude", "longitude"), (13, 18) * 3, strict=True))
    sizes = {name: spatial.get(name, 2) for name in dims}
    coords = {name: COORDINATES[coordinates](size) for name, size in sizes.items()}
    coords = {name: (name, values) for name, values in coords.items() if values is not None}
    original = array(speckle(tuple(sizes.values()), "<f4", "power"), *dims, coords=coords)
    every_way(original, "power", dict.fromkeys(dims, 9), tmp_path)


@pytest.mark.parametrize("shape", [(0, 8), (8, 0), (0, 0), (0, 8, 8), (2, 0, 8), (2, 8, 0)], ids=str)
def test_empty_arrays_stay_empty_on_every_way(tmp_path, shape):
    original = array(np.ones(shape, np.float32))
    outcome = every_way(original, "power", {}, tmp_path)
    assert not isinstance(outcome, tuple)


REFUSED = {
    "no dimensions": (np.float32(0.1), DimensionError),
    "one dimension": (np.ones(9, np.float32), DimensionError),
    "complex": (np.ones((9, 9), np.complex64), RadiometryError),
    "longdouble": (np.ones((9, 9), np.longdouble), RadiometryError),
    "booleans": (np.ones((9, 9), bool), SarcompError),
    "objects": (np.full((9, 9), 0.1, object), SarcompError),
    "text": (np.full((9, 9), "0.1"), SarcompError),
    "times": (np.zeros((9, 9), "M8[s]"), SarcompError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_backscatter_is_refused_alike(name):
    values, error = REFUSED[name]
    given = array(values)
    eager, lazy = (attempt(one, REQUEST | {"scale": "power"}) for one in (given, given.chunk()))
    assert isinstance(eager, tuple)
    assert issubclass(eager[0], error)
    assert eager == lazy
    assert "vv" in eager[1] or str(np.asarray(values).dtype) in eager[1]


def test_masked_pixels_come_back_as_nan(tmp_path):
    values = np.ma.masked_less(speckle(SHAPE, "<f4", "power"), 0.05)
    original = array(values)
    np.testing.assert_array_equal(np.isnan(original), values.mask)
    every_way(original, "power", {"y": 8}, tmp_path)


def test_amplitudes_beyond_the_decibels_of_the_transform_are_kept_and_not_called_negative(tmp_path):
    values = np.full(SHAPE, 1e30, np.float32)
    values[:2] = speckle((2, SHAPE[1]), "<f4", "amplitude")
    assert not isinstance(every_way(array(values), "amplitude", {"y": 8}, tmp_path), tuple)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_of_every_type_come_back_as_amplitude(tmp_path, dtype):
    values = speckle(SHAPE, dtype, "amplitude")
    values[:3] = 0
    every_way(array(values), "amplitude", {"x": 10}, tmp_path)
    assert is_invalid(values, "amplitude", None)[:3].all()
