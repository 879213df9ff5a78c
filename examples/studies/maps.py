"""Maps of water and of change after compression, at several rates.

::

    python examples/studies/maps.py DATA --output docs/benchmarks

puts its tables between the marks of ``downstream.md``. DATA is a folder with ``validation`` and ``test``, each with GeoTIFFs
in ``grd_decibel``, of which some have a mask drawn by hand beside them (``*_water.tif``: 1 water, 0 land), and NetCDF stacks
in ``rtc_stacks``. Nothing is chosen on them: thresholds are those of `xsarcomp.evaluation.map_sums` and
`xsarcomp.metrics.maps`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import xarray as xr

from xsarcomp.errors import ConfigurationError
from xsarcomp.evaluation.map_sums import WATER_THRESHOLDS_DB, MapComparer, MapSums
from xsarcomp.evaluation.matching import scene_pairs
from xsarcomp.metrics.maps import compare_water_maps
from xsarcomp.scenes.choice import choose_variables
from xsarcomp.scenes.rasters import RASTER_VARIABLE
from xsarcomp.stores import files
from xsarcomp.whole_files import write_atomically

SPLITS = ("validation", "test")
RATES = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Bits per pixel and polarization."""
FILE_NAME = "downstream.md"
_MASK_SUFFIX = "_water"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaterRow:
    """Water of one plane at one rate."""

    scene: str
    plane: str
    """Polarization, lower case."""
    rate: float
    """Bits per pixel and polarization that were asked for."""
    estimated_rate: float
    """Bits per pixel and polarization that the chosen quantization step takes."""
    water_fraction: float
    """Share of known pixels that are water in the mask drawn by hand, 0..1."""
    original_to_mask: float
    """Intersection over union of the original's map and the mask."""
    restored_to_mask: float
    """Intersection over union of the restored scene's map and the mask."""
    agreement: float
    """Intersection over union of both maps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRow:
    """Change in the stacks of a split, of one polarization, at one rate."""

    plane: str
    """Polarization, lower case."""
    rate: float
    """Bits per pixel and polarization that were asked for."""
    estimated_rate: float
    """Bits per pixel and polarization that the chosen quantization steps take, mean over the stacks."""
    sums: MapSums


def encode_and_decode(scene: xr.Dataset, rate: float, model: str | None = None) -> tuple[xr.Dataset, float]:
    """Encode and decode a scene in memory.

    Parameters
    ----------
    scene : xarray.Dataset
        Backscatter.
    rate : float
        Bits per pixel and polarization.
    model : str, optional
        Name or id; the default model if None.

    Returns
    -------
    restored : xarray.Dataset
    estimated_rate : float
        Bits per pixel and polarization that the chosen quantization step takes.
    """
    encoded = scene.sarcomp.encode(bits_per_pixel=rate, model=model)
    estimates = [variable["estimated_bits_per_pixel"] for variable in encoded.sarcomp.info().values()]
    return encoded.sarcomp.decode(), float(np.mean(estimates))


def water_rows(chips: Sequence[Path], rates: Sequence[float] = RATES, model: str | None = None) -> Iterator[WaterRow]:
    """Water maps of chips that have a mask drawn by hand, plane by plane.

    Parameters
    ----------
    chips : sequence of Path
        GeoTIFFs with bands that are named after their polarization; the mask of ``a.tif`` is ``a_water.tif``.
    rates : sequence of float
        Bits per pixel and polarization.
    model : str, optional
        Name or id; the default model if None.

    Yields
    ------
    WaterRow
        Chips without a valid pixel are left out.
    """
    for chip in chips:
        scene = files.open_scene(str(chip)).load()
        mask = files.open_scene(str(chip.with_name(f"{chip.stem}{_MASK_SUFFIX}.tif")))[RASTER_VARIABLE].values[0]
        if not _has_valid_pixel(scene):
            continue
        for rate in rates:
            restored, estimated_rate = encode_and_decode(scene, rate, model)
            for pair in scene_pairs(scene, restored):
                polarization = pair.name.split()[-1].lower()
                water = compare_water_maps(
                    pair.original_power,
                    pair.restored_power,
                    pair.valid,
                    threshold_db=WATER_THRESHOLDS_DB[polarization],
                    reference=mask,
                )
                known = pair.valid & np.isin(mask, (0, 1))
                yield WaterRow(
                    scene=chip.stem,
                    plane=polarization,
                    rate=rate,
                    estimated_rate=estimated_rate,
                    water_fraction=float(np.mean(mask[known] == 1)),
                    original_to_mask=water.original_reference_iou,
                    restored_to_mask=water.restored_reference_iou,
                    agreement=water.intersection_over_union,
                )


def _has_valid_pixel(scene: xr.Dataset) -> bool:
    return any(np.isfinite(scene[name].values).any() for name in choose_variables(scene).names)


def change_rows(
    stacks: Sequence[Path], rates: Sequence[float] = RATES, model: str | None = None
) -> Iterator[ChangeRow]:
    """Change between the dates of stacks, polarization by polarization, all stacks together.

    Parameters
    ----------
    stacks : sequence of Path
        Files with a dimension of time.
    rates : sequence of float
        Bits per pixel and polarization.
    model : str, optional
        Name or id; the default model if None.

    Yields
    ------
    ChangeRow
    """
    scenes = [files.open_scene(str(path)).load() for path in stacks]
    for rate in rates:
        sums: dict[str, MapSums] = {}
        estimates = []
        for scene in scenes:
            restored, estimated_rate = encode_and_decode(scene, rate, model)
            estimates.append(estimated_rate)
            comparer = MapComparer()
            for pair in scene_pairs(scene, restored):
                polarization = pair.name.split()[-1].lower()
                sums[polarization] = sums.get(polarization, MapSums()) + comparer.compare(pair)
        for polarization, of_stacks in sums.items():
            yield ChangeRow(plane=polarization, rate=rate, estimated_rate=float(np.mean(estimates)), sums=of_stacks)


def split_tables(split: str, water: Sequence[WaterRow], change: Sequence[ChangeRow]) -> Iterator[str]:
    """Yield the tables of a split.

    Parameters
    ----------
    split : str
        Name of the split.
    water : sequence of WaterRow
    change : sequence of ChangeRow

    Yields
    ------
    str
        Lines of Markdown.
    """
    all_rows: list[WaterRow | ChangeRow] = [*water, *change]
    rates = sorted({row.rate for row in all_rows})
    heading = " | ".join(f"{rate:g}" for rate in rates)
    yield f"### {split}: water"
    yield ""
    yield f"| chip | plane | water | map | original | {heading} |"
    yield f"|---|---|---|---|---|{'---|' * len(rates)}"
    for scene, plane in dict.fromkeys((row.scene, row.plane) for row in water):
        rows = sorted((row for row in water if (row.scene, row.plane) == (scene, plane)), key=lambda row: row.rate)
        first = rows[0]
        to_mask = " | ".join(f"{row.restored_to_mask:.3f}" for row in rows)
        agreement = " | ".join(f"{row.agreement:.3f}" for row in rows)
        name = f"| {scene} | {plane.upper()} | {first.water_fraction:.1%}"
        yield f"{name} | against the mask | {first.original_to_mask:.3f} | {to_mask} |"
        yield f"{name} | against the original's map | 1 | {agreement} |"
    yield ""
    yield f"### {split}: change"
    yield ""
    yield f"| plane | share of pixels | original | {heading} |"
    yield f"|---|---|---|{'---|' * len(rates)}"
    for plane in dict.fromkeys(row.plane for row in change):
        metrics = [row.sums.metrics() for row in sorted(change, key=lambda row: row.rate) if row.plane == plane]
        added = " | ".join(f"{at_rate['change_false_alarm_rate']:.2%}" for at_rate in metrics)
        lost = " | ".join(f"{at_rate['change_miss_rate']:.2%}" for at_rate in metrics)
        blank = "| " * len(rates)
        yield f"| {plane.upper()} | changed, of all | {metrics[0]['change_fraction']:.2%} {blank}|"
        yield f"| {plane.upper()} | added, of the unchanged | 0 | {added} |"
        yield f"| {plane.upper()} | lost, of the changed | 0 | {lost} |"
    yield ""
    shares = [row.estimated_rate / row.rate for row in all_rows]
    yield f"The steps that were found take {min(shares):.0%} to {max(shares):.0%} of the rate that was asked for."


def run_maps(
    data: Path, model: str | None = None, output: Path | None = None, *, rates: Sequence[float] = RATES
) -> Iterator[str]:
    """Measure both splits and yield the tables; with ``output`` also put them between the marks of the page there.

    Parameters
    ----------
    data : Path
        Folder with the splits, see the head of this file.
    model : str, optional
        Name or id; the default model if None.
    output : Path, optional
        Folder of ``downstream.md``. Text outside the marks stays.
    rates : sequence of float
        Bits per pixel and polarization.

    Yields
    ------
    str

    Raises
    ------
    ConfigurationError
        If a split lacks chips with masks, or stacks.
    """
    lines = []
    for split in SPLITS:
        masks = sorted((data / split / "grd_decibel").glob(f"*{_MASK_SUFFIX}.tif"))
        chips = [path.with_name(path.name.replace(_MASK_SUFFIX, "")) for path in masks]
        stacks = sorted((data / split / "rtc_stacks").glob("*.nc"))
        if not chips or not stacks:
            raise ConfigurationError(
                f"found {len(chips)} chips with a water mask and {len(stacks)} stacks in {data / split}, expected some of each. "
                "Check the folder."
            )
        water, change = list(water_rows(chips, rates, model)), list(change_rows(stacks, rates, model))
        lines += [*split_tables(split, water, change), ""]
    yield from lines
    if output is not None:
        write_between_marks(output / FILE_NAME, lines)
        yield f"wrote {output / FILE_NAME}"


def write_between_marks(path: Path, lines: Sequence[str]) -> None:
    """Replace the text between the marks of a page; a page without marks gets them at its end."""
    start, stop = "<!-- study -->", "<!-- /study -->"
    text = path.read_text(encoding="utf-8") if path.exists() else "# Maps after compression\n"
    if start not in text:
        text = f"{text.rstrip()}\n\n{start}\n{stop}\n"
    head, rest = text.split(start, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{head}{start}\n{chr(10).join(lines).strip()}\n{stop}{rest.split(stop, 1)[1]}")


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--model", help="Name or id of an installed model; the default model if not given.")
@click.option("--output", type=click.Path(path_type=Path), help=f"Folder of {FILE_NAME}, which gets the tables.")
def main(data: Path, model: str | None, output: Path | None) -> None:
    """Measure maps of water and of change after compression on DATA, a folder with both splits."""
    for line in run_maps(data, model, output):
        click.echo(line)


if __name__ == "__main__":
    main()
