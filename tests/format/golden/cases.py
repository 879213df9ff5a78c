"""The golden streams: products, data types, rates, promises, layouts. ``write.py`` writes them, nobody else reads this file.

A stream is a small Zarr array or a latents store, and beside it a ``.npy`` of what it decoded to.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

import xsarcomp  # noqa: F401  registers .sarcomp
from xsarcomp.codec.installed_models import resolve_model
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores import codec_numcodecs, codec_zarr

NETWORK, PLAIN = "s1-grd-10m", "s1-grd-10m-lapped"


def power(shape=(40, 52), seed=1, polarization="vv"):
    """Sigma0 as power, float32, with the slanted border of NaN of a scene in a map projection."""
    return simulated_dataset(shape, seed)[polarization].values


def decibel(shape=(40, 52), seed=1):
    return 10 * np.log10(power(shape, seed))


def numbers(shape=(40, 52), seed=1, largest=65535):
    """Amplitude as digital numbers, 0 where nothing was seen."""
    return np.clip(np.nan_to_num(np.sqrt(power(shape, seed)) * 1000), 0, largest)


def rtc(shape=(40, 52), seed=1, nodata=-9999.0):
    """Terrain-corrected gamma0 of 30 m: means of 3 x 3 pixels, with a declared nodata value."""
    fine = power((3 * shape[0], 3 * shape[1]), seed)
    values = fine.reshape(shape[0], 3, shape[1], 3).mean(axis=(1, 3))
    values[12:15, 20:33] = np.nan  # a layover
    return np.where(np.isnan(values), np.float32(nodata), values)


def stack(count, shape=(40, 52), of=power, **options):
    return np.stack([of(shape, seed, **options) for seed in range(1, count + 1)])


def mixed(dtype, scale="power", shape=(40, 52)):
    """Pixels of each class: NaN, infinities, zeros of both signs, negative power, what is no backscatter."""
    values = (power(shape, 5) if scale == "power" else decibel(shape, 5)).astype(dtype)
    with np.errstate(over="ignore"):
        special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, -1.5e-3, -600.0, 1e30, 5e-324, 1e300]).astype(dtype)
    values[7:10, 3 : 3 + len(special)] = special
    values[30, ::3] = special[5]
    return values


def hot(shape=(40, 52)):
    """One pixel of 10^30 in an ordinary scene, and one of the smallest number."""
    values = power(shape, 6)
    values[20, 20], values[11, 40] = 1e30, 1e-45
    return values


def noise(dtype, shape=(24, 31)):
    """Random bits: what coding makes longer."""
    content = np.random.default_rng(8).bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return np.frombuffer(content, dtype).reshape(shape)


@dataclass(frozen=True)
class Array:
    """A transparent array."""

    values: Callable[[], np.ndarray]
    step_db: float
    scale: str = "power"
    model: str = PLAIN
    promises: dict[str, Any] = field(default_factory=dict)
    nodata: float | None = None
    chunks: tuple[int, ...] | None = None
    zarr_format: int = 3
    options: dict[str, Any] = field(default_factory=dict)
    """Of `zarr.create_array`: order, shards, filters, fill_value."""

    def write(self, folder: Path) -> np.ndarray:
        values = self.values()
        codec = {2: codec_numcodecs, 3: codec_zarr}[self.zarr_format].BackscatterCodec(
            resolve_model(self.model), self.step_db, self.scale, self.nodata, **self.promises
        )
        place = {"compressors": [codec]} if self.zarr_format == 2 else {"serializer": codec, "compressors": None}
        fill_value = np.nan if values.dtype.kind == "f" else 0
        stored = zarr.create_array(
            folder,
            shape=values.shape,
            dtype=values.dtype,
            chunks=self.chunks or values.shape,
            zarr_format=self.zarr_format,
            **({"fill_value": fill_value} | place | self.options),
        )
        stored[...] = values
        return zarr.open_array(folder, mode="r")[...]


@dataclass(frozen=True)
class Latents:
    """A latents store of the variable ``vv``, or of several that are encoded one by one and joined along time."""

    arrays: Callable[[], list[xr.DataArray]]
    requests: tuple[dict[str, Any], ...]
    model: str = PLAIN

    def write(self, folder: Path) -> np.ndarray:
        for number, (array, request) in enumerate(zip(self.arrays(), self.requests, strict=True)):
            encoded = array.rename("vv").to_dataset().sarcomp.encode(model=self.model, **request)
            how = {"append_dim": "time"} if number else {"zarr_format": 3, "mode": "w-"}
            encoded.to_zarr(folder, consolidated=False, **how)
        return xr.open_zarr(folder, consolidated=False).sarcomp.decode().vv.values


@dataclass(frozen=True)
class Integers:
    """An array of residuals, or of latents, without a scene."""

    values: Callable[[], np.ndarray]
    codec: Callable[[], Any]

    def write(self, folder: Path) -> np.ndarray:
        values = self.values()
        stored = zarr.create_array(
            folder,
            shape=values.shape,
            dtype="int32",
            chunks=values.shape,
            serializer=self.codec(),
            compressors=None,
            fill_value=-(2**31),
        )
        stored[...] = values
        return zarr.open_array(folder, mode="r")[...]


def scene(values, *dims, **attributes):
    dims = dims or ("time", "y", "x")[-values.ndim :]
    return xr.DataArray(values, dims=dims, attrs={"units": "1"} | attributes).assign_coords(
        {name: 10.0 * np.arange(size) for name, size in zip(dims, values.shape, strict=True)}
    )


def residuals(shape=(2, 60, 61)):
    """Integers of every magnitude, most of them small where their neighbours are."""
    generator = np.random.default_rng(3)
    exponents = np.repeat(generator.uniform(0, 19.9, (*shape[:2], 1)), shape[2], axis=2)
    return np.rint(generator.laplace(0, 1, shape) * 2**exponents / 4).clip(-(2**20) + 1, 2**20 - 1).astype(np.int32)


def extreme_latents(shape=(64, 6, 7)):
    """Latents that no scene has: their frame holds them as they are."""
    latents = np.random.default_rng(4).integers(-(2**20) + 1, 2**20, shape).astype(np.int32)
    latents[0] //= 4  # differences of the lowest are coded
    return latents


def large():
    """All classes, exact values; its frame has corrections and 9 kB."""
    values = power((110, 120), 9)
    values[:20, 70:90] = np.random.default_rng(1).choice([0.0, np.nan, np.inf, -1e-4, -0.0], (20, 20))
    return values


def transposed(axes):
    return {"filters": [zarr.codecs.TransposeCodec(order=axes)]}


BOUND, MEANS = {"max_error_db": 1.0}, {"keep_means": True}
BOTH = {"max_error_db": 2.0, "keep_means": True}

STREAMS = {
    # Zarr format 3: data types and byte orders
    "float32": Array(power, 0.5, model=NETWORK),
    "float32-coarse": Array(lambda: power((72, 88)), 12.0, model=NETWORK),
    "float32-big-endian": Array(lambda: power().astype(">f4"), 8.0),
    "float16": Array(lambda: power().astype("f2"), 1.3, model=NETWORK),
    "float16-big-endian-decibel": Array(lambda: decibel().astype(">f2"), 11.0, "decibel"),
    "float64": Array(lambda: power().astype("f8"), 2.2, model=NETWORK),
    "float64-big-endian-decibel": Array(lambda: decibel().astype(">f8"), 22.0, "decibel", NETWORK),
    "decibel": Array(decibel, 5.0, "decibel", NETWORK, BOUND),
    "amplitude": Array(lambda: np.nan_to_num(np.sqrt(power())), 3.0, "amplitude"),
    "uint8": Array(lambda: numbers(largest=255).astype("u1"), 3.0, "amplitude"),
    "int8-decibel": Array(lambda: np.nan_to_num(np.rint(decibel((80, 96)))).astype("i1"), 9.0, "decibel"),
    "uint16": Array(lambda: numbers().astype("u2"), 2.9, "amplitude", NETWORK),
    "uint16-big-endian": Array(lambda: numbers().astype(">u2"), 1.0, "amplitude", promises=MEANS),
    "int16-nodata": Array(
        lambda: np.where(numbers() == 0, -32768, numbers(largest=32767)).astype("i2"), 2.0, "amplitude", nodata=-32768
    ),
    "int16-big-endian": Array(lambda: numbers(largest=32767).astype(">i2"), 4.0, "amplitude", NETWORK, BOUND),
    "int32": Array(lambda: np.rint(numbers() ** 2).astype("i4"), 3.5),
    "int32-big-endian": Array(lambda: np.rint(numbers() ** 2).astype(">i4"), 1.7, model=NETWORK),
    "uint32": Array(lambda: np.rint(numbers() ** 2).astype("u4"), 6.0, nodata=0, promises=BOTH),
    "uint32-big-endian": Array(lambda: np.rint(numbers() ** 2).astype(">u4"), 2.4),
    # rates at the ends, promises, nodata
    "finest-step": Array(lambda: power((24, 30)), 0.02),
    "coarsest-step": Array(lambda: power((96, 100)), 64.0),
    "rtc-nodata": Array(rtc, 2.0, model=NETWORK, nodata=-9999.0),
    "rtc-promises": Array(rtc, 5.0, model=NETWORK, nodata=-9999.0, promises=BOTH),
    "rtc-fill-value": Array(lambda: rtc(nodata=0.5), 2.0, options={"fill_value": 0.5}),
    "tight-bound": Array(lambda: power((24, 30)), 4.0, promises={"max_error_db": 0.05}),
    # classes and exact values
    "mixed-float32": Array(lambda: mixed("f4"), 2.0, model=NETWORK, promises=MEANS),
    "mixed-float64": Array(lambda: mixed("f8"), 2.0),
    "mixed-float16": Array(lambda: mixed("f2", "decibel"), 2.0, "decibel"),
    "hot-pixel": Array(hot, 2.0, model=NETWORK),
    "no-valid-pixel": Array(lambda: np.full((30, 40), np.nan, "f4"), 2.0),
    "constant": Array(lambda: np.full((30, 40), 0.1, "f4"), 0.3),
    "as-it-is-float32": Array(lambda: noise("f4"), 1.0),
    "as-it-is-int8": Array(lambda: noise("i1"), 0.5, "decibel"),
    # shapes and layouts
    "edge-chunks": Array(lambda: power((70, 90)), 3.0, model=NETWORK, chunks=(32, 48)),
    "sharded": Array(lambda: power((60, 64)), 3.0, chunks=(20, 32), options={"shards": (40, 64)}),
    "sharded-rtc-means": Array(
        lambda: rtc((48, 64)), 4.0, model=NETWORK, nodata=-9999.0, promises=MEANS, chunks=(24, 32),
        options={"shards": (48, 64)},
    ),
    "planes": Array(lambda: stack(3), 3.0, model=NETWORK, chunks=(2, 40, 30)),
    "five-dimensions": Array(lambda: stack(4, (20, 24)).reshape(2, 2, 1, 20, 24), 2.0, chunks=(1, 2, 1, 20, 24)),
    "transposed": Array(lambda: stack(2, (24, 40)).transpose(1, 2, 0), 2.0, options=transposed((2, 0, 1))),
    "one-row": Array(lambda: power((9, 200))[4:5], 1.0),
    "one-column": Array(lambda: power((200, 9))[:, 4:5], 1.0, model=NETWORK),
    "one-pixel-chunks": Array(lambda: power((20, 20))[8:10, 8:11], 0.5, chunks=(1, 1)),
    # Zarr format 2
    "format-2": Array(lambda: power((50, 60)), 2.0, model=NETWORK, chunks=(32, 32), zarr_format=2),
    "format-2-fortran": Array(
        decibel, 2.0, "decibel", promises=BOUND, chunks=(32, 32), zarr_format=2, options={"order": "F"}
    ),
    "format-2-fortran-big-endian": Array(
        lambda: stack(2).astype(">f4"), 5.0, model=NETWORK, zarr_format=2, options={"order": "F"}
    ),
    "format-2-uint16": Array(
        lambda: numbers().astype("u2"), 3.0, "amplitude", NETWORK, BOTH, nodata=0, chunks=(24, 32), zarr_format=2
    ),
    "format-2-float64": Array(lambda: mixed("f8"), 1.0, zarr_format=2),
    "format-2-as-it-is": Array(lambda: noise(">f8"), 1.0, zarr_format=2, options={"order": "F"}),
    # latents stores
    "latents-power": Latents(lambda: [scene(power())], ({"bits_per_pixel": 2.0},), NETWORK),
    "latents-decibel-bound": Latents(
        lambda: [scene(decibel(), units="dB")], ({"bits_per_pixel": 3.0, "max_error_db": 1.0},), NETWORK
    ),
    "latents-uint16-means": Latents(
        lambda: [scene(numbers().astype("u2"))], ({"rmse_db": 1.0, "scale": "amplitude", "keep_means": True},)
    ),
    "latents-big-endian-classes": Latents(
        lambda: [scene(mixed(">f8"))], ({"bits_per_pixel": 3.0, "scale": "power"},), NETWORK
    ),
    "latents-rtc": Latents(
        lambda: [scene(rtc(), nodata=-9999.0)],
        ({"bits_per_pixel": 4.0, "max_error_db": 1.0, "keep_means": True, "scale": "power"},),
    ),
    "latents-time": Latents(lambda: [scene(stack(3, (24, 40)))], ({"bits_per_pixel": 3.0},), NETWORK),
    "latents-joined": Latents(
        lambda: [
            scene(stack(2, (24, 40))).assign_coords(time=[0.0, 1.0]),
            scene(stack(2, (24, 40))).assign_coords(time=[2.0, 3.0]),
        ],
        ({"rmse_db": 0.4}, {"rmse_db": 1.2}),
    ),
    "latents-plane-checked": Latents(
        lambda: [scene(mixed("<f4")).drop_vars(["y", "x"])], ({"bits_per_pixel": 3.0, "keep_means": True, "scale": "power"},)
    ),
    "latents-time-checked": Latents(
        lambda: [
            scene(rtc((24, 40))[None], nodata=-9999.0).assign_coords(time=[0.0]),
            scene(rtc((24, 40))[None], nodata=-9999.0).assign_coords(time=[1.0]),
        ],
        ({"rmse_db": 0.4, "scale": "power"}, {"rmse_db": 1.2, "scale": "power"}),
    ),
    "latents-columns-first": Latents(lambda: [scene(power().T, "x", "y")], ({"bits_per_pixel": 3.0},)),
    "latents-two-chunks": Latents(lambda: [scene(power((530, 16)).astype("f2"))], ({"bits_per_pixel": 2.0},), NETWORK),
    "latents-as-they-are": Integers(extreme_latents, lambda: codec_zarr.LatentsCodec(resolve_model(PLAIN), 5)),
    # about 9 kB each: every bit of these is flipped
    "large-backscatter": Array(large, 0.5, model=NETWORK, promises={"max_error_db": 0.4, "keep_means": True}),
    "large-latents": Latents(lambda: [scene(power((96, 100), 10))], ({"bits_per_pixel": 7.4},), NETWORK),
    "large-integers": Integers(residuals, codec_zarr.IntegersCodec),
}  # fmt: skip
