"""Times are stored so that any later date fits."""

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.scenes.times import time_encodings, with_time_encoding

FIRST = "2020-01-01"
LATER = "2021-03-04T05:06:07.123456"


def _dated(date: str, resolution: str = "ns") -> xr.Dataset:
    """A scene of one date."""
    scene = simulated_dataset((64, 64), seed=1)[["vv"]]
    return scene.expand_dims(time=np.array([date], f"datetime64[{resolution}]"))


@pytest.mark.parametrize("is_transparent", [False, True])
@pytest.mark.parametrize("resolution", ["s", "us", "ns"])
def test_a_date_appended_to_a_store_of_one_date_is_read_as_it_was(tmp_path, is_transparent, resolution):
    path, dates = tmp_path / "s.zarr", [_dated(FIRST, resolution), _dated(LATER)]
    if is_transparent:
        dates[0].sarcomp.to_zarr(path, encoding=dates[0].sarcomp.encoding(), consolidated=False)
        dates[1].to_zarr(path, append_dim="time", consolidated=False)
    else:
        dates[0].sarcomp.encode().sarcomp.to_zarr(path, consolidated=False)
        like = xr.open_zarr(path, consolidated=False)
        dates[1].sarcomp.encode(like=like).to_zarr(path, append_dim="time", consolidated=False)
    times = xr.open_zarr(path, consolidated=False).time.values
    np.testing.assert_array_equal(times, np.array([FIRST, LATER], "datetime64[ns]"))


@pytest.mark.parametrize("is_transparent", [False, True])
def test_stores_that_xarray_writes_have_the_same_encoding(tmp_path, is_transparent):
    scene = _dated(FIRST)
    if is_transparent:
        scene.to_zarr(tmp_path / "s.zarr", encoding=scene.sarcomp.encoding(), consolidated=False)
    else:
        scene.sarcomp.encode().to_zarr(tmp_path / "s.zarr", consolidated=False)
    stored = zarr.open_array(tmp_path / "s.zarr/time")
    assert (stored.dtype, stored.attrs["units"]) == (np.dtype(np.int64), "microseconds since 1970-01-01")


def test_an_encoding_of_the_user_is_kept():
    scene = _dated(FIRST)
    scene.time.encoding = {"units": "hours since 2000-01-01", "dtype": "float64"}
    assert with_time_encoding(scene).time.encoding == scene.time.encoding
    assert time_encodings(scene) == {}


@given(
    st.lists(
        st.one_of(st.integers(-(2**62), 2**62), st.just(np.iinfo(np.int64).min)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from("Mm"),
)
def test_times_and_durations_of_any_nanosecond_and_none_survive(values, kind):
    times = np.array(values, np.int64).view(f"{kind}8[ns]")
    dataset = xr.Dataset({"t": ("n", times)})
    store = zarr.storage.MemoryStore()
    with_time_encoding(dataset).to_zarr(store, consolidated=False)
    np.testing.assert_array_equal(
        xr.open_zarr(store, consolidated=False, decode_timedelta=True).t.values.astype(times.dtype), times
    )


@pytest.mark.parametrize("resolution", ["s", "ms", "us"])
def test_times_that_nanoseconds_do_not_reach_survive(resolution):
    times = np.array(["1000-01-01", "NaT", "2900-01-01"], f"datetime64[{resolution}]")
    store = zarr.storage.MemoryStore()
    with_time_encoding(xr.Dataset({"t": ("n", times)})).to_zarr(store, consolidated=False)
    read = xr.open_zarr(store, consolidated=False, decode_times=xr.coders.CFDatetimeCoder(time_unit="us")).t.values
    np.testing.assert_array_equal(read, times)
