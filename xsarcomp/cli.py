"""The command ``xsarcomp``: each of its commands is a few calls into the rooms below."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from xsarcomp.cli_output import (
    Words,
    bar,
    collected_notes,
    options_in_text,
    print_bands,
    print_json,
    print_store,
    print_table,
    progress,
    say,
    split_names,
    warnings_in_one_line,
)
from xsarcomp.errors import SarcompError

# written out, because their rooms import much that --help does not need
PRESETS = ("archive", "analysis", "browse", "8x", "16x", "32x")
SCALES = ("power", "amplitude", "decibel")
_Command = TypeVar("_Command", bound=Callable[..., Any])
_TARGET_OPTIONS = (
    click.option("--bits-per-pixel", type=float, help="Coded bits over pixels times polarizations."),
    click.option("--ratio", type=float, help="Size in float32 over coded size."),
    click.option("--rmse-db", type=float, help="Root mean square error over valid pixels in dB."),
    click.option(
        "--preset",
        type=Words(PRESETS),
        help="archive, analysis (the default), browse: 2, 1, 0.25 bits per pixel; 8x, 16x, 32x: a store that many times smaller "
        "than float32.",
    ),
    click.option("--max-error-db", type=float, help="Bound on the error of each valid pixel in dB."),
    click.option(
        "--keep-means/--no-keep-means",
        default=None,
        help="Keep the mean power of each tile of 64 x 64 pixels within 0.02 dB: the default unless --max-error-db is given.",
    ),
)
_VARIABLES_OPTION = click.option(
    "--variables",
    callback=lambda _context, _option, text: split_names(text),
    help="Variables to compress, or bands of a raster, separated by commas: vv,vh. All others are kept exactly. Default: those "
    "that say that they are backscatter.",
)


def _with_target_options(command: _Command) -> _Command:
    """Add the options of rate, error and guarantees to a command."""
    for option in reversed(_TARGET_OPTIONS):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="xsarcomp")
def cli() -> None:
    """Learned compression of Sentinel-1 backscatter."""


@cli.command()
@click.argument("source")
@click.argument("store")
@_with_target_options
@click.option("--model", help="Name or id of an installed model.")
@click.option("--scale", type=Words(("auto", *SCALES)), default="auto", show_default=True, help="Scale of the values.")
@click.option(
    "--transparent",
    is_flag=True,
    help="Write a transparent store: any reader with xsarcomp installed sees backscatter.",
)
@click.option("--recompress", is_flag=True, help="Accept data that was compressed with loss before.")
@_VARIABLES_OPTION
@click.option("--overwrite", is_flag=True, help="Replace an existing store.")
@click.option("--resume", is_flag=True, help="Continue where the same command was interrupted; start if it was not.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def encode(
    source: str, store: str, transparent: bool, overwrite: bool, resume: bool, as_json: bool, **request: Any
) -> None:
    """Compress SOURCE (GeoTIFF, NetCDF, Zarr, ...) into the Zarr store STORE.

    Until it is finished, the store is called .partial-STORE. This partial store stays when the command is killed or interrupted
    (Ctrl-C); with --resume also after an error. The same command with --resume writes only the missing blocks; without
    --resume, it starts again.
    """
    from xsarcomp.scenes.choice import separate_bands
    from xsarcomp.stores import files
    from xsarcomp.stores.report import store_report, warn_if_missed

    files.refuse_overlapping(source, store)
    scene = separate_bands(files.open_scene(source), request["variables"])
    target = None
    with progress("encoding"), collected_notes() as notes:
        if transparent:
            encoding = scene.sarcomp.encoding(**request)
            target = encoding.target
            files.write_transparent(scene, store, encoding, overwrite=overwrite, resume=resume)
        else:
            files.write_store(scene.sarcomp.encode(**request), store, overwrite=overwrite, resume=resume)
    for note in () if as_json else notes:
        say(note)
    report = store_report(store, target=target)
    print_store(report, as_json)
    warn_if_missed(report)


@cli.command()
@click.argument("source")
@click.argument("store")
@click.option("--dim", help="Dimension that grows. Default: time, or the only one beside those of a scene.")
def append(source: str, store: str, dim: str | None) -> None:
    """Append the dates of SOURCE to STORE, encoded as its first dates were.

    Grid, variables, scale and dates are compared before anything is written.
    """
    from xsarcomp.stores import files
    from xsarcomp.stores.appending import append_dataset

    files.refuse_overlapping(source, store)
    with progress("appending"):
        report = append_dataset(files.open_scene(source), store, dim=dim)
    say(f"{report.dim}: {report.before} before, {report.after} now")


@cli.command()
@click.argument("store")
@click.argument("target")
@click.option(
    "--overview", type=int, help="Write a quicklook: one value for each block of 8 (16, ... 512) pixels a side."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing target.")
@click.option(
    "--restore",
    type=Words(("speckle",)),
    help="speckle: add synthetic speckle, random noise with the statistics of the lost speckle.",
)
def decode(store: str, target: str, overview: int | None, overwrite: bool, restore: str | None) -> None:
    """Decode STORE into TARGET, a GeoTIFF (.tif), NetCDF (.nc) or plain Zarr (.zarr) by its ending."""
    from xsarcomp.stores import files
    from xsarcomp.stores.report import check_decodable

    files.refuse_overlapping(store, target)
    check_decodable(store, restore)  # refuses a wrong store before a target is created
    if overview is None:
        scene = files.open_scene(store, restore=restore)
    else:
        scene = files.open_store(store).sarcomp.decode(overview=overview, restore=restore)
    with progress("decoding"):
        files.write_scene(scene, target, overwrite=overwrite, measure_transform=overview is None)


@cli.command()
@click.argument("store")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--latents", is_flag=True, help="Show statistics of the latents by frequency band instead.")
def info(store: str, as_json: bool, latents: bool) -> None:
    """Show the rate, sizes, model, scale and quantization step of STORE."""
    from xsarcomp.stores.report import open_compressed, store_report

    if not latents:
        print_store(store_report(store), as_json)
        return
    from xsarcomp.latents.statistics import latent_statistics

    with progress("reading"):
        statistics = latent_statistics(open_compressed(store)[0])
    print_json(statistics) if as_json else print_bands(statistics)


@cli.command()
@click.argument("store")
@click.option("--quick", is_flag=True, help="Compare checksums and the manifest, but decode no symbols.")
@click.option(
    "--record", is_flag=True, help="Write the manifest: it declares the present content of the store to be right."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(store: str, quick: bool, record: bool, as_json: bool) -> None:
    """Check each chunk of STORE, and name those that are damaged, missing, or in a wrong place.

    The exit status is 0 if there is no problem, else 1.
    """
    from xsarcomp.stores.verification import verify_store, write_manifest

    with bar("checking") as advance:
        if record:
            report = write_manifest(store, progress=advance)
        else:
            report = verify_store(store, quick=quick, progress=advance)
    if as_json:
        print_json(report.to_json())
    else:
        for problem in report.problems:
            say(problem)
        print_table({**report.to_json(), "problems": len(report.problems)})
        if report.manifest == "none" and not record:
            say("Without a manifest, swapped chunks and some missing ones go unnoticed: xsarcomp verify --record")
    if not report.ok:
        sys.exit(1)


@cli.command()
@click.argument("original")
@click.argument("restored")
@click.option("--scale", type=Words(SCALES), help="Scale of both; inferred if not given.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@click.option("--html", help="Also write a report with pictures to this file, one self-contained page.")
def compare(original: str, restored: str, scale: str | None, as_json: bool, html: str | None) -> None:
    """Measure RESTORED (decoded backscatter) against ORIGINAL: error in dB, speckle, edges, radiometric bias."""
    from xsarcomp.stores import files

    scenes = files.open_scene(original), files.open_scene(restored)
    with progress("comparing"):
        if html is None:
            metrics = scenes[1].sarcomp.compare(scenes[0], scale=scale)
        else:
            from xsarcomp.evaluation.report.page import write_report

            metrics = write_report(html, *scenes, scale=scale, names=(original, restored))
    if as_json:
        print_json(metrics)
    else:
        for line in repr(metrics).splitlines():
            say(line)


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Root folder of the scenes, instead of that in CONFIG.")
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint.")
def train(config: Path, data: Path | None, resume: bool) -> None:
    """Train the system that the TOML file CONFIG names, and write its model file."""
    from xsarcomp.models.config import read_config
    from xsarcomp.models.fitting import train as train_model

    model_file = train_model(read_config(config, data), resume=resume, report=say)
    say(f"wrote {model_file}")


@cli.command()
@click.argument("source", required=False)
@_with_target_options
@click.option("--model", help="Name or id of an installed model.")
@click.option("--scale", type=Words(("auto", *SCALES)), default="auto", show_default=True, help="Scale of the values.")
@_VARIABLES_OPTION
@click.option("--output", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder.")
def demo(source: str | None, output: Path, **request: Any) -> None:
    """Compress and decode SOURCE, or a simulated Sentinel-1 scene; print metrics and draw a picture."""
    from xsarcomp.demo import run_demo

    for name, value in run_demo(source, output, request):
        say(f"{name:<24}{value}")


@cli.command()
@click.argument("scenes", nargs=-1, required=True)
@click.option(
    "--model", "models", multiple=True, help="Name or id of a model, may be repeated. Default: all installed models."
)
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the tables, the CSV and the plot.")
@click.option(
    "--codecs", help='Names of classical codecs, separated by commas: "AV1,JPEG XL". Default: all installed ones.'
)
@click.option("--no-slow", is_flag=True, help="Leave out AV1 and HEVC.")
def benchmark(
    scenes: tuple[str, ...],
    models: tuple[str, ...],
    output: Path | None,
    codecs: str | None,
    no_slow: bool,
) -> None:
    """Compare installed models with classical codecs on the same SCENES.

    The table has the error in dB at several rates, the rate at equal error, speckle, edges, bias of the mean power, and speed.
    SCENES are files of one split; they are pooled, and resampled together for the confidence intervals.
    """
    from xsarcomp.benchmarks.table import run_benchmark

    for line in run_benchmark(scenes, models, output, codecs=codecs.split(",") if codecs else (), slow=not no_slow):
        say(line)


def main() -> None:
    """Run the command; a mistake of the user is one line on stderr and exit status 1."""
    try:
        with warnings_in_one_line():
            cli(standalone_mode=False)
    except click.exceptions.Abort as stop:
        for note in getattr(stop.__cause__, "__notes__", ()):
            say(f"xsarcomp: {note}", err=True)
        sys.exit(1)
    except click.ClickException as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # click 8.2
            error.show()
        else:
            say(f"xsarcomp: {options_in_text(error.format_message())}", err=True)
        sys.exit(1)
    except (SarcompError, OSError, ValueError) as error:
        text = ". ".join([str(error), *getattr(error, "__notes__", ())])
        say(f"xsarcomp: {options_in_text(text) or type(error).__name__}", err=True)
        sys.exit(1)
