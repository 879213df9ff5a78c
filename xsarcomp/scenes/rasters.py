"""GeoTIFF and NetCDF files in and out, lazily, with nodata as it is in the file."""

import contextlib
import functools
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

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


def local_path(path: str) -> str:
    """Return the path of a ``file://`` URL; other paths and URLs unchanged."""
    return unquote(urlsplit(path).path) if path.startswith("file://") else path


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
    """
    return xr.open_dataset(path, chunks="auto", decode_coords="all")


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
    """
    import rioxarray

    chunks = {"x": CHUNK_EDGE, "y": CHUNK_EDGE}
    raster = rioxarray.open_rasterio(path, masked=False, chunks=chunks)
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


def write_geotiff(dataset: xr.Dataset, names: Sequence[Hashable], path: str, *, measure_transform: bool) -> None:
    """Write variables into the bands of a tiled GeoTIFF, co-polarized bands first.

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

    Raises
    ------
    DimensionError
        If a GeoTIFF cannot hold the dimensions.
    OSError
        If the file does not hold what was written.
    """
    array = _stack_bands(dataset, names)
    import rasterio
    import rioxarray  # noqa: F401  registers .rio

    from xsarcomp.scenes.calls import write_blocks, write_lock

    if not array.chunks:
        array = array.chunk(dict.fromkeys(array.dims[-2:], CHUNK_EDGE))
    lock = write_lock()  # lets Dask compute blocks in parallel and write them one at a time
    with _file_errors(path, Exception):
        array.rio.to_raster(path, tiled=True, recalc_transform=measure_transform, lock=lock, compute=False)
        with rasterio.open(path) as file:
            dtype = file.dtypes[0]
    values = encode_cf_variable(array.variable).data.astype(dtype)
    write_blocks(values, functools.partial(_write_block, path, lock))
    with _file_errors(path, Exception):
        _check_tiles(path)
        flush(Path(path))


def _write_block(path: str, lock: Any, region: tuple[slice, ...], values: NDArray) -> None:
    """Write a block of all bands and read it back: what GDAL cannot write when it closes a file, it does not report."""
    import rasterio.windows

    bands = [*range(region[0].start + 1, region[0].stop + 1)] if len(region) == 3 else [1]
    window = rasterio.windows.Window.from_slices(*region[-2:])
    values = values.reshape(len(bands), *values.shape[-2:])
    with lock, _file_errors(path, Exception):  # GDAL raises anything where a disk is full
        with rasterio.open(path, "r+") as file:
            file.write(values, bands, window=window)
        with rasterio.open(path) as file:
            stored = file.read(bands, window=window)
        if stored.dtype != values.dtype or stored.tobytes() != values.tobytes():
            raise OSError(f"it does not hold what was written into the window {window}")


def _check_tiles(path: str) -> None:
    """Check that all tiles of a GeoTIFF end inside the file."""
    import rasterio

    size = Path(path).stat().st_size
    with rasterio.open(path) as file:
        for band in file.indexes:
            for (row, column), _ in file.block_windows(band):
                names = (f"BLOCK_{kind}_{column}_{row}" for kind in ("OFFSET", "SIZE"))
                end = sum(int(file.get_tag_item(name, "TIFF", bidx=band) or 0) for name in names)
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
    first = arrays[0]
    if len(arrays) == 1:
        single = [name for name in first.dims[:-2] if name != "band" and first.sizes[name] == 1]
        array = first.squeeze(single, drop=True)
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

    Attributes that NetCDF does not have are adapted: tuples become lists, None is left out.

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
    OSError
        If it cannot be written.
    """
    engine = next((name for name in ("netcdf4", "h5netcdf") if name in xr.backends.list_engines()), None)
    if engine is None:
        raise MissingDependencyError("writing NetCDF needs netCDF4 or h5netcdf. Install one with: pip install netCDF4")
    dataset = dataset.copy()
    for variable in dataset.variables.values():
        variable.attrs = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in variable.attrs.items()
            if value is not None
        }
    with _file_errors(path, RuntimeError, OSError):
        dataset.to_netcdf(path, engine=engine)
        xr.open_dataset(path, engine=engine).close()
        flush(Path(path))
