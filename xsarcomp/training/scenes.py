"""Scenes for training: files of backscatter, read once into gap-free planes in dB."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xsarcomp.errors import ConfigurationError, MissingDependencyError
from xsarcomp.training.planes import Plane

MEDIAN_DECIBEL = {"vv": -11.0, "vh": -17.0}
"""Medians in dB of calibrated 10 m land scenes, to which scenes of unknown gain are shifted."""

POLARIZATIONS = ("vv", "vh", "hh", "hv")
_log = logging.getLogger(__name__)


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
    """Value, in the unit of the file, at which the provider cut; pixels at or above it are invalid."""

    excluded_endings: tuple[str, ...] = ("_water", "_s2", "_dem", "_landcover")
    """Ends of file names (without extension) that are no backscatter."""

    minimum_valid: float = 0.01
    """Fraction of valid pixels below which a plane is dropped."""

    def __post_init__(self):
        if self.scale not in ("decibel", "power"):
            raise ConfigurationError(
                f"scale of {self.pattern!r} is {self.scale!r}, expected 'decibel' or 'power'. Square amplitudes first."
            )


def load_planes(root: str | os.PathLike, sources: Iterable[SceneSource]) -> list[Plane]:
    """Read scenes into planes in dB.

    Invalid are pixels that are not finite, equal the declared nodata value, reach the ceiling of their source
    or, in power, are not positive. Planes with too few valid pixels are dropped and counted in a log warning.

    Parameters
    ----------
    root : path
        Folder that the patterns start from.
    sources : iterable of SceneSource
        What to read.

    Returns
    -------
    list of Plane
        Sorted by file within each source.

    Raises
    ------
    ConfigurationError
        If a pattern finds nothing, a scene comes twice, or a file has no named polarizations.
    MissingDependencyError
        If rioxarray or a NetCDF reader is not installed.
    """
    planes: dict[tuple[str, str], Plane] = {}
    dropped: list[str] = []
    for source in sources:
        for path in _files(Path(root), source):
            read = _read_netcdf if path.suffix == ".nc" else _read_geotiff
            for name, polarization, values, nodata in read(path):
                if (name, polarization) in planes:
                    raise ConfigurationError(
                        f"scene {name!r} ({polarization}) comes twice, the second time from {path.name}; "
                        "expected one file a scene. Narrow the patterns, or rename a file."
                    )
                plane = _plane(name, polarization, values, nodata, source)
                if plane is None:
                    dropped.append(f"{name} {polarization}")
                else:
                    planes[name, polarization] = plane
    if dropped:
        total = len(dropped) + len(planes)
        _log.warning("dropped %d of %d planes, too few valid pixels: %s", len(dropped), total, dropped)
    return list(planes.values())


def _files(root: Path, source: SceneSource) -> list[Path]:
    """Files of a source in a fixed order."""
    found = root.glob(source.pattern)
    paths = sorted(path for path in found if not path.stem.endswith(source.excluded_endings))
    if not paths:
        raise ConfigurationError(
            f"no backscatter file matches {source.pattern!r} in {root}, expected at least one. Check root and pattern."
        )
    return paths


def _read_geotiff(path: Path) -> Iterator[tuple[str, str, np.ndarray, float | None]]:
    """Give scene name, polarization, values (y, x) and declared nodata of each band."""
    try:
        import rioxarray
    except ImportError as error:
        raise MissingDependencyError(
            'reading GeoTIFF needs rioxarray, which is not installed. Install it with: pip install "rioxarray>=0.18".'
        ) from error
    with rioxarray.open_rasterio(path, parse_coordinates=False) as scene:
        names = scene.attrs.get("long_name", ())
        names = [str(name).lower() for name in ([names] if isinstance(names, str) else names)]
        if len(names) != scene.sizes["band"] or not set(names) <= set(POLARIZATIONS):
            raise ConfigurationError(
                f"bands of {path.name} are named {names}, expected {POLARIZATIONS}. "
                "Write band descriptions, or exclude it."
            )
        for name, values in zip(names, scene.values, strict=True):
            yield path.stem, name, values, scene.rio.nodata


def _read_netcdf(path: Path) -> Iterator[tuple[str, str, np.ndarray, float | None]]:
    """Give the same for each patch of a file of patches; each patch is a scene of its own."""
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
                yield name, str(plane["polarization"].item()).lower(), plane.values, None


def _plane(name: str, polarization: str, values: NDArray, nodata: float | None, source: SceneSource) -> Plane | None:
    """Bring values to a gap-free Plane in dB, or give None where too few of them are valid."""
    values = values.astype(np.float32)
    valid = np.isfinite(values)
    if nodata is not None:
        valid &= values != np.float32(nodata)
    if source.ceiling is not None:
        valid &= values < source.ceiling
    if source.scale == "power":
        valid &= values > 0
    if not valid.any() or valid.mean() < source.minimum_valid:
        return None
    # Only valid pixels meet the logarithm; the rest is filled afterwards.
    decibel = np.zeros_like(values)
    decibel[valid] = 10 * np.log10(values[valid]) if source.scale == "power" else values[valid]
    if source.median_db is not None:
        medians = dict(source.median_db)
        if polarization not in medians:
            raise ConfigurationError(
                f"median_db of {source.pattern!r} names {sorted(medians)}, expected {polarization!r} too, "
                f"which {name} has. Add it."
            )
        decibel += np.float32(medians[polarization]) - np.median(decibel[valid])
    return Plane(name, polarization, _filled(decibel, valid), valid)


def _filled(decibel: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Give invalid pixels the value of the nearest valid one, which makes no artificial edge."""
    if valid.all():
        return decibel
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return decibel[tuple(nearest)]
