"""Stores where Pangeo keeps them: behind URLs, in object stores, in shards, in repositories with a history."""

import shutil
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr.storage

from tests.support import object_stores
from tests.test_cli import run_here, strict_json
from xsarcomp.errors import NotEncodedError
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.report import open_compressed, store_report
from xsarcomp.stores.stored_array import keys_below
from xsarcomp.stores.verification import verify_store, write_manifest

pytestmark = pytest.mark.slow

PIXEL_TOLERANCE = 5e-4  # 0.002 dB, what docs/format.md allows between decoders
KINDS = ("latents", "transparent")
BOUND_DB = 1.0
REQUESTS = {"rate": {"bits_per_pixel": 1.0}, "bound": {"max_error_db": BOUND_DB}}


@pytest.fixture(scope="session")
def s3():
    """Address of a server that answers as S3 does."""
    yield from object_stores.s3_server()


@pytest.fixture(params=object_stores.PLACES, ids=lambda make: make.__name__)
def place(request, tmp_path):
    """Each place that a store can be written to."""
    return request.param(request, tmp_path)


@pytest.fixture(scope="module")
def requests(scene):
    """What is written: (kind, request) -> dataset and encoding; each is planned once."""
    latents = {name: (scene.sarcomp.encode(**request), None) for name, request in REQUESTS.items()}
    plain = {name: (scene, scene.sarcomp.encoding(**request)) for name, request in REQUESTS.items()}
    return {("latents", name): value for name, value in latents.items()} | {
        ("transparent", name): value for name, value in plain.items()
    }


@pytest.fixture(scope="module")
def on_disk(requests, tmp_path_factory):
    """The same in ordinary folders: (kind, request) -> path."""
    folder = tmp_path_factory.mktemp("stores")
    paths = {key: folder / f"{key[0]}-{key[1]}.zarr" for key in requests}
    for key, (dataset, encoding) in requests.items():
        dataset.to_zarr(paths[key], encoding=encoding, consolidated=False)
    return paths


def write(place, dataset, encoding=None, **arguments):
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Duplicate name", UserWarning
        )  # xarray writes attributes twice, zip keeps both
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        dataset.to_zarr(
            place.target,
            encoding=encoding,
            storage_options=place.storage_options,
            **{"consolidated": False, **arguments},
        )


def read(kind, store, storage_options=None, **arguments):
    if kind == "latents":
        return xr.open_dataset(store, engine="sarcomp", storage_options=storage_options, **arguments)
    arguments = {"consolidated": False, "chunks": None, **arguments}
    return xr.open_zarr(store, storage_options=storage_options, decode_coords="all", **arguments)


def problems(store, **arguments):
    return [(one.problem, one.array) for one in verify_store(store, **arguments).problems]


# there and back


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_store_gives_back_the_same_values_wherever_it_lies(place, requests, on_disk, scene, kind, request_name):
    write(place, *requests[kind, request_name])
    found = read(kind, place.written, place.storage_options)
    expected = read(kind, on_disk[kind, request_name])
    assert found.rio.crs == scene.rio.crs
    for name in ("vv", "vh"):
        np.testing.assert_array_equal(found[name].values, expected[name].values)
        np.testing.assert_array_equal(np.isnan(found[name].values), np.isnan(scene[name].values))
    if request_name == "bound":
        assert found.sarcomp.compare(scene)["max_error_db"] <= BOUND_DB


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_is_verified_recorded_and_measured_wherever_it_lies(place, requests, on_disk, kind):
    write(place, *requests[kind, "bound"])
    options = {"storage_options": place.storage_options}
    assert verify_store(place.written, **options).ok
    found, expected = (
        store_report(store, **used) for store, used in ((place.written, options), (on_disk[kind, "bound"], {}))
    )
    for name in ("payload_bytes", "objects", "pixels", "variables"):
        assert getattr(found, name) == getattr(expected, name)
    assert 0 < found.payload_bytes < found.stored_bytes


