"""Open and write scenes by the kind of their path. Side effects of the command line live here."""

import contextlib
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import xarray as xr

from xsarcomp.errors import ConfigurationError
from xsarcomp.latents.decode import decode_dataset
from xsarcomp.latents.layout import drop_storage_encoding
from xsarcomp.latents.metadata import ATTRIBUTE, LOSS_ATTRIBUTE
from xsarcomp.scenes.rasters import (
    GEOTIFF_ENDINGS,
    NETCDF_ENDINGS,
    local_path,
    open_netcdf,
    open_raster,
    write_geotiff,
    write_netcdf,
)
from xsarcomp.stores.opening import open_zarr_store


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
        return open_netcdf(path)
    return open_raster(path)


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
    from xsarcomp.stores.writing import write_dataset  # zarr need not be loaded to read a raster

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
    marked = drop_storage_encoding(scene)
    for name, settings in encoding.items():
        configuration = settings["serializer"]["configuration"]
        marked[name].attrs[LOSS_ATTRIBUTE] = (
            f"xsarcomp: transparent store of model {configuration['model'][:16]}, quantization step "
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
            write_geotiff(dataset, backscatter_variables(dataset), partial, measure_transform=measure_transform)
    elif ending in NETCDF_ENDINGS:
        with _finished(path) as partial:
            write_netcdf(_plain(dataset), partial)
    elif ending == ".zarr":
        write_store(_plain(dataset), path, overwrite=overwrite)
    else:
        raise ConfigurationError(f"{path} ends in {ending or 'nothing'}: expected .tif, .nc or .zarr")


def _plain(dataset: xr.Dataset) -> xr.Dataset:
    """Dataset without the codecs of the store it came from, but with what describes the data."""
    result = drop_storage_encoding(dataset)
    for variable in result.variables.values():
        if "_FillValue" in variable.attrs:  # xarray wants it in one of the two places
            variable.encoding.pop("_FillValue", None)
    return result


def backscatter_variables(dataset: xr.Dataset) -> list:
    """Variables that were decoded, or all that are no scalars."""
    decoded = [
        name for name, array in dataset.data_vars.items() if LOSS_ATTRIBUTE in array.attrs or _is_transparent(array)
    ]
    return decoded or [name for name, array in dataset.data_vars.items() if array.ndim >= 2]


def _is_transparent(array: xr.DataArray) -> bool:
    from xsarcomp.latents.info import transparent_configuration

    return transparent_configuration(array.variable) is not None
