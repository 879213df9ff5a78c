"""Scenes and stores at paths and URLs: opening by the kind of the file, and writing that leaves no half-written results."""

import contextlib
import warnings
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from xsarcomp.errors import ConfigurationError
from xsarcomp.latents.decode import decode_dataset
from xsarcomp.latents.info import mark_transparent
from xsarcomp.latents.layout import drop_storage_encoding
from xsarcomp.latents.loss import LOSS_ATTRIBUTE
from xsarcomp.latents.metadata import ATTRIBUTE
from xsarcomp.scenes.rasters import (
    GEOTIFF_ENDINGS,
    NETCDF_ENDINGS,
    local_path,
    open_netcdf,
    open_raster,
    write_geotiff,
    write_netcdf,
)
from xsarcomp.stores.opening import open_zarr_store, readable_store
from xsarcomp.stores.replacing import partial_file, partial_path, partial_store, recover, replaced_path


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


def open_scene(path: str, *, restore: str | None = None, quality: str = "best") -> xr.Dataset:
    """Open anything that xarray or rioxarray opens, lazily, with the nodata values of the file.

    Parameters
    ----------
    path : str
        GeoTIFF or other raster, NetCDF, Zarr store (a latents store is decoded), path or URL.
    restore : {"speckle"}, optional
        Add synthetic speckle to a latents store, see ``.sarcomp.decode``.
    quality : {"best", "fast"}
        Quality of decoding a latents store.

    Returns
    -------
    xarray.Dataset
        Bands of a raster are a dimension of the variable ``band_data``.

    Raises
    ------
    FileNotFoundError
        If a local path does not exist.
    NotEncodedError, OSError
        If nothing there can be read.
    """
    path = local_path(path)
    if "://" not in path:
        _check_source(Path(path))
    if is_zarr(path):
        dataset = open_store(path)
        return (
            decode_dataset(dataset, restore, quality)
            if any(ATTRIBUTE in array.attrs for array in dataset.variables.values())
            else mark_transparent(dataset)
        )
    if path.lower().endswith(NETCDF_ENDINGS):
        return open_netcdf(path)
    return open_raster(path)


def _check_source(path: Path) -> None:
    """Refuse a path at which there is nothing, or nothing that can be a scene."""
    if not path.exists():
        replaced = replaced_path(path)
        hint = f", but what was to be replaced is whole in {replaced}: rename it, or write the new one again"
        raise FileNotFoundError(f"{path} does not exist{hint if replaced.exists() else ''}")
    if path.is_file() and path.stat().st_size == 0:
        raise OSError(f"{path} is empty, expected a GeoTIFF, NetCDF file or Zarr store: write or download it again")
    if path.is_dir() and not is_zarr(str(path)) and not (path / "manifest.safe").exists():
        raise OSError(f"{path} is a folder without a Zarr store, expected a file or a store: name what is in it")
    if path.is_file() and path.suffix.lower() == ".zarr":
        raise OSError(f"{path} is a file, expected the folder of a Zarr store: unpack it, if it is an archive")


def _check_replaceable(path: str) -> None:
    """Refuse what exists and is no Zarr store: nothing else is ever removed to make room for one."""
    if Path(path).exists() and not (is_zarr(path) and Path(path).is_dir()):
        raise ConfigurationError(f"{path} exists and is no Zarr store: it is not overwritten. Choose another name")


def check_store_name(path: str, *, overwrite: bool) -> None:
    """Refuse a path or URL at which no store will be written, before the work for it begins.

    Parameters
    ----------
    path : str
    overwrite : bool
        Whether an existing store may be replaced.

    Raises
    ------
    ConfigurationError
        If the path has the ending of a file (a URL ends in ``.zarr``), or exists and may not be replaced.
    """
    ending = Path(path.rstrip("/")).suffix
    if ending.lower() != ".zarr" and (ending or "://" in path):
        raise ConfigurationError(
            f"{path} ends in {ending or 'nothing'}, which is no Zarr store: expected a name that ends in .zarr. Encoded scenes are "
            "Zarr stores, from which xsarcomp decode writes .tif and .nc; to encode several files, pass --output FOLDER"
        )
    if "://" not in path:
        _check_target(Path(path), overwrite=overwrite)
        _check_replaceable(path)


def check_scene_name(path: str, *, cloud_optimized: bool = False) -> None:
    """Refuse a path or URL that has no ending of a scene.

    Parameters
    ----------
    path : str
        Path of a file or store of backscatter that will be written.
    cloud_optimized : bool
        Expect a GeoTIFF.

    Raises
    ------
    ConfigurationError
        If the ending is unknown.
    """
    ending = Path(path.rstrip("/")).suffix.lower()
    if "://" in path and ending != ".zarr":
        raise ConfigurationError(f"{path} is a URL, expected one that ends in .zarr: write a local file, and copy it")
    if cloud_optimized and ending not in GEOTIFF_ENDINGS:
        raise ConfigurationError(f"{path} ends in {ending or 'nothing'}: a Cloud Optimized GeoTIFF ends in .tif")
    if ending not in (*GEOTIFF_ENDINGS, *NETCDF_ENDINGS, ".zarr"):
        raise ConfigurationError(f"{path} ends in {ending or 'nothing'}: expected .tif, .nc or .zarr")


