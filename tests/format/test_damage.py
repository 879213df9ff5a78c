"""Damaged frames: refused where nobody makes the checksums right, and where somebody does, never other symbols than the hash says.

What a frame does not hash can be changed by whoever computes checksums: ``UNPROVEN`` names all of it, and the tests fail if
there is more.
"""

import functools
import hashlib
import random
import shutil
import struct
import time
from collections import Counter

import numpy as np
import pytest
import zarr

from tests.format.test_hostile import FRAMES, golden_coder, mutated, with_checksums
from tests.support.paths import GOLDEN
from xsarcomp.codec import chunk, integer_chunk
from xsarcomp.codec import installed_models as weights
from xsarcomp.codec.frame import BACKSCATTER, DTYPES, INTEGERS, LATENTS, read_frame
from xsarcomp.codec.mean_levels import unpack_levels
from xsarcomp.errors import BitstreamError, SarcompError
from xsarcomp.stores.verification import verify_store, write_manifest

pytestmark = pytest.mark.slow

LARGE = {
    "backscatter": "streams-1.1/large-backscatter/c/0/0",
    "latents": "streams-1.1/large-latents/vv_latents/c/0/0/0",
    "integers": "streams-1.1/large-integers/c/0/0/0",
}
"""Frames of about 9 kB of all kinds; that of backscatter has classes, exact values, residuals and gains."""
THREE = ("latents-1.0/vv_latents/c/0/0/0", "latents-1.1/vv_residual/c/0/0", "zarr3-1.1/vv/c/1/0")
LEVELED = tuple(name for name in ("latents-1.2/vv_latents/c/0/0/0", "zarr3-1.2/vv/c/0/0") if name in FRAMES)
QUICK, LONG = 3000, 2_000_000
SECONDS = 1.0
NODATA = 0
"""Nodata of the golden stores of Zarr format 2."""
UNPROVEN = ("dtype", "shape", "step_db", "scale", "fortran_order", "classes", "exact")
"""Fields of a frame that no hash covers, beside the spacing of its residuals."""
RIGHT = {name: read_frame(content) for name, content in FRAMES.items()}


@functools.cache
def coder_of(name):
    """Model of a golden store."""
    return weights.load_coder("s1-grd-10m-lapped") if name.startswith("zarr2") else golden_coder()


