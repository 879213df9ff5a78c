"""The engine: a latents store opens as backscatter, and only what is read is decoded."""

import itertools
import pickle

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from xsarcomp.codec import chunk
from xsarcomp.errors import CorruptStreamError, NotEncodedError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def original():
    """Two times of 600 x 560 pixels: 2 x 2 chunks of latents each."""
    values = np.random.default_rng(3).gamma(4.4, 0.1 / 4.4, (2, 600, 560)).astype(np.float32)
    values[0, :30, 40:90] = np.nan
    values[1, 5, 5] = -1e-3
    coordinates = {"time": [10, 20], "y": np.arange(600.0)[::-1], "x": np.arange(560.0)}
    return xr.DataArray(values, dims=("time", "y", "x"), name="vv", coords=coordinates, attrs={"units": "1"})


@pytest.fixture(scope="module")
def store(original, tmp_path_factory):
    path = tmp_path_factory.mktemp("engine") / "scene.zarr"
    original.sarcomp.encode(bits_per_pixel=1).to_zarr(path, zarr_format=3, consolidated=False)
    return path


@pytest.fixture(scope="module")
def whole(store):
    return xr.open_zarr(store, consolidated=False).sarcomp.decode().vv.compute()


@pytest.fixture
def decoded_chunks(monkeypatch):
    """Shapes of the chunks of latents that were decoded."""
    calls = []
    decode = chunk.decode_latents

    def counted(*arguments):
        calls.append(decode(*arguments).shape)
        return decode(*arguments)

    monkeypatch.setattr(chunk, "decode_latents", counted)
    return calls


def assert_near(found, expected):
    """Equal up to rounding: windows of other shapes sum float32 in another order."""
    xr.testing.assert_allclose(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("as_path", [str, lambda path: path], ids=["text", "path"])
def test_opening_decodes_nothing_and_gives_the_original_frame(original, store, whole, decoded_chunks, as_path):
    with xr.open_dataset(as_path(store), engine="sarcomp") as opened:
        assert decoded_chunks == []
        assert opened.vv.dims == original.dims
        assert opened.vv.dtype == original.dtype
        assert "sarcomp-decode" not in repr(opened)
        assert decoded_chunks == []
        xr.testing.assert_identical(opened.coords.to_dataset(), original.coords.to_dataset())
        assert set(opened.data_vars) == {"vv"}
        assert_near(opened.vv.load(), whole)
        assert opened.vv.attrs == whole.attrs


@pytest.mark.parametrize(
    "window",
    [
        np.s_[0, :10, :10],
        np.s_[:, 100:110, 300],
        np.s_[1, -5:, -7:],
        np.s_[0, 500:530:7, ::-50],
        np.s_[[1, 0], 3, [5, 1, 559]],
        np.s_[1, 5, 5],
        np.s_[0, 5:5, :],
        np.s_[::-1, 599:590:-1, 10],
    ],
    ids=str,
)
def test_any_indexing_gives_that_part_of_the_whole(store, whole, window):
    opened = xr.open_dataset(store, engine="sarcomp")
    assert_near(opened.vv[window].load(), whole[window])


INDICES = (
    st.integers(-7, 6)
    | st.slices(7)
    | st.lists(st.integers(-7, 6), max_size=4).map(lambda positions: np.array(positions, np.intp))
    | st.lists(st.booleans(), min_size=7, max_size=7).map(np.array)
)
"""Index of an axis of 7 positions: one, a slice with any step, several in any order, a mask."""


@pytest.fixture(scope="module")
def small_stores(tmp_path_factory):
    """A store for each order of the dimensions, each of size 7; and its decoded values."""
    values = np.random.default_rng(3).gamma(4.4, 0.1 / 4.4, (7, 7, 7)).astype(np.float32)
    values[2, 3], values[4, 1, 1] = np.nan, -1e-3
    opened = {}
    for dims in itertools.permutations(("time", "y", "x")):
        path = tmp_path_factory.mktemp("order") / "scene.zarr"
        scene = xr.DataArray(values, dims=("time", "y", "x"), name="vv").transpose(*dims)
        scene.sarcomp.encode(bits_per_pixel=4).to_zarr(path, zarr_format=3, consolidated=False)
        decoded = xr.open_zarr(path, consolidated=False).sarcomp.decode().vv.compute()
        assert decoded.dims == dims
        opened[dims] = xr.open_dataset(path, engine="sarcomp", cache=False).vv, decoded
    return opened


@given(data=st.data())
def test_any_index_in_any_order_of_dimensions_gives_that_part_of_the_whole(small_stores, data):
    """Twice in a row, and after a transposition: each is done lazily, on top of the one before."""
    found, expected = small_stores[data.draw(st.sampled_from(sorted(small_stores)), label="order in the store")]
    indices = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(found.dims, INDICES)), label="first")
    found, expected = found.isel(indices), expected.isel(indices)
    order = data.draw(st.permutations(found.dims), label="transposed")
    found, expected = found.transpose(*order), expected.transpose(*order)
    again = {
        name: data.draw(st.integers(0, size - 1) | st.slices(size), label=f"second, {name}")
        for name, size in found.sizes.items()
        if size and data.draw(st.booleans())
    }
    assert_near(found.isel(again).load(), expected.isel(again))


@given(data=st.data())
def test_points_are_picked_in_any_order_of_dimensions(small_stores, data):
    found, expected = small_stores[data.draw(st.sampled_from(sorted(small_stores)), label="order in the store")]
    dims = data.draw(st.lists(st.sampled_from(found.dims), min_size=1, unique=True), label="picked")
    positions = st.lists(st.integers(-7, 6), min_size=3, max_size=3)
    points = {name: xr.DataArray(data.draw(positions, label=name), dims="point") for name in dims}
    found, expected = found.isel(points), expected.isel(points)
    one = {name: data.draw(st.integers(0, size - 1), label=name) for name, size in found.sizes.items()}
    assert_near(found.load(), expected)
    assert_near(found.isel(one).load(), expected.isel(one))


