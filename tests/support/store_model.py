"""A compressed store and what must be in it, chunk by chunk: the model that tests of states and faults compare with.

Two layouts of a stack (time, y, x) of small planes: a transparent store and a latents store, both with several chunks in
each plane, with or without ``max_error_db``: :class:`Transparent` and :class:`Latents`, which write, and give the bytes of each
chunk and the decoded planes without any store. :func:`all_files`, :func:`partial_files`, :func:`chunk_bytes` and
:func:`open_array` look into what was written.
"""

import functools
from pathlib import Path

import numcodecs
import numpy as np
import xarray as xr
import zarr

from xsarcomp.codec import chunk, integer_chunk
from xsarcomp.codec.frame import BACKSCATTER, INTEGERS, LATENTS
from xsarcomp.codec.installed_models import load_coder, resolve_model
from xsarcomp.latents.encode import encode_variable
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.codec_zarr import BackscatterCodec

MODEL = "s1-grd-10m-lapped"
SHAPE = (64, 48)
EDGE = 32
PLANES = 6
FORMAT = {"zarr_format": 3, "consolidated": False}
MASK = 0  # beside the kinds of frames: an ordinary array


@functools.cache
def plane(number):
    """A plane of power, float32, shape (y=64, x=48), with a border of NaN; some hold other invalid pixels or no pixel in a chunk."""
    values = simulated_dataset((96, 96), 20 + number).vv.values[16 : 16 + SHAPE[0], 16 : 16 + SHAPE[1]].copy()
    if number % 3 == 1:
        values[5, 5:9] = (0, -1, np.inf, -np.inf)
    if number % 3 == 2:
        values[:EDGE, :EDGE] = np.nan
    values.setflags(write=False)
    return values


def stack(numbers, name="vv"):
    return xr.Dataset({name: (("time", "y", "x"), np.stack([plane(number) for number in numbers]))})


@functools.cache
def coder():
    return load_coder(MODEL)


class Transparent:
    """A transparent store; each chunk is a frame of backscatter."""

    def __init__(self, max_error_db=None):
        self.max_error_db = max_error_db
        self.codec = BackscatterCodec(resolve_model(MODEL), 2.9, "power", max_error_db=max_error_db)
        self.settings = self.codec.encoder_settings(np.dtype("<f4"), None)
        self.arrays = {"vv": (BACKSCATTER, (1, EDGE, EDGE), np.nan)}

    def write(self, numbers, path, **options):
        encoding = {"vv": {"serializer": self.codec.to_dict(), "compressors": None, "chunks": (1, EDGE, EDGE)}}
        new = "append_dim" not in options and "region" not in options
        stack(numbers).to_zarr(
            path, **({"encoding": encoding, **FORMAT} if new else {"consolidated": False}), **options
        )

    def values(self, _name, number):
        return plane(number)[None]

    def frame(self, _name, block):
        return chunk.encode_backscatter(np.ascontiguousarray(block), self.settings, coder())

    def content(self, _name, frame):
        return chunk.decode_backscatter(frame, None, coder())

    def decoded(self, path):
        return xr.open_zarr(path, consolidated=False, chunks={}).vv

    def expected(self, number):
        """The decoded plane, chunk by chunk, without any store."""
        result = np.empty(SHAPE, np.float32)
        for window, block in blocks(plane(number)[None], (1, EDGE, EDGE), np.nan):
            values = self.content("vv", self.frame("vv", block))[0]
            target = result[window[1:]]
            target[:] = values[: target.shape[0], : target.shape[1]]
        return result


