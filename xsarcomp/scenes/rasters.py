"""Raster and NetCDF files in and out, lazily, with nodata as it stands in the file."""

from collections.abc import Hashable, Sequence
from urllib.parse import unquote, urlsplit

import xarray as xr

from xsarcomp.errors import DimensionError, MissingDependencyError

CHUNK_EDGE = 2048
GEOTIFF_ENDINGS = (".tif", ".tiff")
NETCDF_ENDINGS = (".nc", ".nc4", ".h5", ".hdf5")
RASTER_VARIABLE = "band_data"
"""Name of the variable of a raster file, as xarray's engine "rasterio" calls it."""


def local_path(path: str) -> str:
    """The path of a ``file://`` URL; anything else as it is."""
    return unquote(urlsplit(path).path) if path.startswith("file://") else path


def open_netcdf(path: str) -> xr.Dataset:
    """Open a NetCDF file lazily.

    Parameters
    ----------
    path : str

    Returns
    -------
    xarray.Dataset
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
        Bands are a dimension of the variable ``band_data``; subdatasets are variables.
    """
    import rioxarray

    chunks = {"x": CHUNK_EDGE, "y": CHUNK_EDGE}
    raster = rioxarray.open_rasterio(path, masked=False, chunks=chunks)
    scene = raster if isinstance(raster, xr.Dataset) else raster.to_dataset(name=RASTER_VARIABLE)
    for array in scene.data_vars.values():
        # rioxarray notes the identity as packing; readers of a store would unpack float32 to float64
        if array.attrs.get("scale_factor", 1) == 1 and array.attrs.get("add_offset", 0) == 0:
            array.attrs = {
                key: value for key, value in array.attrs.items() if key not in ("scale_factor", "add_offset")
            }
    return scene


def write_geotiff(dataset: xr.Dataset, names: Sequence[Hashable], path: str, *, measure_transform: bool) -> None:
    """Write variables into the bands of a tiled GeoTIFF.

    Parameters
    ----------
    dataset : xarray.Dataset
    names : sequence of hashable
        Variables of one size and type, or a single one with a dimension of bands.
    path : str
    measure_transform : bool
        Take the transform from the coordinates, not from the reference system.

    Raises
    ------
    DimensionError
        If a GeoTIFF cannot hold the dimensions.
    """
    array = _bands(dataset, names)
    import rioxarray  # noqa: F401  registers .rio

    options = {"tiled": True, "recalc_transform": measure_transform}
    if not array.chunks:
        array.rio.to_raster(path, **options)
        return
    from xsarcomp.scenes.windows import run_writes, write_lock

    # the lock lets Dask compute blocks in parallel and write them one at a time
    run_writes(array.rio.to_raster(path, **options, lock=write_lock(), compute=False))


def _bands(dataset: xr.Dataset, names: Sequence[Hashable]) -> xr.DataArray:
    """The variables of a dataset as one array (band, y, x) or (y, x)."""
    # a Zarr store lists vh before vv: bands go co-polarized first, as the products have them
    names = sorted(names, key=lambda name: str(name).lower().endswith(("vh", "hv")))
    arrays = [dataset[name] for name in names]
    if len(arrays) == 1:
        array = arrays[0].squeeze(
            [d for d in arrays[0].dims[:-2] if d != "band" and arrays[0].sizes[d] == 1], drop=True
        )
    elif all(one.ndim == 2 and one.dims == arrays[0].dims and one.dtype == arrays[0].dtype for one in arrays):
        array = xr.concat(
            arrays, dim="band", combine_attrs="drop_conflicts", coords="minimal", compat="override"
        ).assign_attrs(long_name=tuple(map(str, names)))
    else:
        array = None
    if array is None or array.ndim > 3:
        shapes = ", ".join(f"{one.name} {dict(one.sizes)}" for one in arrays)
        raise DimensionError(f"a GeoTIFF holds bands of one size and type, found {shapes}: write .nc or .zarr instead")
    if "_FillValue" in array.attrs:
        array.encoding.pop("_FillValue", None)
    return array


def write_netcdf(dataset: xr.Dataset, path: str) -> None:
    """Write a dataset without the encodings of a Zarr store into a NetCDF file.

    Parameters
    ----------
    dataset : xarray.Dataset
    path : str

    Raises
    ------
    MissingDependencyError
        If neither netCDF4 nor h5netcdf is installed.
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
    dataset.to_netcdf(path, engine=engine)
