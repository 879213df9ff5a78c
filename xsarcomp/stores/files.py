"""Scenes and stores at paths and URLs: opening by the kind of the file, and writing that leaves no half-written results."""

import contextlib
import shutil
import warnings
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from xsarcomp.errors import ConfigurationError
from xsarcomp.latents.decode import decode_dataset
from xsarcomp.latents.info import mark_transparent
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
    """Return whether there is a Zarr store at a path or URL, judged by its content if it is a folder, else by its ending.

    Parameters
    ----------
    path : str

    Returns
    -------
    bool
    """
    if Path(path).is_dir():
        return any((Path(path) / name).exists() for name in ("zarr.json", ".zgroup", ".zmetadata", ".zarray"))
    return str(path).rstrip("/").endswith(".zarr")


def open_scene(path: str, *, restore: str | None = None) -> xr.Dataset:
    """Open anything that xarray or rioxarray opens, lazily, with the nodata values of the file.

    Parameters
    ----------
    path : str
        GeoTIFF or other raster, NetCDF, Zarr store (a latents store is decoded), path or URL.
    restore : {"speckle"}, optional
        Add synthetic speckle to a latents store, see ``.sarcomp.decode``.

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
            else mark_transparent(dataset)
        )
    if path.lower().endswith(NETCDF_ENDINGS):
        return open_netcdf(path)
    return open_raster(path)


def refuse_overlapping(source: str, target: str) -> None:
    """Refuse to write over a source or into it: scenes are read while they are written.

    Parameters
    ----------
    source, target : str
        Paths or URLs; URLs of remote stores are not compared.

    Raises
    ------
    ConfigurationError
        If the target is the source, is inside of it, or contains it.
    """
    source, target = local_path(source), local_path(target)
    source_path, target_path = Path(source).resolve(), Path(target).resolve()
    overlap = source_path.is_relative_to(target_path) or target_path.is_relative_to(source_path)
    if overlap and "://" not in source + target:
        raise ConfigurationError(f"{target} and {source} are the same, or one contains the other: choose another name")


def open_store(path: str) -> xr.Dataset:
    """Open a Zarr store lazily; latents stay latents."""
    return open_zarr_store(path, chunks={})


def write_store(
    dataset: xr.Dataset,
    path: str,
    *,
    overwrite: bool = False,
    encoding: Mapping[Hashable, Mapping[str, Any]] | None = None,
    resume: bool | None = None,
) -> None:
    """Write a store of Zarr format 3, with its manifest if it is compressed.

    Parameters
    ----------
    dataset : xarray.Dataset
        Latents, or backscatter with the encoding of a transparent store.
    path : str
        Path or URL.
    overwrite : bool
        Replace an existing store when the new one is finished; at a URL, before the new one is begun.
    encoding : dict, optional
        Variable name to its encoding.
    resume : bool, optional
        If True, continue a partial store. If False, start again; an interruption from the keyboard leaves a partial store. If
        None, an interruption leaves nothing.

    Raises
    ------
    ConfigurationError
        If the path exists and ``overwrite`` is False or it is no Zarr store, or if the partial store is another one.
    """
    from xsarcomp.stores.writing import write_dataset  # reading a raster needs no zarr

    path = local_path(path)
    if Path(path).exists():
        if not overwrite:
            raise ConfigurationError(f"{path} exists: choose another name, or pass --overwrite")
        if not is_zarr(path):
            raise ConfigurationError(f"{path} exists and is no Zarr store: it is not overwritten. Choose another name")
    mode = None if resume else "w" if overwrite else "w-"
    with warnings.catch_warnings(), _partial_path(path, resume) as partial:
        # xarray consolidates metadata by default, although the specification of format 3 does not have that yet
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        try:
            write_dataset(dataset, partial, mode=mode, zarr_format=3, encoding=encoding, resume=bool(resume))
        except FileExistsError as error:  # behind a URL
            raise ConfigurationError(f"{path} exists: choose another name, or pass --overwrite") from error


def write_transparent(
    scene: xr.Dataset,
    path: str,
    encoding: Mapping[Hashable, Mapping[str, Any]],
    *,
    overwrite: bool,
    resume: bool | None = None,
) -> None:
    """Write a transparent store.

    Parameters
    ----------
    scene : xarray.Dataset
        Backscatter.
    path : str
        Path or URL.
    encoding : dict
        Result of ``.sarcomp.encoding``.
    overwrite, resume
        As for :func:`write_store`.

    Raises
    ------
    ConfigurationError
        As for :func:`write_store`.
    """
    write_store(drop_storage_encoding(scene), path, overwrite=overwrite, encoding=encoding, resume=resume)


@contextlib.contextmanager
def _partial_path(path: str, resume: bool | None = None) -> Iterator[str]:
    """Path to write to, which is renamed to ``path`` at the end; an earlier file or store stays until then.

    A URL is written in place: object stores have no rename. After an error the partial result is deleted unless ``resume`` is
    True; after an interruption from the keyboard only if ``resume`` is None, because it may be the work of hours.
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
            stop.add_note(f"interrupted: finished blocks stay in {partial}, the same command with --resume goes on")
        raise
    except BaseException:
        if not resume:
            _remove(partial)
        raise


