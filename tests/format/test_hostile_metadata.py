"""Metadata of stores that somebody made to do harm: read or refused, in little time, with little memory, by readers and by verify.

Zarr and xarray read most of these documents before xsarcomp sees anything, and raise errors of their own. What xsarcomp reads
itself (the configuration of its codecs, its records, its manifests, and all that ``verify`` opens) gives its own errors alone.
"""

import json
import math
import random
import shutil
import time
import tracemalloc
import warnings
from collections import Counter

import pytest
import xarray as xr

from tests.format.test_hostile import HOSTILE
from tests.system.test_audit import write_stores
from xsarcomp.errors import SarcompError
from xsarcomp.stores.verification import verify_store

pytestmark = pytest.mark.slow

QUICK, LONG = 30, 5000
SECONDS = 1.0
MEBIBYTES = 64
KINDS = ("transparent", "transparent format 2", "transparent with a bound", "latents", "latents with a bound")
NUMBERS = (
    -1,
    0,
    1,
    2,
    7,
    2**15,
    2**20,
    2**26 + 1,
    2**31,
    2**33,
    2**40,
    2**53,
    2**62,
    2**63,
    2**64,
    10**30,
    1.5,
    -0.0,
    1e308,
    math.nan,
    math.inf,
)
KEYS = (
    "",
    "must_understand",
    "codecs",
    "configuration",
    "consolidated_metadata",
    "storage_transformers",
    "__class__",
    "a" * 10_000,
    "\ud800",
)


class Text(str):
    """JSON that is written as it is."""


def nested(depth, opening="[", closing="]"):
    return Text(opening * depth + closing * depth)


def places(document, path=()):
    """Paths to all values in a document."""
    yield path
    inside = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in inside:
        yield from places(value, (*path, key))


def changed(document, path, value):
    """A copy of a document with another value at a place."""
    if not path:
        return value
    copy = document.copy()
    copy[path[0]] = changed(document[path[0]], path[1:], value)
    return copy


def value_at(document, path):
    for key in path:
        document = document[key]
    return document


def hostile_value(value, rng):
    """Something else than what stands at a place, of the same type more often than not."""
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.randrange(3):
        return rng.choice(NUMBERS)
    if isinstance(value, list) and value and rng.randrange(3):
        return rng.choice(
            (value[::-1], value[:-1], value + value, value * 1000, [rng.choice(NUMBERS) for _ in value], [value])
        )
    if isinstance(value, dict) and rng.randrange(3):
        which = rng.randrange(3)
        if which == 0:
            return value | {rng.choice(KEYS): rng.choice(HOSTILE)}
        if which == 1 and value:
            left_out = rng.choice(sorted(value))
            return {key: one for key, one in value.items() if key != left_out}
        return {key: rng.choice(HOSTILE) for key in value}
    return rng.choice(
        (
            *HOSTILE,
            *NUMBERS,
            nested(100),
            nested(100_000),
            nested(5000, '{"a":', "}").replace(":}", ":1}"),
            "x" * 1_000_000,
        )
    )


def written(document):
    """JSON text of a document; ``Text`` stands in it as it is."""
    texts = []

    def replaced(value):
        if isinstance(value, Text):
            texts.append(value)
            return f"@{len(texts) - 1}@"
        if isinstance(value, dict):
            return {key: replaced(one) for key, one in value.items()}
        return [replaced(one) for one in value] if isinstance(value, list) else value

    text = json.dumps(replaced(document))
    for number, one in enumerate(texts):
        text = text.replace(f'"@{number}@"', one)
    return text


def mutated(text, rng):
    """A document with one to three values changed, or bytes of it, or what is no JSON; and whether all of that is ours to refuse."""
    which = rng.randrange(12)
    if which == 0:
        content = bytearray(text.encode())
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        return bytes(content), False
    if which == 1:
        cut = text.encode()[: rng.randrange(len(text))]
        return rng.choice(
            (b"", b"null", b"[]", b"{}", b"\xff\xfe", bytes(100), b"[" * 200_000, b"1" * 5000, b'"' * 9, cut)
        ), False
    document = json.loads(text)
    ours = [path for path in places(document) if is_ours(document, path)]
    is_aimed = bool(ours) and which < 8
    for _ in range(rng.randint(1, 3)):
        path = rng.choice([path for path in places(document) if not is_aimed or is_ours(document, path)] or [()])
        is_aimed = is_aimed and path != ()
        document = changed(document, path, hostile_value(value_at(document, path), rng))
    return written(document).encode("utf-8", "surrogatepass"), is_aimed