class Latents:
    """A latents store: frames of latents, masks, and frames of residuals where a bound is promised."""

    def __init__(self, max_error_db=None):
        self.max_error_db = max_error_db
        target = {"rmse_db": 1.2} if max_error_db is None else {"max_error_db": max_error_db}
        # chunks are smaller than the tiles of kept means
        encoded = stack(range(3)).sarcomp.encode(model=MODEL, scale="power", keep_means=False, **target)
        self.record = LatentsMetadata.from_attribute(encoded.vv_latents.attrs["sarcomp"])
        self.arrays = {
            "vv_latents": (LATENTS, (1, 64, EDGE // 8, EDGE // 8), chunk.ABSENT),
            "vv_coding": (MASK, (1, 2), np.nan),
            "vv_mask": (MASK, (1, EDGE, EDGE), 0),
            "vv_exact": (MASK, (1, EDGE, EDGE), 0),
            **({} if max_error_db is None else {"vv_residual": (INTEGERS, (1, EDGE, EDGE), chunk.ABSENT)}),
        }
        self._encoded, self._expected = {}, {}

    def _variables(self, number):
        """Encoded variables of one plane, always with exact values, as lazy encoding makes them."""
        if number not in self._encoded:
            variables = encode_variable(stack([number]).vv, self.record)
            if "vv_exact" not in variables:
                like = encode_variable(stack([1]).vv, self.record)["vv_exact"]
                variables["vv_exact"] = like.copy(data=np.zeros_like(like.data))
            self._encoded[number] = variables
        return self._encoded[number]

    def dataset(self, numbers):
        planes = [self._variables(number) for number in numbers]
        variables = {name: xr.Variable.concat([one[name] for one in planes], "time") for name in self.arrays}
        for name, variable in variables.items():
            variable.attrs = planes[0][name].attrs
        return xr.Dataset(variables)

    def write(self, numbers, path, **options):
        new = "append_dim" not in options and "region" not in options
        dataset = self.dataset(numbers)
        encoding = {
            name: {
                **{key: value for key, value in variable.encoding.items() if key != "chunks"},
                "chunks": self.arrays[name][1],
            }
            for name, variable in self._variables(numbers[0]).items()
        }
        for variable in dataset.variables.values():
            variable.encoding = {}
        dataset.to_zarr(path, **({"encoding": encoding, **FORMAT} if new else {"consolidated": False}), **options)

    def values(self, name, number):
        return np.asarray(self._variables(number)[name].data)

    def frame(self, name, block):
        inside = np.where(block == chunk.ABSENT, np.int32(0), block)  # beyond the edge of the array stands 0
        if name == "vv_latents":
            return chunk.encode_latents(np.ascontiguousarray(inside), self.record.anchor, coder())
        if name == "vv_residual":
            return integer_chunk.encode_integer_chunk(inside)
        return None

    def content(self, name, frame):
        if name == "vv_latents":
            return chunk.decode_latents(frame, coder())
        if name == "vv_residual":
            return integer_chunk.decode_integer_chunk(frame)
        dtype = {"vv_exact": np.float32, "vv_coding": np.float64}.get(name, np.uint8)
        return np.frombuffer(numcodecs.Zstd().decode(frame), dtype).reshape(self.arrays[name][1])

    def decoded(self, path):
        return xr.open_zarr(path, consolidated=False, chunks={}).sarcomp.decode().vv

    def expected(self, number):
        """The decoded plane, from integers in memory."""
        if number not in self._expected:
            self._expected[number] = self.dataset([number]).sarcomp.decode().vv.values[0]
        return self._expected[number]


def blocks(values, shape, fill):
    """Window in the array and padded content of each chunk, in C order of the grid."""
    grid = tuple(-(-size // edge) for size, edge in zip(values.shape, shape, strict=True))
    for index in np.ndindex(grid):
        window = tuple(slice(i * e, min((i + 1) * e, n)) for i, e, n in zip(index, shape, values.shape, strict=True))
        block = np.full(shape, fill, values.dtype)
        part = values[window]
        block[tuple(map(slice, part.shape))] = part
        yield window, block


def chunk_path(path, name, index):
    return Path(path) / name / "c" / "/".join(map(str, index))


def chunk_bytes(path, name, index):
    """Bytes of a stored chunk, None if it is absent."""
    file = chunk_path(path, name, index)
    return file.read_bytes() if file.exists() else None


def is_fill(block, fill):
    return np.isnan(block).all() if np.isnan(fill) else bool((block == fill).all())


def all_files(path):
    """Bytes of every file of a store, by its path."""
    path = Path(path)
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def open_array(path, name, mode="r"):
    return zarr.open_array(Path(path) / name, mode=mode)


def partial_files(path):
    return {name for name in all_files(path) if name.endswith(".partial")}