def decode(name, content):
    """What the codec of an array gives for a chunk: pixels or integers, and what its hashes cover."""
    right = RIGHT[name]
    if np.prod(read_frame(content).shape) > np.prod(right.shape):
        raise BitstreamError("as the codec says before it decodes")
    if right.kind == INTEGERS:
        values = integer_chunk.decode_integer_chunk(content)
        covered = [(values, content[42:50])]
    elif right.kind == LATENTS:
        values, levels = chunk.decode_latents(content, coder_of(name)), read_frame(content).mean_levels
        covered = [(values[..., :64, :, :] if levels else values, content[42:50])]
        if levels:
            covered.append((values[..., 64, ::8, ::8], levels[:8]))
    else:
        frame, symbols, _, _, added = chunk.read_backscatter(content, coder_of(name))
        nodata = NODATA if name.startswith("zarr2") else None
        values = chunk.decode_backscatter(content, nodata, coder_of(name))
        covered = [(symbols, content[42:50])]
        if frame.mean_levels:
            tiles = (symbols.shape[0], *(-(-size // 8) for size in symbols.shape[2:]))
            covered.append((unpack_levels(frame.mean_levels, tiles), frame.mean_levels[:8]))
        elif added is not None:
            parts = [part.reshape(-1) for part in (added.residuals, added.gains) if part is not None]
            covered.append((np.concatenate([np.zeros(0, np.int32), *parts]), frame.guarantee_data[:8]))
    if values.shape != right.shape or values.dtype != right.dtype:
        raise BitstreamError("as the codec says that compares chunks with the metadata of the array")
    return values, covered


EXPECTED = {}


def expected(name):
    if name not in EXPECTED:
        EXPECTED[name] = decode(name, FRAMES[name])[0]
    return EXPECTED[name]


def proof(frame):
    """All that a frame says about its pixels and that a hash covers."""
    return frame.symbol_hash, frame.guarantee_data[:8], frame.mean_levels[:8]


def claims(frame):
    """All that a frame says about its pixels and that no hash covers."""
    return [getattr(frame, field) for field in UNPROVEN] + [frame.guarantee_data[8:16]]


def outcome(name, damaged):
    """Whether a decoder refuses damaged bytes, gives the same values or others; fails where that may not be."""
    right = expected(name)  # before the clock starts: it loads the model and the kernels
    started = time.thread_time()
    try:
        values, covered = decode(name, damaged)
    except SarcompError:
        return "refused"
    finally:
        assert time.thread_time() - started < SECONDS
    for integers, digest in covered:
        found = hashlib.blake2b(np.ascontiguousarray(integers, "<i4").tobytes(), digest_size=8).digest()
        assert found == digest, "integers left that are not those of their hash"
    if np.array_equal(values, right, equal_nan=True):
        return "same values"
    frame = read_frame(damaged)
    assert proof(frame) != proof(RIGHT[name]) or claims(frame) != claims(RIGHT[name]), "a silent change"
    return "another frame" if proof(frame) != proof(RIGHT[name]) else "unproven field"


def test_the_three_streams_are_of_three_kinds_and_two_versions():
    frames = [RIGHT[name] for name in THREE]
    assert [frame.kind for frame in frames] == [LATENTS, INTEGERS, BACKSCATTER]
    assert [bool(frame.guarantee_data) for frame in frames] == [False, False, True]
    assert [FRAMES[name][5] for name in THREE] == [0, 1, 1]


def refused_by(decode, content):
    """Beginning of the error with which a decoder refuses damaged bytes."""
    try:
        decode(content)
    except BitstreamError as error:
        return " ".join(str(error).split()[:3])
    raise AssertionError("damaged bytes were decoded")


@pytest.fixture
def whole_decoder(monkeypatch):
    """Decoders of whole frames by kind, which fail the test if anything gets past the checks of the frame."""
    for module, name in (
        (chunk, "decode_symbols"),
        (chunk, "decode_planes"),
        (chunk.sections, "inflate"),
        (chunk, "unpack_guarantee_data"),
        (integer_chunk, "decode_integers"),
    ):

        def never(*_arguments, name=name):
            raise AssertionError(f"{name} was asked for damaged bytes")

        monkeypatch.setattr(module, name, never)
    coder = golden_coder()
    return {
        "backscatter": lambda content: chunk.decode_backscatter(content, None, coder),
        "latents": lambda content: chunk.decode_latents(content, coder),
        "integers": integer_chunk.decode_integer_chunk,
    }


def test_the_large_streams_are_of_three_kinds_and_hold_every_section():
    frames = {kind: read_frame((GOLDEN / path).read_bytes()) for kind, path in LARGE.items()}
    assert [frame.kind for frame in frames.values()] == [BACKSCATTER, LATENTS, INTEGERS]
    frame = frames["backscatter"]
    assert all(map(len, (frame.classes, frame.exact, frame.guarantee_data)))
    assert frame.classes[0] == 255
    flips = sum(8 * (GOLDEN / path).stat().st_size for path in LARGE.values())
    assert flips > 200_000


@pytest.mark.parametrize("kind", LARGE)
def test_every_flipped_bit_of_a_large_frame_is_refused_before_anything_is_decoded(whole_decoder, kind):
    content = (GOLDEN / LARGE[kind]).read_bytes()
    decode, found = whole_decoder[kind], Counter()
    damaged = bytearray(content)
    for place in range(len(content)):
        for bit in range(8):
            damaged[place] ^= 1 << bit
            found[refused_by(decode, bytes(damaged))] += 1
            damaged[place] ^= 1 << bit
    payload = 8 * (len(content) - 58 - 4 * content[11])
    dimensions = sum(not 2 <= content[11] ^ 1 << bit <= 8 for bit in range(8))
    assert found == {
        "the chunk begins": 32,
        "the chunk has": 8,
        "the header names": dimensions,
        "the header does": 8 * len(content) - payload - 40 - dimensions,
        "the payload does": payload,
    }


@pytest.mark.parametrize("kind", LARGE)
def test_every_truncation_of_a_large_frame_is_refused_before_anything_is_decoded(whole_decoder, kind):
    content = (GOLDEN / LARGE[kind]).read_bytes()
    header = 58 + 4 * content[11]
    found = Counter(refused_by(whole_decoder[kind], content[:length]) for length in range(len(content)))
    if kind == "backscatter":  # corrections run to the end, whose length the header does not say
        frame = read_frame(content)
        corrections = len(content) - len(frame.guarantee_data)
        assert found == {
            "a frame of": 58,
            "the header is": header - 58,
            "the header announces": corrections + 1 - header,
            "the payload does": len(content) - corrections - 1,
        }
    else:
        assert found == {"a frame of": 58, "the header is": header - 58, "the header announces": len(content) - header}
    for more in (b"\0", content):
        refused_by(whole_decoder[kind], content + more)


@pytest.mark.parametrize("name", THREE + LEVELED)
def test_a_decoder_refuses_each_flipped_bit_and_each_truncation(name):
    content = FRAMES[name]
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            decode(name, bytes(damaged))
    for length in range(len(content)):
        with pytest.raises(BitstreamError):
            decode(name, content[:length])


def flips_with_right_checksums(name, bits):
    """Outcomes of single flipped bits behind right checksums, and where a flip changed pixels."""
    content, found, places = FRAMES[name], Counter(), set()
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        if bit // 8 == 11:  # the number of dimensions: it says where the checksum stands
            continue
        result = outcome(name, with_checksums(damaged))
        found[result] += 1
        if result in ("unproven field", "another frame"):
            places.add(bit // 8)
    return found, places


@pytest.mark.parametrize("name", THREE + LEVELED)
def test_flipped_bits_behind_right_checksums_change_no_pixels_but_through_unproven_fields(name):
    size = 8 * len(FRAMES[name])
    found, places = flips_with_right_checksums(name, sorted(random.Random(7).sample(range(size), 400)))
    assert found["another frame"] == 0
    assert sum(found.values()) > 390
    allowed = unproven_bytes(name)
    assert places <= allowed, sorted(places - allowed)


def unproven_bytes(name):
    """Places in a frame of the fields that no hash covers."""
    right, content = RIGHT[name], FRAMES[name]
    if right.kind != BACKSCATTER:
        return set()
    after = 58 + 4 * len(right.shape) + len(right.symbols)
    corrections = len(content) - len(right.guarantee_data) - len(right.mean_levels)
    spacing = set(range(corrections + 8, corrections + 16)) if right.guarantee_data else set()
    header = {7, 8, 9, 12, *range(14, 22), *range(54, 54 + 4 * len(right.shape))}
    return header | set(range(after, corrections)) | spacing


@pytest.mark.soak
@pytest.mark.parametrize("name", THREE + LEVELED)
def test_every_flipped_bit_behind_right_checksums_changes_no_pixels_but_through_unproven_fields(name):
    found, places = flips_with_right_checksums(name, range(8 * len(FRAMES[name])))
    print(name, dict(found))
    assert found["another frame"] == 0
    assert places <= unproven_bytes(name)


@pytest.mark.parametrize(("field", "place", "value"), [
    ("step_db", 14, lambda frame: struct.pack("<d", frame.step_db * 1.01)),
    ("scale", 12, lambda frame: b"\x01"),
    ("spacing", None, lambda frame: struct.pack("<d", 2 * struct.unpack("<d", frame.guarantee_data[8:16])[0])),
])  # fmt: skip
def test_a_forged_field_that_no_hash_covers_gives_other_pixels_and_a_manifest_names_the_chunk(
    tmp_path, field, place, value
):
    """What cannot be noticed without a manifest, said as a test: it fails once a frame proves more."""
    name = THREE[2]
    place = len(FRAMES[name]) - len(RIGHT[name].guarantee_data) + 8 if place is None else place
    forged = bytearray(FRAMES[name])
    replacement = value(RIGHT[name])
    forged[place : place + len(replacement)] = replacement
    forged = with_checksums(forged)
    assert outcome(name, forged) == "unproven field"
    shutil.copytree(GOLDEN / "zarr3-1.1", tmp_path / "zarr3-1.1")
    write_manifest(tmp_path / "zarr3-1.1")
    (tmp_path / name).write_bytes(forged)
    problems = verify_store(tmp_path / "zarr3-1.1").problems
    assert [(one.array, one.chunk, one.problem) for one in problems] == [("vv", (1, 0), "changed")]


@pytest.mark.parametrize("name", ["latents-1.1/vh_gains/c/0/0/0", THREE[1], THREE[0]])
def test_a_frame_that_claims_more_values_than_its_chunk_is_refused_before_it_is_decoded(tmp_path, name):
    """A mutation of the long form took 1.3 s: 16 bytes of gains that claimed 66 million values."""
    store, array, _ = name.split("/", 2)
    shutil.copytree(GOLDEN / store, tmp_path / store)
    forged = bytearray(FRAMES[name])
    last = 54 + 4 * (forged[11] - 1)
    forged[last : last + 4] = struct.pack("<I", 2**26 // int(np.prod(RIGHT[name].shape[:-1])))
    (tmp_path / name).write_bytes(with_checksums(forged))
    started = time.process_time()
    with pytest.raises(BitstreamError, match="claims shape"):
        zarr.open_array(tmp_path / store / array, mode="r")[:]
    assert time.process_time() - started < 0.2


def rewritten(content, rng):
    """One or two fields of the header drawn anew, from what can be and what cannot."""
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 2)):
        place, replacement = rng.choice([
            (5, bytes([rng.randrange(256)])), (6, bytes([rng.randint(1, 3)])), (7, bytes([rng.randrange(len(DTYPES))])),
            (8, struct.pack("<H", rng.randrange(16))), (10, bytes([rng.randrange(12)])), (12, bytes([rng.randrange(4)])),
            (14, struct.pack("<d", rng.choice((0.0, rng.uniform(0.02, 64))))), (22, rng.randbytes(8)),
            (30 + 4 * rng.randrange(3), struct.pack("<I", rng.randrange(len(content)))), (42, rng.randbytes(8)),
            (54 + 4 * rng.randrange(content[11]), struct.pack("<I", rng.choice((1, 2, 31, 33, 64, 2**16, 2**20)))),
        ])  # fmt: skip
        damaged[place : place + len(replacement)] = replacement
    return damaged


def spliced(content, rng):
    """Header of one frame before the payload of another, cut at any place."""
    other = FRAMES[rng.choice(sorted(FRAMES))]
    cut = rng.randrange(50, len(content))
    return bytearray(content[:cut] + other[rng.randrange(len(other)) :])


def fuzz(count, seed):
    """Outcomes of damage of all kinds, most of it behind right checksums."""
    rng, names, found, longest = random.Random(seed), sorted(FRAMES), Counter(), 0.0
    for name in names:
        expected(name)
    for _ in range(count):
        name = rng.choice(names)
        how = rng.randrange(4)
        content = FRAMES[name]
        damaged = bytes((mutated, rewritten, spliced, mutated)[how](content, rng))
        if how < 3 and len(damaged) >= 58 + 4 * content[11] and damaged[11] == content[11]:
            damaged = with_checksums(damaged)
        if damaged in FRAMES.values():
            continue
        started = time.thread_time()
        result = outcome(name, damaged)
        longest = max(longest, time.thread_time() - started)
        assert how < 3 or result == "refused", "damage without checksums was accepted"
        found[f"{('mutated', 'header', 'spliced', 'raw')[how]}: {result}"] += 1
    return found, longest


def test_mutations_splices_and_headers_with_right_checksums_never_change_what_is_hashed():
    found, _ = fuzz(QUICK, 8)
    assert sum(found.values()) > 0.9 * QUICK
    assert found["mutated: refused"] > 0.9 * sum(found[key] for key in found if key.startswith("mutated"))


@pytest.mark.soak
def test_two_million_mutations_splices_and_headers_never_change_what_is_hashed():
    found, longest = fuzz(LONG, 9)
    print(dict(found), "longest", longest, "s")
    assert sum(found.values()) > 0.9 * LONG
