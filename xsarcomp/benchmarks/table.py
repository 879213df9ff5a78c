"""Installed models against classical codecs on the same scenes: the table of the README comes from here."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.benchmarks import gaussian_bound
from xsarcomp.benchmarks import markdown as report
from xsarcomp.benchmarks.classical import CLASSICAL_CODECS, Codec
from xsarcomp.benchmarks.measurement import Scene, Sweep, filled_with_median, sweep
from xsarcomp.benchmarks.video import VIDEO_CODECS, why_missing
from xsarcomp.codec.chunk import decode_backscatter, encode_backscatter
from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.frame import read_frame
from xsarcomp.codec.installed_models import installed_models, load_coder
from xsarcomp.codec.residual_coding import decode_integers, encode_integers
from xsarcomp.codec.window import Settings
from xsarcomp.errors import ConfigurationError, RateError
from xsarcomp.latents.plan import array_scale
from xsarcomp.metrics.fidelity import decibel_from_power, power_and_validity
from xsarcomp.models.classic.model_file import is_classic, load_classic
from xsarcomp.scenes.variables import backscatter_names, declared_nodata, spatial_dimensions
from xsarcomp.stores import files

if TYPE_CHECKING:
    from xsarcomp.models.classic.codec import ClassicCodec

STEPS_DB = tuple(np.geomspace(0.15, 40.0, 19).tolist())
"""Wide enough for any product; `xsarcomp.benchmarks.measurement.sweep` leaves out what the rates do not need."""

CLASSIC_STEPS = tuple(np.geomspace(1 / 64, 2.0, 8).tolist())
"""The same for classic autoencoders, whose latents have variance 1."""

KEEPS_DECIBEL = "mean of dB"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCodec:
    """A model of xsarcomp as a codec of the benchmark: one frame a plane, with all its headers."""

    name: str
    coder: LappedCoder
    settings: tuple[float, ...] = STEPS_DB
    """Quantization steps in dB."""
    keeps_power: bool = True
    """Whether decoding keeps the mean power, as it does for users; else the mean in dB, as it is for the other codecs."""

    def encode(self, plane_db: NDArray[np.float32], setting: float) -> bytes:
        """Code a plane in dB with a step."""
        return encode_backscatter(plane_db, Settings(step_db=setting, scale="decibel"), self.coder)

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Plane in dB."""
        plane_db = decode_backscatter(data, None, self.coder)
        if self.keeps_power:
            return plane_db
        return plane_db - np.float32(self.coder.mean_correction_db(read_frame(data).step_db))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicModelCodec:
    """A classic autoencoder as a codec of the benchmark: the step and the coded symbols of each plane."""

    name: str
    codec: "ClassicCodec"
    settings: tuple[float, ...] = CLASSIC_STEPS
    """Quantization steps of the latents."""

    def encode(self, plane_db: NDArray[np.float32], setting: float) -> bytes:
        """Code a plane in dB with a step; only the model and the shape are needed beside these bytes."""
        (symbols,) = self.codec.encode_planes(plane_db[None], setting)
        return np.float32(setting).tobytes() + encode_integers(symbols)

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Plane in dB."""
        step = np.frombuffer(data, np.float32, count=1).item()
        symbols = decode_integers(data[np.float32().nbytes :], self.codec.latent_shape(shape))
        return self.codec.decode_planes(symbols[None], step, shape)[0]


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
        """Mean speed over all settings that were measured, plane after plane."""
        return self.pixels / 1e6 / max(self.seconds[direction], 1e-9)


_POWER_NOTE = (
    "Decoding with xsarcomp keeps the mean power, which the other codecs lower the more, the coarser they are. That adds up to "
    f"0.4 dB everywhere and costs RMSE in dB: rows named {KEEPS_DECIBEL!r} are the same streams without it."
)


def _own(name: str) -> tuple[Codec, ...]:
    """A model as users get it, and with the mean in dB as the other codecs and the classic autoencoders have it."""
    if is_classic(name):
        return (ClassicModelCodec(name=name, codec=load_classic(name)),)
    coder = load_coder(name)
    return (
        ModelCodec(name=name, coder=coder),
        ModelCodec(name=f"{name}, {KEEPS_DECIBEL}", coder=coder, keeps_power=False),
    )


def read_scenes(paths: Sequence[str]) -> list[Scene]:
    """Read the planes of files.

    Parameters
    ----------
    paths : sequence of str
        Anything that `xsarcomp.stores.files.open_scene` opens.

    Returns
    -------
    list of Scene
        Named by file; planes are in dB, NaN where invalid. Planes without a valid pixel are left out, as are scenes that
        have no other.
    """
    names = [Path(path).stem for path in paths]
    scenes = []
    for path, name in zip(paths, names, strict=True):
        if planes := _read_planes(path):
            scenes.append(Scene(name=name if names.count(name) == 1 else path, planes=planes))
    return scenes


def planes_dataset(planes: Sequence[NDArray[np.float32]]) -> xr.Dataset:
    """Planes of one scene as a lazy dataset.

    Parameters
    ----------
    planes : sequence of ndarray of float32, shape (y, x)
        Backscatter in dB, NaN where invalid.

    Returns
    -------
    xarray.Dataset
        Variables ``plane_0``, ``plane_1``, ... with coordinates of a grid of 10 m.
    """
    attributes = {"units": "dB", "long_name": "sigma nought"}
    arrays = {f"plane_{number}": (("y", "x"), plane, attributes) for number, plane in enumerate(planes)}
    grid = {name: 10.0 * np.arange(size) for name, size in zip(("y", "x"), planes[0].shape, strict=True)}
    return xr.Dataset(arrays, coords=grid).chunk()


def measurable_scenes(paths: Sequence[str]) -> list[Scene]:
    """Scenes of :func:`read_scenes`, at least one.

    Raises
    ------
    RateError
        If no scene has a valid pixel.
    """
    scenes = read_scenes(paths)
    if not scenes:
        raise RateError(f"found no valid pixel in {len(paths)} scenes, expected some to measure. Choose other scenes.")
    return scenes


def _read_planes(path: str) -> list[NDArray[np.float32]]:
    planes, scene = [], files.open_scene(path)
    for name in backscatter_names(scene):
        array, nodata = scene[name], declared_nodata(scene[name])
        scale = array_scale(array, nodata)
        y, x = spatial_dimensions(array)
        values = array.transpose(..., y, x).values
        for plane in values.reshape(-1, *values.shape[-2:]):
            power, valid = power_and_validity(plane, scale=scale, nodata=nodata)
            if valid.any():
                decibel = np.where(valid, decibel_from_power(np.where(valid, power, 1.0)), np.nan)
                planes.append(decibel.astype(np.float32))
    return planes


def chosen_codecs(wanted: Sequence[str], *, slow: bool = True) -> tuple[list[Codec], list[str]]:
    """Choose classical codecs.

    Parameters
    ----------
    wanted : sequence of str
        Names, in any case; all if empty.
    slow : bool
        Whether HEVC and AV1 are among all.

    Returns
    -------
    codecs : list of Codec
        Those that this machine can run.
    left_out : list of str
        A line for each of the others that says why.

    Raises
    ------
    ConfigurationError
        If a name is unknown.
    """
    every: list[Codec] = [*VIDEO_CODECS[::-1], *CLASSICAL_CODECS]
    known = {codec.name.lower(): codec for codec in every}
    if unknown := [name for name in wanted if name.strip().lower() not in known]:
        raise ConfigurationError(
            f"found no codec {unknown[0]!r}, expected some of {', '.join(codec.name for codec in every)}. Check the names."
        )
    names = {name.strip().lower() for name in wanted} or set(known)
    if not wanted and not slow:
        names -= {codec.name.lower() for codec in VIDEO_CODECS}
    codecs, left_out = [], []
    for codec in every:
        if codec.name.lower() not in names:
            continue
        if reason := why_missing(codec) if codec in VIDEO_CODECS else "":
            left_out.append(f"{codec.name} is left out: {reason}.")
        else:
            codecs.append(codec)
    return codecs, left_out


def run_benchmark(
    paths: Sequence[str],
    models: Sequence[str],
    output: Path | None,
    *,
    codecs: Sequence[str] = (),
    slow: bool = True,
) -> Iterator[str]:
    """Measure, and yield lines of progress and of Markdown; with ``output`` also write CSV, tables and plot there.

    Rates are whole streams over pixels times polarizations; errors are over valid pixels.

    Parameters
    ----------
    paths : sequence of str
        Scenes of one split: what is pooled and resampled together.
    models : sequence of str
        Names or ids; all installed models if empty.
    output : Path or None
        Folder.
    codecs, slow
        As for `chosen_codecs`.

    Yields
    ------
    str

    Raises
    ------
    MissingDependencyError
        If the package of the classical codecs is not installed.
    ConfigurationError
        If a codec is unknown.
    RateError
        If no scene has a valid pixel.
    """
    classical, left_out = chosen_codecs(codecs, slow=slow)
    scenes = measurable_scenes(paths)
    planes = [plane for scene in scenes for plane in scene.planes]
    yield f"{len(scenes)} scenes, {len(planes)} planes, {sum(plane.size for plane in planes) / 1e6:.2f} million samples"
    yield from left_out
    own = [codec for name in (models or sorted(installed_models())) for codec in _own(name)]
    sweeps: dict[str, Sweep] = {}
    speeds: dict[str, tuple[float, float]] = {}
    for codec in map(Timed, [*own, *classical]):
        start = time.perf_counter()
        codec.codec.encode(filled_with_median(planes[0]), codec.settings[0])  # loads the library outside the timing
        sweeps[codec.name] = sweep(codec, scenes)
        speeds[codec.name] = codec.megapixels_per_second("encode"), codec.megapixels_per_second("decode")
        yield f"{codec.name}: {len(sweeps[codec.name])} settings in {time.perf_counter() - start:.1f} s"
    sweeps[gaussian_bound.NAME] = gaussian_bound.gaussian_bound(scenes)
    notes = [*left_out, _POWER_NOTE]
    result = report.Result(scenes=[scene.name for scene in scenes], sweeps=sweeps, speeds=speeds, notes=notes)
    lines = list(report.markdown(result))
    yield from lines
    if output is not None:
        yield from report.write(result, lines, output)
