"""Open and write scenes by the kind of their path. Side effects of the command line live here."""

import contextlib
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import xarray as xr

from xsarcomp.backend import open_zarr_store
from xsarcomp.errors import ConfigurationError, DimensionError, MissingDependencyError
from xsarcomp.latents import without_storage
from xsarcomp.record import ATTRIBUTE, LOSS_ATTRIBUTE
from xsarcomp.restoration import decode_dataset

CHUNK_EDGE = 2048
GEOTIFF_ENDINGS = (".tif", ".tiff")
NETCDF_ENDINGS = (".nc", ".nc4", ".h5", ".hdf5")
RASTER_VARIABLE = "band_data"
"""Name of the variable of a raster file, as xarray's engine "rasterio" calls it."""


def is_zarr(path: str) -> bool:
    """Whether a path or URL is a Zarr store: by its content if it is local, else by its ending."""
    if Path(path).is_dir():
        return any((Path(path) / name).exists() for name in ("zarr.json", ".zgroup", ".zmetadata", ".zarray"))
    return str(path).rstrip("/").endswith(".zarr")


def open_scene(path: str, *, restore: str | None = None) -> xr.Dataset:
    """Open anything that xarray or rioxarray opens, lazily, with nodata as it stands in the file.

    Parameters
    ----------
    path : str
        GeoTIFF or other raster, NetCDF, Zarr store (a latents store is decoded), path or URL.
    restore : {"speckle"}, optional
        For a latents store, see ``.sarcomp.decode``.

    Returns
    -------
    xarray.Dataset
        Bands of a raster are a dimension of the variable ``band_data``.

    Raises
    ------
    FileNotFoundError
        If a local path does not exist.
    """
    path = local_path(path)
    if "://" not in path and not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist")
    if is_zarr(path):
        dataset = open_store(path)
        return (
            decode_dataset(dataset, restore)
            if any(ATTRIBUTE in array.attrs for array in dataset.variables.values())
            else dataset
        )
    if path.lower().endswith(NETCDF_ENDINGS):
        return xr.open_dataset(path, chunks="auto", decode_coords="all")
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


def local_path(path: str) -> str:
    """The path of a ``file://`` URL; anything else as it is."""
    return unquote(urlsplit(path).path) if path.startswith("file://") else path


def refuse_same(source: str, target: str) -> None:
    """Refuse to write over what is read, or into it: scenes are read while they are written.

    Raises
    ------
    ConfigurationError
        If the target is the source, lies in it or holds it.
    """
    source, target = local_path(source), local_path(target)
    first, second = Path(source).resolve(), Path(target).resolve()
    if "://" not in source + target and (first.is_relative_to(second) or second.is_relative_to(first)):
        raise ConfigurationError(f"{target} and {source} are the same or in each other: choose another name")


def open_store(path: str) -> xr.Dataset:
    """Open a Zarr store lazily, latents as latents."""
    return open_zarr_store(path, chunks={})


def write_store(
    dataset: xr.Dataset,
    path: str,
    *,
    overwrite: bool = False,
    encoding: dict | None = None,
    resume: bool | None = None,
) -> None:
    """Write a Zarr format 3 store, a compressed one with its manifest; an existing one only if that is wanted.

    ``overwrite`` replaces a store when the new one is finished (a URL: before it is begun). ``resume`` goes on with what an
    interrupted writer left; None: nobody will, so an interrupted one leaves nothing.

    Raises
    ------
    ConfigurationError
        If the store exists and ``overwrite`` is False, what is there is no Zarr store, or what was begun is another store.
    """
    from xsarcomp.stored_writing import write_dataset  # zarr need not be loaded to read a raster

    path = local_path(path)
    if Path(path).exists():
        if not overwrite:
            raise ConfigurationError(f"{path} exists: choose another name, or pass --overwrite")
        if not is_zarr(path):
            raise ConfigurationError(f"{path} exists and is no Zarr store: it is not overwritten. Choose another name")
    mode = None if resume else "w" if overwrite else "w-"
    with warnings.catch_warnings(), _finished(path, resume) as partial:
        # xarray consolidates as it always did; that the specification does not have it yet is known
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        try:
            write_dataset(dataset, partial, mode=mode, zarr_format=3, encoding=encoding, resume=bool(resume))
        except FileExistsError as error:  # behind a URL
            raise ConfigurationError(f"{path} exists: choose another name, or pass --overwrite") from error


def write_transparent(
    scene: xr.Dataset, path: str, encoding: dict, *, overwrite: bool, resume: bool | None = None
) -> None:
    """Write a transparent store whose variables say in an attribute that they lost something."""
    marked = without_storage(scene)
    for name, settings in encoding.items():
        configuration = settings["serializer"]["configuration"]
        marked[name].attrs[LOSS_ATTRIBUTE] = (
            f"xsarcomp: transparent store of model {configuration['model'][:16]}, quantisation step "
            f"{configuration['step_db']:.5g} dB"
        )
    write_store(marked, path, overwrite=overwrite, encoding=encoding, resume=resume)


