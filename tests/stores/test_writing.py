"""The writer of stores: byte for byte what xarray writes, for any content of a dataset and any kind of store."""

import warnings
from typing import ClassVar

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from schedulers import scheduler

from tests.support.store_model import all_files
from xsarcomp.errors import ConfigurationError
from xsarcomp.latents.info import mark_lossy, transparent_scales
from xsarcomp.scenes.large_scene import large_scene
from xsarcomp.stores.compact import with_small_coordinates
from xsarcomp.stores.verification import verify_store, write_manifest
from xsarcomp.stores.writing import write_dataset

MODEL = "s1-grd-10m-lapped"
REQUEST = {"bits_per_pixel": 3, "scale": "decibel", "model": MODEL}
SHAPE = (700, 1060)
PROMISES = {"max_error_db": 2.0, "keep_means": True}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part"),
    pytest.mark.filterwarnings("ignore:The data type .* does not have a Zarr V3 specification"),  # text
]


def scene(chunk=512):
    """Backscatter on 2 x 3 Dask blocks, with coordinates."""
    made = large_scene(SHAPE, chunk=chunk)
    return made.assign_coords({dim: np.arange(size) * 10.0 for dim, size in made.sizes.items()})


def with_other_variables(dataset):
    """Variables of all kinds beside those of a dataset: packed, masked, dates, text, without values, on Dask and in memory."""
    angle = dask.array.linspace(30, 45, 700 * 1060, chunks=212 * 700).reshape(SHAPE).rechunk((350, 512))
    packed = xr.Variable(("y", "x"), angle, {}, {"dtype": "i2", "scale_factor": 0.01, "_FillValue": -1})
    dates = pd.date_range("2024-01-01", periods=5).to_numpy()
    return dataset.assign(
        angle=packed,
        plain_angle=packed.copy(data=angle.astype("f4")).drop_encoding(),
        seen=("burst", dask.array.from_array(dates, chunks=2)),
        name=("burst", np.array(["one", "two", "three", "", "ä"])),
        count=((), dask.array.ones((), "i4")),
        nothing=(("none", "x"), dask.array.zeros((0, 1060), chunks=512)),
        spatial_ref=((), 0, {"crs_wkt": "LOCAL_CS[]"}),
    ).assign_attrs(history="made for a test", numbers=[1, 2])


@pytest.fixture(scope="module")
def encoded():
    return scene().sarcomp.encode(**REQUEST)


@pytest.fixture(scope="module")
def encoding():
    return scene().sarcomp.encoding(**REQUEST)


@pytest.fixture(scope="module")
def datasets(encoded, encoding, tmp_path_factory):
    """Datasets of all kinds, and arguments of ``to_zarr``."""
    path = tmp_path_factory.mktemp("datasets") / "latents.zarr"
    encoded.to_zarr(path, consolidated=False)
    decoded = xr.open_zarr(path, consolidated=False).sarcomp.decode()
    old = scene().sarcomp.encoding(**REQUEST, zarr_format=2)
    mixed = encoded.assign(vh_mask=encoded.vh_mask.copy().load())
    return {
        "latents": (encoded, {}),
        "latents with residuals and gains": (scene()[["vv"]].sarcomp.encode(**REQUEST | PROMISES), {}),
        "latents in memory": (scene()[["vv"]].load().sarcomp.encode(**REQUEST), {}),
        "latents on Dask with a mask in memory": (mixed, {}),
        "latents beside variables of the user": (with_other_variables(encoded), {"consolidated": True}),
        "latents in shards": (
            encoded,
            {"encoding": {"vv_latents": {**encoded.vv_latents.encoding, "shards": (65, 64, 64)}}},
        ),
        "transparent": (scene(), {"encoding": encoding, "zarr_format": 3, "consolidated": False}),
        "transparent in shards": (
            scene(),
            {"encoding": {"vv": {**encoding["vv"], "chunks": (256, 256), "shards": (512, 512)}, "vh": encoding["vh"]}},
        ),
        "transparent in memory": (scene().load(), {"encoding": encoding}),
        "transparent in Zarr format 2": (with_other_variables(scene()), {"encoding": old, "zarr_format": 2}),
        "decoded": (decoded, {"consolidated": False}),
        "backscatter in a group": (with_other_variables(scene()), {"group": "scenes/one"}),
        "nothing": (xr.Dataset(attrs={"title": "empty"}), {}),
    }


KINDS = (
    "latents", "latents with residuals and gains", "latents in memory", "latents on Dask with a mask in memory",
    "latents beside variables of the user", "latents in shards", "transparent", "transparent in shards",
    "transparent in memory", "transparent in Zarr format 2", "decoded", "backscatter in a group", "nothing",
)  # fmt: skip


