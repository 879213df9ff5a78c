"""Calls that Dask runs: each once, as soon as its blocks are there; after an error none begins, and none is still at work."""

import contextlib
import functools
import signal
import threading
import time

import dask
import numpy as np
import pytest
from schedulers import scheduler

from xsarcomp.scenes import calls, windows

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_a_watched_computation_reports_growing_counts_up_to_all_tasks(scheduler):
    reports = []
    with calls.watch_tasks(lambda done, total: reports.append((done, total))), dask.config.set(scheduler=scheduler):
        dask.array.ones((4, 4), chunks=1).map_blocks(np.negative).compute()
    done = [count for count, _ in reports]
    assert done == sorted(done)
    assert reports[-1][0] == reports[-1][1]


def test_the_lock_for_writing_serves_the_scheduler_in_use():
    with calls.write_lock():
        pass


class Effects:
    """A function for calls that notes what it got; threads share it."""

    def __init__(self):
        self.got = []

    def __call__(self, *blocks):
        self.got.append([np.array(block) for block in blocks])


def counted_source(made, shape=(8, 8), chunk=4):
    """A lazy source that notes which of its blocks are made."""
    chunks = tuple((chunk,) * (size // chunk) for size in shape)

    def make(block, _pieces):
        made.append(block)
        return np.full([stop - start for start, stop in block], len(made))

    return windows.map_windows(make, {}, chunks, int, name="source")


def doubled(array):
    return windows.map_windows(
        lambda _window, pieces: 2 * pieces["values"],
        {"values": windows.Source(array, windows.same_window)},
        array.chunks,
        int,
        name="double",
    )


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_each_call_gets_its_blocks_once_and_nothing_is_made_twice_or_in_vain(scheduler):
    made, effects = [], Effects()
    source = counted_source(made)
    array = doubled(source)
    places = [(0, 0), (1, 1)]
    both = [calls.Call(effects, ((array, place), (source, place)), place) for place in places]
    with dask.config.set(scheduler=scheduler):
        calls.run_calls(both, name="effects")
    assert sorted(made) == [((0, 4), (0, 4)), ((4, 8), (4, 8))]
    assert len(effects.got) == 2
    for both, plain in effects.got:
        np.testing.assert_array_equal(both, 2 * plain)


def test_blocks_that_two_calls_need_are_made_once():
    made, effects = [], Effects()
    source = counted_source(made, (4, 4))
    calls.run_calls([calls.Call(effects, ((source, (0, 0)),), (number,)) for number in range(3)], name="effects")
    assert len(made) == 1
    assert len(effects.got) == 3


def test_a_layer_with_as_many_tasks_as_are_still_needed_of_others_does_not_run():
    """Dask's culling by layers would keep it: what it makes was put into the calls."""
    made, effects = [], Effects()
    source = counted_source(made)
    array = doubled(source)
    with Names() as names:
        calls.run_calls(
            [calls.Call(effects, ((array, place), (source, place)), place) for place in np.ndindex(2, 2)],
            name="sarcomp-effects",
        )
    assert len(made) == len(effects.got) == 4
    assert any("effects" in name for name in names.seen)
    assert not any("double" in name for name in names.seen)


class Names(dask.callbacks.Callback):
    """Notes the names of the tasks that run."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def _pretask(self, key, _graph, _state):
        self.seen.add(key[0])


def until(file):
    """Wait for a file, two seconds at most; it tells processes too."""
    last = time.monotonic() + 2
    while not file.exists() and time.monotonic() < last:
        time.sleep(0.01)


def hold(folder, _block):
    """A call that is at work until the error has come to the caller; where the caller waits for it, two seconds."""
    (folder / "begun").touch()
    until(folder / "raised")
    (folder / "ended").touch()


def fail(folder, _block):
    until(folder / "begun")
    raise ZeroDivisionError("in a call")


def interrupt(folder, _block):
    until(folder / "begun")
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def run_both(held, stops, folder):
    """Run two calls, and note when the error comes whether the one that was held had ended."""
    source = dask.array.ones(2, chunks=1)
    both = [
        calls.Call(functools.partial(function, folder), ((source, (number,)),), (number,))
        for number, function in enumerate([held, stops])
    ]
    try:
        calls.run_calls(both, name="effects")
    finally:
        had_ended = (folder / "ended").exists()
        (folder / "raised").touch()
        assert had_ended


@contextlib.contextmanager
def threads_of_workers():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=3, processes=False, dashboard_address=":0") as cluster,
        distributed.Client(cluster),
    ):
        yield


PLACES = {
    "threads": functools.partial(scheduler, 3, processes=False),
    "threads of workers": threads_of_workers,
    "processes of workers": functools.partial(scheduler, 3, processes=True),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_error_comes_to_the_caller_when_calls_that_began_have_ended(tmp_path, place):
    """A caller that waits passes however long the two seconds are."""
    with PLACES[place](), pytest.raises(ZeroDivisionError, match="in a call"):
        run_both(hold, fail, tmp_path)


def test_an_interruption_comes_to_the_caller_when_calls_that_began_have_ended(tmp_path, interruptible):
    with scheduler(2, processes=False), pytest.raises(KeyboardInterrupt):
        run_both(hold, interrupt, tmp_path)


def test_a_call_that_has_not_begun_when_its_run_fails_never_does():
    """Dask may have handed its task to a thread, or be about to take it back from a worker."""
    effects = Effects()
    calls._stop("failed")
    calls._run_call("failed", effects, np.zeros(2))
    assert not effects.got
    calls._run_call("another", effects, np.zeros(2))
    assert len(effects.got) == 1
    assert not calls._RUNNING


def test_no_call_is_no_work():
    calls.run_calls([], name="nothing")


def test_each_block_of_an_array_is_written_into_its_region():
    values, target = np.arange(70.0).reshape(7, 10), np.zeros((7, 10))
    calls.write_blocks(dask.array.from_array(values, chunks=(3, 4)), target.__setitem__)
    np.testing.assert_array_equal(target, values)
