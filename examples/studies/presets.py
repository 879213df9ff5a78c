"""Presets through whole stores: the stored bytes, and the metrics of the decoded scenes.

::

    python examples/studies/presets.py SCENES --output docs/benchmarks/test

writes ``presets.md``. SCENES are files of one split. Each scene goes through the files of both kinds of store, as users
write them. A small store is mostly metadata, so the scenes are also laid side by side into a mosaic of at least 2048 x
2048 pixels, whose stored size is measured as well.
"""

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import xarray as xr

from xsarcomp.benchmarks.markdown import write_page
from xsarcomp.benchmarks.planes import Scene, planes_dataset, read_scenes
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.target import FLOAT32_BITS, PRESETS
from xsarcomp.evaluation.matching import scene_pieces
from xsarcomp.evaluation.pooling import ErrorSums
from xsarcomp.stores import files
from xsarcomp.stores.report import StoreReport, store_report

MOSAIC_PIXELS = 2048
"""Least number of pixels of both edges of the mosaic."""
STORES = ("latents", "transparent")
PSNR_GOALS_DB = {"8x": 35.0, "16x": 30.0, "32x": 27.0}
"""Least PSNR over the range of the training data, dB, by preset."""
EDGE_GOALS = {"8x": 0.9, "16x": 0.9}
"""Least edge preservation, by preset."""
LOOKS_GOAL = (0.9, 1.1)
"""Least and largest ratio of the number of looks, for the presets that have a goal of PSNR."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetResult:
    """One preset through one kind of store."""

    name: str
    store: str
    """One of `STORES`."""
    scenes_ratio: float
    """float32 over all stored bytes, the scenes one store each."""
    mosaic_ratio: float
    """float32 over all stored bytes, the mosaic in one store."""
    bits_per_pixel: float
    """Coded chunks of the mosaic, masks included."""
    psnr_db: float
    """Over the range of the training data."""
    metrics: dict[str, float]
    """`xsarcomp.evaluation.pooling.ErrorSums` over all scenes."""

    def missed_goals(self) -> list[str]:
        """Goals that are not reached, in words; a metric that is NaN reaches no goal."""
        psnr_goal_db, missed = PSNR_GOALS_DB.get(self.name), []
        ratio = int(self.name.removesuffix("x")) if psnr_goal_db is not None else 0
        if self.mosaic_ratio < ratio:
            missed.append(f"stored ratio below {ratio}")
        if psnr_goal_db is not None and not self.psnr_db >= psnr_goal_db:
            missed.append(f"PSNR below {psnr_goal_db:g} dB")
        if psnr_goal_db is not None and not LOOKS_GOAL[0] <= self.metrics["enl_ratio"] <= LOOKS_GOAL[1]:
            missed.append(f"ENL ratio beyond {LOOKS_GOAL[0]:g} to {LOOKS_GOAL[1]:g}")
        edge_goal = EDGE_GOALS.get(self.name, -math.inf)
        if not self.metrics["edge_preservation"] >= edge_goal:
            missed.append(f"edges below {edge_goal:g}")
        return missed


def run_presets(paths: Sequence[str], model: str | None = None, output: Path | None = None) -> Iterator[str]:
    """Measure the presets, and yield lines of progress and of a Markdown table; with ``output`` also write it there.

    Parameters
    ----------
    paths : sequence of str
        Scenes of one split.
    model : str, optional
        Name or id; the default model if None.
    output : Path, optional
        Folder for ``presets.md``; created if it does not exist.

    Yields
    ------
    str

    Raises
    ------
    RateError
        If no scene has a valid pixel.
    """
    scenes = read_scenes(paths)
    card = load_coder(model).card
    range_db = card.highest_db - card.lowest_db
    datasets = [planes_dataset(scene.planes) for scene in scenes]
    mosaic = mosaic_dataset(scenes)
    results = []
    for name in sorted(PRESETS, key=lambda preset: PRESETS[preset], reverse=True):
        for store in STORES:
            results.append(measure_preset(name, store, datasets, mosaic, model, range_db))
            yield f"{name} in a {store} store: done"
    size = " x ".join(map(str, next(iter(mosaic.data_vars.values())).shape))
    lines = [
        f"Model {card.name}; {len(scenes)} scenes ({', '.join(scene.name for scene in scenes)}); mosaic of {len(mosaic)} planes of "
        f"{size} pixels, the scenes side by side in turn. Ratios: float32 over all bytes of the store, metadata and coordinates "
        f"included. Bits per pixel: coded chunks of the mosaic. Errors, looks, edges and bias: the scenes, one store each, as "
        f"`compare` pools them. PSNR: peak is the range of the training data, {card.lowest_db:.1f} to {card.highest_db:.1f} dB "
        f"({range_db:.1f} dB). Goals: PSNR of {_goals(PSNR_GOALS_DB)} dB, edges of {_goals(EDGE_GOALS)}, and an ENL ratio of "
        f"{LOOKS_GOAL[0]:g} to {LOOKS_GOAL[1]:g} for these.",
        "",
        *_table(results),
    ]
    yield from lines
    if output is not None:
        yield write_page(output / "presets.md", lines)


def measure_preset(
    name: str,
    store: str,
    scenes: Sequence[xr.Dataset],
    mosaic: xr.Dataset,
    model: str | None,
    range_db: float,
) -> PresetResult:
    """Send scenes and mosaic through stores with one preset.

    Parameters
    ----------
    name : str
        Preset.
    store : {"latents", "transparent"}
    scenes : sequence of xarray.Dataset
        Backscatter in dB, one variable a plane.
    mosaic : xarray.Dataset
        Result of `mosaic_dataset`.
    model : str or None
        Name or id.
    range_db : float, dB
        Peak of the PSNR.

    Returns
    -------
    PresetResult
    """
    sums, stored, pixels = ErrorSums(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for number, scene in enumerate(scenes):
            path = str(Path(folder) / f"{number}.zarr")
            report = _write_store(scene, path, store, name, model)
            stored, pixels = stored + report.stored_bytes, pixels + report.pixels
            sums = sum(map(ErrorSums.from_pair, scene_pieces(scene, files.open_scene(path), scale="decibel")), sums)
        report = _write_store(mosaic, str(Path(folder) / "mosaic.zarr"), store, name, model)
    metrics = sums.metrics()
    return PresetResult(
        name=name,
        store=store,
        scenes_ratio=FLOAT32_BITS / 8 * pixels / stored,
        mosaic_ratio=FLOAT32_BITS / report.stored_bits_per_pixel,
        bits_per_pixel=report.bits_per_pixel,
        psnr_db=20 * math.log10(range_db / metrics["rmse_db"]) if metrics["rmse_db"] else math.inf,
        metrics=metrics,
    )


def mosaic_dataset(scenes: Sequence[Scene]) -> xr.Dataset:
    """Lay scenes side by side, in turn until both edges have `MOSAIC_PIXELS`.

    Parameters
    ----------
    scenes : sequence of Scene
        Each is cut to the size of the smallest; planes that not all scenes have are left out.

    Returns
    -------
    xarray.Dataset
        One variable a plane, float32, dimensions (y, x), dB, NaN where invalid.
    """
    rows, columns = (min(plane.shape[axis] for scene in scenes for plane in scene.planes) for axis in (0, 1))
    down, across = -(-MOSAIC_PIXELS // rows), -(-MOSAIC_PIXELS // columns)
    planes = []
    for number in range(min(len(scene.planes) for scene in scenes)):
        tiles = [scenes[place % len(scenes)].planes[number][:rows, :columns] for place in range(down * across)]
        planes.append(np.block([tiles[row * across : (row + 1) * across] for row in range(down)]))
    return planes_dataset(planes)


def _write_store(scene: xr.Dataset, path: str, store: str, preset: str, model: str | None) -> StoreReport:
    """Write a store and report its sizes."""
    if store == "latents":
        files.write_store(scene.sarcomp.encode(preset=preset, model=model), path)
    else:
        chunked = scene.chunk(y=512, x=512)
        files.write_transparent(chunked, path, chunked.sarcomp.encoding(preset=preset, model=model), overwrite=False)
    return store_report(path)


def _table(results: Sequence[PresetResult]) -> Iterator[str]:
    heads = (
        "preset", "store", "ratio, scenes", "ratio, mosaic", "bits per pixel", "RMSE dB", "PSNR dB", "ENL ratio",
        "edges", "bias dB", "goals",
    )  # fmt: skip
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for result in results:
        metrics, has_goal = result.metrics, result.name in PSNR_GOALS_DB
        cells = (
            result.name, result.store, f"{result.scenes_ratio:.2f}", f"{result.mosaic_ratio:.2f}",
            f"{result.bits_per_pixel:.3f}", f"{metrics['rmse_db']:.3f}", f"{result.psnr_db:.1f}",
            f"{metrics['enl_ratio']:.3f}", f"{metrics['edge_preservation']:.3f}", f"{metrics['bias_db']:+.3f}",
            ("; ".join(result.missed_goals()) or "met") if has_goal else "-",
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def _goals(goals: dict[str, float]) -> str:
    return ", ".join(f"{value:g} ({name})" for name, value in goals.items())


@click.command()
@click.argument("scenes", nargs=-1, required=True)
@click.option("--model", help="Name or id of an installed model; the default model if not given.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the tables.")
def main(scenes: tuple[str, ...], model: str | None, output: Path | None) -> None:
    """Measure the presets on SCENES, files of one split."""
    for line in run_presets(scenes, model, output):
        click.echo(line)


if __name__ == "__main__":
    main()