def _check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a local path that exists, unless it may be replaced; a link never is, nor what it leads to."""
    if path.is_symlink():
        raise ConfigurationError(
            f"{path} is a link to {path.readlink()}, and neither is overwritten: name the target itself, or remove the link"
        )
    if path.exists() and not overwrite:  # it may be the original that was compressed
        raise ConfigurationError(f"{path} exists: choose another name, or pass --overwrite")
    for parent in path.absolute().parents:
        if parent.exists() and not parent.is_dir():
            raise ConfigurationError(f"{path} cannot be written: {parent.name} is no folder. Choose another name")
        if parent.is_dir() and is_zarr(str(parent)):
            raise ConfigurationError(
                f"{path} lies in the Zarr store {parent.name}, which would change: choose another name"
            )


def refuse_overlapping(source: str, target: str) -> None:
    """Refuse to write over a source or into it: scenes are read while they are written.

    Parameters
    ----------
    source, target : str
        Paths or URLs.

    Raises
    ------
    ConfigurationError
        If the target is the source, is inside of it, or contains it.
    """
    if "://" in local_path(source) and "://" in local_path(target):
        from xsarcomp.stores.locations import store_location  # paths need no zarr

        overlaps = store_location(target).would_destroy(store_location(source))
    else:
        source_path, target_path = Path(local_path(source)).resolve(), Path(local_path(target)).resolve()
        overlaps = source_path.is_relative_to(target_path) or target_path.is_relative_to(source_path)
    if overlaps:
        raise ConfigurationError(f"{target} and {source} are the same, or one contains the other: choose another name")


def open_store(path: str) -> xr.Dataset:
    """Open a Zarr store lazily; latents stay latents."""
    with readable_store(path):
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
        Replace an existing store when the new one is finished, in one step; at a URL, before the new one is begun.
    encoding : dict, optional
        Variable name to its encoding.
    resume : bool, optional
        If True, continue a partial store. If False, start again; an interruption from the keyboard leaves a partial store. If
        None, an interruption leaves nothing.

    Raises
    ------
    ConfigurationError
        If the path exists and ``overwrite`` is False or it is no Zarr store, if the dataset will be read from there, if another
        process is writing there, or if the partial store is another one.
    """
    from xsarcomp.stores.locking import writer_lock  # reading a raster needs no zarr
    from xsarcomp.stores.sources import refuse_own_sources
    from xsarcomp.stores.writing import write_dataset

    path = local_path(path)
    refuse_own_sources(dataset, path)
    mode = None if resume else "w" if overwrite else "w-"
    if "://" not in path:
        _check_target(
            Path(path), overwrite=True
        )  # whether it exists is asked when nobody else writes, and it is recovered
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    with writer_lock(path), warnings.catch_warnings(), _place_of_store(path, overwrite, resume) as partial:
        # xarray consolidates metadata by default, although the specification of format 3 does not have that yet
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        try:
            write_dataset(dataset, partial, mode=mode, zarr_format=3, encoding=encoding, resume=bool(resume))
        except FileExistsError as error:  # behind a URL
            raise ConfigurationError(f"{path} exists: choose another name, or pass --overwrite") from error


@contextlib.contextmanager
def _place_of_store(path: str, overwrite: bool, resume: bool | None) -> Iterator[str]:
    """Path to write a store to, which gets its name at the end; at a URL the name itself: object stores have no rename."""
    if "://" in path:
        yield path
        return
    target = Path(path)
    recover(target)
    _check_target(target, overwrite=overwrite)
    _check_replaceable(path)
    # without the metadata of its group, nothing in a partial store can be used
    can_go_on = bool(resume) and is_zarr(str(partial_path(target)))
    with partial_store(target, resume, can_go_on=can_go_on) as partial:
        yield partial


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


def write_scene(
    dataset: xr.Dataset,
    path: str,
    *,
    overwrite: bool = False,
    measure_transform: bool = True,
    cloud_optimized: bool = False,
) -> None:
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
    cloud_optimized : bool
        Write a GeoTIFF as a Cloud Optimized one, with overviews.

    Raises
    ------
    ConfigurationError
        If the ending is unknown, the target exists and ``overwrite`` is False or it is a folder, the dataset will be read from
        the target, or another process is writing there.
    DimensionError
        If a GeoTIFF cannot hold the dimensions.
    FileNotFoundError
        If the folder of the target does not exist.
    """
    from xsarcomp.stores.locking import writer_lock
    from xsarcomp.stores.sources import refuse_own_sources

    path = local_path(path)
    refuse_own_sources(dataset, path)
    check_scene_name(path, cloud_optimized=cloud_optimized)
    ending = Path(path).suffix.lower()
    if "://" in path:
        write_store(_plain(dataset), path, overwrite=overwrite)
        return
    if not Path(path).parent.exists():
        raise FileNotFoundError(f"the folder {Path(path).parent} does not exist: create it first")
    with writer_lock(path):
        _check_target(Path(path), overwrite=overwrite)
        if ending == ".zarr":
            write_store(_plain(dataset), path, overwrite=overwrite)
            return
        if Path(path).is_dir():
            raise ConfigurationError(f"{path} is a folder, expected a file: it is not overwritten. Choose another name")
        with partial_file(Path(path)) as partial, _named(path, partial):
            if ending in GEOTIFF_ENDINGS:
                write_geotiff(
                    dataset,
                    backscatter_variables(dataset),
                    partial,
                    measure_transform=measure_transform,
                    cloud_optimized=cloud_optimized,
                )
            else:
                write_netcdf(_plain(dataset), partial)


@contextlib.contextmanager
def _named(path: str, partial: str) -> Iterator[None]:
    """Context in which errors name the path that was asked for, not that which was written."""
    try:
        yield
    except OSError as error:
        if error.errno is None and partial in str(error):
            raise OSError(str(error).replace(partial, path)) from error
        raise


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
