"""Arrays of speckle, and the way of latents through a store."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray


def speckle(shape: tuple[int, ...] | list[int], seed: int = 0, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Power of uncorrelated speckle of 4.4 looks, mean 0.1."""
    return np.random.default_rng(seed).gamma(4.4, 0.1 / 4.4, shape).astype(dtype)


def array(values: NDArray[Any], *dims: str, name: str | None = "vv", **attributes: object) -> xr.DataArray:
    """Data array with the dimensions y and x, or those given."""
    return xr.DataArray(values, dims=dims or ("y", "x"), name=name, attrs=attributes)


def through_store(encoded: xr.Dataset, path: Path) -> xr.Dataset:
    """Dataset of latents, written to a store and opened again lazily."""
    encoded.to_zarr(path, zarr_format=3, consolidated=False)
    return xr.open_zarr(path, consolidated=False)
