"""A dataset is never written over what it will still be read from, however the source was opened and the target is named."""

import functools
import shutil
import uuid

import dask
import dask.array as da
import numpy as np
import pytest
import rioxarray
import xarray as xr
import zarr

from tests.support.commands import run_here
from tests.support.store_model import all_files
from xsarcomp.errors import ConfigurationError
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores import files
from xsarcomp.stores.locations import store_location

MODEL = "s1-grd-10m-lapped"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),  # a part of NetCDF
]
REQUEST = {"bits_per_pixel": 2, "model": MODEL, "scale": "power"}
FORMAT = {"zarr_format": 3, "consolidated": False}
open_zarr = functools.partial(xr.open_zarr, consolidated=False, decode_coords="all")


@pytest.fixture(scope="module")
def scene():
    return simulated_dataset((96, 80), 5)


@pytest.fixture(scope="module")
def originals(scene, tmp_path_factory):
    """A folder with the scene in each kind of store and file."""
    folder = tmp_path_factory.mktemp("originals")
    scene.chunk(64).to_zarr(folder / "s.zarr", **FORMAT)
    scene.to_zarr(folder / "groups.zarr", group="one", **FORMAT)
    scene.chunk(64).sarcomp.encode(**REQUEST).sarcomp.to_zarr(folder / "l.zarr", **FORMAT)
    scene.sarcomp.to_zarr(folder / "t.zarr", encoding=scene.sarcomp.encoding(**REQUEST), **FORMAT)
    scene.to_netcdf(folder / "s.nc")
    files.write_scene(scene, str(folder / "s.tif"))
    return folder


@pytest.fixture
def folder(originals, tmp_path, monkeypatch):
    """A copy that may be destroyed, as working folder."""
    shutil.copytree(originals, tmp_path / "d")
    monkeypatch.chdir(tmp_path / "d")
    return tmp_path / "d"


def read_by_a_function(path):
    """A scene that a function of the user reads, which holds the array in its closure."""
    array = zarr.open_array(f"{path}/vv", mode="r")
    lazy = da.map_blocks(lambda block: array[:], da.zeros((96, 80), chunks=-1), dtype="f4", meta=np.zeros((0, 0), "f4"))
    return xr.Dataset({"vv": (("y", "x"), lazy)})


OPENED = {
    "on Dask": ("s.zarr", open_zarr),
    "without Dask": ("s.zarr", functools.partial(open_zarr, chunks=None)),
    "calculated with": ("s.zarr", lambda path: 2 * open_zarr(path).drop_encoding().isel(y=slice(3, None)).chunk(32)),
    "optimized by Dask": ("s.zarr", lambda path: dask.optimize(open_zarr(path))[0]),
    "encoded": ("s.zarr", lambda path: open_zarr(path).sarcomp.encode(**REQUEST)),
    "transparent": ("t.zarr", open_zarr),
    "latents": ("l.zarr", open_zarr),
    "decoded": ("l.zarr", lambda path: open_zarr(path).sarcomp.decode()),
    "decoded without Dask": ("l.zarr", lambda path: xr.open_dataset(path, engine="sarcomp")),
    "decoded by the engine on Dask": ("l.zarr", lambda path: xr.open_dataset(path, engine="sarcomp", chunks={})),
    "an overview": ("l.zarr", lambda path: xr.open_dataset(path, engine="sarcomp", overview=8)),
    "from a Zarr object": ("s.zarr", lambda path: open_zarr(zarr.storage.LocalStore(path))),
    "a function of the user": ("s.zarr", read_by_a_function),
    "NetCDF": ("s.nc", xr.open_dataset),
    "NetCDF on Dask": ("s.nc", files.open_netcdf),
    "a raster": ("s.tif", files.open_raster),
    "a raster without Dask": ("s.tif", lambda path: rioxarray.open_rasterio(path).to_dataset(name="band_data")),
    "a part that GDAL names": ("s.nc", lambda path: files.open_raster(f"NETCDF:{path}:vv")),
}


