"""Input that somebody made to do harm: refused with an error of xsarcomp, in little time, with little memory.

Checksums are right wherever they could be: whoever wants harm computes them. The long forms (``make soak``) try more of
the same kinds.
"""

import json
import math
import random
import resource
import struct
import time
import tracemalloc

import google_crc32c
import numpy as np
import pytest
import xarray as xr
import zarr

from tests.support.paths import GOLDEN
from xsarcomp.codec import installed_models
from xsarcomp.codec.chunk import decode_backscatter, decode_latents, read_backscatter
from xsarcomp.codec.frame import BACKSCATTER, DTYPES, INTEGERS, LARGEST_CHUNK, LATENTS, SCALES, read_frame
from xsarcomp.codec.integer_chunk import decode_integer_chunk
from xsarcomp.errors import BitstreamError, SarcompError
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.codec_numcodecs import BackscatterCodec as Format2Codec
from xsarcomp.stores.codec_zarr import BackscatterCodec, LatentsCodec

pytestmark = pytest.mark.slow

HEADERS, LONG_HEADERS = 2000, 200_000
SECONDS = 0.5
"""Time of the processor in this thread, far above what a refusal needs, below what decoding a lie takes."""
MEBIBYTES = 64
SIZES = (0, 2**15 - 1, 2**15, 2**15 + 1, 2**16, 2**26 + 1, 2**31 - 1, 2**31, 2**32 - 1)


def sealed(fields, shape, payload, dimensions=None):
    """A frame of any content whose checksums are right; fields as in the format, in its order."""
    fields = {
        "magic": b"XSAR", "major": 1, "minor": 0, "kind": BACKSCATTER, "dtype": 0, "flags": 0, "anchor": 0,
        "dimensions": len(shape) if dimensions is None else dimensions, "scale": 1, "reserved": 0, "step": 1.0,
        "model": bytes(8), "symbols": len(payload), "classes": 0, "exact": 0, "hash": bytes(8),
        "payload": google_crc32c.value(payload),
    } | fields  # fmt: skip
    header = struct.pack("<4sBBBBHBBBBd8sIII8sI", *fields.values()) + struct.pack(f"<{len(shape)}I", *shape)
    return header + struct.pack("<I", google_crc32c.value(header)) + payload