def without_manifest(files):
    return {name: content for name, content in files.items() if "sarcomp_manifest" not in name}


def is_compressed(dataset, options):
    return "encoding" in options or any("sarcomp" in array.attrs for array in dataset.variables.values())


def written_by_xarray(dataset, path, **options):
    """Write with xarray what the own writer adds: the note of a loss, small coordinates, and documents without indentation."""
    encoding = options.get("encoding", {})
    noted = mark_lossy(dataset, transparent_scales(encoding))
    with zarr.config.set({"json_indent": None}):
        with_small_coordinates(noted, encoding, options.get("zarr_format")).to_zarr(path, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_the_store_is_the_very_bytes_that_xarray_writes(datasets, tmp_path, kind):
    dataset, options = datasets[kind]
    written_by_xarray(dataset, tmp_path / "xarray", **options)
    with dask.config.set(scheduler="synchronous" if kind == "transparent" else "threads"):
        assert dataset.sarcomp.to_zarr(tmp_path / "own", **options) is None
    expected, found = all_files(tmp_path / "xarray"), all_files(tmp_path / "own")
    assert expected == without_manifest(found)
    assert (found.keys() > expected.keys()) == is_compressed(dataset, options)


@pytest.mark.parametrize("kind", ["latents", "transparent in Zarr format 2"])
def test_a_compressed_store_has_its_manifest(datasets, tmp_path, kind):
    dataset, options = datasets[kind]
    dataset.sarcomp.to_zarr(tmp_path / "own", **options)
    written_by_xarray(dataset, tmp_path / "xarray", **options)
    write_manifest(tmp_path / "xarray")
    assert all_files(tmp_path / "own") == all_files(tmp_path / "xarray")
    report = verify_store(tmp_path / "own")
    assert report.ok
    assert report.manifest == "recorded"


def store_of(kind, path):
    """A store as a user may give it, and arguments that go with it."""
    return {
        "string": (str(path), {}),
        "path": (path, {}),
        "Zarr store": (zarr.storage.LocalStore(path), {}),
        "URL": (f"file://{path}", {"storage_options": {"auto_mkdir": True}}),
        "memory": (zarr.storage.MemoryStore(), {}),
    }[kind]


@pytest.mark.parametrize("kind", ["string", "path", "Zarr store", "URL", "memory"])
@pytest.mark.parametrize("resume", [False, True])
def test_every_kind_of_store_is_written(encoded, tmp_path, kind, resume):
    store, options = store_of(kind, tmp_path / "store")
    encoded.sarcomp.to_zarr(store, resume=resume, **options)
    found = xr.open_zarr(store, **options)
    np.testing.assert_array_equal(found.vv_latents, encoded.vv_latents)
    if resume:
        assert write_dataset(encoded, store, resume=True, **options).reused == 12


def test_what_is_there_is_kept_unless_it_is_to_be_replaced(encoded, tmp_path):
    encoded[["vv_mask"]].sarcomp.to_zarr(tmp_path / "a")
    before = all_files(tmp_path / "a")
    with pytest.raises((ValueError, FileExistsError)):
        encoded.sarcomp.to_zarr(tmp_path / "a")
    assert all_files(tmp_path / "a") == before
    scene().sarcomp.to_zarr(tmp_path / "a", mode="w")
    assert set(xr.open_zarr(tmp_path / "a").data_vars) == {"vv", "vh"}


@pytest.mark.parametrize("mode", ["a", "r+", "a-"])
def test_appending_is_left_to_xarray(encoded, tmp_path, mode):
    with pytest.raises(ConfigurationError, match=r"to append dates call \.sarcomp\.append, to write regions xarray's"):
        encoded.sarcomp.to_zarr(tmp_path / "a", mode=mode)
    with pytest.raises(TypeError):
        encoded.sarcomp.to_zarr(tmp_path / "a", append_dim="y")
    with pytest.raises(ConfigurationError, match="resume=True contradict"):
        encoded.sarcomp.to_zarr(tmp_path / "a", mode="w", resume=True)


def test_an_encoding_of_what_is_not_there_is_refused(encoded, tmp_path):
    with pytest.raises(ConfigurationError, match=r"names \['hh'\]"):
        encoded.sarcomp.to_zarr(tmp_path / "a", encoding={"hh": {}})


class Noting(zarr.storage.LocalStore):
    """A store that notes the chunks that are written, in their order."""

    SET: ClassVar[list[str]] = []

    async def set(self, key, value):
        await super().set(key, value)
        if "/c/" in key:
            self.SET.append(key)


@pytest.mark.parametrize("own", [{"chunks": (600, 512)}, {"chunks": (256, 256), "shards": (512, 768)}])
def test_blocks_that_end_inside_a_chunk_or_shard_are_joined_so_that_no_task_writes_a_part_of_one(
    encoding, tmp_path, own
):
    request = {"vv": {**encoding["vv"], **own}, "vh": encoding["vh"]}
    Noting.SET.clear()
    scene().sarcomp.to_zarr(Noting(tmp_path / "a"), encoding=request)
    assert len(Noting.SET) == len(set(Noting.SET))
    written_by_xarray(scene().load(), tmp_path / "b", encoding=request)
    assert without_manifest(all_files(tmp_path / "a")) == all_files(tmp_path / "b")
    assert verify_store(tmp_path / "a").ok


def test_irregular_blocks_of_any_variable_are_written(tmp_path):
    values = np.random.default_rng(1).normal(size=(90, 70)).astype("f4")
    irregular = xr.Dataset({"angle": (("y", "x"), values), "line": ("y", values[:, 0])}).chunk(
        y=(20, 50, 10, 10), x=(30, 40)
    )
    irregular.sarcomp.to_zarr(tmp_path / "a")
    xr.testing.assert_identical(xr.open_zarr(tmp_path / "a").load(), irregular.load())
    assert zarr.open_array(tmp_path / "a/angle").chunks == (50, 40)


def test_latents_of_a_block_are_written_when_its_other_parts_are(tmp_path):
    dataset = scene()[["vv"]].sarcomp.encode(**REQUEST | PROMISES)
    Noting.SET.clear()
    dataset.sarcomp.to_zarr(Noting(tmp_path / "a"))
    written = [key.split("/c/") for key in Noting.SET if key.startswith("vv_")]
    assert {name for name, _ in written} >= {"vv_latents", "vv_residual", "vv_gains", "vv_mask"}
    for name, index in written:
        *_, y, x = index.split("/")
        if name in ("vv_residual", "vv_gains", "vv_mask"):
            index = f"0/{y}/{x}"
            assert written.index([name, "0/" * (name == "vv_gains") + f"{y}/{x}"]) < written.index(
                ["vv_latents", index]
            )


def test_parts_that_no_longer_belong_together_block_by_block_are_written_all_the_same(encoded, tmp_path):
    dataset = encoded.assign(vv_mask=encoded.vv_mask.chunk(y=-1, x=-1))
    assert write_dataset(dataset, tmp_path / "own").blocks == 6 + 6 + 6 + 1
    written_by_xarray(dataset, tmp_path / "xarray")
    assert without_manifest(all_files(tmp_path / "own")) == all_files(tmp_path / "xarray")


def test_latents_whose_channels_were_divided_are_all_written(encoded, tmp_path):
    divided = encoded.drop_encoding().chunk(latent=16)
    one = encoded.drop_encoding().isel(latent=0, y_latent=0)
    for dataset in (divided, one):
        dataset.sarcomp.to_zarr(tmp_path / "a", mode="w", encoding={"vv_latents": {"fill_value": 7}})
        np.testing.assert_array_equal(xr.open_zarr(tmp_path / "a").vv_latents, dataset.vv_latents)


def test_an_error_in_a_block_comes_to_the_caller(tmp_path):
    def fail(block):
        raise ZeroDivisionError("in a block")

    dataset = xr.Dataset({"a": ("x", dask.array.ones(8, chunks=2).map_blocks(fail, dtype=float))})
    with pytest.raises(ZeroDivisionError, match="in a block"):
        dataset.sarcomp.to_zarr(tmp_path / "a")


@pytest.fixture(scope="module")
def workers():
    pytest.importorskip("distributed")
    with scheduler(2, processes=True):
        yield


@pytest.mark.parametrize(
    "kind", ["latents with residuals and gains", "transparent", "latents beside variables of the user"]
)
def test_workers_write_the_same_bytes(datasets, workers, tmp_path, kind):
    dataset, options = datasets[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # among them: a large graph
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        warnings.filterwarnings("ignore", "The data type .* does not have a Zarr V3 specification")
        dataset.sarcomp.to_zarr(tmp_path / "own", **options)
    with dask.config.set(scheduler="threads"):
        written_by_xarray(dataset, tmp_path / "xarray", **options)
    assert without_manifest(all_files(tmp_path / "own")) == all_files(tmp_path / "xarray")


def test_writing_again_on_the_same_workers_writes_again(encoded, workers, tmp_path):
    for name in ("one", "two"):
        encoded.sarcomp.to_zarr(tmp_path / name)
    assert all_files(tmp_path / "one") == all_files(tmp_path / "two")


def test_latents_in_zarr_format_2_are_refused_before_anything_is_written(encoded, tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"format 2, which has no codec for them: use format 3, or a transparent"
    ):
        encoded.sarcomp.to_zarr(tmp_path / "a", zarr_format=2)
    assert not (tmp_path / "a").exists()
