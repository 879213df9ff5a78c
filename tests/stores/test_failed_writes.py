"""Writes that fail or are interrupted: when the caller hears of it nobody writes any more, and a retry gives the right store."""

import asyncio
import signal
import threading
from collections.abc import Callable
from fnmatch import fnmatch
from typing import ClassVar

import pytest
import zarr
from schedulers import scheduler

from tests.stores.test_resuming import planned
from tests.support.store_model import all_files
from xsarcomp.stores.writing import write_dataset

pytestmark = [pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part"), pytest.mark.slow]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """By kind: dataset, arguments, path of the store that nothing disturbed."""
    stores = {}
    for kind in ("memory", "latents"):
        dataset, options = planned(kind)
        path = tmp_path_factory.mktemp("undisturbed") / kind
        write_dataset(dataset, path, **options)
        stores[kind] = dataset, options, path
    return stores


class HeldStore(zarr.storage.LocalStore):
    """A store where one write is at work when another stops the writer, and goes on when the caller has heard of that.

    Where the caller is made to wait for it, it goes on after two seconds.
    """

    HELD: ClassVar[str]
    STOPPING: ClassVar[str]
    STOP: ClassVar[Callable[[], None]]
    BEGUN: ClassVar[threading.Event]
    STOPPED: ClassVar[threading.Event]
    HEARD: ClassVar[threading.Event]
    ENDED: ClassVar[threading.Event]

    @classmethod
    def prepare(cls, held, stopping, stop):
        """Names of the two writes, the second a pattern, and what happens in the second."""
        cls.HELD, cls.STOPPING, cls.STOP = held, stopping, staticmethod(stop)
        for name in ("BEGUN", "STOPPED", "HEARD", "ENDED"):
            setattr(cls, name, threading.Event())

    async def set(self, key, value):
        await self.watched(key, super().set, key, value)

    async def set_if_not_exists(self, key, value):
        await self.watched(f"{key} unless there", super().set_if_not_exists, key, value)

    async def watched(self, name, write, *arguments):
        is_held = name == self.HELD and not self.BEGUN.is_set()
        if is_held:
            self.BEGUN.set()
            await asyncio.to_thread(self.HEARD.wait, 2)
        elif fnmatch(name, self.STOPPING) and not self.STOPPED.is_set():
            self.STOPPED.set()
            await asyncio.to_thread(self.BEGUN.wait, 2)
            self.STOP()
        await write(*arguments)
        if is_held:
            self.ENDED.set()


def fail():
    raise OSError("stopped")


def interrupt():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


SIBLINGS = {
    "chunks in memory": ("memory", "vv_latents/c/0/0/0", "vv_latents/c/0/0/1"),
    "chunks of a block": ("latents", "vv_latents/c/0/0/0", "vv_latents/c/0/0/1"),
    "blocks": ("latents", "vv_latents/c/0/0/0", "vh_latents/c/0/0/0"),
    "metadata": ("latents", "zarr.json unless there", "*/zarr.json"),
}


@pytest.mark.parametrize(("stop", "again"), [(fail, {"resume": True}), (interrupt, {"mode": "w"})])
@pytest.mark.parametrize("siblings", SIBLINGS)
def test_nobody_writes_when_the_caller_hears_of_an_error_and_a_retry_becomes_the_undisturbed_one(
    undisturbed, tmp_path, interruptible, siblings, stop, again
):
    kind, *writes = SIBLINGS[siblings]
    HeldStore.prepare(*writes, stop)
    dataset, options, path = undisturbed[kind]
    if siblings == "chunks of a block":
        dataset = planned(kind, chunk=1024)[0]
    with scheduler(3, processes=False), pytest.raises((OSError, KeyboardInterrupt)):
        write_dataset(dataset, HeldStore(tmp_path / "a"), **options)
    had_ended = HeldStore.ENDED.is_set()
    HeldStore.HEARD.set()
    assert HeldStore.STOPPED.is_set()
    assert had_ended
    write_dataset(dataset, tmp_path / "a", **again, **options)
    assert all_files(tmp_path / "a") == all_files(path)
