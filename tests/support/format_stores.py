"""Stores to pixels, written from ``docs/format.md`` section 7 alone: files of Zarr arrays are read as bytes.

Imports nothing of xsarcomp, see :mod:`format_frames`; masks, exact values and codings have ordinary codecs, which zarr reads.
"""

import hashlib
import itertools
import json
import math
import struct
from pathlib import Path

import numpy as np
import zarr

from tests.support.format_decoder import integers_from_the_format
from tests.support.format_frames import (
    BACKSCATTER,
    INTEGERS,
    LATENTS,
    LEVELED,
    VERBATIM,
    classes_from_the_format,
    corrections_from_the_format,
    crc32c,
    digest,
    frame_from_the_format,
    levels_from_the_format,
    symbols_from_the_format,
    verbatim_from_the_format,
)
from tests.support.format_pixels import (
    ModelFromTheFormat,
    means_from_the_format,
    pixels_from_the_format,
    signal_from_the_format,
)


class Models:
    """Model files of a folder by id."""

    def __init__(self, folder):
        self.paths = {
            json.loads(path.with_suffix(".json").read_text())["id"]: path for path in Path(folder).glob("*.safetensors")
        }
        self.loaded = {}

    def __getitem__(self, model_id):
        if model_id not in self.loaded:
            self.loaded[model_id] = ModelFromTheFormat(self.paths[model_id])
            assert self.loaded[model_id].id == model_id
        return self.loaded[model_id]


