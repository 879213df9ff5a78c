"""GeoTIFF and NetCDF files in and out, lazily, with nodata as it is in the file."""

import contextlib
import functools
import json
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.conventions import encode_cf_variable

from xsarcomp.errors import DimensionError, MissingDependencyError, SarcompError
from xsarcomp.whole_files import flush

CHUNK_EDGE = 2048
"""Side of the Dask chunks of a raster in pixels."""
GEOTIFF_ENDINGS = (".tif", ".tiff")
"""Endings of paths that are written as GeoTIFF."""
NETCDF_ENDINGS = (".nc", ".nc4", ".h5", ".hdf5")
"""Endings of paths that are opened and written as NetCDF."""
RASTER_VARIABLE = "band_data"
"""Name of the variable of a raster file, as xarray's engine "rasterio" calls it."""
TILE_EDGE = 512
"""Side of the tiles of a GeoTIFF in pixels."""
_PREDICTORS = {"f": 3, "i": 2, "u": 2}
"""Predictor of DEFLATE by the kind of the data type."""
_NETCDF_TYPES = {"?": np.int8, "e": np.float32, "g": np.float64}
"""Types that NetCDF has in place of others, by the character of NumPy."""


def local_path(path: str) -> str:
    """Return the path of a ``file://`` URL; other paths and URLs unchanged."""
    return unquote(urlsplit(path).path) if path.startswith(("file:/", "FILE:/")) else path


def open_netcdf(path: str) -> xr.Dataset:
    """Open a NetCDF file lazily.

    Parameters
    ----------
    path : str
        Path of a local file.

    Returns
    -------
    xarray.Dataset
        As xarray decodes it: nodata is NaN, packed values are unpacked, ``spatial_ref`` is a coordinate.

    Raises
    ------
    MissingDependencyError
        If neither netCDF4 nor h5netcdf is installed.
    OSError
        If it is no NetCDF file.
    """
    engine = _netcdf_engine("reading")
    try:
        return xr.open_dataset(path, engine=engine, chunks="auto", decode_coords="all")
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        if isinstance(error, PermissionError):
            raise
        raise OSError(f"{path} cannot be opened as NetCDF ({error}): it may be damaged, or of another kind") from error


def _netcdf_engine(what: str) -> Literal["netcdf4", "h5netcdf"]:
    """Library for NetCDF files that is installed."""
    engines: tuple[Literal["netcdf4", "h5netcdf"], ...] = ("netcdf4", "h5netcdf")
    for engine in engines:
        if engine in xr.backends.list_engines():
            return engine
    raise MissingDependencyError(f"{what} NetCDF needs netCDF4 or h5netcdf. Install one with: pip install netCDF4")


def open_raster(path: str) -> xr.Dataset:
    """Open a GeoTIFF, or another raster that GDAL reads, lazily.

    Parameters
    ----------
    path : str
        Path or URL.

    Returns
    -------
    xarray.Dataset
        Bands are a dimension of the variable ``band_data``; subdatasets are variables. Values are returned as they
        are in the file: a nodata number is not replaced, and is declared in the attribute ``_FillValue``.

    Raises
    ------
    DimensionError
        If the file holds subdatasets of different sizes.
    OSError
        If GDAL cannot read it.
    """
    import rioxarray
    from rasterio.errors import RasterioIOError

    chunks = {"x": CHUNK_EDGE, "y": CHUNK_EDGE}
    try:
        raster = rioxarray.open_rasterio(path, masked=False, chunks=chunks)
    except RasterioIOError as error:
        raise OSError(
            f"{path} cannot be opened as a raster ({error}): expected a GeoTIFF or another raster that GDAL reads, NetCDF (.nc), or "
            "a Zarr store"
        ) from error
    if isinstance(raster, list):
        raise DimensionError(
            f"found {len(raster)} groups of subdatasets of different sizes in {path}, expected one. "
            "Pass the name of a subdataset, as gdalinfo lists it"
        )
    scene = raster if isinstance(raster, xr.Dataset) else raster.to_dataset(name=RASTER_VARIABLE)
    for array in scene.data_vars.values():
        # rioxarray notes the identity as packing; readers of a store would unpack float32 to float64
        if array.attrs.get("scale_factor", 1) == 1 and array.attrs.get("add_offset", 0) == 0:
            array.attrs = {
                key: value for key, value in array.attrs.items() if key not in ("scale_factor", "add_offset")
            }
    return scene


