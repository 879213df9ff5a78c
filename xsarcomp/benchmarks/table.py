"""Benchmark of installed models against classical codecs on the same scenes: the command ``xsarcomp benchmark``."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xsarcomp.benchmarks.classical import CLASSICAL_CODECS, Codec
from xsarcomp.benchmarks.gaussian_bound import GAUSSIAN_BOUND, gaussian_sweep
from xsarcomp.benchmarks.markdown import BenchmarkResult, Speed, result_lines, write_result
from xsarcomp.benchmarks.measurement import Sweep, sweep
from xsarcomp.benchmarks.model_codecs import MEAN_OF_DECIBEL, model_codecs
from xsarcomp.benchmarks.planes import fill_with_median, read_scenes
from xsarcomp.benchmarks.stored_points import read_points
from xsarcomp.benchmarks.video import VIDEO_CODECS, VideoCodec, missing_reason
from xsarcomp.codec.installed_models import installed_models
from xsarcomp.errors import ConfigurationError

_POWER_NOTE = (
    "Decoding with xsarcomp keeps the mean power, which the other codecs lower the more, the coarser they are. That adds up to "
    f"0.4 dB everywhere and costs RMSE in dB: rows named {MEAN_OF_DECIBEL!r} are the same streams without it."
)


@dataclass(slots=True)
class TimedCodec:
    """A codec that sums the time of its calls."""

    codec: Codec
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    pixels: int = 0
    """Pixels that were encoded, and as many decoded."""

    @property
    def name(self) -> str:
        """Name of the codec."""
        return self.codec.name

    @property
    def settings(self) -> Sequence[float]:
        """Settings of the codec."""
        return self.codec.settings

    def encode(self, plane_db: NDArray[np.float32], setting: float) -> bytes:
        """Encode, and add the time; see `Codec.encode`."""
        start = time.perf_counter()
        data = self.codec.encode(plane_db, setting)
        self.encode_seconds += time.perf_counter() - start
        self.pixels += plane_db.size
        return data

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Decode, and add the time; see `Codec.decode`."""
        start = time.perf_counter()
        plane_db = self.codec.decode(data, shape)
        self.decode_seconds += time.perf_counter() - start
        return plane_db

    def speed(self) -> Speed:
        """Mean speed over all settings that were measured, plane after plane."""
        millions = self.pixels / 1e6
        return Speed(millions / max(self.encode_seconds, 1e-9), millions / max(self.decode_seconds, 1e-9))


def choose_codecs(names: Sequence[str], *, slow: bool = True) -> tuple[list[Codec], list[str]]:
    """Choose classical codecs.

    Parameters
    ----------
    names : sequence of str
        Names, in any case; all codecs if empty.
    slow : bool
        Whether HEVC and AV1 are among all.

    Returns
    -------
    codecs : list of Codec
        Those that this machine can run.
    left_out : list of str
        A line with the reason for each of the others.

    Raises
    ------
    ConfigurationError
        If a name is unknown.
    """
    available: list[Codec] = [*VIDEO_CODECS[::-1], *CLASSICAL_CODECS]
    known_names = {codec.name.lower() for codec in available}
    chosen_names = {name.strip().lower() for name in names}
    if unknown := [name for name in names if name.strip().lower() not in known_names]:
        raise ConfigurationError(
            f"found no codec {unknown[0]!r}, expected some of {', '.join(codec.name for codec in available)}. "
            "Check the names."
        )
    if not names:
        chosen_names = known_names if slow else {codec.name.lower() for codec in CLASSICAL_CODECS}
    codecs, left_out = [], []
    for codec in available:
        if codec.name.lower() not in chosen_names:
            continue
        if isinstance(codec, VideoCodec) and (reason := missing_reason(codec)):
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
    points: Mapping[str, str | Path] | None = None,
) -> Iterator[str]:
    """Measure, and yield lines of progress and of Markdown; with ``output`` also write CSV, tables and plot there.

    Rates are whole streams over pixels times polarizations; errors are over valid pixels.

    Parameters
    ----------
    paths : sequence of str
        Scenes of one split: they are pooled and resampled together.
    models : sequence of str
        Names or ids; all installed models if empty.
    output : Path or None
        Folder.
    codecs, slow
        Classical codecs, as for `choose_codecs`.
    points : mapping of str to path, optional
        Files of points that were measured elsewhere, by the name of the codec; see :mod:`xsarcomp.benchmarks.stored_points`.

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
    classical, left_out = choose_codecs(codecs, slow=slow)
    scenes = read_scenes(paths)
    planes = [plane for scene in scenes for plane in scene.planes]
    yield f"{len(scenes)} scenes, {len(planes)} planes, {sum(plane.size for plane in planes) / 1e6:.2f} million samples"
    yield from left_out
    learned = [codec for name in (models or sorted(installed_models())) for codec in model_codecs(name)]
    sweeps: dict[str, Sweep] = {}
    speeds: dict[str, Speed] = {}
    for codec in [*learned, *classical]:
        start = time.perf_counter()
        codec.encode(fill_with_median(planes[0]), codec.settings[0])  # loads the library outside the timing
        timed = TimedCodec(codec)
        sweeps[codec.name], speeds[codec.name] = sweep(timed, scenes), timed.speed()
        yield f"{codec.name}: {len(sweeps[codec.name])} settings in {time.perf_counter() - start:.1f} s"
    for name, path in (points or {}).items():
        measured, reason = read_points(path, scenes)
        if measured is None:
            left_out.append(f"{name} is left out: {reason}.")
            yield left_out[-1]
        else:
            sweeps[name] = measured
    sweeps[GAUSSIAN_BOUND] = gaussian_sweep(scenes)
    notes = [*left_out, _POWER_NOTE]
    result = BenchmarkResult(scenes=[scene.name for scene in scenes], sweeps=sweeps, speeds=speeds, notes=notes)
    lines = list(result_lines(result))
    yield from lines
    if output is not None:
        yield from write_result(result, lines, output)
