"""Encoding of times that any later date fits, because dates are appended to a store long after it was made.

Left to itself, xarray counts in the coarsest unit that the present times allow: a store with one date counts whole days from
it, and the hours of the next date have no place there.
"""

from datetime import datetime
from typing import Any

import numpy as np
import xarray as xr

from xsarcomp.errors import ConfigurationError
from xsarcomp.scenes.variables import is_lazy

EPOCH = "1970-01-01"
CALENDAR = "proleptic_gregorian"
_UNITS = {"us": "microseconds", "ns": "nanoseconds"}
_NANOSECOND_RANGE = np.array([np.iinfo(np.int64).min + 1, np.iinfo(np.int64).max]).astype("datetime64[ns]")


def time_encodings(dataset: xr.Dataset) -> dict[Any, dict[str, Any]]:
    """Choose the encoding of the times and durations of a dataset for which the user chose none.

    Parameters
    ----------
    dataset : xarray.Dataset
        Not changed.

    Returns
    -------
    dict of name to dict
        Entries of ``encoding``: microseconds since 1970-01-01 in int64; nanoseconds where a value needs them. None for data
        types that count coarser units, see :func:`with_fine_times`.
    """
    chosen: dict[Any, dict[str, Any]] = {}
    for name, variable in dataset.variables.items():
        if variable.dtype.kind not in "mM" or {"units", "dtype"} & variable.encoding.keys():
            continue
        resolution = np.datetime_data(variable.dtype)[0]
        if resolution == "ns" and not is_lazy(variable.data):
            integers = variable.values.astype(np.int64)
            has_value = ~np.isnat(variable.values)
            resolution = "ns" if (integers[has_value] % 1000).any() else "us"
        if resolution not in _UNITS:
            continue
        units = _UNITS[resolution]
        if variable.dtype.kind == "M":
            chosen[name] = {"units": f"{units} since {EPOCH}", "calendar": CALENDAR, "dtype": "int64"}
        else:
            chosen[name] = {"units": units, "dtype": "int64"}
    return chosen


def with_fine_times(dataset: xr.Dataset) -> xr.Dataset:
    """Convert the times of a dataset to a data type that counts nanoseconds, or microseconds where those do not reach.

    xarray (2026.9) writes NaT where the unit of the encoding is finer than that of the data type, without an error.

    Parameters
    ----------
    dataset : xarray.Dataset
        Not changed.

    Returns
    -------
    xarray.Dataset
        With equal times; lazy ones stay as they are.
    """
    finer = {}
    for name, variable in dataset.variables.items():
        if variable.dtype.kind != "M" or np.datetime_data(variable.dtype)[0] not in ("s", "ms", "us"):
            continue
        if is_lazy(variable.data):
            continue
        values = variable.values[~np.isnat(variable.values)]
        fits = values.size == 0 or (_NANOSECOND_RANGE[0] <= values.min() and values.max() <= _NANOSECOND_RANGE[1])
        # a variable, not an array of the dataset: its coordinates would be joined again
        finer[name] = variable.copy(data=variable.values.astype("datetime64[ns]" if fits else "datetime64[us]"))
    return dataset.assign(finer) if finer else dataset


def with_time_encoding(dataset: xr.Dataset) -> xr.Dataset:
    """Give the times of a dataset an encoding that any later date fits; an encoding that is there stays.

    Parameters
    ----------
    dataset : xarray.Dataset
        Not changed.

    Returns
    -------
    xarray.Dataset
        Shallow copy, with times of :func:`with_fine_times`.
    """
    result = with_fine_times(dataset).copy()
    for name, entries in time_encodings(result).items():
        result.variables[name].encoding = {**result.variables[name].encoding, **entries}
    return result


def with_time(dataset: xr.Dataset, time: datetime) -> xr.Dataset:
    """Give a scene without a time one, as a scalar coordinate.

    Parameters
    ----------
    dataset : xarray.Dataset
    time : datetime
        In UTC, without zone.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    ConfigurationError
        If the scene has a time.
    """
    if "time" in dataset.variables or "time" in dataset.dims:
        raise ConfigurationError("the source has a time of its own: leave out --time, or drop it first")
    return with_fine_times(dataset.assign_coords(time=np.datetime64(time, "us")))
