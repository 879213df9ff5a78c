"""Scenes of a benchmark as planes in dB: two-dimensional, one polarization and date each, NaN where invalid."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from xsarcomp.errors import DimensionError, RateError
from xsarcomp.latents.inspection import infer_array_scale
from xsarcomp.metrics.fidelity import decibel_from_power, power_and_validity
from xsarcomp.scenes.choice import choose_variables
from xsarcomp.scenes.variables import declared_nodata, plane_polarizations, spatial_dimensions
from xsarcomp.stores import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Planes of one file: all its polarizations and dates."""

    name: str
    planes: Sequence[NDArray[np.float32]]
    """Backscatter in dB, each of shape (y, x), NaN where invalid."""
    polarizations: Sequence[str | None] = ()
    """Polarization of each plane in lower case, None where it is unknown."""


def read_scenes(paths: Sequence[str]) -> list[Scene]:
    """Read the planes of files.

    Parameters
    ----------
    paths : sequence of str
        Anything that `xsarcomp.stores.files.open_scene` opens.

    Returns
    -------
    list of Scene
        At least one, named by the stem of its file, or by its path where two files have the same stem. Planes without a
        valid pixel are left out, as are scenes that have no other.

    Raises
    ------
    RateError
        If no file has a valid pixel.
    """
    stems = [Path(path).stem for path in paths]
    scenes = []
    for path, stem in zip(paths, stems, strict=True):
        if planes := _read_planes(path):
            polarizations, values = zip(*planes, strict=True)
            name = stem if stems.count(stem) == 1 else path
            scenes.append(Scene(name=name, planes=values, polarizations=polarizations))
    if not scenes:
        raise RateError(f"found no valid pixel in {len(paths)} scenes, expected some to measure. Choose other scenes.")
    return scenes


def _read_planes(path: str) -> list[tuple[str | None, NDArray[np.float32]]]:
    """Polarizations and planes of a file in dB, without those that have no valid pixel."""
    planes, scene = [], files.open_scene(path)
    for name in choose_variables(scene).names:
        array, nodata = scene[name], declared_nodata(scene[name])
        scale = infer_array_scale(array, nodata)
        y, x = spatial_dimensions(array)
        values = array.transpose(..., y, x).values
        polarizations = plane_polarizations(array.transpose(..., y, x))
        for polarization, plane in zip(polarizations, values.reshape(-1, *values.shape[-2:]), strict=True):
            power, valid = power_and_validity(plane, scale=scale, nodata=nodata)
            if valid.any():
                plane_db = np.where(valid, decibel_from_power(np.where(valid, power, 1.0)), np.nan)
                planes.append((polarization, plane_db.astype(np.float32)))
    return planes


def planes_dataset(planes: Sequence[NDArray[np.float32]]) -> xr.Dataset:
    """Lazy dataset of the planes of one scene.

    Parameters
    ----------
    planes : sequence of ndarray of float32, shape (y, x)
        Backscatter in dB, NaN where invalid, all of one shape.

    Returns
    -------
    xarray.Dataset
        Variables ``plane_0``, ``plane_1``, ... with coordinates of a grid of 10 m.
    """
    attributes = {"units": "dB", "long_name": "sigma nought"}
    arrays = {f"plane_{number}": (("y", "x"), plane, attributes) for number, plane in enumerate(planes)}
    grid = {name: 10.0 * np.arange(size) for name, size in zip(("y", "x"), planes[0].shape, strict=True)}
    return xr.Dataset(arrays, coords=grid).chunk()


def fill_with_median(plane_db: ArrayLike) -> NDArray[np.float32]:
    """Fill the invalid pixels of a plane with the median of the valid ones.

    Every codec gets the same fill, and a constant serves all of them best: on real chips with 3 and 27 % of invalid
    pixels, continuing the nearest valid value instead took AV1 1 and 13 %, JPEG XL 2 and 51 % more bits for the same error.

    Parameters
    ----------
    plane_db : array_like of float, shape (y, x)
        Backscatter in dB; not finite where invalid.

    Returns
    -------
    ndarray of float32, shape (y, x)
        Finite everywhere; 0 where no pixel is valid. The input is not changed.

    Raises
    ------
    DimensionError
        If the plane is not two-dimensional.
    """
    values = np.asarray(plane_db, dtype=np.float32)
    if values.ndim != 2:
        raise DimensionError(
            f"found {values.ndim} dimensions, expected (y, x). Pass one polarization and date at a time."
        )
    valid = np.isfinite(values)
    return np.where(valid, values, np.median(values[valid]) if valid.any() else np.float32(0))
