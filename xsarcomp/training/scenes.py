"""Scenes for training: files of backscatter, read once into planes in dB without gaps."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsarcomp.errors import ConfigurationError, MissingDependencyError
from xsarcomp.training.planes import Plane

MEDIAN_DECIBEL = {"vv": -11.0, "vh": -17.0}
"""Medians in dB of calibrated 10 m land scenes, to which scenes of unknown gain are shifted."""

POLARIZATIONS = ("vv", "vh", "hh", "hv")

_log = logging.getLogger(__name__)


class RawPlane(NamedTuple):
    """One polarization of one scene as it stands in a file."""

    name: str
    """Name of the scene."""
    polarization: str
    values: NDArray
    """Backscatter in the scale of the file, shape (y, x)."""
    nodata: float | None
    """Declared nodata value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneSource:
    """A group of files that share one radiometry."""

    pattern: str
    """Glob relative to the data root: GeoTIFF, or NetCDF with backscatter (patch, polarization, y, x)."""

    scale: str
    """"decibel" or "power" (linear, m2 m-2 or uncalibrated)."""

    median_db: Mapping[str, float] | tuple[tuple[str, float], ...] | None = None
    """For scenes of unknown gain: median in dB that each polarization is shifted to, as `MEDIAN_DECIBEL`."""

    ceiling: float | None = None
    """Value at which the provider clipped, in the unit of the file; pixels at or above it are invalid."""

    excluded_endings: tuple[str, ...] = ("_water", "_s2", "_dem", "_landcover")
    """Endings of file names (without extension) of files that contain no backscatter."""

    minimum_valid: float = 0.01
    """Fraction of valid pixels below which a plane is dropped."""

    def __post_init__(self) -> None:
        if self.scale not in ("decibel", "power"):
            raise ConfigurationError(
                f"scale of {self.pattern!r} is {self.scale!r}, expected 'decibel' or 'power'. Square amplitudes first."
            )


def load_planes(root: str | os.PathLike[str], sources: Iterable[SceneSource]) -> list[Plane]:
    """Read scenes into planes in dB.

    Pixels are invalid if they are not finite, equal the declared nodata value, reach the ceiling of their source
    or, in power, are not positive. Planes with too few valid pixels are dropped and named in a log warning.

    Parameters
    ----------
    root : path
        Folder that the patterns start from.
    sources : iterable of SceneSource

    Returns
    -------
    list of Plane
        Sorted by file within each source.

    Raises
    ------
    ConfigurationError
        If a pattern matches no file, a scene comes twice, or a file has no named polarizations.
    MissingDependencyError
        If rioxarray or a NetCDF reader is not installed.
    """
    planes: dict[tuple[str, str], Plane] = {}
    dropped: list[str] = []
    for source in sources:
        for path in _files(Path(root), source):
            read = _read_netcdf if path.suffix == ".nc" else _read_geotiff
            for raw in read(path):
                if (raw.name, raw.polarization) in planes:
                    raise ConfigurationError(
                        f"scene {raw.name!r} ({raw.polarization}) comes twice, the second time from {path.name}; "
                        "expected one file for each scene. Narrow the patterns, or rename a file."
                    )
                plane = _plane(raw, source)
                if plane is None:
                    dropped.append(f"{raw.name} {raw.polarization}")
                else:
                    planes[raw.name, raw.polarization] = plane
    if dropped:
        total = len(dropped) + len(planes)
        _log.warning("dropped %d of %d planes, too few valid pixels: %s", len(dropped), total, dropped)
    return list(planes.values())


def _files(root: Path, source: SceneSource) -> list[Path]:
    """Files of a source in a fixed order."""
    matches = root.glob(source.pattern)
    paths = sorted(path for path in matches if not path.stem.endswith(source.excluded_endings))
    if not paths:
        raise ConfigurationError(
            f"no backscatter file matches {source.pattern!r} in {root}, expected at least one. Check root and pattern."
        )
    return paths


def _read_geotiff(path: Path) -> Iterator[RawPlane]:
    """Read each band of a GeoTIFF; the file is the scene."""
    try:
        import rioxarray
        import xarray as xr
    except ImportError as error:
        raise MissingDependencyError(
            'reading GeoTIFF needs rioxarray, which is not installed. Install it with: pip install "rioxarray>=0.18".'
        ) from error
    scene = rioxarray.open_rasterio(path, parse_coordinates=False)
    if not isinstance(scene, xr.DataArray):
        raise ConfigurationError(
            f"{path.name} holds several arrays, expected the bands of one GeoTIFF. Exclude it, or convert it to GeoTIFF."
        )
    with scene:
        names = scene.attrs.get("long_name", ())
        names = [str(name).lower() for name in ([names] if isinstance(names, str) else names)]
        if len(names) != scene.sizes["band"] or not set(names) <= set(POLARIZATIONS):
            raise ConfigurationError(
                f"bands of {path.name} are named {names}, expected {POLARIZATIONS}. "
                "Write band descriptions, or exclude it."
            )
        for polarization, values in zip(names, scene.values, strict=True):
            yield RawPlane(path.stem, polarization, values, scene.rio.nodata)


def _read_netcdf(path: Path) -> Iterator[RawPlane]:
    """Read each polarization of each patch of a NetCDF file; each patch is a scene."""
    try:
        import xarray as xr

        dataset = xr.open_dataset(path)
    except (ImportError, ValueError) as error:
        raise MissingDependencyError(
            f"reading {path.name} needs xarray and netCDF4 ({error}). Install them with: pip install xarray netCDF4."
        ) from error
    with dataset:
        if "backscatter" not in dataset or dataset["backscatter"].ndim != 4:
            raise ConfigurationError(
                f"{path.name} holds {list(dataset.data_vars)}, expected backscatter "
                "(patch, polarization, y, x). Exclude it, or convert it to GeoTIFF."
            )
        backscatter = dataset["backscatter"].transpose("patch", "polarization", "y", "x").load()
        for patch in backscatter:
            for plane in patch:
                name = f"{path.stem}/{patch['patch'].item()}"
                yield RawPlane(name, str(plane["polarization"].item()).lower(), plane.values, None)


def _plane(raw: RawPlane, source: SceneSource) -> Plane | None:
    """Convert a plane of a file to dB without gaps; None if too few of its pixels are valid."""
    values = raw.values.astype(np.float32)
    valid = np.isfinite(values)
    if raw.nodata is not None:
        valid &= values != np.float32(raw.nodata)
    if source.ceiling is not None:
        valid &= values < source.ceiling
    if source.scale == "power":
        valid &= values > 0
    if not valid.any() or valid.mean() < source.minimum_valid:
        return None
    # The logarithm is taken of valid pixels only; the others are filled afterwards.
    decibel = np.zeros_like(values)
    decibel[valid] = 10 * np.log10(values[valid]) if source.scale == "power" else values[valid]
    if source.median_db is not None:
        medians = dict(source.median_db)
        if raw.polarization not in medians:
            raise ConfigurationError(
                f"median_db of {source.pattern!r} names {sorted(medians)}, expected {raw.polarization!r} too, "
                f"which {raw.name} has. Add it."
            )
        decibel += np.float32(medians[raw.polarization]) - np.median(decibel[valid])
    return Plane(raw.name, raw.polarization, _filled(decibel, valid), valid)


def _filled(decibel: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Fill invalid pixels with the value of the nearest valid one, which makes no artificial edge."""
    if valid.all():
        return decibel
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return decibel[tuple(nearest)]