def too_large(rng):
    """A shape with zeros, products beyond the limit, and products that 32 or 64 bits cannot hold."""
    while True:
        shape = [rng.choice((*SIZES, 1, 2, 7)) for _ in range(rng.randint(2, 8))]
        padded = math.prod(shape[:-2]) * math.prod(-(-size // 8) * 8 for size in shape[-2:])
        if min(shape) < 1 or padded > LARGEST_CHUNK:
            return shape


def lie(rng):
    """A header of which one thing, at least, cannot be; everything else is drawn at random from what can."""
    kind = rng.choice((BACKSCATTER, LATENTS))
    shape = [rng.randint(1, 40) for _ in range(rng.randint(2, 8))]
    fields = {
        "kind": kind, "dtype": rng.randrange(len(DTYPES)), "anchor": rng.randrange(3), "minor": rng.randrange(256),
        "scale": rng.randint(1, len(SCALES) - 1) if kind == BACKSCATTER else 0,
        "step": rng.uniform(0.02, 64) if kind == BACKSCATTER else 0.0,
        "hash": rng.randbytes(8),
    }  # fmt: skip
    payload = rng.randbytes(rng.choice((0, 1, 5, 100)))
    huge = rng.choice((2**31 - 1, 2**31, 2**32 - 1, len(payload) + 1, 2**32 - len(payload) - 1))
    lies = {
        "shape": {},
        "dimensions": {"dimensions": rng.choice((0, 1, 9, 127, 255))},
        "magic": {"magic": rng.choice((b"XSAS", b"\0\0\0\0", b"PK\3\4", b"\x28\xb5\x2f\xfd"))},
        "major": {"major": rng.choice((0, 2, 3, 127, 255))},
        "kind": {"kind": rng.choice((0, 17, 128, 255))},
        "dtype": {"dtype": rng.choice((100, 128, 255))},
        "scale": {"scale": rng.choice((100, 255))},
        "scale of another kind": {"scale": 0 if kind == BACKSCATTER else 1},
        "flags": {"flags": 1 << rng.randint(8, 15)},
        "flags without sections": {"flags": rng.choice((1, 2, 3))},
        "reserved": {"reserved": rng.randint(1, 255)},
        "step": {"step": rng.choice((math.nan, math.inf, -math.inf, -1.0, -1e-300, 1e3, 1e300))},
        "lengths": {rng.choice(("symbols", "classes", "exact")): huge},
        "all lengths": dict.fromkeys(("symbols", "classes", "exact"), 2**32 - 1),
        "payload": {"payload": rng.randrange(2**32)},
        "model": {"model": b"\xee" * 8},
    }
    which = rng.choice(sorted(lies))
    dimensions = lies[which].pop("dimensions", None)
    return sealed(fields | lies[which], too_large(rng) if which == "shape" else shape, payload, dimensions)


def refuse_headers(count, seed, coder):
    """Largest time (of the processor, s) and memory (bytes) that refusing one of many headers takes."""
    rng = random.Random(seed)
    longest = most = 0
    tracemalloc.start()
    try:
        for _ in range(count):
            content = lie(rng)
            for decode in (lambda: decode_backscatter(content, None, coder), lambda: decode_latents(content, coder)):  # noqa: B023
                tracemalloc.reset_peak()
                before, started = tracemalloc.get_traced_memory()[0], time.thread_time()
                with pytest.raises(BitstreamError):
                    decode()
                longest = max(longest, time.thread_time() - started)
                most = max(most, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    return longest, most


def assert_refused(count, seed, coder):
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    longest, most = refuse_headers(count, seed, coder)
    assert longest < SECONDS
    assert most < MEBIBYTES * 2**20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < MEBIBYTES * 1024


def test_two_thousand_headers_that_lie_are_refused_fast_and_without_memory(coder):
    assert_refused(HEADERS, 1, coder)


@pytest.mark.soak
def test_very_many_headers_that_lie_are_refused_fast_and_without_memory(coder):
    assert_refused(LONG_HEADERS, 2, coder)


def golden_frames():
    """Every frame in the golden stores; those of the streams are for :mod:`test_golden` and :mod:`test_damage`."""
    paths = [path for path in sorted(GOLDEN.glob("[!s]*/**/*")) if path.is_file()]
    chunks = {path: path.read_bytes() for path in paths}
    return {str(path.relative_to(GOLDEN)): content for path, content in chunks.items() if content[:4] == b"XSAR"}


FRAMES = golden_frames()


def decoded(content):
    """Symbols of a golden frame in a row, or the error of its decoder."""
    coder, kind = golden_coder(), read_frame(content).kind
    if kind == INTEGERS:
        return decode_integer_chunk(content).reshape(-1)
    symbols = decode_latents(content, coder) if kind == LATENTS else read_backscatter(content, coder)[1]
    return symbols.reshape(-1)


def golden_coder():
    document = json.loads(max(GOLDEN.glob("zarr3-*/vv/zarr.json")).read_text())
    return installed_models.load_coder(document["codecs"][0]["configuration"]["model"])


def with_checksums(content):
    """A frame whose two checksums are made right."""
    content = bytearray(content)
    start = 58 + 4 * content[11]
    content[50:54] = struct.pack("<I", google_crc32c.value(bytes(content[start:])))
    content[start - 4 : start] = struct.pack("<I", google_crc32c.value(bytes(content[: start - 4])))
    return bytes(content)


def test_there_are_golden_frames_of_each_kind():
    assert {read_frame(content).kind for content in FRAMES.values()} == {BACKSCATTER, LATENTS, INTEGERS}
    assert len(FRAMES) >= 10


@pytest.mark.parametrize("name", FRAMES)
def test_each_flipped_bit_and_each_truncation_of_a_golden_frame_is_an_error_of_the_tree(name):
    content = FRAMES[name]
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            read_frame(bytes(damaged))
    for length in range(len(content)):
        with pytest.raises(BitstreamError):
            read_frame(content[:length])


def assert_symbols_are_safe(content, damaged, expected):
    """Damage with right checksums is an error, or says nothing: never other symbols."""
    try:
        values = decoded(with_checksums(damaged))
    except BitstreamError:
        return
    # a range coder ends with any number of its last interval, so that some bits say nothing
    assert damaged[42:50] == content[42:50]
    np.testing.assert_array_equal(values, expected)


def smallest(kind):
    """The smallest golden frame of a kind in the stores of Zarr format 3."""
    return min((one for name, one in FRAMES.items() if "zarr2" not in name and read_frame(one).kind == kind), key=len)


def test_flipped_bits_behind_right_checksums_never_give_other_symbols():
    content = smallest(LATENTS)
    start, expected = 58 + 4 * content[11], decoded(content)
    for bit in random.Random(3).sample(range(8 * start, 8 * len(content)), 100):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        assert_symbols_are_safe(content, bytes(damaged), expected)


def mutated(content, rng):
    """Several kinds of damage at once: bytes, runs of ones, cuts, doubled and moved pieces."""
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        first, last = sorted(rng.randrange(len(damaged) + 1) for _ in range(2))
        how = rng.randrange(5)
        if how == 0 and first < len(damaged):
            damaged[first] = rng.randrange(256)
        elif how == 1:
            damaged[first:last] = b"\xff" * (last - first)
        elif how == 2:
            del damaged[first:last]
        elif how == 3:
            damaged[first:first] = damaged[first:last]
        else:
            damaged[first:last] = rng.choice(list(FRAMES.values()))[first:last]
    return bytes(damaged)


def refuse_mutations(count, seed):
    rng = random.Random(seed)
    for content in FRAMES.values():
        for _ in range(count):
            damaged = mutated(content, rng)
            if damaged == content or damaged in FRAMES.values():
                continue
            with pytest.raises(BitstreamError):
                read_frame(damaged)


def test_damage_of_many_kinds_is_an_error_of_the_tree():
    refuse_mutations(1000, 4)


@pytest.mark.soak
def test_very_much_damage_is_an_error_of_the_tree():
    refuse_mutations(100_000, 5)


@pytest.mark.soak
@pytest.mark.parametrize("kind", [LATENTS, BACKSCATTER])
def test_every_flipped_bit_behind_right_checksums_never_gives_other_symbols(kind):
    content = smallest(kind)
    expected = decoded(content)
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        assert_symbols_are_safe(content, bytes(damaged), expected)


@pytest.mark.soak
def test_much_damage_behind_right_checksums_never_gives_other_symbols():
    rng = random.Random(6)
    for content in (smallest(LATENTS), smallest(BACKSCATTER)):
        expected = decoded(content)
        for _ in range(1000):
            damaged = mutated(content, rng)
            if len(damaged) > 90 and 2 <= damaged[11] <= 8:
                assert_symbols_are_safe(content, damaged, expected)


HOSTILE = [
    None, True, -1, 0, 1.5, 2**31, 2**63, 2**70, 1e308, -1e308, math.nan, math.inf, "", "\0", "a" * 10_000, [], {}, [[]],
    "../../../../etc/passwd", "/dev/zero", "file:///etc/passwd", "https://example.org/model", "C:\\model", "\\\\host\\share",
    "s1-grd-10m", "0" * 63, "0" * 65, "g" * 64, "0" * 63 + "\n", "０" * 64, "../" * 21 + "x", ["0" * 64], {"id": "0" * 64},
]  # fmt: skip


def format_2(configuration):
    return Format2Codec(**configuration)


def backscatter(configuration):
    return BackscatterCodec.from_dict({"name": "xsarcomp.backscatter", "configuration": configuration})


def latents(configuration):
    return LatentsCodec.from_dict({"name": "xsarcomp.latents", "configuration": configuration})


@pytest.mark.parametrize("make", [backscatter, latents, format_2])
def test_hostile_configurations_of_codecs_are_refused_fast_and_open_no_file(make, monkeypatch):
    monkeypatch.setattr("builtins.open", None)
    monkeypatch.setattr("xsarcomp.codec.installed_models.load_coder", None)
    good = {"model": "0" * 64, "step_db": 1.0, "scale": "power", "nodata": None}
    good = {"model": "0" * 64, "anchor": 1} if make is latents else good
    # numcodecs hands the keys over as arguments, so that an unknown one is a TypeError of Python
    refusal = (SarcompError, TypeError) if make is format_2 else SarcompError
    allowed = {"step_db": (1.5, 2**31, 2**63, 2**70, 1e308), "nodata": (*HOSTILE[2:10], None), "anchor": (0,)}
    for key in (*good, "unknown"):
        for value in HOSTILE:
            if type(value) is not bool and value in allowed.get(key, ()):
                assert make(good | {key: value})
                continue
            started = time.thread_time()
            with pytest.raises(refusal):
                make(good | {key: value})
            assert time.thread_time() - started < SECONDS


TAGGED = [
    {"float": "nan"}, {"float": "x"}, {"float": []}, {"tuple": []}, {"tuple": [1, 2]}, {"tuple": ["y", "x"]},
    {"tuple": ["y", "y"]}, {"tuple": [2**60, 2**60]}, {"tuple": [-1, -1]}, {"tuple": [1.5, "x"]}, {"tuple": 5},
    {"mapping": {}}, {"mapping": []}, {"mapping": {"a": {"numpy": "<f4", "shape": [2**40], "values": []}}},
    {"numpy": "<f4", "shape": [], "values": ["1"]}, {"numpy": "<f4", "shape": [2**62, 4], "values": []},
    {"numpy": "O", "shape": [], "values": ["1"]}, {"numpy": "(1000000,)f4", "shape": [], "values": ["1"]},
    "float64", "object", "M8[ns]", "V100000", "complex64", "f4,f4", "(1000000,)f4", "amplitude",
    {"mapping": {"dtype": "int8"}}, {"mapping": {"grid_mapping": ["a"]}}, {"mapping": {"grid_mapping": "vv_mask"}},
]  # fmt: skip


@pytest.mark.slow
def test_hostile_records_decode_or_are_refused_with_little_memory():
    scene = simulated_dataset((24, 40), 3).drop_vars("vh")
    encoded = scene.sarcomp.encode(model="s1-grd-10m-lapped", rmse_db=1)
    good = encoded.vv_latents.attrs["sarcomp"]
    assert encoded.sarcomp.decode().vv.shape == (24, 40)  # loads the model
    refused = 0
    tracemalloc.start()
    try:
        for key in good:
            for value in (*HOSTILE, *TAGGED):
                hostile = encoded.copy()
                hostile["vv_latents"] = encoded.vv_latents.assign_attrs(sarcomp=good | {key: value})
                tracemalloc.reset_peak()
                started = time.thread_time()
                try:
                    assert hostile.sarcomp.decode().sizes
                except SarcompError:
                    refused += 1
                    assert time.thread_time() - started < SECONDS
                assert tracemalloc.get_traced_memory()[1] < MEBIBYTES * 2**20
    finally:
        tracemalloc.stop()
    assert refused > 500


@pytest.mark.parametrize("key", ["dtype", "scale", "model_id", "step_db", "pixels", "dims", "spatial", "corners"])
def test_a_record_whose_value_has_another_type_is_refused_by_name(key):
    encoded = simulated_dataset((24, 40), 3).sarcomp.encode(model="s1-grd-10m-lapped", rmse_db=1)
    good = encoded.vv_latents.attrs["sarcomp"]
    assert LatentsMetadata.from_attribute(good).name == "vv"
    with pytest.raises(SarcompError, match=key):
        LatentsMetadata.from_attribute(good | {key: {"tuple": [[], []]}})


@pytest.mark.parametrize("shape", [(2**31, 2**31), (2**60, 2**60), (1, 2**62)])
def test_array_that_claims_huge_chunks_is_refused_with_little_memory(tmp_path, shape):
    scene = simulated_dataset((64, 64), 3)[["vv"]]
    encoding = scene.sarcomp.encoding(model="s1-grd-10m-lapped", rmse_db=1)
    scene.to_zarr(tmp_path / "a", zarr_format=3, encoding=encoding, consolidated=False)
    file = tmp_path / "a/vv/zarr.json"
    document = json.loads(file.read_text()) | {"shape": shape}
    document["chunk_grid"]["configuration"]["chunk_shape"] = shape
    file.write_text(json.dumps(document))
    array = zarr.open_array(tmp_path / "a/vv", mode="r")
    tracemalloc.start()
    try:
        with pytest.raises(SarcompError):
            array[0, 0]
        assert tracemalloc.get_traced_memory()[1] < MEBIBYTES * 2**20
    finally:
        tracemalloc.stop()


def test_hostile_names_of_models_reach_no_file(tmp_path, monkeypatch):
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes(b"secret")
    monkeypatch.setenv("XSARCOMP_MODEL_PATH", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    scene = xr.DataArray(np.full((16, 16), 0.1, np.float32), dims=("y", "x"), name="vv")
    for name in (
        "../secret",
        "../secret.safetensors",
        str(secret),
        f"file://{secret}",
        "..\\secret",
        "secret\0",
        "a" * 5000,
    ):
        with pytest.raises(SarcompError):
            scene.sarcomp.encode(model=name, rmse_db=1, scale="power")