def write_geotiff(
    dataset: xr.Dataset, names: Sequence[Hashable], path: str, *, measure_transform: bool, cloud_optimized: bool = False
) -> None:
    """Write variables into the bands of a tiled GeoTIFF without loss (DEFLATE), co-polarized bands first.

    Parameters
    ----------
    dataset : xarray.Dataset
        Georeferenced, as rioxarray understands it.
    names : sequence of hashable
        Variables of one size and type, or a single one with a dimension of bands.
    path : str
        Path of a local file.
    measure_transform : bool
        Take the transform from the coordinates, not from ``spatial_ref``.
    cloud_optimized : bool
        Write a Cloud Optimized GeoTIFF with overviews, means of 2 x 2, 4 x 4, ... pixels.

    Raises
    ------
    DimensionError
        If a GeoTIFF cannot hold the dimensions.
    OSError
        If the file does not hold what was written.
    """
    array = _wide(_stack_bands(dataset, names))
    import rasterio
    import rioxarray  # noqa: F401  registers .rio

    from xsarcomp.scenes.calls import write_blocks, write_lock

    array = array.chunk({name: _whole_tiles(array, name) for name in array.dims[-2:]})
    lock = write_lock()  # lets Dask compute blocks in parallel and write them one at a time
    plain = f"{path}.plain.tif" if cloud_optimized else path  # GDAL makes the other from a whole file
    with _file_errors(path, Exception):
        # tiles of one band each are written once, by one block; sparse, so that none is there before
        profile: dict[str, Any] = {"interleave": "band", "sparse_ok": True, "bigtiff": "IF_SAFER"}
        profile |= _compression(array.dtype) | {"blockxsize": TILE_EDGE, "blockysize": TILE_EDGE, "tiled": True}
        array.rio.to_raster(plain, recalc_transform=measure_transform, lock=lock, compute=False, **profile)
        with rasterio.open(plain) as file:
            dtype = file.dtypes[0]
    values = encode_cf_variable(array.variable).data.astype(dtype)
    write_blocks(values, functools.partial(_write_block, plain, lock))
    with _file_errors(path, Exception):
        _check_tiles(plain)
        if cloud_optimized:
            _optimize(plain, path)
            Path(plain).unlink()
        flush(Path(path))


def _whole_tiles(array: xr.DataArray, dimension: Hashable) -> int | tuple[int, ...]:
    """Chunks of an array along a dimension that end with tiles, the given ones if they do."""
    chunks = array.chunksizes.get(dimension, ())
    fits = chunks and all(size % TILE_EDGE == 0 for size in chunks[:-1])
    return chunks if fits else CHUNK_EDGE


def _compression(dtype: np.dtype) -> dict[str, Any]:
    """Options of GDAL for a compression without loss that every GDAL reads."""
    return {"compress": "deflate", "predictor": _PREDICTORS.get(dtype.kind, 1)}


def _optimize(plain: str, path: str) -> None:
    """Copy a GeoTIFF into a Cloud Optimized one, and compare the values."""
    import rasterio
    import rasterio.shutil

    with rasterio.open(plain) as source:
        options: dict[str, Any] = {
            "compress": "deflate",
            "predictor": "yes",
            "blocksize": TILE_EDGE,
            "bigtiff": "IF_SAFER",
        }
        if np.dtype(source.dtypes[0]).kind not in _PREDICTORS:
            options["predictor"] = "no"
        options |= {"overview_resampling": "average", "num_threads": "all_cpus"}
        rasterio.shutil.copy(source, path, driver="COG", **options)
        with rasterio.open(path) as copy:
            for window in _windows(source.height, source.width):
                for band in source.indexes:
                    pair = [file.read(band, window=window).tobytes() for file in (source, copy)]
                    if pair[0] != pair[1]:
                        raise OSError(f"band {band} does not hold what was written into the window {window}")
    _check_tiles(path)


def _windows(height: int, width: int) -> Iterator[Any]:
    """Windows that cover a raster."""
    from rasterio.windows import Window

    for row in range(0, height, CHUNK_EDGE):
        for column in range(0, width, CHUNK_EDGE):
            yield Window(column, row, min(CHUNK_EDGE, width - column), min(CHUNK_EDGE, height - row))


def _write_block(path: str, lock: Any, region: tuple[slice, ...], values: NDArray) -> None:
    """Write a block of all bands and read it back: what GDAL cannot write when it closes a file, it does not report."""
    import rasterio.windows

    bands = [*range(region[0].start + 1, region[0].stop + 1)] if len(region) == 3 else [1]
    window = rasterio.windows.Window.from_slices(*region[-2:])
    values = values.reshape(len(bands), *values.shape[-2:])
    with lock, _file_errors(path, Exception):  # GDAL raises anything where a disk is full
        with rasterio.open(path, "r+", num_threads="all_cpus") as file:  # they compress its tiles
            file.write(values, bands, window=window)
        with rasterio.open(path) as file:
            stored = file.read(bands, window=window)
        if stored.dtype != values.dtype or stored.tobytes() != values.tobytes():
            raise OSError(f"it does not hold what was written into the window {window}")


def _check_tiles(path: str) -> None:
    """Check that all tiles of a GeoTIFF and of its overviews end inside the file."""
    import rasterio

    size = Path(path).stat().st_size
    with rasterio.open(path) as file:
        levels = [None, *range(len(file.overviews(1)))]
    for level in levels:
        with rasterio.open(path, **({} if level is None else {"overview_level": level})) as file:
            windows = [(band, place) for band in file.indexes for place, _ in file.block_windows(band)]
        with rasterio.open(path) as file:
            for band, (row, column) in windows:
                names = (f"BLOCK_{kind}_{column}_{row}" for kind in ("OFFSET", "SIZE"))
                end = sum(int(file.get_tag_item(name, "TIFF", bidx=band, ovr=level) or 0) for name in names)
                if end > size:
                    raise OSError(f"a tile ends at byte {end}, and the file at byte {size}")


