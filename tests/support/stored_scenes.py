"""Small compressed stores of four kinds, to be damaged by tests, and what a check of them finds.

:func:`write` makes a store of a kind, :func:`chunk_file` names the file of one chunk, :func:`flip` and :func:`with_header`
damage it; :func:`found` gives what ``verify_store`` says, in the words of :func:`place`.
"""

import json

import google_crc32c
import pytest

from xsarcomp.stores.verification import verify_store

MODEL = "s1-grd-10m-lapped"
CHUNK = 64
KINDS = ("latents", "transparent", "sharded", "format 2")


def transparent(scene, path, zarr_format=3, shards=None, **more):
    encoding = scene.sarcomp.encoding(model=MODEL, rmse_db=1.2, zarr_format=zarr_format)
    for settings in encoding.values():
        settings |= {"chunks": (CHUNK, CHUNK), **({"shards": shards} if shards else {}), **more}
    scene.to_zarr(path, zarr_format=zarr_format, encoding=encoding, consolidated=zarr_format == 2)


def latents(scene, path, chunk=CHUNK // 8):
    """Latents in chunks as small as those of the transparent stores, so that a small scene has many."""
    encoded = scene.sarcomp.encode(model=MODEL, rmse_db=1.2)
    encoding = {}
    for name in encoded.data_vars:
        is_latents = str(name).endswith("_latents")
        encoded[name] = encoded[name].chunk({encoded[name].dims[-2]: -1, encoded[name].dims[-1]: -1})
        edge = chunk if is_latents else CHUNK
        old = encoded[name].encoding
        encoding[name] = {**({"serializer": old["serializer"], "compressors": None} if is_latents else {})}
        encoding[name]["chunks"] = (*encoded[name].shape[:-2], edge, edge)
    encoded.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)


def write(kind, scene, path):
    if kind == "latents":
        latents(scene, path)
    else:
        options = {"sharded": {"shards": (2 * CHUNK, 2 * CHUNK)}, "format 2": {"zarr_format": 2}}
        transparent(scene, path, **options.get(kind, {}))


def chunk_file(path, kind, *index, name="vv"):
    """File of a chunk; index in the grid of objects (y, x)."""
    if kind == "latents":
        return path / f"{name}_latents" / "c" / "0" / "/".join(map(str, index))
    return path / name / (".".join(map(str, index)) if kind == "format 2" else "c/" + "/".join(map(str, index)))


def found(path, **options):
    """(array, chunk, problem) of all findings."""
    report = verify_store(path, **options)
    problems = report.problems
    assert report.ok == (not problems)
    json.dumps(report.to_json(), allow_nan=False)
    return {(problem.array, problem.chunk, problem.problem) for problem in problems}


def place(kind, y, x, name="vv"):
    """Array and chunk as findings name them."""
    return (f"{name}_latents", (0, y, x)) if kind == "latents" else (name, (y, x))


def flip(path, position, bit=0):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def with_header(content, position, value):
    """A frame of two dimensions with other bytes in its header and a checksum that fits."""
    content = bytearray(content)
    content[position : position + len(value)] = value
    content[62:66] = google_crc32c.value(bytes(content[:62])).to_bytes(4, "little")
    return bytes(content)


both_depths = pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
without_shards = pytest.mark.parametrize("kind", ["latents", "transparent", "format 2"])