def is_ours(document, path):
    """Whether a place is read by xsarcomp and by nobody before it: in a record, or a setting of a codec."""
    if path[:1] == ("codecs",) and len(path) > 3:
        return str(document["codecs"][path[1]].get("name")).startswith("xsarcomp.")
    if path[:1] == ("compressor",):
        return len(path) == 2 and path[1] != "id" and str(document["compressor"].get("id")).startswith("xsarcomp.")
    return "sarcomp" in path


def is_json(content):
    """Whether Zarr, which reads a document first, can read it at all."""
    try:
        json.loads(content.decode())
    except (ValueError, RecursionError):
        return False
    return True


def read_one_pixel(path, kind, consolidated):
    """What a user does first: open the store, and look at one pixel of each variable."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind.startswith("latents"):
            scene = xr.open_zarr(path, consolidated=consolidated, chunks=None).sarcomp.decode()
        else:
            scene = xr.open_zarr(path, consolidated=consolidated, chunks=None)
        for variable in scene.data_vars.values():
            variable[dict.fromkeys(variable.dims, 0)].values  # noqa: B018


def check(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return verify_store(path)


def bounded(action, *arguments):
    """The error that an action raises, None if none; fails if it takes long or much memory."""
    tracemalloc.reset_peak()
    before, started = tracemalloc.get_traced_memory()[0], time.process_time()
    try:
        action(*arguments)
    except Exception as error:
        return error
    else:
        return None
    finally:
        assert time.process_time() - started < SECONDS
        assert tracemalloc.get_traced_memory()[1] - before < MEBIBYTES * 2**20


@pytest.fixture(autouse=True)
def few_absent_chunks(monkeypatch):
    """As many chunks as are worth a second may be claimed; the limit of a million is tested by itself."""
    monkeypatch.setattr("xsarcomp.stores.stored_array.LARGEST_ABSENT", 2000)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    write_stores(folder, 40)
    return folder


def attack(store, kind, count, seed):
    """How readers and verify ended on a store with hostile metadata."""
    rng, found = random.Random(seed), Counter()
    files = sorted(
        file for file in store.rglob("*") if file.name in ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
    )
    documents = {file: json.loads(file.read_text()) for file in files}
    of_ours = [file for file, one in documents.items() if any(is_ours(one, path) for path in places(one))]
    read_one_pixel(store, kind, False)
    check(store)
    tracemalloc.start()
    try:
        for _ in range(count):
            file = rng.choice(of_ours if rng.randrange(2) else files)
            sound = file.read_bytes()
            content, are_ours = mutated(sound.decode(), rng)
            file.write_bytes(content)
            try:
                error = bounded(read_one_pixel, store, kind, None if file.parent == store else False)
                if are_ours and is_json(content):
                    # numcodecs hands settings over as arguments, so that an unknown one is a TypeError of Python
                    refusals = (SarcompError, TypeError) if file.name == ".zarray" else SarcompError
                    assert error is None or isinstance(error, refusals), (file, error, content[:3000])
                    found["reader, ours: " + ("read" if error is None else "refused")] += 1
                else:
                    found["reader: " + ("read" if error is None else "refused")] += 1
                error = bounded(check, store)
                assert error is None or isinstance(error, SarcompError), (file, content[:3000])
                found["verify: " + ("reported" if error is None else "refused")] += 1
            finally:
                file.write_bytes(sound)
    finally:
        tracemalloc.stop()
    assert check(store).ok
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_metadata_are_read_or_refused_by_readers_and_end_no_check(stores, tmp_path, kind):
    shutil.copytree(stores / kind, tmp_path / kind)
    found = attack(tmp_path / kind, kind, QUICK, 1)
    assert found["reader, ours: refused"] > 2
    assert found["verify: reported"] > QUICK / 2


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_very_many_hostile_metadata_are_read_or_refused_by_readers_and_end_no_check(stores, tmp_path, kind):
    shutil.copytree(stores / kind, tmp_path / kind)
    print(kind, dict(attack(tmp_path / kind, kind, LONG, 2)))
