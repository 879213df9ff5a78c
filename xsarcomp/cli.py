"""The command ``xsarcomp``: each of its commands is a few calls into the rooms below."""

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xsarcomp import __version__
from xsarcomp.command_line.arguments import (
    SCALES,
    TIME_OPTION,
    VARIABLES_OPTION,
    Place,
    Words,
    named_files,
    pair_of,
    some_of,
    split_names,
    with_target_options,
)
from xsarcomp.command_line.messages import describe, options_in_text, wants_traceback
from xsarcomp.command_line.output import (
    bar,
    collected_notes,
    print_bands,
    print_jobs,
    print_json,
    print_store,
    print_verification,
    progress,
    say,
    warnings_in_one_line,
)
from xsarcomp.display import size

if TYPE_CHECKING:
    from xsarcomp.stores.batch import Job
    from xsarcomp.stores.report import StoreReport


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="xsarcomp")
def cli() -> None:
    """Learned compression of Sentinel-1 backscatter."""


@cli.command()
@click.argument("paths", nargs=-1, type=Place(), metavar="SOURCE STORE | SOURCE...")
@click.option(
    "--output", type=Place(), help="Folder for the stores of several sources, each SOURCE a store of its name."
)
@with_target_options
@click.option("--model", help="Name or id of an installed model.")
@click.option("--scale", type=Words(("auto", *SCALES)), default="auto", show_default=True, help="Scale of the values.")
@click.option(
    "--transparent",
    is_flag=True,
    help="Write a transparent store: any reader with xsarcomp installed sees backscatter.",
)
@click.option("--recompress", is_flag=True, help="Accept data that was compressed with loss before.")
@VARIABLES_OPTION
@TIME_OPTION
@click.option("--overwrite", is_flag=True, help="Replace an existing store.")
@click.option(
    "--resume",
    is_flag=True,
    help="Continue where the same command was interrupted; start if it was not. With --output, skip finished stores.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, of several sources a list.")
def encode(paths: tuple[str, ...], output: str | None, as_json: bool, resume: bool, **options: Any) -> None:
    """Compress SOURCE (GeoTIFF, NetCDF, Zarr, ...) into the Zarr store STORE.

    With --output, compress each SOURCE into a store of its name in that folder; a failure does not stop the others.

    GDAL and QGIS cannot open the stores: xsarcomp decode STORE scene.tif --cog gives them a file.

    Until it is finished, a store is called .partial-STORE. This partial store stays when the command is killed or interrupted
    (Ctrl-C); with --resume also after an error. The same command with --resume writes only the missing blocks; without
    --resume, it starts again.
    """
    from xsarcomp.stores.report import store_report, warn_if_missed

    if output is None:
        report, notes = _encode(*pair_of(paths, "SOURCE", "STORE"), resume=resume, **options)
        for note in () if as_json else notes:
            say(options_in_text(note))
        print_store(report, as_json)
        warn_if_missed(report)
        return
    from xsarcomp.stores.batch import plan_jobs, run_jobs

    def work(job: "Job") -> "StoreReport":
        with warnings_in_one_line(job.source):
            report = _encode(job.source, job.target, resume=resume, **options)[0]
            warn_if_missed(report)
        return report

    jobs = plan_jobs(some_of(paths), output, ".zarr")
    finished = (lambda job: store_report(job.target)) if resume else None
    if not print_jobs(run_jobs(jobs, work, finished=finished), "encoded", _encoded, as_json=as_json):
        sys.exit(1)


def _encoded(report: "StoreReport") -> tuple[str, int, int]:
    """What came out of an encoding in words, and the bytes of both sides."""
    words = f"{size(report.stored_bytes)}, {report.bits_per_pixel:.3g} bits per pixel"
    return words, 4 * report.pixels, report.stored_bytes