@pytest.mark.parametrize(
    "place", [object_stores.memory_url, object_stores.s3_url, object_stores.obstore_memory], indirect=True
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_that_is_deleted_from_an_object_store_is_found_and_the_manifest_can_be_written_there(
    place, requests, kind
):
    write(place, *requests[kind, "rate"])
    options = {"storage_options": place.storage_options}
    assert write_manifest(place.target, **options).manifest == "recorded"
    assert verify_store(place.target, **options).manifest == "recorded"
    assert problems(place.target, **options) == []
    array = "vh_latents" if kind == "latents" else "vh"
    group = zarr.open_group(place.target, mode="r+", **options)
    chunk = next(key for key in _keys(group) if key.startswith(f"{array}/c/"))
    zarr.core.sync.sync(group.store.delete(chunk))
    assert problems(place.target, **options) == [("missing", array)]


def _keys(group):
    return zarr.core.sync.sync(keys_below(group.store, group.store_path.path))


@pytest.mark.parametrize(
    "place", [object_stores.memory_url, object_stores.memory_store, object_stores.obstore_memory], indirect=True
)
@pytest.mark.parametrize("kind", KINDS)
def test_consolidated_metadata_make_no_difference_but_in_requests(place, requests, on_disk, kind):
    write(place, *requests[kind, "rate"], consolidated=True)
    assert zarr.open_group(place.target, storage_options=place.storage_options).metadata.consolidated_metadata
    arguments = {"consolidated": True} if kind == "transparent" else {}
    found = read(kind, place.target, place.storage_options, **arguments)
    xr.testing.assert_identical(found.load(), read(kind, on_disk[kind, "rate"]).load())
    assert verify_store(place.target, storage_options=place.storage_options).ok


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_was_zipped_is_read_as_it_was(on_disk, tmp_path, kind):
    archive = shutil.make_archive(tmp_path / "a", "zip", on_disk[kind, "rate"])
    with zarr.storage.ZipStore(archive, mode="r") as store:
        xr.testing.assert_identical(read(kind, store).load(), read(kind, on_disk[kind, "rate"]).load())
        assert verify_store(store).ok
        assert store_report(store).payload_bytes == store_report(on_disk[kind, "rate"]).payload_bytes


def test_a_url_without_a_store_is_named():
    with pytest.raises(FileNotFoundError, match=r"memory://absent\.zarr"):
        open_compressed("memory://absent.zarr")
    with pytest.raises(NotEncodedError, match=r"ends in \.zarr"):
        open_compressed("memory://absent")


@pytest.mark.parametrize("kind", KINDS)
def test_the_commands_take_urls(place_of_commands, on_disk, tmp_path, kind):
    source, store = tmp_path / "a.tif", f"{place_of_commands}/{kind}.zarr"
    simulated_dataset((200, 240), seed=6).vv.rio.to_raster(source)
    flags = ["--transparent"] if kind == "transparent" else []
    run_here("encode", source, store, "--bits-per-pixel", 2, *flags, folder=tmp_path)
    report = strict_json(run_here("info", store, "--json", folder=tmp_path)[0])
    assert report["pixels"] == 200 * 240
    assert report["bits_per_pixel"] == pytest.approx(2, rel=0.1)
    checked = strict_json(run_here("verify", store, "--json", folder=tmp_path)[0])
    assert (checked["ok"], checked["manifest"]) == (True, "recorded")
    run_here("decode", store, "back.tif", folder=tmp_path)
    for restored in (store, "back.tif"):
        figures = strict_json(run_here("compare", source, restored, "--json", folder=tmp_path)[0])
        assert 0.1 < figures["rmse_db"] < 0.6


@pytest.fixture
def place_of_commands():
    """A folder in the memory of this process."""
    import fsspec

    yield "memory://commands"
    fsspec.filesystem("memory").rm("/commands", recursive=True)


# many chunks in one object


class CountingStore(zarr.storage.MemoryStore):
    """A store that notes what is read of it: key, whether all of the object, bytes."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.reads = []

    def with_read_only(self, read_only=False):
        return self  # so that all reads are noted here

    async def get(self, key, prototype, byte_range=None):
        found = await super().get(key, prototype, byte_range)
        if not key.endswith("zarr.json"):
            self.reads.append((key, byte_range is None, 0 if found is None else len(found)))
        return found


@pytest.fixture(scope="module")
def wide():
    """Four chunks of a store: vv, float32 power, (y=600, x=640)."""
    return simulated_dataset((600, 640), seed=9)[["vv"]]


def add_shards(encodings, factor=2):
    """Put shards of so many chunks a side into encodings of variables; as docs/cloud.md does it."""
    for encoding in encodings:
        if "chunks" in encoding:
            *lead, rows, columns = encoding["chunks"]
            encoding["shards"] = (*lead, factor * rows, factor * columns)


def transparent_encoding(wide, **request):
    """Encoding of a transparent store of four chunks, whatever the plan would choose for a scene in memory."""
    encoding = wide.sarcomp.encoding(**request)
    if wide.chunks:
        return encoding
    return {**encoding, "vv": {**encoding["vv"], "chunks": (512, 512)}}


def write_sharded(wide, kind, store, **request):
    if kind == "latents":
        encoded = wide.sarcomp.encode(**request)
        add_shards(variable.encoding for variable in encoded.data_vars.values())
        encoded.to_zarr(store, consolidated=False)
        return
    encoding = transparent_encoding(wide, **request)
    add_shards(encoding.values())
    wide.to_zarr(store, encoding=encoding, consolidated=False)


@pytest.mark.parametrize("request_name", ["bound", pytest.param("rate", marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", KINDS)
def test_shards_hold_what_chunks_hold_and_a_window_reads_its_own_chunks_alone(wide, kind, request_name):
    plain, sharded = zarr.storage.MemoryStore(), CountingStore()
    request = REQUESTS[request_name]
    encoding = None if kind == "latents" else transparent_encoding(wide, **request)
    (wide.sarcomp.encode(**request) if kind == "latents" else wide).to_zarr(
        plain, encoding=encoding, consolidated=False
    )
    write_sharded(wide, kind, sharded, **request)
    expected = read(kind, plain).vv.values
    # symbols are the same; sums of float32 over windows of another shape may differ in the last bit
    np.testing.assert_allclose(read(kind, sharded).vv.values, expected, rtol=PIXEL_TOLERANCE)
    if request_name == "bound":
        assert read(kind, sharded).sarcomp.compare(wide)["max_error_db"] <= BOUND_DB
    checked, others = verify_store(sharded), verify_store(plain)
    assert (checked.ok, checked.problems) == (True, ())
    report, without = store_report(sharded), store_report(plain)
    assert report.objects < without.objects
    assert 0 <= report.payload_bytes - without.payload_bytes < 100 * others.chunks  # 16 bytes a chunk and 4 a shard

    opened = read(kind, sharded)
    sharded.reads.clear()
    part = opened.vv[560:590, 600:640].values  # in the last chunk
    np.testing.assert_allclose(part, expected[560:590, 600:640], rtol=PIXEL_TOLERANCE)
    whole = {key for key, is_whole, _ in sharded.reads if is_whole}
    assert whole == set()
    assert sum(size for _, _, size in sharded.reads) < report.payload_bytes / 2


def test_shards_can_be_asked_for_when_writing_if_the_codec_is_repeated(wide):
    encoded = wide.sarcomp.encode(bits_per_pixel=1)
    store = zarr.storage.MemoryStore()
    encoding = {"vv_latents": {**encoded.vv_latents.encoding, "shards": (65, 128, 128)}}
    encoded.to_zarr(store, encoding=encoding, consolidated=False)
    assert zarr.open_array(store, path="vv_latents").shards == (65, 128, 128)
    xr.testing.assert_identical(read("latents", store).vv.load(), encoded.sarcomp.decode().vv)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_dask_that_would_write_parts_of_shards_are_refused(wide, kind):
    with pytest.raises(ValueError, match="overlap multiple Dask chunks"):
        write_sharded(wide.chunk(512), kind, zarr.storage.MemoryStore(), bits_per_pixel=1)
    store = zarr.storage.MemoryStore()
    write_sharded(wide.chunk(1024), kind, store, bits_per_pixel=1)
    assert verify_store(store).ok


# several writers, and a history


@pytest.mark.parametrize("kind", ["latents", pytest.param("transparent", marks=pytest.mark.soak)])
def test_threads_of_dask_write_everywhere_what_one_thread_writes(place, scene, kind):
    if isinstance(place.target, zarr.storage.ZipStore):
        pytest.skip("a zip file takes one writer")
    lazy = scene.chunk(y=128, x=200)
    expected = zarr.storage.MemoryStore()
    dataset, encoding = (
        (lazy.sarcomp.encode(bits_per_pixel=1), None)
        if kind == "latents"
        else (lazy, lazy.sarcomp.encoding(bits_per_pixel=1))
    )
    dataset.to_zarr(expected, encoding=encoding, consolidated=False)
    write(place, dataset, encoding)
    found = read(kind, place.written, place.storage_options, chunks={})
    xr.testing.assert_identical(found.load(), read(kind, expected).load())


def test_processes_of_a_cluster_write_and_read_behind_a_url(requests, scene, tmp_path):
    distributed = pytest.importorskip("distributed")
    place = object_stores.file_url(None, tmp_path)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster),
    ):
        write(place, scene.chunk(y=150, x=180).sarcomp.encode(**REQUESTS["bound"]))
        found = read("latents", place.target, place.storage_options, chunks={}).compute()
    assert found.sarcomp.compare(scene)["max_error_db"] <= BOUND_DB
    assert verify_store(place.target).ok


@pytest.mark.parametrize("kind", KINDS)
def test_dates_are_appended_to_a_repository_and_the_snapshot_before_stays_as_it_was(scene, kind):
    icechunk = pytest.importorskip("icechunk", reason="pip install icechunk")
    times = np.array(["2024-01-01", "2024-01-13"], "datetime64[ns]")
    stack = xr.concat([scene, scene * np.float32(0.7)], dim="time", coords="minimal", compat="override")
    stack = stack.assign_coords(time=times)
    first, second = stack.isel(time=[0]), stack.isel(time=[1])
    repository = icechunk.Repository.create(icechunk.in_memory_storage())
    session = repository.writable_session("main")
    if kind == "latents":
        first.sarcomp.encode(**REQUESTS["bound"]).to_zarr(session.store, consolidated=False)
    else:
        first.to_zarr(session.store, encoding=first.sarcomp.encoding(**REQUESTS["bound"]), consolidated=False)
    snapshot = session.commit("first date")
    session = repository.writable_session("main")
    later = second.sarcomp.encode(**REQUESTS["bound"]) if kind == "latents" else second
    later.to_zarr(session.store, append_dim="time", consolidated=False)
    session.commit("second date")

    both = read(kind, repository.readonly_session("main").store)
    before = read(kind, repository.readonly_session(snapshot_id=snapshot).store)
    assert (both.sizes["time"], before.sizes["time"]) == (2, 1)
    assert both.sarcomp.compare(stack)["max_error_db"] <= BOUND_DB
    np.testing.assert_array_equal(before.vv.values, both.vv[:1].values)
    assert verify_store(repository.readonly_session("main").store).ok


def test_what_was_not_committed_is_not_there(scene, requests):
    icechunk = pytest.importorskip("icechunk", reason="pip install icechunk")
    repository = icechunk.Repository.create(icechunk.in_memory_storage())
    session = repository.writable_session("main")
    requests["latents", "rate"][0].to_zarr(session.store, consolidated=False)
    snapshot = session.commit("latents")
    session = repository.writable_session("main")
    scene.sarcomp.encode(bits_per_pixel=0.5).to_zarr(session.store, mode="w", consolidated=False)
    unchanged = store_report(repository.readonly_session("main").store)
    assert unchanged.variables["vv"]["target"] == "bits_per_pixel=1.0"
    session.commit("coarser latents")
    assert store_report(repository.readonly_session("main").store).variables["vv"]["target"] == "bits_per_pixel=0.5"
    then = store_report(repository.readonly_session(snapshot_id=snapshot).store)
    assert then.payload_bytes == unchanged.payload_bytes
