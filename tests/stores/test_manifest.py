"""The manifest as docs/format.md describes it, read by a second reader; nothing damaged or hostile is believed."""

import contextlib
import hashlib
import json
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.effort import at_most_lines
from xsarcomp.codec.frame import LATENTS, Frame, write_frame
from xsarcomp.errors import BitstreamError, CorruptStreamError, LimitExceededError, UnsupportedFormatError
from xsarcomp.stores.manifest import (
    FRAMES,
    LARGEST_HEADER,
    OBJECTS,
    Manifest,
    RecordedArray,
    frame_identity,
    manifest_bytes,
    metadata_digest,
    object_identity,
    read_manifest,
)

LINES = 1000
"""What a manifest may cost to write and read, or to refuse: no loop over chunks."""


def recorded(identities, kind=FRAMES, chunk=None, metadata="0" * 16):
    identities = np.asarray(identities, np.uint64)
    chunk = (8,) * identities.ndim if chunk is None else chunk
    return RecordedArray(kind=kind, chunk=chunk, grid=identities.shape, metadata=metadata, identities=identities)


MANIFEST = Manifest(
    arrays={"b": recorded([[1, 2**64 - 1, 0], [5, 6, 7]]), "a/x": recorded(9, OBJECTS), "none": recorded([])},
    groups={"": "ab" * 8, "a": "cd" * 8},
)
CONTENT = manifest_bytes(MANIFEST)


def frame(symbols=b"symbols", dimensions=3):
    shape = (*(1,) * (dimensions - 3), 64, 2, 3)
    return write_frame(
        Frame(
            kind=LATENTS, dtype=np.dtype("<i4"), shape=shape, anchor=1, step_db=0.0, scale="", model_id="ab" * 8,
            symbol_hash=bytes(8), symbols=symbols,
        )
    )  # fmt: skip


def sealed(description, identities=b"", *, length=None, head=(b"XSAM", 1, 0, 0)):
    """A manifest with a right checksum and whatever content."""
    text = description if isinstance(description, bytes) else json.dumps(description).encode()
    content = struct.pack("<4sBBHI", *head, len(text) if length is None else length) + text + identities
    return content + hashlib.sha256(content).digest()


def test_the_bytes_are_those_of_the_format():
    magic, major, minor, reserved, length = struct.unpack_from("<4sBBHI", CONTENT)
    assert (magic, major, minor, reserved) == (b"XSAM", 1, 0, 0)
    described = json.loads(CONTENT[12 : 12 + length])
    assert described["groups"] == MANIFEST.groups
    assert described["arrays"]["b"] == {"identities": "frames", "chunk": [8, 8], "grid": [2, 3], "metadata": "0" * 16}
    assert described["arrays"]["a/x"] == {"identities": "objects", "chunk": [], "grid": [], "metadata": "0" * 16}
    # arrays by path, chunks in C order
    assert struct.unpack("<7Q", CONTENT[12 + length : -32]) == (9, 1, 2**64 - 1, 0, 5, 6, 7)
    assert CONTENT[-32:] == hashlib.sha256(CONTENT[:-32]).digest()


def test_what_was_written_is_read():
    found = read_manifest(CONTENT)
    assert found.groups == MANIFEST.groups
    assert found.arrays.keys() == MANIFEST.arrays.keys()
    for path, array in found.arrays.items():
        expected = MANIFEST.arrays[path]
        assert (array.kind, array.chunk, array.grid, array.metadata) == (
            expected.kind, expected.chunk, expected.grid, expected.metadata,
        )  # fmt: skip
        np.testing.assert_array_equal(array.identities, expected.identities)


def test_a_million_chunks_take_eight_megabytes_and_no_loop_over_them():
    identities = np.random.default_rng(0).integers(0, 2**63, (1000, 1000), dtype=np.uint64)
    with at_most_lines(LINES):
        content = manifest_bytes(Manifest(arrays={"vv": recorded(identities)}, groups={}))
        found = read_manifest(content)
    assert len(content) < 8_000_400
    np.testing.assert_array_equal(found.arrays["vv"].identities, identities)


def test_identity_of_a_frame_is_the_hash_of_its_header():
    for dimensions in (3, 4, 8):
        content = frame(dimensions=dimensions)
        header = content[: 58 + 4 * dimensions]
        expected = int.from_bytes(hashlib.blake2b(header, digest_size=8).digest(), "little")
        assert frame_identity(content) == frame_identity(content[:LARGEST_HEADER]) == frame_identity(header) == expected
    assert frame_identity(frame(b"symbols")) != frame_identity(frame(b"symbolt"))  # the payload, by its checksum