@pytest.mark.parametrize("kind", OPENED)
def test_a_store_is_not_written_over_what_is_read(folder, kind):
    name, opener = OPENED[kind]
    lazy, before = opener(name), all_files(folder)
    with pytest.raises(ConfigurationError, match=rf"will be read from .*{name}.*load it first"):
        lazy.sarcomp.to_zarr(name, mode="w", **FORMAT)
    assert all_files(folder) == before


@pytest.mark.parametrize("kind", OPENED)
def test_another_store_is_written(folder, kind):
    name, opener = OPENED[kind]
    opener(name).sarcomp.to_zarr("other.zarr", **FORMAT)
    assert set(xr.open_zarr("other.zarr", consolidated=False).data_vars)


@pytest.mark.parametrize("kind", OPENED)
def test_data_in_memory_replace_their_own_source(folder, kind):
    name, opener = OPENED[kind]
    if name.endswith(".zarr"):
        loaded = opener(name).load()
        loaded.chunk(64).drop_encoding().sarcomp.to_zarr(name, mode="w", **FORMAT)
        xr.testing.assert_equal(open_zarr(name).load(), loaded)
    else:
        with opener(name) as lazy:
            loaded = lazy.load()
        files.write_scene(loaded, name, overwrite=True)


def test_what_was_persisted_is_in_memory(folder):
    lazy = open_zarr("s.zarr")
    lazy.spatial_ref.load()  # without chunks, so Dask does not hold it
    persisted = lazy.persist()
    persisted.sarcomp.to_zarr("s.zarr", mode="w", **FORMAT)
    xr.testing.assert_equal(open_zarr("s.zarr").load(), persisted.load())


NAMES = {
    "absolute": lambda folder: folder / "s.zarr",
    "relative with dots": lambda folder: "../d/./s.zarr/",
    "a file URL": lambda folder: (folder / "s.zarr").as_uri(),
    "a link": lambda folder: folder / "link.zarr",
    "through a linked folder": lambda folder: folder.parent / "linked" / "s.zarr",
    "a Zarr object": lambda folder: zarr.storage.LocalStore(folder / "s.zarr"),
    "a wrapped Zarr object": lambda folder: zarr.storage.WrapperStore(zarr.storage.LocalStore(folder / "s.zarr")),
    "fsspec": lambda folder: zarr.storage.FsspecStore.from_url(f"local://{folder}/s.zarr"),
    "the folder around": lambda folder: folder,
    "inside of it": lambda folder: folder / "s.zarr" / "inner.zarr",
    "inside of its array": lambda folder: folder / "s.zarr" / "vv" / "c",
}


@pytest.mark.parametrize("name", NAMES)
def test_no_name_of_the_source_is_accepted(folder, name):
    (folder / "link.zarr").symlink_to("s.zarr")
    (folder.parent / "linked").symlink_to("d")
    lazy, before = open_zarr("s.zarr"), all_files(folder)
    with pytest.raises(ConfigurationError, match="load it first"):
        lazy.sarcomp.to_zarr(NAMES[name](folder), mode="w", **FORMAT)
    assert all_files(folder) == before


def test_a_group_beside_the_one_that_is_read_may_be_written(folder):
    lazy = open_zarr("groups.zarr", group="one")
    lazy.sarcomp.encode(**REQUEST).sarcomp.to_zarr("groups.zarr", group="two", **FORMAT)
    assert "vv_latents" in open_zarr("groups.zarr", group="two")
    for group in ("one", None, "one/vv"):
        with pytest.raises(ConfigurationError, match="load it first"):
            lazy.sarcomp.to_zarr("groups.zarr", mode="w", group=group, **FORMAT)


def fsspec_memory():
    url = f"memory://{uuid.uuid4().hex}.zarr"
    return url, [url, zarr.storage.FsspecStore.from_url(url), f"simplecache::{url}"]


def zarr_memory():
    store = zarr.storage.MemoryStore()
    return store, [store, store._store_dict, zarr.storage.MemoryStore(store._store_dict)]


