"""Stores that are written, extended, damaged and repaired in any order: right pixels, an error, or a finding; never silence.

A model in memory holds the bytes that each chunk must have, made by the codec without a store. Hypothesis draws the order of
operations; ``make soak`` draws more and longer ones.
"""

import functools
import pickle
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.store_model import (
    EDGE,
    FORMAT,
    MASK,
    PLANES,
    SHAPE,
    Latents,
    Transparent,
    blocks,
    chunk_bytes,
    chunk_path,
    is_fill,
    open_array,
    plane,
    stack,
)
from xsarcomp.errors import BitstreamError, CorruptStreamError
from xsarcomp.stores.verification import verify_store, write_manifest

pytestmark = pytest.mark.slow

QUICK, LONG = {"max_examples": 20, "stateful_step_count": 20}, {"max_examples": 500, "stateful_step_count": 100}
PIXEL_TOLERANCE = 5e-4  # 0.002 dB, what docs/format.md allows between decoders
LARGEST = 4
numbers = st.integers(0, PLANES - 1)
anything = st.integers(0, 2**20)
several = st.lists(anything, min_size=1, max_size=4)


@functools.cache
def layouts():
    """Every kind of store, with and without a promise."""
    return [Transparent(), Transparent(max_error_db=1.5), Latents(), Latents(max_error_db=1.5)]


