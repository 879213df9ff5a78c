"""The golden streams of format 1.2, mean levels: ``write.py`` writes them, nobody else reads this file."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import zarr
from cases import (
    MEANS,
    NETWORK,
    PLAIN,
    Array,
    Integers,
    Latents,
    decibel,
    extreme_latents,
    hot,
    mixed,
    numbers,
    power,
    rtc,
    scene,
    stack,
    transposed,
)

from xsarcomp.codec.frame import read_frame, write_frame
from xsarcomp.codec.installed_models import resolve_model
from xsarcomp.codec.mean_levels import pack_levels
from xsarcomp.stores import codec_zarr

TALL = (66, 14)  # two tiles
UNKNOWN = 2**20 - 1


@dataclass(frozen=True)
class Releveled(Array):
    """A transparent array of one chunk with levels that no encoder writes."""

    levels: tuple = ()

    def write(self, folder: Path) -> np.ndarray:
        super().write(folder)
        (path,) = (path for path in (folder / "c").rglob("*") if path.is_file())
        section = pack_levels(np.array(self.levels, np.int32)[None])
        path.write_bytes(write_frame(replace(read_frame(path.read_bytes()), mean_levels=section)))
        return zarr.open_array(folder, mode="r")[...]


def single():
    """One valid pixel in a chunk, and one in another tile."""
    values = np.full((66, 9), np.nan, "f4")
    values[5, 7], values[65, 8] = 0.3, 2e-4
    return values


def leveled_latents():
    """65 latents of a chunk of two tiles that its frame holds as they are."""
    latents = np.concatenate([extreme_latents((64, 1, 9)), np.zeros((1, 1, 9), np.int32)])
    latents[64, 0, ::8] = -(2**20) + 1, UNKNOWN
    return latents


def leveled(values, step_db, scale="power", model=PLAIN, **more):
    return Array(values, step_db, scale, model, MEANS, **more)


STREAMS = {
    # data types, scales and rates
    "float32": leveled(lambda: power(TALL), 0.5, model=NETWORK),
    "float32-coarse": leveled(lambda: power(TALL), 12.0, model=NETWORK),
    "float64-big-endian-decibel": leveled(lambda: decibel((20, 24)).astype(">f8"), 22.0, "decibel", NETWORK),
    "float16": leveled(lambda: power(TALL).astype("f2"), 3.0),
    "amplitude": leveled(lambda: np.sqrt(power(TALL)), 6.0, "amplitude", NETWORK),
    "uint16-nodata": leveled(lambda: numbers(TALL).astype("u2"), 2.9, "amplitude", NETWORK, nodata=0),
    "uint8": leveled(lambda: numbers(TALL, largest=255).astype("u1"), 9.0, "amplitude"),
    "int8-decibel": leveled(lambda: np.nan_to_num(np.rint(decibel(TALL))).astype("i1"), 4.0, "decibel"),
    "finest-step": leveled(lambda: power((24, 30)), 0.02),
    "coarsest-step": leveled(lambda: power(TALL), 64.0),
    "faint": leveled(lambda: power(TALL) * np.float32(1e-30), 5.0),
    # classes and exact values
    "mixed-float32": leveled(lambda: mixed("f4", shape=(32, 24)), 2.0, model=NETWORK),
    "rtc-nodata": leveled(lambda: rtc((30, 34)), 3.0, model=NETWORK, nodata=-9999.0),
    "hot-pixel": leveled(lambda: hot((42, 41)), 8.0, model=NETWORK),
    "no-valid-pixel": leveled(lambda: np.full((10, 12), np.nan, "f4"), 2.0),
    "single-pixels": leveled(single, 5.0),
    "levels-of-no-encoder": Releveled(
        lambda: power((66, 66)).astype("f2"), 4.0, promises=MEANS, levels=((UNKNOWN, -900), (1200, 40))
    ),
    # shapes and layouts
    "edge-chunks": leveled(lambda: power((50, 24)), 3.0, model=NETWORK, chunks=(32, 20)),
    "sharded": leveled(lambda: power((30, 24)), 3.0, chunks=(10, 24), options={"shards": (20, 24)}),
    "planes": leveled(lambda: stack(2, (66, 10)), 3.0),
    "transposed": leveled(lambda: stack(2, (16, 24)).transpose(1, 2, 0), 2.0, options=transposed((2, 0, 1))),
    "format-2-fortran": leveled(lambda: decibel(TALL), 2.0, "decibel", zarr_format=2, options={"order": "F"}),
    "format-2-uint16": leveled(
        lambda: numbers(TALL).astype("u2"), 3.0, "amplitude", NETWORK, nodata=0, chunks=(48, 14), zarr_format=2
    ),
    # latents stores
    "latents-power": Latents(lambda: [scene(power(TALL))], ({"bits_per_pixel": 2.0},), NETWORK),
    "latents-decibel": Latents(lambda: [scene(decibel(TALL), units="dB")], ({"rmse_db": 2.0},), NETWORK),
    "latents-uint16": Latents(lambda: [scene(numbers(TALL).astype("u2"))], ({"rmse_db": 1.0, "scale": "amplitude"},)),
    "latents-time": Latents(lambda: [scene(stack(2, (16, 24)))], ({"bits_per_pixel": 3.0},), NETWORK),
    "latents-joined": Latents(
        lambda: [
            scene(stack(1, (66, 10))).assign_coords(time=[0.0]),
            scene(stack(2, (66, 10))[1:]).assign_coords(time=[1.0]),
        ],
        ({"rmse_db": 0.4}, {"rmse_db": 1.8}),
    ),
    "latents-columns-first": Latents(lambda: [scene(power(TALL).T, "x", "y")], ({"bits_per_pixel": 3.0},)),
    "latents-without-means": Latents(lambda: [scene(power((30, 24)))], ({"bits_per_pixel": 2.0, "keep_means": False},)),
    "latents-as-they-are": Integers(leveled_latents, lambda: codec_zarr.LatentsCodec(resolve_model(PLAIN), 5)),
}