def obstore_memory():
    store = pytest.importorskip("obstore.store").MemoryStore()
    return zarr.storage.ObjectStore(store), [zarr.storage.ObjectStore(store)]


@pytest.mark.parametrize("make", [fsspec_memory, zarr_memory, obstore_memory])
def test_stores_without_a_path_are_recognized_too(scene, make):
    source, names = make()
    scene.chunk(64).to_zarr(source, **FORMAT)
    lazy = open_zarr(source)
    for name in names:
        with pytest.raises(ConfigurationError, match="load it first"):
            lazy.sarcomp.to_zarr(name, mode="w", **FORMAT)
    xr.testing.assert_equal(lazy.load(), scene)


@pytest.mark.parametrize(
    ("first", "second", "are_same"),
    [
        (("s3://bucket/a.zarr", {"endpoint_url": "http://one:9000/"}), ("s3://bucket/a.zarr/", {"endpoint_url": "http://one:9000"}), True),
        (("s3://bucket/a.zarr", {"key": "a"}), ("s3://bucket/a.zarr", {"anon": True}), True),
        (("s3://bucket/a.zarr", {}), ("s3://other/a.zarr", {}), False),
        (("s3://bucket/a.zarr", {}), ("s3://bucket/a.zarr", {"endpoint_url": "http://mirror:9000"}), False),
        (("s3://bucket/a.zarr", {}), ("s3://bucket/a.zarr2", {}), False),
    ],
)  # fmt: skip
def test_a_bucket_is_known_by_server_and_name(first, second, are_same):
    pytest.importorskip("s3fs")
    places = [store_location(url, storage_options=options) for url, options in (first, second)]
    assert places[0].would_destroy(places[1]) is are_same


def test_files_are_not_written_over_what_is_read(folder):
    before = all_files(folder)
    for name, opener in (("s.nc", files.open_netcdf), ("s.tif", files.open_raster), ("l.zarr", files.open_scene)):
        with pytest.raises(ConfigurationError, match="load it first"):
            files.write_scene(opener(name), name, overwrite=True)
    assert all_files(folder) == before


@pytest.mark.parametrize("command", ["encode", "encode --transparent", "decode"])
@pytest.mark.parametrize("target", ["l.zarr", "link.zarr", "l.zarr/inner.zarr", "."])
def test_commands_refuse_their_source_as_target(folder, command, target):
    (folder / "link.zarr").symlink_to("l.zarr")
    before = all_files(folder)
    words = command.split()
    _, said = run_here(words[0], "l.zarr", target, "--overwrite", *words[1:], folder=folder, status=1)
    assert "choose another name" in said
    assert all_files(folder) == before


def test_a_command_refuses_its_source_behind_a_url(scene, tmp_path):
    url = f"memory://{uuid.uuid4().hex}.zarr"
    scene.to_zarr(url, **FORMAT)
    for target in (url, f"{url}/", f"{url}/inner.zarr", url.replace(".zarr", ".zarr/../x").replace("/../x", "")):
        _, said = run_here("encode", url, target, "--overwrite", folder=tmp_path, status=1)
        assert "choose another name" in said
    assert set(open_zarr(url).data_vars) == {"vv", "vh"}


def test_the_search_looks_at_the_layers_that_read_and_not_at_a_hundred_thousand_blocks(folder):
    """Counted, not timed: what is looked at does not grow with the blocks of an array that xarray opened."""
    from xsarcomp.stores import sources

    zarr.create_array("one.zarr/vv", shape=(96, 80), chunks=(2, 2), dtype="f4", dimension_names=("y", "x"))
    zarr.create_group("one.zarr")
    counts = []
    for edge in (48, 2):
        search = sources._Search(store_location("other.zarr"))
        lazy = 1 + open_zarr("one.zarr", chunks={"y": edge, "x": edge}).vv
        assert [source.inside for source in search.sources(lazy.variable)] == [("vv",)]
        counts.append(len(search._seen))
    assert counts[0] == counts[1]