def parts_from_the_format(content, model):
    """Symbols, classes, exact values and corrections of a frame of kind 1, those of the whole chunk where it is as it is."""
    frame = frame_from_the_format(content)
    assert frame.kind == BACKSCATTER
    assert model.id.startswith(frame.model)
    assert frame.anchor == model.anchor(frame.step_db)
    shape = _planes_of(frame.shape, 2)
    latents_shape = (shape[0], 64, *(-(-size // 8) for size in shape[1:]))
    if frame.flags & VERBATIM:
        values = verbatim_from_the_format(frame).reshape(-1)
        return np.zeros(latents_shape, np.int64), np.full(shape, 6, np.uint8), values, (0.0, None, None)
    symbols = symbols_from_the_format(frame, latents_shape, model.tables)
    return symbols, *classes_from_the_format(frame, shape), corrections_from_the_format(frame.corrections, shape)


def levels_of_frame_from_the_format(content):
    """Levels (plane, y_tile, x_tile) of a frame of kind 1; None where it has none."""
    frame = frame_from_the_format(content)
    planes, *pixels = _planes_of(frame.shape, 2)
    return levels_from_the_format(frame.levels, (planes, *_tiles(pixels, 64))) if frame.levels else None


def _tiles(sizes, edge):
    return tuple(-(-size // edge) for size in sizes)


def backscatter_from_the_format(content, nodata, model):
    """Pixels of a frame of kind 1."""
    frame = frame_from_the_format(content)
    symbols, classes, exact, corrections = parts_from_the_format(content, model)
    signal = signal_from_the_format(symbols, frame.shape[-2:], model, frame.step_db)
    levels = levels_of_frame_from_the_format(content)
    means = None if levels is None else means_from_the_format(levels, symbols, model, frame.step_db)
    return pixels_from_the_format(
        signal, classes, exact, corrections, means,
        dtype=frame.dtype, scale=frame.scale, nodata=nodata, model=model, step_db=frame.step_db,
    ).reshape(frame.shape)  # fmt: skip


def latents_from_the_format(content, model):
    """Latents of a frame of kind 2: 64 symbols and, with levels, those as the last."""
    frame = frame_from_the_format(content)
    assert (frame.kind, frame.dtype, frame.step_db, frame.flags & ~(VERBATIM | LEVELED)) == (LATENTS, np.int32, 0, 0)
    assert model.id.startswith(frame.model)
    planes, latents, *blocks = _planes_of(frame.shape, 3)
    assert latents in (64, 65)
    if frame.flags & VERBATIM:
        values = verbatim_from_the_format(frame)
        levels = values[..., 64:, :, :]
        assert np.count_nonzero(levels) == np.count_nonzero(levels[..., ::8, ::8])
        return values
    assert (latents == 65) == bool(frame.flags & LEVELED)
    symbols = symbols_from_the_format(frame, (planes, 64, *blocks), model.tables)
    if frame.flags & LEVELED:
        channel = np.zeros((planes, 1, *blocks), np.int32)
        channel[:, 0, ::8, ::8] = levels_from_the_format(frame.levels, (planes, *_tiles(blocks, 8)))
        symbols = np.concatenate([symbols, channel], axis=1)
    return symbols.reshape(frame.shape)


def _planes_of(shape, kept):
    return (math.prod(shape[:-kept]), *shape[-kept:])


def integers_of_frame_from_the_format(content):
    """Integers of a frame of kind 3."""
    frame = frame_from_the_format(content)
    assert (frame.kind, frame.dtype, frame.step_db, frame.anchor) == (INTEGERS, np.int32, 0, 0)
    assert (frame.model, frame.flags & ~VERBATIM) == ("0" * 16, 0)
    if frame.flags & VERBATIM:
        return verbatim_from_the_format(frame)
    integers = integers_from_the_format(np.frombuffer(frame.symbols, "<u4"), _planes_of(frame.shape, 2))
    assert digest(integers) == frame.hash
    return integers.reshape(frame.shape)


def _inner_chunks(content, per_shard):
    """Frames of a shard by their place in it (the index stands at its end)."""
    count = math.prod(per_shard)
    index = content[-16 * count - 4 :]
    assert int.from_bytes(index[-4:], "little") == crc32c(index[:-4])
    spans = np.frombuffer(index[:-4], "<u8").reshape(*per_shard, 2)
    for place in itertools.product(*map(range, per_shard)):
        offset, size = (int(number) for number in spans[place])
        if offset != 2**64 - 1:
            yield place, content[offset : offset + size]


class ArrayFromTheFormat:
    """A Zarr array whose chunks are frames: ``frames`` gives the first index and the bytes of each that is there."""

    def __init__(self, folder):
        self.folder = Path(folder)
        if (self.folder / "zarr.json").exists():
            self._format_3(json.loads((self.folder / "zarr.json").read_text()))
        else:
            self._format_2(json.loads((self.folder / ".zarray").read_text()))

    def _format_3(self, document):
        self.shape, self.dtype = tuple(document["shape"]), np.dtype(document["data_type"])
        self.stored = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
        self.separator, self.prefix = "/", "c"
        *before, codec = document["codecs"]
        self.axes = tuple(before[0]["configuration"]["order"]) if before else tuple(range(len(self.shape)))
        self.chunk, self.sharded = self.stored, codec["name"] == "sharding_indexed"
        if self.sharded:
            self.chunk = tuple(codec["configuration"]["chunk_shape"])
            (codec,) = codec["configuration"]["codecs"]
        self.name, self.configuration = codec["name"], codec["configuration"]
        fill = document["fill_value"]
        self.fill = float(fill) if isinstance(fill, str) else fill
        # a nodata value that is not named is the fill value, if that is a number
        self.nodata = self.configuration.get("nodata")
        if self.nodata is None and np.isfinite(self.fill):
            self.nodata = self.fill

    def _format_2(self, document):
        self.shape, self.dtype = tuple(document["shape"]), np.dtype(document["dtype"])
        self.stored = self.chunk = tuple(document["chunks"])
        self.separator, self.prefix, self.sharded = document["dimension_separator"], "", False
        self.axes = tuple(range(len(self.shape)))
        self.configuration = dict(document["compressor"])
        self.name = self.configuration.pop("id")
        self.fill, self.nodata = document["fill_value"], self.configuration["nodata"]
        self.fill = float(self.fill) if isinstance(self.fill, str) else self.fill

    def frames(self):
        grid = [-(-size // edge) for size, edge in zip(self.shape, self.stored, strict=True)]
        for index in itertools.product(*map(range, grid)):
            key = self.separator.join([*([self.prefix] if self.prefix else []), *map(str, index)])
            path = self.folder / key
            if path.exists():
                first = np.multiply(index, self.stored)
                if self.sharded:
                    per_shard = [a // b for a, b in zip(self.stored, self.chunk, strict=True)]
                    for place, content in _inner_chunks(path.read_bytes(), per_shard):
                        yield first + np.multiply(place, self.chunk), content
                else:
                    yield first, path.read_bytes()

    def values(self, decode):
        """The whole array, of chunks that a function decodes."""
        result = np.full(self.shape, self.fill, self.dtype)
        for first, content in self.frames():
            chunk = decode(content)
            if self.axes != tuple(range(len(self.shape))):
                chunk = chunk.transpose(np.argsort(self.axes))
            place = tuple(slice(a, a + b) for a, b in zip(first, chunk.shape, strict=True))
            inside = result[place]
            inside[...] = chunk[tuple(slice(size) for size in inside.shape)]
        return result


def transparent_from_the_format(folder, models):
    """Pixels of a transparent array of either format."""
    array = ArrayFromTheFormat(folder)
    assert array.name == "xsarcomp.backscatter"
    model = models[array.configuration["model"]]
    return array.values(lambda content: backscatter_from_the_format(content, array.nodata, model))


def _python(value):
    """A value of a record (section 7.2)."""
    if isinstance(value, list):
        return [_python(one) for one in value]
    if isinstance(value, dict):
        ((kind, content),) = list(value.items())[:1]
        return {"float": lambda: float(content), "tuple": lambda: tuple(map(_python, content))}.get(
            kind, lambda: value
        )()
    return value


def fingerprints(record):
    """Fingerprints that a record may have: that of today, and that of the first encoders."""
    shared = {name: record[name] for name in ("model_id", "dtype", "scale")}
    nodata = record["nodata"]
    if isinstance(nodata, dict):
        (nodata,) = nodata["values"]
    shared["nodata"] = None if nodata is None else repr(float(nodata))
    without = {"max_error_db": None, "keep_means": False, "residual_spacing_db": 0.0}
    shared |= {name: record.get(name, value) for name, value in without.items()}
    shared |= {"mean_levels": True} if record.get("mean_levels") else {}
    grid = {"name": record["name"]} | {name: {"tuple": list(record[name])} for name in ("spatial", "pixels")}
    texts = [json.dumps(values, sort_keys=True).encode() for values in (shared | grid, shared)]
    return [int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "little") for text in texts]


def check_fits(step, check, record, *, is_plane):
    """Return whether the entry of a plane fits the record."""
    assert record["fingerprint"] in fingerprints(record)
    (bits,) = struct.unpack("<Q", struct.pack("<d", step))
    accepted = {record["fingerprint"], fingerprints(record)[0]}
    numbers = {-1 - ((bits ^ (bits >> 16) ^ fingerprint) % 2**48) for fingerprint in accepted}
    return check in numbers or (check in accepted and not is_plane)


def variable_from_the_format(folder, name, models):
    """Pixels of a variable of a latents store, in the order of its dimensions."""
    folder = Path(folder)
    array = ArrayFromTheFormat(folder / f"{name}_latents")
    record = json.loads((folder / f"{name}_latents" / "zarr.json").read_text())["attributes"]["sarcomp"]
    record = {key: _python(value) for key, value in record.items()}
    model = models[record["model_id"]]
    pixels, lead = record["pixels"], array.shape[:-3]
    latents = array.values(lambda content: latents_from_the_format(content, model)).reshape(-1, *array.shape[-3:])
    assert latents.shape[1] == (65 if record.get("mean_levels") else 64)
    symbols, levels = latents[:, :64], latents[:, 64:, ::8, ::8]
    classes = zarr.open_array(folder / f"{name}_mask", mode="r")[:].reshape(-1, *pixels)
    exact = np.zeros(classes.shape, record["dtype"])
    if (folder / f"{name}_exact").exists():
        exact = zarr.open_array(folder / f"{name}_exact", mode="r")[:].reshape(classes.shape)

    def integers(part):
        found = ArrayFromTheFormat(folder / f"{name}_{part}").values(integers_of_frame_from_the_format)
        assert (found > -(2**31)).all()
        return found

    spacing = record.get("residual_spacing_db", 0.0)
    residuals = integers("residual").reshape(classes.shape) if spacing else None
    gains = integers("gains") if record.get("keep_means") and not record.get("mean_levels") else None
    gains = None if gains is None else gains.reshape(-1, *gains.shape[-3:])
    steps = [record["step_db"]] * len(symbols)
    if "fingerprint" in record:
        coding = zarr.open_array(folder / f"{name}_coding", mode="r")[:]
        if not lead:  # an entry at each latent of the only plane
            assert coding.shape == (2, *array.shape[-2:])
            assert (coding == coding[:, :1, :1]).all()
            coding = coding[:, 0, 0]
        coding = coding.reshape(-1, 2)
        steps = coding[:, 0].tolist()
        assert all(check_fits(step, check, record, is_plane=not lead) for step, check in coding.tolist())
    for dim in ("latent", "tile"):
        for axis in record["spatial"]:
            if (folder / f"{axis}_{dim}").exists():
                positions = zarr.open_array(folder / f"{axis}_{dim}", mode="r")[:]
                assert positions.tolist() == list(range(len(positions)))
    result = np.empty(classes.shape, record["dtype"])
    for plane, step_db in enumerate(steps):
        one = slice(plane, plane + 1)
        signal = signal_from_the_format(symbols[one], pixels, model, step_db)
        added = (spacing, *(None if part is None else part[one] for part in (residuals, gains)))
        means = means_from_the_format(levels[plane], symbols[one], model, step_db) if levels.size else None
        result[one] = pixels_from_the_format(
            signal, classes[one], exact[one][classes[one] == 6], added, means,
            dtype=record["dtype"], scale=record["scale"], nodata=record["nodata"], model=model, step_db=step_db,
        )  # fmt: skip
    stored = [*(name for name in record["dims"] if name not in record["spatial"]), *record["spatial"]]
    return result.reshape(*lead, *pixels).transpose([stored.index(name) for name in record["dims"]])
