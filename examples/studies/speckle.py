"""What restoring speckle gives and costs, on scenes, through the interface that users call.

``python -m speckle SCENES...`` writes the tables of ``docs/benchmarks/speckle_restoration.md``.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import xarray as xr

from xsarcomp.evaluation.matching import scene_pieces
from xsarcomp.evaluation.pooling import ErrorSums, TextureSums
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores import files

RATES = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Bits per pixel that are asked for."""
FIGURES = (
    ("ENL ratio", "enl_ratio", "{:.3f}"), ("KS", "ks_distance", "{:.3f}"),
    ("semivariogram 1", "semivariogram_ratio_1", "{:.3f}"), ("semivariogram 8", "semivariogram_ratio_8", "{:.3f}"),
    ("edges", "edge_preservation", "{:.3f}"), ("RMSE dB", "rmse_db", "{:.3f}"), ("bias dB", "bias_db", "{:+.3f}"),
)  # fmt: skip
"""Title of a column, key of the figure in :mod:`xsarcomp.evaluation.glossary`, and its form."""
SIMULATED = "simulated"
"""Stands for a simulated scene among the paths."""
_TIMED_EDGE, _TURNS = 1536, 3


def study_lines(
    paths: Sequence[str], *, model: str | None = None, rates: Sequence[float] = RATES, restore: str = "speckle"
) -> Iterator[str]:
    """Encode scenes at rates, decode them without and with restoration, and compare both with the originals.

    Parameters
    ----------
    paths : sequence of str
        Anything that :func:`xsarcomp.stores.files.open_scene` opens, or ``SIMULATED``.
    model : str, optional
        Name or id; the default model if None.
    rates : sequence of float
        Bits per pixel.
    restore : str
        What to restore.

    Yields
    ------
    str
        Lines of a Markdown table. Each figure stands as "without -> with"; the last rows are all scenes together.
    """
    scenes = {Path(path).stem: _scene(path) for path in paths}
    yield "| scene | bits per pixel | " + " | ".join(title for title, _, _ in FIGURES) + " |"
    yield "|---|" + "---|" * (1 + len(FIGURES))
    totals = {(rate, restored): (ErrorSums(), TextureSums()) for rate in rates for restored in (None, restore)}
    for name, scene in scenes.items():
        for rate in rates:
            encoded = scene.sarcomp.encode(bits_per_pixel=rate, model=model)
            pair = []
            for restored in (None, restore):
                sums = _sums(scene, encoded.sarcomp.decode(restore=restored))
                totals[rate, restored] = tuple(
                    total + of_scene for total, of_scene in zip(totals[rate, restored], sums, strict=True)
                )
                pair.append(sums)
            yield _row(name, rate, *pair)
    if len(scenes) > 1:
        for rate in rates:
            yield _row("all", rate, totals[rate, None], totals[rate, restore])


def time_ratio(*, model: str | None = None, rate: float = 1.0, restore: str = "speckle") -> float:
    """Processor time of decoding with restoration over that without, on latents in memory; the least of three turns each."""
    scene = simulated_dataset((_TIMED_EDGE, _TIMED_EDGE), seed=1)
    encoded = scene.sarcomp.encode(bits_per_pixel=rate, model=model)
    seconds: dict[str | None, float] = {}
    for restored in (None, restore) * (_TURNS + 1):  # the first turn compiles
        start = time.process_time()
        encoded.sarcomp.decode(restore=restored)
        seconds[restored] = min(seconds.get(restored, float("inf")), time.process_time() - start)
    return seconds[restore] / seconds[None]


def _scene(path: str) -> xr.Dataset:
    return simulated_dataset((512, 512), seed=5) if path == SIMULATED else files.open_scene(path).load()


def _sums(original: xr.Dataset, restored: xr.Dataset) -> tuple[ErrorSums, TextureSums]:
    errors, texture = ErrorSums(), TextureSums()
    for piece in scene_pieces(original, restored, scale=None):
        errors, texture = errors + ErrorSums.from_pair(piece), texture + TextureSums.from_pair(piece)
    return errors, texture


def _row(name: str, rate: float, plain: tuple[ErrorSums, TextureSums], restored: tuple[ErrorSums, TextureSums]) -> str:
    before, after = (errors.metrics() | texture.metrics() for errors, texture in (plain, restored))
    cells = [f"{form.format(before[key])} -> {form.format(after[key])}" for _, key, form in FIGURES]
    return f"| {name} | {rate:g} | " + " | ".join(cells) + " |"


def main(arguments: Sequence[str]) -> None:
    """Print the tables of all installed models for the scenes that are named."""
    from xsarcomp.codec.installed_models import installed_models

    for model in sorted(installed_models()):
        print(f"\n### {model}\n")
        for line in study_lines(arguments, model=model):
            print(line, flush=True)
        print(f"\nDecoding takes {time_ratio(model=model):.2f} times the processor time with restoration.")


if __name__ == "__main__":
    main(sys.argv[1:])
