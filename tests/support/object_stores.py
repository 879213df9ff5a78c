"""The places that stores are written to in tests: URLs, objects of Zarr, object stores, repositories.

Each function gives a :class:`Place`, or skips with the package that it needs; :func:`s3_server` starts a server that
answers as S3 does.
"""

import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import zarr.storage

KEYS = {"key": "a", "secret": "b"}


@dataclass(frozen=True)
class Place:
    """Where a store is written, and how it is reached once it is written."""

    target: Any
    """A URL or a Zarr store."""
    storage_options: dict | None = None
    finish: Callable[[], Any] | None = None
    """Closes or commits what was written, and gives what is read; the target itself where there is nothing to do."""
    finished: list = field(default_factory=list)

    @property
    def written(self) -> Any:
        """What readers are given."""
        if not self.finished:
            self.finished.append(self.target if self.finish is None else self.finish())
        return self.finished[0]


def s3_server() -> Iterator[str]:
    """Address of a server that answers as S3 does, with the bucket ``bucket``; for a fixture."""
    reason = "an S3 server for tests: pip install 'moto[server]' s3fs"
    pytest.importorskip("s3fs", reason=reason)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own dependencies are none of ours
        server_module = pytest.importorskip("moto.server", reason=reason)
        server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        import s3fs

        s3fs.S3FileSystem(endpoint_url=url, **KEYS).mkdir("bucket")
        yield url
    finally:
        server.stop()


def memory_url(request, tmp_path):
    return Place(f"memory://{uuid.uuid4().hex}.zarr")


def file_url(request, tmp_path):
    return Place(f"file://{tmp_path}/a.zarr", {"auto_mkdir": True})


def s3_url(request, tmp_path):
    url = request.getfixturevalue("s3")
    return Place(f"s3://bucket/{uuid.uuid4().hex}.zarr", {"endpoint_url": url, **KEYS})


def memory_store(request, tmp_path):
    return Place(zarr.storage.MemoryStore())


def fsspec_store(request, tmp_path):
    return Place(zarr.storage.FsspecStore.from_url(f"memory://{uuid.uuid4().hex}.zarr"))


def zip_store(request, tmp_path):
    store = zarr.storage.ZipStore(tmp_path / "a.zarr.zip", mode="w")

    def finish():
        store.close()
        opened = zarr.storage.ZipStore(tmp_path / "a.zarr.zip", mode="r")
        request.addfinalizer(opened.close)
        return opened

    return Place(store, finish=finish)


def obstore_memory(request, tmp_path):
    stores = pytest.importorskip("obstore.store", reason="pip install obstore")
    return Place(zarr.storage.ObjectStore(stores.MemoryStore()))


def obstore_local(request, tmp_path):
    stores = pytest.importorskip("obstore.store", reason="pip install obstore")
    return Place(zarr.storage.ObjectStore(stores.LocalStore(tmp_path / "a.zarr", mkdir=True)))


def obstore_s3(request, tmp_path):
    stores = pytest.importorskip("obstore.store", reason="pip install obstore")
    store = stores.S3Store(
        "bucket",
        prefix=f"{uuid.uuid4().hex}.zarr",
        endpoint=request.getfixturevalue("s3"),
        access_key_id=KEYS["key"],
        secret_access_key=KEYS["secret"],
        region="us-east-1",
        client_options={"allow_http": True},
    )
    return Place(zarr.storage.ObjectStore(store))


def icechunk_repository(request, tmp_path):
    icechunk = pytest.importorskip("icechunk", reason="pip install icechunk")
    repository = icechunk.Repository.create(icechunk.in_memory_storage())
    session = repository.writable_session("main")

    def finish():
        session.commit("written by a test")
        return repository.readonly_session("main").store

    return Place(session.store, finish=finish)


PLACES = [
    memory_url,
    file_url,
    s3_url,
    memory_store,
    fsspec_store,
    zip_store,
    obstore_memory,
    obstore_local,
    obstore_s3,
    icechunk_repository,
]
