"""Installed models against classical codecs on the same scenes: the table of the README comes from here."""

import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xsarcomp import files
from xsarcomp.block import Settings
from xsarcomp.chunk import decode_backscatter, encode_backscatter
from xsarcomp.coder import LappedCoder
from xsarcomp.errors import MissingDependencyError, RateError
from xsarcomp.evaluation.classical import CLASSICAL_CODECS, Codec
from xsarcomp.evaluation.fidelity import decibel_from_power, power_and_validity
from xsarcomp.evaluation.rate_distortion import RATES, RatePoint, bd_rate, curve, filled_from_nearest, rmse_at_rates
from xsarcomp.plan import array_scale
from xsarcomp.variables import backscatter_names, declared_nodata, spatial_dimensions
from xsarcomp.weights import installed_models, load_coder

STEPS_DB = tuple(np.geomspace(0.6, 20.0, 12).tolist())
REFERENCES = ("JPEG XL", "JPEG 2000")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCodec:
    """A model of xsarcomp as a codec of the benchmark: one frame a plane, with all its headers."""

    name: str
    coder: LappedCoder
    settings: tuple[float, ...] = STEPS_DB
    """Quantisation steps in dB."""

    def encode(self, plane_db: NDArray[np.float32], setting: float) -> bytes:
        """Code a plane in dB with a step."""
        return encode_backscatter(plane_db, Settings(step_db=setting, scale="decibel"), self.coder)

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Plane in dB."""
        return decode_backscatter(data, None, self.coder)


@dataclass(slots=True)
class Timed:
    """A codec that remembers how long it took."""

    codec: Codec
    name: str = ""
    settings: Sequence[float] = ()
    seconds: dict[str, float] = field(default_factory=lambda: {"encode": 0.0, "decode": 0.0})
    pixels: int = 0

    def __post_init__(self) -> None:
        self.name, self.settings = self.codec.name, self.codec.settings

    def encode(self, plane_db: NDArray[np.float32], setting: float) -> bytes:
        """Code, and add the time."""
        start = time.perf_counter()
        data = self.codec.encode(plane_db, setting)
        self.seconds["encode"] += time.perf_counter() - start
        self.pixels += plane_db.size
        return data

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Decode, and add the time."""
        start = time.perf_counter()
        plane_db = self.codec.decode(data, shape)
        self.seconds["decode"] += time.perf_counter() - start
        return plane_db

    def megapixels_per_second(self, direction: str) -> float:
        """Mean speed over all settings."""
        return self.pixels / 1e6 / max(self.seconds[direction], 1e-9)


def read_planes(paths: Sequence[str]) -> list[NDArray[np.float32]]:
    """Planes in dB of all polarizations of scenes, NaN where invalid; planes without a valid pixel are left out."""
    planes = []
    for path in paths:
        scene = files.open_scene(path)
        for name in backscatter_names(scene):
            array, nodata = scene[name], declared_nodata(scene[name])
            scale = array_scale(array, nodata)
            y, x = spatial_dimensions(array)
            values = array.transpose(..., y, x).values
            for plane in values.reshape(-1, *values.shape[-2:]):
                power, valid = power_and_validity(plane, scale=scale, nodata=nodata)
                if valid.any():
                    planes.append(
                        np.where(valid, decibel_from_power(np.where(valid, power, 1.0)), np.nan).astype(np.float32)
                    )
    return planes


def run_benchmark(paths: Sequence[str], models: Sequence[str], output: Path | None) -> Iterator[str]:
    """Measure, and yield the lines of a Markdown table; with ``output`` also write CSV, table and plot there.

    Rates are whole streams over pixels times polarizations; errors are over valid pixels of all planes together.

    Parameters
    ----------
    paths : sequence of str
        Scenes.
    models : sequence of str
        Names or ids; all installed models if empty.
    output : Path or None
        Folder.

    Yields
    ------
    str

    Raises
    ------
    MissingDependencyError
        If the package of the classical codecs is not installed.
    RateError
        If no scene has a valid pixel.
    """
    planes = read_planes(paths)
    if not planes:
        raise RateError(f"found no valid pixel in {len(paths)} scenes, expected some to measure. Choose other scenes.")
    yield f"{len(planes)} planes, {sum(plane.size for plane in planes) / 1e6:.2f} million samples"
    own = [ModelCodec(name=name, coder=load_coder(name)) for name in (models or sorted(installed_models()))]
    timed = [Timed(codec) for codec in [*own, *CLASSICAL_CODECS]]
    curves: dict[str, list[RatePoint]] = {}
    for codec in timed:
        codec.encode(filled_from_nearest(planes[0]), codec.settings[0])  # loads the model or library outside the timing
        codec.seconds, codec.pixels = {"encode": 0.0, "decode": 0.0}, 0
        curves[codec.name] = curve(codec, planes)
    table = list(_table(timed, curves))
    yield from table
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "rate_distortion.md").write_text("\n".join(table) + "\n", encoding="utf-8")
        _write_csv(output / "rate_distortion.csv", curves)
        yield _draw(output / "rate_distortion.png", curves)


def _table(timed: Sequence[Timed], curves: dict[str, list[RatePoint]]) -> Iterator[str]:
    rates = " | ".join(f"{rate:g}" for rate in RATES)
    references = " | ".join(f"rate vs {name}" for name in REFERENCES)
    yield f"| codec | {rates} | {references} | encode Mpx/s | decode Mpx/s |"
    yield "|---" * (len(RATES) + len(REFERENCES) + 3) + "|"
    for codec in timed:
        errors = " | ".join(
            "-" if np.isnan(error) else f"{error:.3f}" for error in rmse_at_rates(curves[codec.name], RATES)
        )
        gains = " | ".join(_gain(curves, codec.name, reference) for reference in REFERENCES)
        speeds = " | ".join(f"{codec.megapixels_per_second(direction):.1f}" for direction in ("encode", "decode"))
        yield f"| {codec.name} | {errors} | {gains} | {speeds} |"


def _gain(curves: dict[str, list[RatePoint]], name: str, reference: str) -> str:
    if name == reference:
        return "0"
    try:
        return f"{bd_rate(curves[name], curves[reference]):+.1f} %"
    except RateError:  # no common error
        return "-"


def _write_csv(path: Path, curves: dict[str, list[RatePoint]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["codec", "setting", "bits_per_pixel", "rmse_db"])
        for name, points in curves.items():
            writer.writerows([name, f"{p.setting:.5g}", f"{p.bits_per_pixel:.5f}", f"{p.rmse_db:.5f}"] for p in points)


def _draw(path: Path, curves: dict[str, list[RatePoint]]) -> str:
    from xsarcomp.evaluation.pictures import rate_distortion_figure

    try:
        rate_distortion_figure(curves).savefig(path)
    except MissingDependencyError as error:
        return f"no plot: {error}"
    return f"wrote {path}"