@pytest.mark.parametrize(
    "content", [b"", b"XSAR", b"XSAS" + frame()[4:], frame()[:69], b"XSAR" + bytes(7) + b"\xff" * 90]
)
def test_what_is_no_header_has_no_identity(content):
    with pytest.raises(CorruptStreamError, match="header"):
        frame_identity(content)


def test_no_content_has_the_identity_of_an_absent_chunk(monkeypatch):
    class Zero:
        def __init__(self, content, digest_size):
            self.size = digest_size

        def digest(self):
            return bytes(self.size)

    monkeypatch.setattr(hashlib, "blake2b", Zero)
    assert object_identity(b"anything") == 1


def test_digest_of_metadata_does_not_depend_on_the_order_of_keys():
    one = metadata_digest([{"a": 1, "b": {"c": [1, 2], "d": float("nan")}}])
    assert one == metadata_digest([{"b": {"d": float("nan"), "c": [1, 2]}, "a": 1}])
    assert len(bytes.fromhex(one)) == 8
    for other in ({"a": 1, "b": {"c": [2, 1], "d": float("nan")}}, {"a": 1.5}, {}):
        assert metadata_digest([other]) != one


def test_every_flipped_bit_and_every_truncation_is_refused():
    for bit in range(8 * len(CONTENT)):
        damaged = bytearray(CONTENT)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((CorruptStreamError, UnsupportedFormatError)):
            read_manifest(bytes(damaged))
    for length in range(len(CONTENT)):
        with pytest.raises(CorruptStreamError):
            read_manifest(CONTENT[:length])
    with pytest.raises(CorruptStreamError):
        read_manifest(CONTENT + b"\0")


ARRAY = {"identities": "frames", "chunk": [8], "grid": [2], "metadata": "x"}
HOSTILE = {
    "other magic": sealed({}, head=(b"XSAR", 1, 0, 0)),
    "newer version": sealed({}, head=(b"XSAM", 2, 0, 0)),
    "more JSON than bytes": sealed({}, length=2**32 - 1),
    "no JSON": sealed(b"{"),
    "no UTF-8": sealed(b"\xff\xfe"),
    "a list": sealed([]),
    "a number": sealed(b"7"),
    "deep nesting": sealed(b"[" * 100_000),
    "no arrays": sealed({"groups": {}}),
    "groups are a list": sealed({"arrays": {}, "groups": ["a"]}),
    "arrays are a list": sealed({"arrays": ["a"], "groups": {}}),
    "an array is a list": sealed({"arrays": {"a": []}, "groups": {}}),
    "unknown key": sealed({"arrays": {"a": ARRAY | {"more": 1}}, "groups": {}}, bytes(16)),
    "missing key": sealed({"arrays": {"a": {"chunk": [8], "grid": [2]}}, "groups": {}}, bytes(16)),
    "negative size": sealed({"arrays": {"a": ARRAY | {"grid": [-2]}}, "groups": {}}, bytes(16)),
    "size as text": sealed({"arrays": {"a": ARRAY | {"grid": ["2"]}}, "groups": {}}, bytes(16)),
    "size as fraction": sealed({"arrays": {"a": ARRAY | {"grid": [2.0]}}, "groups": {}}, bytes(16)),
    "size as truth": sealed({"arrays": {"a": ARRAY | {"grid": [True]}}, "groups": {}}, bytes(8)),
    "dimensions differ": sealed({"arrays": {"a": ARRAY | {"grid": [1, 2]}}, "groups": {}}, bytes(16)),
    "2**62 chunks": sealed({"arrays": {"a": ARRAY | {"grid": [2**62]}}, "groups": {}}, bytes(16)),
    "2**64 chunks, zero in 64 bits": sealed(
        {"arrays": {"a": ARRAY | {"grid": [2**32, 2**32], "chunk": [1, 1]}}, "groups": {}}, bytes(16)
    ),
    "one chunk too many": sealed({"arrays": {"a": ARRAY}, "groups": {}}, bytes(8)),
    "one chunk too few": sealed({"arrays": {"a": ARRAY}, "groups": {}}, bytes(24)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_manifest_that_lies_is_refused_fast_and_without_memory(name):
    tracemalloc.start()
    try:
        with (
            pytest.raises((CorruptStreamError, UnsupportedFormatError, LimitExceededError)),
            at_most_lines(LINES),
        ):
            read_manifest(HOSTILE[name])
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


NAMES = st.sampled_from(["arrays", "groups", "a", "grid", "chunk", "identities", "metadata"])
ANYTHING = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=12
)


@given(description=st.binary(max_size=80) | ANYTHING)
@settings(deadline=None, max_examples=100)
def test_whatever_stands_in_a_manifest_it_is_read_or_refused(description):
    with contextlib.suppress(BitstreamError):
        assert isinstance(read_manifest(sealed(description)), Manifest)