@contextlib.contextmanager
def _file_errors(path: str, *kinds: type[Exception]) -> Iterator[None]:
    """Context in which errors of libraries for files are an OSError that names the file."""
    try:
        yield
    except SarcompError:
        raise
    except kinds as error:
        raise OSError(f"{path} cannot be written ({error}): check the free space and the permissions there") from error


def _stack_bands(dataset: xr.Dataset, names: Sequence[Hashable]) -> xr.DataArray:
    """Combine the variables of a dataset into one array (band, y, x) or (y, x)."""
    # a Zarr store lists vh before vv; products have the co-polarized band first
    ordered = sorted(names, key=lambda name: str(name).lower().endswith(("vh", "hv")))
    arrays = [dataset[name] for name in ordered]
    arrays = [
        array.squeeze([name for name in array.dims[:-2] if name != "band" and array.sizes[name] == 1], drop=True)
        for array in arrays
    ]
    first = arrays[0]
    if len(arrays) == 1:
        array = first
    elif all(each.ndim == 2 and each.dims == first.dims and each.dtype == first.dtype for each in arrays):
        array = xr.concat(
            arrays, dim="band", combine_attrs="drop_conflicts", coords="minimal", compat="override"
        ).assign_attrs(long_name=tuple(map(str, ordered)))
    else:
        raise _not_bands(arrays)
    if array.ndim > 3:
        raise _not_bands(arrays)
    if "_FillValue" in array.attrs:  # rioxarray refuses a fill value in both places
        array.encoding.pop("_FillValue", None)
    return array


def _not_bands(arrays: Sequence[xr.DataArray]) -> DimensionError:
    """Return the error for variables that are not bands of one size and type."""
    shapes = ", ".join(f"{array.name} {dict(array.sizes)}" for array in arrays)
    return DimensionError(f"found {shapes}, but a GeoTIFF holds bands of one size and type: write .nc or .zarr instead")


def write_netcdf(dataset: xr.Dataset, path: str) -> None:
    """Write a dataset into a NetCDF file.

    Attributes that NetCDF does not have are adapted: tuples become lists, truth values 1 and 0, dictionaries and lists of mixed
    kinds JSON text, slashes in names underscores, and None is left out. Values of float16 become float32.

    Parameters
    ----------
    dataset : xarray.Dataset
        Without encodings of a Zarr store.
    path : str
        Path of a local file.

    Raises
    ------
    MissingDependencyError
        If neither netCDF4 nor h5netcdf is installed.
    DimensionError
        If NetCDF cannot hold a variable.
    OSError
        If it cannot be written.
    """
    engine = _netcdf_engine("writing")
    dataset = dataset.map(_wide, keep_attrs=True)
    dataset.attrs = _netcdf_attributes(dataset.attrs)
    for variable in dataset.variables.values():
        variable.attrs = _netcdf_attributes(variable.attrs)
    with _file_errors(path, RuntimeError, OSError):
        try:
            dataset.to_netcdf(path, engine=engine)
        except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
            if isinstance(error, SarcompError):
                raise
            types = ", ".join(f"{name} ({array.dtype})" for name, array in dataset.variables.items())
            raise DimensionError(f"NetCDF cannot hold all of {types}: {error}. Write .zarr instead") from error
        xr.open_dataset(path, engine=engine).close()
        flush(Path(path))


def _wide(array: xr.DataArray) -> xr.DataArray:
    """Array in float32 if it is in float16, which files do not have."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _netcdf_attributes(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes with names and values that NetCDF has."""
    return {
        re.sub(r"[/\x00-\x1f\x7f]", "_", str(name)).strip(): _netcdf_value(value)
        for name, value in attributes.items()
        if value is not None
    }


def _netcdf_value(value: Any) -> Any:
    """Value of an attribute as NetCDF has it: text, a number, or a list of either; anything else as JSON text."""
    items = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(items, list | tuple):
        if items and all(isinstance(item, str) for item in items):
            return list(items)
    elif isinstance(items, str | bytes):
        return items
    with contextlib.suppress(ValueError):  # lists of different lengths
        array = np.asarray(value)
        if array.ndim <= 1 and array.size and array.dtype.kind in "iufb" and not _mixes_kinds(items):
            return array.astype(_NETCDF_TYPES.get(array.dtype.char, array.dtype))[()]
    return json.dumps(items, default=str)


def _mixes_kinds(items: Any) -> bool:
    """Return whether a list holds truth values beside numbers, which NumPy would join."""
    return isinstance(items, list | tuple) and len({isinstance(item, bool | np.bool_) for item in items}) > 1