class StoreMachine(RuleBasedStateMachine):
    """A store on disk, what was written into each of its chunks, and what lies there after all damage."""

    @initialize(which=st.integers(0, 3), first=st.lists(numbers, min_size=1, max_size=2), recorded=st.booleans())
    def create(self, which, first, recorded):
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "a.zarr"
        self.layout = layouts()[which]
        self.overwrite(first)
        if recorded:
            self.record()

    def teardown(self):
        if hasattr(self, "folder"):
            self.verify()
            self.decode()
            shutil.rmtree(self.folder)

    # what is written

    @precondition(lambda self: any(self.stored[key] != content for key, content in self.intended.items()))
    @rule(new=st.lists(numbers, min_size=1, max_size=2))
    def overwrite(self, new):
        self.layout.write(new, self.path, mode="w")
        self.planes = []  # number of the plane of each time; None where none was written
        self.intended, self.stored, self.recorded = {}, {}, None
        self.valid = {name: set() for name in self.layout.arrays}
        self._wrote(0, new)

    @precondition(lambda self: len(self.planes) < LARGEST)
    @rule(number=numbers)
    def append(self, number):
        self.layout.write([number], self.path, append_dim="time")
        self._wrote(len(self.planes), [number])

    @rule(which=anything, number=numbers)
    def write_region(self, which, number):
        time = which % len(self.planes)
        self.layout.write([number], self.path, region={"time": slice(time, time + 1)})
        self._wrote(time, [number])

    @precondition(lambda self: isinstance(self.layout, Transparent))
    @rule(which=anything, number=numbers)
    def write_part_of_a_chunk(self, which, number):
        """Zarr reads the chunk first: what is damaged must not be taken for fill value and written again."""
        key = self._chunk(which, "vv")
        time, row, column = key[1]
        y, x = row * EDGE, column * EDGE
        part = stack([number]).isel(y=slice(y, y + 5), x=slice(x, x + 7))
        region = {"time": slice(time, time + 1), "y": slice(y, y + 5), "x": slice(x, x + 7)}
        before = self.stored[key]
        if self._is_damaged(key):
            with pytest.raises(BitstreamError):
                part.to_zarr(self.path, region=region, consolidated=False)
            assert chunk_bytes(self.path, *key) == before
            return
        block = np.full((1, EDGE, EDGE), np.nan, np.float32)
        if before is not None:
            block = self.layout.content("vv", before).copy()
        block[0, :5, :7] = part.vv.values[0]
        part.to_zarr(self.path, region=region, consolidated=False)
        self._wrote_block(*key, block, np.nan)
        self.planes[time] = None

    @precondition(lambda self: len(self.planes) < LARGEST)
    @rule()
    def grow(self):
        """Nothing is written: readers see fill value, and a check must say so."""
        self._resize(len(self.planes) + 1)
        self.planes.append(None)
        for name, (_, shape, fill) in self.layout.arrays.items():
            for index in self._indices(name, len(self.planes) - 1):
                self.intended[name, index] = self.stored[name, index] = None
                assert is_fill(np.full(shape, fill), fill)

    @precondition(lambda self: len(self.planes) > 1)
    @rule()
    def shrink(self):
        self.planes.pop()
        self._resize(len(self.planes))
        for key in [key for key in self.stored if key[1][0] == len(self.planes)]:
            del self.stored[key], self.intended[key]
            assert chunk_bytes(self.path, *key) is None

    # what goes wrong

    @rule(several=several, bits=st.lists(anything, min_size=1, max_size=3, unique=True))
    def flip_bits(self, several, bits):
        for key in {self._chunk(which) for which in several}:
            if not self.stored[key]:  # absent, or cut to nothing
                continue
            content = bytearray(self.stored[key])
            for bit in {bit % (8 * len(content)) for bit in bits}:
                content[bit // 8] ^= 1 << bit % 8
            self._put(key, bytes(content))
        self._verify()

    @rule(which=anything, length=anything)
    def truncate(self, which, length):
        key = self._chunk(which)
        if self.stored[key]:
            self._put(key, self.stored[key][: length % len(self.stored[key])])

    @rule(several=several, distance=st.integers(1, 7))
    def swap(self, several, distance):
        for which in several:
            key = self._chunk(which)
            others = sorted(chunk for chunk in self.stored if chunk[0] == key[0])
            other = others[(others.index(key) + distance) % len(others)]
            contents = self.stored[key], self.stored[other]
            self._put(key, contents[1])
            self._put(other, contents[0])
        self._verify()

    @rule(which=anything)
    def delete(self, which):
        self._put(self._chunk(which), None)
        self._verify()

    @rule(which=anything, version=anything)
    def replay(self, which, version):
        """Put any frame that the array ever held in the place of another."""
        key = self._chunk(which)
        frames = sorted(self.valid[key[0]])
        if frames:
            self._put(key, frames[version % len(frames)])

    @rule(which=anything)
    def restore(self, which):
        key = self._chunk(which)
        self._put(key, self.intended[key])

    # what is asked

    @rule()
    def record(self):
        damaged = any(self._is_damaged(key) for key in self.stored)
        report = write_manifest(self.path)
        assert report.ok == (not damaged)
        if not damaged:
            self.recorded = dict(self.stored)

    @rule()
    def verify(self):
        quick = {
            (problem.array, problem.chunk, problem.problem) for problem in verify_store(self.path, quick=True).problems
        }
        assert quick == {(problem.array, problem.chunk, problem.problem) for problem in self._verify().problems}

    @rule()
    def pickled(self):
        before = self.layout.decoded(self.path)
        after = pickle.loads(pickle.dumps(before))
        assert isinstance(after, xr.DataArray)
        self._check_pixels(after)

    @rule()
    def decode(self):
        self._check_pixels(self.layout.decoded(self.path))

    @invariant()
    def chunks_read_as_their_bytes_say_or_are_refused(self):
        for name, (kind, shape, fill) in self.layout.arrays.items():
            array = open_array(self.path, name)
            assert array.shape[0] == len(self.planes)
            for time in range(len(self.planes)):
                for index in self._indices(name, time):
                    content = self.stored[name, index]
                    assert chunk_bytes(self.path, name, index) == content
                    window = tuple(
                        slice(i * e, min((i + 1) * e, n)) for i, e, n in zip(index, shape, array.shape, strict=True)
                    )
                    if self._is_damaged((name, index)):
                        with pytest.raises(BitstreamError if kind != MASK else Exception):
                            array[window]
                        continue
                    block = np.full(shape, fill) if content is None else self.layout.content(name, content)
                    found = array[window]
                    np.testing.assert_array_equal(found, block[tuple(map(slice, found.shape))])

    # the model

    def _verify(self):
        """Check the store, and compare the findings with those that the model expects."""
        report = verify_store(self.path)
        found = {
            (problem.array, problem.chunk): problem.problem for problem in report.problems if problem.chunk is not None
        }
        expected = {key: self._expected_problem(key) for key in self.stored}
        assert found == {key: problem for key, problem in expected.items() if problem}
        assert report.manifest == ("none" if self.recorded is None else "recorded")
        return report

    def _indices(self, name, time):
        shape = self.layout.arrays[name][1]
        if name == "vv_coding":
            return [(time, 0)]
        lead = (time, 0) if len(shape) == 4 else (time,)
        return [(*lead, *index) for index in np.ndindex(-(-SHAPE[0] // EDGE), -(-SHAPE[1] // EDGE))]

    def _chunk(self, which, name=None):
        keys = sorted(key for key in self.stored if name in (None, key[0]))
        return keys[which % len(keys)]

    def _put(self, key, content):
        file = chunk_path(self.path, *key)
        self.stored[key] = content
        if content is None:
            file.unlink(missing_ok=True)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def _wrote(self, time, new):
        self.planes[time : time + len(new)] = new
        for offset, number in enumerate(new):
            for name, (_, shape, fill) in self.layout.arrays.items():
                content = blocks(self.layout.values(name, number), shape, fill)
                for index, (_, block) in zip(self._indices(name, time + offset), content, strict=True):
                    self._wrote_block(name, index, block, fill)

    def _wrote_block(self, name, index, block, fill):
        """Compare a chunk that was just written with what the codec gives without a store."""
        found = chunk_bytes(self.path, name, index)
        if is_fill(block, fill):
            assert found is None
        elif (expected := self.layout.frame(name, block)) is not None:
            assert found == expected
        else:
            np.testing.assert_array_equal(self.layout.content(name, found), block)
        if found is not None:
            self.valid[name].add(found)
        self.intended[name, index] = self.stored[name, index] = found

    def _resize(self, times):
        for name in self.layout.arrays:
            array = open_array(self.path, name, mode="r+")
            array.resize((times, *array.shape[1:]))

    def _is_damaged(self, key):
        """Whether the bytes of a chunk were never written; damage to zstd that changes no value is none."""
        content = self.stored[key]
        if content is None or content in self.valid[key[0]]:
            return False
        if self.layout.arrays[key[0]][0] != MASK:
            return True
        try:
            values = self.layout.content(key[0], content)
        except Exception:
            return True
        assert any(np.array_equal(values, self.layout.content(key[0], frame)) for frame in self.valid[key[0]])
        return False

    def _expected_problem(self, key):
        content = self.stored[key]
        if self._is_damaged(key):
            return "damaged"
        if self.recorded is not None and key in self.recorded:
            if content == self.recorded[key]:
                return None
            if content is None:
                return "missing"
            if content in self.recorded.values():
                return "swapped"
            return "unrecorded" if self.recorded[key] is None else "changed"
        if content is None:
            return "missing" if self._is_missed(key[0]) else None
        return None if self.recorded is None else "unrecorded"

    def _is_missed(self, name):
        """Whether an absent chunk is a finding where no manifest knows it."""
        return self.layout.arrays[name][0] != MASK or name == "vv_coding"

    def _check_pixels(self, decoded):
        """Times without damage are those of the model to the bit; a damaged one raises."""
        for time, number in enumerate(self.planes):
            keys = [key for key in self.stored if key[1][0] == time]
            if any(self._is_damaged(key) for key in keys):
                with pytest.raises(Exception) as caught:  # noqa: PT011  the codec of masks is not ours
                    decoded[time].compute()
                if all(self.layout.arrays[key[0]][0] != MASK for key in keys if self._is_damaged(key)):
                    assert isinstance(caught.value, BitstreamError)
            elif isinstance(self.layout, Latents) and any(
                self.stored[key] is None for key in keys if self._is_missed(key[0])
            ):
                with pytest.raises(CorruptStreamError, match="missing"):
                    decoded[time].compute()
            elif number is not None and all(self.stored[key] == self.intended[key] for key in keys):
                found, original = decoded[time].values, plane(number)
                # symbols are the same everywhere; sums of float32 over other planes at once may differ in the last bit
                np.testing.assert_allclose(found, self.layout.expected(number), rtol=PIXEL_TOLERANCE)
                if self.layout.max_error_db is not None:
                    ok = np.isfinite(original) & (original > 0)
                    error = 10 * np.abs(np.log10(found[ok].astype(np.float64) / original[ok]))
                    assert error.max() <= self.layout.max_error_db


def run(**sizes):
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        StoreMachine, settings=settings(deadline=None, suppress_health_check=checks, derandomize=True, **sizes)
    )


@pytest.mark.slow
def test_in_any_order_of_operations_a_store_is_right_or_refused_or_found_wrong():
    run(**QUICK)


@pytest.mark.soak
def test_in_very_long_orders_of_operations_a_store_is_right_or_refused_or_found_wrong():
    run(**LONG)


def test_appended_latents_of_another_step_are_decoded_with_it(tmp_path):
    first, later = (stack([n]).sarcomp.encode(rmse_db=r, scale="power") for n, r in ((0, 0.7), (3, 2.5)))
    first.to_zarr(tmp_path / "a", **FORMAT)
    write_manifest(tmp_path / "a")
    later.to_zarr(tmp_path / "a", append_dim="time", consolidated=False)
    decoded = xr.open_zarr(tmp_path / "a", consolidated=False).sarcomp.decode().vv
    for time, encoded in enumerate((first, later)):
        np.testing.assert_array_equal(decoded[time], encoded.sarcomp.decode().vv[0])
    assert {problem.problem for problem in verify_store(tmp_path / "a").problems} == {"unrecorded", "metadata"}
    assert write_manifest(tmp_path / "a").ok
    assert verify_store(tmp_path / "a").ok
