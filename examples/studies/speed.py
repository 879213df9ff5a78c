"""Speed of writing a scene to a Zarr store and reading it: xsarcomp beside JPEG 2000, on the same cores.

::

    python examples/studies/speed.py --output docs/benchmarks

writes ``speed.md``. Everything between a lazy dataset and the disk is measured: Dask's threads, Zarr, the codec, the files.
The stores take the same scene in chunks of 1024 x 1024 pixels and aim at 1 bit per pixel. They take turns, three times
each, and the fastest turn counts: other work of the machine only adds time. The quantization step of xsarcomp and the
quality of JPEG 2000, which are determined once for a scene, are found before the clock starts.

JPEG 2000 is the codec of imagecodecs in a Zarr format 2 store, on decibels scaled to uint16 chunk by chunk. AV1 has no
Zarr codec: as many processes as there are cores code chunks of the scene at the same time, and their speed stands under
the table without any cost of a store.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.benchmarks.classical import Codec, Jpeg2000, decibel_from_integers, integers_from_decibel
from xsarcomp.benchmarks.markdown import write_page
from xsarcomp.benchmarks.video import Av1, missing_reason
from xsarcomp.codec.installed_models import installed_models
from xsarcomp.scenes.simulation import POLARIZATIONS, simulate_scene
from xsarcomp.stores import files

BITS_PER_PIXEL = 1.0
"""Rate of all stores."""
CHUNK_EDGE = 1024
"""Pixels along both edges of a chunk."""
CHUNKS_A_SIDE = 4
"""Chunks along both edges of the scene."""
TURNS = 3
REFERENCE = "JPEG 2000"


@dataclass(slots=True, kw_only=True)
class Contender:
    """One way to store the scene, and its measurements."""

    name: str
    write: Callable[[str], Any]
    """Function that writes the scene to a path that does not exist."""
    read: Callable[[str], xr.Dataset] = files.open_scene
    """Function that opens the store lazily, in dB."""
    write_seconds: float = np.inf
    """Time of the fastest turn."""
    read_seconds: float = np.inf
    """Time of the fastest turn."""
    bits_per_pixel: float = np.nan
    """All files of the store over pixels times polarizations."""
    rmse_db: float = np.nan

    def take_turn(self, scene: xr.Dataset) -> None:
        """Write and read the scene once in a temporary folder; the first turn measures size and error as well."""
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "store.zarr")
            start = time.perf_counter()
            self.write(path)
            self.write_seconds = min(self.write_seconds, time.perf_counter() - start)
            start = time.perf_counter()
            # the mean needs every pixel and holds a chunk at a time
            _backscatter(self.read(path)).mean().compute()
            self.read_seconds = min(self.read_seconds, time.perf_counter() - start)
            if np.isnan(self.rmse_db):
                stored = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
                self.bits_per_pixel = 8 * stored / _samples(scene)
                squared = ((_backscatter(self.read(path)) - _backscatter(scene)) ** 2).mean().compute()
                self.rmse_db = float(np.sqrt(np.mean([squared[name] for name in POLARIZATIONS])))


def run_speed(
    models: Sequence[str] = (),
    *,
    chunks_a_side: int = CHUNKS_A_SIDE,
    chunk_edge: int = CHUNK_EDGE,
    turns: int = TURNS,
    slow: bool = True,
    output: Path | None = None,
) -> Iterator[str]:
    """Measure, and yield lines of progress and of a Markdown table; with ``output`` also write it there as ``speed.md``.

    Parameters
    ----------
    models : sequence of str
        Names or ids; all installed models if empty.
    chunks_a_side : int
        Chunks along both axes of the scene.
    chunk_edge : int
        Pixels along both axes of a chunk.
    turns : int
        Number of times that each store is written and read.
    slow : bool
        Whether AV1 is measured too.
    output : Path, optional
        Folder; created if it does not exist.

    Yields
    ------
    str

    Raises
    ------
    MissingDependencyError
        If imagecodecs is not installed.
    """
    scene = assemble_scene(chunks_a_side, chunk_edge)
    samples = _samples(scene) / 1e6
    shape = " x ".join(map(str, scene.sizes.values()))
    headline = f"Simulated scene of {shape} pixels, VV and VH, {_cores()} cores, best of {turns}:"
    yield headline
    middle = scene[POLARIZATIONS[0]].values[:chunk_edge, :chunk_edge]
    contenders = [_jpeg2000_store(scene, middle, chunk_edge)]
    for model in models or sorted(installed_models()):
        start = time.perf_counter()
        contenders += _model_stores(scene, model)
        yield f"{model}: quantization steps of both stores found in {time.perf_counter() - start:.1f} s, not counted below"
    for turn in range(turns):
        for contender in contenders:
            contender.take_turn(scene)
        yield f"turn {turn + 1} of {turns}"
    lines = list(_table(contenders, samples))
    if slow:
        lines += ["", _av1_line(scene, chunk_edge, samples, contenders[0])]
    yield from lines
    if output is not None:
        yield write_page(output / "speed.md", [headline, "", *lines])


def assemble_scene(chunks_a_side: int, chunk_edge: int) -> xr.Dataset:
    """Lay simulated scenes side by side, one a chunk, so that simulating a large scene needs little memory.

    Parameters
    ----------
    chunks_a_side : int
        Chunks along both axes of the scene.
    chunk_edge : int
        Pixels along both axes of a chunk.

    Returns
    -------
    xarray.Dataset
        Variables ``vv`` and ``vh`` on Dask arrays, float32, dimensions (y, x), dB, all pixels valid.
    """
    edge = chunks_a_side * chunk_edge
    values = np.empty((len(POLARIZATIONS), edge, edge), dtype=np.float32)
    for number in range(chunks_a_side**2):
        row, column = (chunk_edge * index for index in divmod(number, chunks_a_side))
        power = simulate_scene((chunk_edge, chunk_edge), seed=number, nodata_border=False)
        values[:, row : row + chunk_edge, column : column + chunk_edge] = 10.0 * np.log10(power)
    attributes = {"units": "dB", "long_name": "sigma nought"}
    planes = {name: (("y", "x"), plane, attributes) for name, plane in zip(POLARIZATIONS, values, strict=True)}
    return xr.Dataset(planes).chunk({"y": chunk_edge, "x": chunk_edge})


def _model_stores(scene: xr.Dataset, model: str) -> list[Contender]:
    request = {"bits_per_pixel": BITS_PER_PIXEL, "model": model, "scale": "decibel"}
    encoding, encoded = scene.sarcomp.encoding(**request), scene.sarcomp.encode(**request)
    return [
        Contender(
            name=f"{model}, transparent store",
            write=lambda path: files.write_transparent(scene, path, encoding, overwrite=False),
        ),
        Contender(name=f"{model}, latents store", write=lambda path: files.write_store(encoded, path)),
    ]


def _jpeg2000_store(scene: xr.Dataset, sample_db: NDArray[np.float32], chunk_edge: int) -> Contender:
    level = _setting_for_rate(Jpeg2000(), sample_db, range(20, 80))
    from imagecodecs import numcodecs as codecs

    codecs.register_codecs(["imagecodecs_jpeg2k"], verbose=False)
    packed = xr.apply_ufunc(integers_from_decibel, scene, dask="parallelized", output_dtypes=[np.uint16])
    storage = {"compressors": [codecs.Jpeg2k(level=level, reversible=False)], "chunks": (chunk_edge, chunk_edge)}
    encoding = {name: dict(storage) for name in POLARIZATIONS}

    def read(path: str) -> xr.Dataset:
        stored = files.open_scene(path)
        return xr.apply_ufunc(decibel_from_integers, stored, dask="parallelized", output_dtypes=[np.float32])

    return Contender(
        name=f"{REFERENCE}, Zarr format 2",
        write=lambda path: packed.to_zarr(path, zarr_format=2, encoding=encoding, consolidated=False),
        read=read,
    )


def _setting_for_rate(codec: Codec, sample_db: NDArray[np.float32], settings: Sequence[int]) -> int:
    """Setting among ordered integers whose rate is nearest to `BITS_PER_PIXEL`; the rate may rise or fall with them."""
    rates: dict[int, float] = {}

    def rate(setting: int) -> float:
        if setting not in rates:
            rates[setting] = 8 * len(codec.encode(sample_db, setting)) / sample_db.size
        return rates[setting]

    low, high = settings[0], settings[-1]
    if rate(low) > rate(high):
        low, high = high, low
    while abs(high - low) > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if rate(middle) < BITS_PER_PIXEL else (low, middle)
    return min((low, high), key=lambda setting: abs(np.log(rate(setting) / BITS_PER_PIXEL)))


def _table(contenders: Sequence[Contender], samples: float) -> Iterator[str]:
    reference = contenders[0]
    yield (
        "| store | bits per pixel | RMSE dB | write Mpx/s | read Mpx/s "
        f"| write, times {REFERENCE} | read, times {REFERENCE} | both, times {REFERENCE} |"
    )
    yield "|---" * 8 + "|"
    for store in contenders:
        ratios = (
            reference.write_seconds / store.write_seconds,
            reference.read_seconds / store.read_seconds,
            (reference.write_seconds + reference.read_seconds) / (store.write_seconds + store.read_seconds),
        )
        yield (
            f"| {store.name} | {store.bits_per_pixel:.3f} | {store.rmse_db:.3f} | {samples / store.write_seconds:.2f} "
            f"| {samples / store.read_seconds:.2f} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |"
        )


def _av1_line(scene: xr.Dataset, chunk_edge: int, samples: float, reference: Contender) -> str:
    """Sentence on the speed of AV1, which codes as many chunks at a time as there are cores."""
    codec = Av1()
    if reason := missing_reason(codec):
        return f"AV1 is left out: {reason}."
    plane = scene[POLARIZATIONS[0]]
    chunks = [
        plane[:chunk_edge, column : column + chunk_edge].values for column in range(0, plane.shape[1], chunk_edge)
    ]
    work = [chunks[number % len(chunks)] for number in range(_cores())]
    edge = min(256, chunk_edge)
    setting = _setting_for_rate(codec, chunks[0][:edge, :edge], range(2, 60))
    with ThreadPoolExecutor(_cores()) as pool:
        start = time.perf_counter()
        streams = list(pool.map(lambda chunk: codec.encode(chunk, setting), work))
        encoded = time.perf_counter()
        list(pool.map(lambda pair: codec.decode(pair[0], pair[1].shape), zip(streams, work, strict=True)))
        decoded = time.perf_counter()
    pixels = sum(chunk.size for chunk in work) / 1e6
    both = pixels / (decoded - start)
    faster = samples / (reference.write_seconds + reference.read_seconds) / both
    return (
        f"AV1 without a store, {len(work)} chunks at a time: {8 * sum(map(len, streams)) / pixels / 1e6:.3f} bits per pixel, "
        f"encode {pixels / (encoded - start):.2f} Mpx/s, decode {pixels / (decoded - encoded):.2f} Mpx/s; {REFERENCE} in its "
        f"store is {faster:.1f} times as fast for both together."
    )


def _backscatter(dataset: xr.Dataset) -> xr.Dataset:
    """Dataset of the polarizations only."""
    return dataset[list(POLARIZATIONS)]


def _samples(scene: xr.Dataset) -> int:
    """Pixels times polarizations."""
    return sum(scene[name].size for name in POLARIZATIONS)


def _cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@click.command()
@click.option("--model", "models", multiple=True, help="Name or id; several are compared. Default: all installed.")
@click.option("--no-slow", is_flag=True, help="Leave out AV1.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the tables.")
def main(models: tuple[str, ...], no_slow: bool, output: Path | None) -> None:
    """Time a large simulated scene through Zarr stores."""
    for line in run_speed(models, slow=not no_slow, output=output):
        click.echo(line)


if __name__ == "__main__":
    main()