def _encode(
    source: str, store: str, *, transparent: bool, overwrite: bool, resume: bool, time: datetime | None, **request: Any
) -> tuple["StoreReport", list[str]]:
    """Encode a source into a store; the report, and what was noted about the choice of variables."""
    from xsarcomp.scenes.choice import separate_bands
    from xsarcomp.scenes.times import with_time
    from xsarcomp.stores import files
    from xsarcomp.stores.report import store_report

    files.refuse_overlapping(source, store)
    files.check_store_name(store, overwrite=overwrite)
    scene = separate_bands(files.open_scene(source), request["variables"])
    if time is not None:
        scene = with_time(scene, time).expand_dims("time")
    target = None
    with progress("encoding"), collected_notes() as notes:
        if transparent:
            encoding = scene.sarcomp.encoding(**request)
            target = encoding.target
            files.write_transparent(scene, store, encoding, overwrite=overwrite, resume=resume)
        else:
            files.write_store(scene.sarcomp.encode(**request), store, overwrite=overwrite, resume=resume)
    return store_report(store, target=target), notes


@cli.command()
@click.argument("source", type=Place())
@click.argument("store", type=Place())
@click.option("--dim", help="Dimension that grows. Default: time, or the only one beside those of a scene.")
@TIME_OPTION
def append(source: str, store: str, dim: str | None, time: datetime | None) -> None:
    """Append the dates of SOURCE to STORE, encoded as its first dates were.

    Grid, variables, scale and dates are compared before anything is written. A GeoTIFF says no date: encode the first one, and
    append the others, with --time.
    """
    from xsarcomp.scenes.choice import separate_bands
    from xsarcomp.scenes.times import with_time
    from xsarcomp.stores import files
    from xsarcomp.stores.appending import append_dataset
    from xsarcomp.stores.report import open_compressed

    files.refuse_overlapping(source, store)
    known = open_compressed(store)[1] if "://" in store or Path(store).exists() else None
    scene = separate_bands(files.open_scene(source), known)
    if time is not None:
        scene = with_time(scene, time)
    with progress("appending"):
        report = append_dataset(scene, store, dim=dim)
    say(f"{report.dim}: {report.before} before, {report.after} now")