@contextlib.contextmanager
def _finished(path: str, resume: bool | None = None) -> Iterator[str]:
    """Name to write to that becomes ``path`` only when all is written; what was there stays until then.

    A URL is written in place: object stores have no rename. After an error nothing stays, or all if ``resume`` is True; after
    an interruption from the keyboard nothing if it is None, else all, because that may be the work of hours.
    """
    if "://" in path:
        yield path
        return
    target = Path(path)
    partial = target.with_name(f".partial-{target.name}")
    if not (resume and is_zarr(str(partial))):  # without the metadata of its group, nothing in it can be used
        _remove(partial)
    try:
        yield str(partial)
        _remove(target)
        partial.rename(target)
    except KeyboardInterrupt as stop:
        if resume is None:
            _remove(partial)
        else:
            stop.add_note(f"interrupted: what is finished stays in {partial}, the same command with --resume goes on")
        raise
    except BaseException:
        if not resume:
            _remove(partial)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_scene(dataset: xr.Dataset, path: str, *, overwrite: bool = False, measure_transform: bool = True) -> None:
    """Write backscatter by the ending of the path: GeoTIFF, NetCDF or plain Zarr; over an existing file only if wanted.

    The transform of a GeoTIFF is measured on the coordinates, as a part that was cut from a scene needs it. In an overview
    the last block may hold fewer pixels, so that its coordinates are no measure: there it is the one of the reference system.

    Raises
    ------
    ConfigurationError
        If the ending is unknown, or the target exists and ``overwrite`` is False.
    DimensionError
        If a GeoTIFF cannot hold the dimensions.
    FileNotFoundError
        If the folder of the target does not exist.
    """
    path = local_path(path)
    ending = Path(path).suffix.lower()
    if "://" in path:
        if ending != ".zarr":
            raise ConfigurationError(
                f"{path} is a URL, where a .zarr store can be written: write a local file, and copy it"
            )
        write_store(_plain(dataset), path, overwrite=overwrite)
        return
    if Path(path).exists() and not overwrite:  # it may well be the original that was compressed
        raise ConfigurationError(f"{path} exists: choose another name, or pass --overwrite")
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"the folder {Path(path).parent} does not exist: create it first")
    if ending in GEOTIFF_ENDINGS:
        with _finished(path) as partial:
            _write_geotiff(dataset, partial, measure_transform)
    elif ending in NETCDF_ENDINGS:
        with _finished(path) as partial:
            _write_netcdf(dataset, partial)
    elif ending == ".zarr":
        write_store(_plain(dataset), path, overwrite=overwrite)
    else:
        raise ConfigurationError(f"{path} ends in {ending or 'nothing'}: expected .tif, .nc or .zarr")


def _plain(dataset: xr.Dataset) -> xr.Dataset:
    """Dataset without the codecs of the store it came from, but with what describes the data."""
    result = without_storage(dataset)
    for variable in result.variables.values():
        if "_FillValue" in variable.attrs:  # xarray wants it in one of the two places
            variable.encoding.pop("_FillValue", None)
    return result


def _write_geotiff(dataset: xr.Dataset, path: str, measure_transform: bool) -> None:
    array = _bands(dataset)
    import rioxarray  # noqa: F401  registers .rio

    options = {"tiled": True, "recalc_transform": measure_transform}
    if not array.chunks:
        array.rio.to_raster(path, **options)
        return
    from xsarcomp.windows import run_writes, write_lock

    # the lock lets Dask compute blocks in parallel and write them one at a time
    run_writes(array.rio.to_raster(path, **options, lock=write_lock(), compute=False))


def _bands(dataset: xr.Dataset) -> xr.DataArray:
    """The variables of a dataset as one array (band, y, x) or (y, x)."""
    # a Zarr store lists vh before vv: bands go co-polarized first, as the products have them
    names = sorted(backscatter_variables(dataset), key=lambda name: str(name).lower().endswith(("vh", "hv")))
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


def _write_netcdf(dataset: xr.Dataset, path: str) -> None:
    engine = next((name for name in ("netcdf4", "h5netcdf") if name in xr.backends.list_engines()), None)
    if engine is None:
        raise MissingDependencyError("writing NetCDF needs netCDF4 or h5netcdf. Install one with: pip install netCDF4")
    plain = _plain(dataset)
    for variable in plain.variables.values():
        variable.attrs = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in variable.attrs.items()
            if value is not None
        }
    plain.to_netcdf(path, engine=engine)


def backscatter_variables(dataset: xr.Dataset) -> list:
    """Variables that were decoded, or all that are no scalars."""
    decoded = [
        name for name, array in dataset.data_vars.items() if LOSS_ATTRIBUTE in array.attrs or _is_transparent(array)
    ]
    return decoded or [name for name, array in dataset.data_vars.items() if array.ndim >= 2]


def _is_transparent(array: xr.DataArray) -> bool:
    from xsarcomp.description import transparent_configuration

    return transparent_configuration(array.variable) is not None