def _remove(path: Path) -> None:
    """Remove a file or folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_scene(dataset: xr.Dataset, path: str, *, overwrite: bool = False, measure_transform: bool = True) -> None:
    """Write backscatter to a GeoTIFF, NetCDF or plain Zarr, by the ending of the path.

    Parameters
    ----------
    dataset : xarray.Dataset
    path : str
        Path; or URL that ends in ``.zarr``.
    overwrite : bool
        Replace an existing file or store.
    measure_transform : bool
        Take the transform of a GeoTIFF from the coordinates, as a part that was cut from a scene needs it. False takes that of
        the reference system: in an overview the last block may hold fewer pixels, so that its coordinates mislead.

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
                f"{path} is a URL, expected one that ends in .zarr: write a local file, and copy it"
            )
        write_store(_plain(dataset), path, overwrite=overwrite)
        return
    if Path(path).exists() and not overwrite:  # it may be the original that was compressed
        raise ConfigurationError(f"{path} exists: choose another name, or pass --overwrite")
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"the folder {Path(path).parent} does not exist: create it first")
    if ending in GEOTIFF_ENDINGS:
        with _partial_path(path) as partial:
            write_geotiff(dataset, backscatter_variables(dataset), partial, measure_transform=measure_transform)
    elif ending in NETCDF_ENDINGS:
        with _partial_path(path) as partial:
            write_netcdf(_plain(dataset), partial)
    elif ending == ".zarr":
        write_store(_plain(dataset), path, overwrite=overwrite)
    else:
        raise ConfigurationError(f"{path} ends in {ending or 'nothing'}: expected .tif, .nc or .zarr")


def _plain(dataset: xr.Dataset) -> xr.Dataset:
    """Dataset with the encoding that describes its data, and without that of the store from which it was read."""
    result = drop_storage_encoding(dataset)
    for variable in result.variables.values():
        if "_FillValue" in variable.attrs:  # xarray refuses it in both places
            variable.encoding.pop("_FillValue", None)
    return result


def backscatter_variables(dataset: xr.Dataset) -> list[Hashable]:
    """Names of decoded variables; of all variables with two or more dimensions if there are none."""
    decoded = [
        name for name, array in dataset.data_vars.items() if LOSS_ATTRIBUTE in array.attrs or _is_transparent(array)
    ]
    return decoded or [name for name, array in dataset.data_vars.items() if array.ndim >= 2]


def _is_transparent(array: xr.DataArray) -> bool:
    """Return whether a variable was opened from a transparent store."""
    from xsarcomp.latents.info import transparent_configuration

    return transparent_configuration(array.variable) is not None