@cli.command()
@click.argument("paths", nargs=-1, type=Place(), metavar="STORE TARGET | STORE...")
@click.option("--output", type=Place(), help="Folder for several stores, each STORE a file of its name.")
@click.option(
    "--format",
    "ending",
    type=Words(("tif", "nc", "zarr")),
    help="Kind of the files in --output. Default: tif.",
)
@click.option("--cog", is_flag=True, help="Write a Cloud Optimized GeoTIFF with overviews.")
@click.option(
    "--overview", type=int, help="Write a quicklook: one value for each block of 8 (16, ... 512) pixels a side."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing target.")
@click.option(
    "--restore",
    type=Words(("speckle",)),
    help="speckle: add synthetic speckle, random noise with the statistics of the lost speckle.",
)
@click.option(
    "--quality",
    type=Words(("best", "fast")),
    default="best",
    show_default=True,
    help="fast: decode without the network, in about half of the time, with 1 to 6 % more error.",
)
def decode(paths: tuple[str, ...], output: str | None, ending: str | None, **options: Any) -> None:
    """Decode STORE into TARGET, a GeoTIFF (.tif), NetCDF (.nc) or plain Zarr (.zarr) by its ending.

    With --output, decode each STORE into a file of its name in that folder; a failure does not stop the others.

    GDAL, QGIS and other programs open the GeoTIFF (--cog for large scenes and servers); they cannot open STORE.
    """
    if output is None:
        if ending is not None:
            raise click.UsageError("--format is for several stores, expected --output FOLDER beside it")
        _decode(*pair_of(paths, "STORE", "TARGET"), **options)
        return
    from xsarcomp.stores.batch import plan_jobs, run_jobs
    from xsarcomp.stores.listing import size_at

    def work(job: "Job") -> tuple[int, int]:
        with warnings_in_one_line(job.source):
            _decode(job.source, job.target, **options)
        return size_at(job.source), size_at(job.target)

    jobs = plan_jobs(some_of(paths), output, f".{ending or 'tif'}")
    if "://" not in output:
        Path(output).mkdir(parents=True, exist_ok=True)
    if not print_jobs(run_jobs(jobs, work), "decoded", lambda pair: (size(pair[1]), *pair)):
        sys.exit(1)


def _decode(
    store: str, target: str, *, cog: bool, overview: int | None, overwrite: bool, restore: str | None, quality: str
) -> None:
    """Decode a store into a target."""
    from xsarcomp.stores import files
    from xsarcomp.stores.report import check_decodable

    files.refuse_overlapping(store, target)
    files.check_scene_name(target, cloud_optimized=cog)
    check_decodable(store, restore, quality)  # refuses a wrong store before a target is created
    if overview is None:
        scene = files.open_scene(store, restore=restore, quality=quality)
    else:
        scene = files.open_store(store).sarcomp.decode(overview=overview, restore=restore)
    with progress("decoding"):
        files.write_scene(scene, target, overwrite=overwrite, measure_transform=overview is None, cloud_optimized=cog)


@cli.command()
@click.argument("store", type=Place())
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
@click.argument("store", type=Place())
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
    print_json(report.to_json()) if as_json else print_verification(report)
    if not report.ok:
        sys.exit(1)


@cli.command()
@click.argument("original", type=Place())
@click.argument("restored", type=Place())
@click.option("--scale", type=Words(SCALES), help="Scale of both; inferred if not given.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@click.option("--html", type=Place(), help="Also write a report with pictures to this file, one self-contained page.")
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
@click.argument("source", required=False, type=Place())
@with_target_options
@click.option("--model", help="Name or id of an installed model.")
@click.option("--scale", type=Words(("auto", *SCALES)), default="auto", show_default=True, help="Scale of the values.")
@VARIABLES_OPTION
@click.option("--output", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder.")
def demo(source: str | None, output: Path, **request: Any) -> None:
    """Compress and decode SOURCE, or a simulated Sentinel-1 scene; print metrics and draw a picture."""
    from xsarcomp.demo import run_demo

    for name, value in run_demo(source, output, request):
        say(f"{name:<24}{value}")


@cli.command()
@click.argument("scenes", nargs=-1, required=True, type=Place())
@click.option(
    "--model", "models", multiple=True, help="Name or id of a model, may be repeated. Default: all installed models."
)
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the tables, the CSV and the plot.")
@click.option(
    "--codecs", help='Names of classical codecs, separated by commas: "AV1,JPEG XL". Default: all installed ones.'
)
@click.option("--no-slow", is_flag=True, help="Leave out AV1 and HEVC.")
@click.option(
    "--points",
    multiple=True,
    metavar="NAME=FILE",
    help="Add a codec whose points on these scenes were measured elsewhere: VVC=points.json. May be repeated.",
)
def benchmark(
    scenes: tuple[str, ...],
    models: tuple[str, ...],
    output: Path | None,
    codecs: str | None,
    no_slow: bool,
    points: tuple[str, ...],
) -> None:
    """Compare installed models with classical codecs on the same SCENES.

    The table has the error in dB at several rates, the rate at equal error, speckle, edges, bias of the mean power, and speed.
    SCENES are files of one split; they are pooled, and resampled together for the confidence intervals.
    """
    from xsarcomp.benchmarks.table import run_benchmark

    names = split_names(codecs) or ()
    files = named_files("--points", points)
    for line in run_benchmark(scenes, models, output, codecs=names, slow=not no_slow, points=files):
        say(line)


def main() -> None:
    """Run the command; whatever goes wrong is one line on stderr and exit status 1.

    With ``XSARCOMP_TRACEBACK=1`` in the environment, errors are raised as they are.
    """
    try:
        with warnings_in_one_line():
            cli(standalone_mode=False)
    except click.exceptions.Abort as stop:
        for note in getattr(stop.__cause__, "__notes__", ("interrupted",)):
            say(f"xsarcomp: {note}", err=True)
        sys.exit(1)
    except click.ClickException as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # click 8.2
            error.show()
        else:
            say(f"xsarcomp: {options_in_text(error.format_message())}", err=True)
        sys.exit(1)
    except Exception as error:
        if wants_traceback():
            raise
        say(f"xsarcomp: {describe(error)}", err=True)
        sys.exit(1)