def test_one_pixel_decodes_only_its_chunk_in_any_order_of_dimensions(original, tmp_path, decoded_chunks):
    scene = original.transpose("y", "time", "x")
    scene.sarcomp.encode(bits_per_pixel=1).to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    opened = xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp").vv
    assert opened.isel(y=3, x=4, time=1).values == pytest.approx(float(scene[3, 1, 4]), rel=1)
    assert len(decoded_chunks) == 1


def test_points_picked_one_by_one(store, whole):
    rows, columns = xr.DataArray([3, 599, 250], dims="point"), xr.DataArray([559, 0, 77], dims="point")
    opened = xr.open_dataset(store, engine="sarcomp")
    assert_near(opened.vv.isel(time=0, y=rows, x=columns).load(), whole.isel(time=0, y=rows, x=columns))


@pytest.mark.parametrize(
    ("window", "count"),
    [(np.s_[0, 100:110, 100:110], 1), (np.s_[1, 505:520, 50], 2), (np.s_[:, 505:520, 505:520], 8), (np.s_[0, 3:3], 0)],
    ids=str,
)
def test_a_window_decodes_only_the_chunks_that_it_needs(store, decoded_chunks, window, count):
    xr.open_dataset(store, engine="sarcomp").vv[window].load()
    assert len(decoded_chunks) == count


def test_chunks_follow_the_store(store, whole):
    opened = xr.open_dataset(store, engine="sarcomp", chunks={})
    assert opened.vv.chunks == ((1, 1), (512, 88), (512, 48))
    assert_near(opened.vv.compute(), whole)


def test_an_opened_dataset_can_be_pickled_and_is_small(store, whole):
    opened = xr.open_dataset(store, engine="sarcomp")
    content = pickle.dumps(opened.vv.isel(time=0, y=slice(0, 20)))
    assert len(content) < 100_000
    assert_near(pickle.loads(content).load(), whole.isel(time=0, y=slice(0, 20)))


def test_threads_may_read_at_once(store, whole):
    from concurrent.futures import ThreadPoolExecutor

    opened = xr.open_dataset(store, engine="sarcomp", cache=False)
    starts = range(0, 600, 75)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda start: opened.vv[1, start : start + 75].values, starts))
    np.testing.assert_allclose(np.concatenate(parts), whole[1].values, rtol=1e-5)


def test_variables_can_be_left_out_and_groups_opened(original, tmp_path):
    first, second = (original.isel(time=time, x=slice(0, 40), drop=True) for time in (0, 1))
    pair = xr.Dataset({"vv": first, "vh": second})
    pair.sarcomp.encode(bits_per_pixel=2).to_zarr(
        tmp_path / "a.zarr", group="scenes/first", zarr_format=3, consolidated=False
    )
    opened = xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp", group="scenes/first")
    assert set(opened.data_vars) == {"vv", "vh"}
    part = xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp", group="scenes/first", drop_variables="vh")
    assert set(part.data_vars) == {"vv"}
    assert set(
        xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp", group="scenes/first", drop_variables=["vv"]).data_vars
    ) == {"vh"}


def test_the_reference_system_is_there_without_asking(scene, tmp_path):
    scene.sarcomp.encode(bits_per_pixel=1).to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    opened = xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp")
    assert opened.vv.rio.crs == scene.vv.rio.crs
    assert opened.vv.rio.transform() == scene.vv.rio.transform()
    assert set(opened.coords) == set(scene.coords)


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part:zarr.errors.ZarrUserWarning")
def test_consolidated_stores_open_as_well(scene, tmp_path):
    scene.sarcomp.encode(bits_per_pixel=1).to_zarr(tmp_path / "a.zarr", zarr_format=3)
    assert xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp").vv.shape == scene.vv.shape


def test_arrays_of_size_zero_and_one(tmp_path):
    for number, shape in enumerate([(0, 4), (4, 0), (1, 1)]):
        values = xr.DataArray(np.full(shape, 0.1, np.float32), dims=("y", "x"), name="vv")
        values.sarcomp.encode(rmse_db=1).to_zarr(tmp_path / f"{number}.zarr", zarr_format=3, consolidated=False)
        opened = xr.open_dataset(tmp_path / f"{number}.zarr", engine="sarcomp").vv.load()
        assert opened.shape == shape
        np.testing.assert_allclose(opened.values, values.values, rtol=0.3)


def test_a_store_without_latents_is_refused_with_advice(scene, tmp_path):
    scene.to_zarr(tmp_path / "plain.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(NotEncodedError, match="holds no latents"):
        xr.open_dataset(tmp_path / "plain.zarr", engine="sarcomp")


def test_a_damaged_chunk_is_an_error(scene, tmp_path):
    scene.sarcomp.encode(bits_per_pixel=1).to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    opened = xr.open_dataset(tmp_path / "a.zarr", engine="sarcomp")
    file = tmp_path / "a.zarr/vv_latents/c/0/0/0"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CorruptStreamError):
        opened.vv.load()
    assert np.isfinite(opened.vh.load()).any()


def test_xarray_never_guesses_this_engine(store):
    from xsarcomp.backend import SarcompBackendEntrypoint

    assert not SarcompBackendEntrypoint().guess_can_open(str(store))
    assert "vv_latents" in xr.open_dataset(store, engine="zarr", consolidated=False)
