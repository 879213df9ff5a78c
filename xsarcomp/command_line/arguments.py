"""Arguments and options of the commands: types that refuse with a line, and options that several commands share."""

import errno
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

# written out, because their rooms import much that --help does not need
PRESETS = ("archive", "analysis", "browse", "8x", "16x", "32x")
SCALES = ("power", "amplitude", "decibel")
_Command = TypeVar("_Command", bound=Callable[..., Any])


class Words(click.Choice):
    """Choice among words, with a message of one line."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word, or refuse it with those that there are."""
        if value in self.choices:
            return value
        return self.fail(f"{value!r} is unknown, expected one of {', '.join(self.choices)}", param, ctx)


class Place(click.ParamType):
    """Path or URL of a scene or store, as text: the path of a ``file://`` URL, the home folder in place of ``~``."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the path or URL, or refuse a name that leads nowhere."""
        from xsarcomp.scenes.rasters import local_path

        path = local_path(value)
        if not path.strip():
            self.fail("the name is empty, expected a path or URL")
        if "://" in path:
            return path
        try:
            path = str(Path(path).expanduser())
            Path(path).stat()
        except RuntimeError as error:
            self.fail(f"{path!r} names no home folder: {error}")
        except OSError as error:
            if error.errno == errno.ELOOP:
                self.fail(f"{path!r} is a link that leads to itself, expected a file or folder: remove it")
        return path


class Moment(click.ParamType):
    """Time of a scene in UTC, such as ``2024-05-01T05:30``."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time without zone."""
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time, expected one like 2024-05-01T05:30 in UTC", param, ctx)
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def pair_of(paths: tuple[str, ...], *names: str) -> tuple[str, str]:
    """Source and target among the arguments of a command without ``--output``."""
    if len(paths) < len(names):
        raise click.UsageError(
            f"Missing argument {names[len(paths)]!r}. Expected {' and '.join(names)}, or --output FOLDER"
        )
    if len(paths) > len(names):
        raise click.UsageError(
            f"found {len(paths)} paths, expected {' and '.join(names)}: several need --output FOLDER"
        )
    return paths[0], paths[1]


def some_of(paths: tuple[str, ...]) -> tuple[str, ...]:
    """At least one path."""
    if not paths:
        raise click.UsageError("found no path beside --output, expected at least one")
    return paths


def split_names(text: str | None) -> list[str] | None:
    """Names in a text that commas separate; None without a text."""
    return None if text is None else [name for name in map(str.strip, text.split(",")) if name]


def named_files(option: str, pairs: Iterable[str]) -> dict[str, str]:
    """Files by name, from texts ``NAME=FILE``."""
    for pair in pairs:
        if not all(pair.partition("=")[::2]):
            raise click.UsageError(f"{option} is {pair!r}, expected NAME=FILE")
    return dict(pair.split("=", 1) for pair in pairs)


_TARGET_OPTIONS = (
    click.option(
        "--preset",
        type=Words(PRESETS),
        help="Choose this first. archive, analysis (the default), browse: 2, 1, 0.25 bits per pixel; 8x, 16x, 32x: a store that "
        "many times smaller than float32.",
    ),
    click.option(
        "--bits-per-pixel", type=float, help="Instead of a preset: coded bits over pixels times polarizations."
    ),
    click.option("--ratio", type=float, help="Instead of a preset: size in float32 over coded size."),
    click.option("--rmse-db", type=float, help="Instead of a preset: root mean square error over valid pixels in dB."),
    click.option("--max-error-db", type=float, help="Bound on the error of each valid pixel in dB."),
    click.option(
        "--keep-means/--no-keep-means",
        default=None,
        help="Keep the mean power of each tile of 64 x 64 pixels within 0.02 dB: the default unless --max-error-db is given.",
    ),
)
VARIABLES_OPTION = click.option(
    "--variables",
    callback=lambda _context, _option, text: split_names(text),
    help="Variables to compress, or bands of a raster, separated by commas: vv,vh. All others are kept exactly. Default: those "
    "that say that they are backscatter.",
)

TIME_OPTION = click.option(
    "--time", type=Moment(), help="Time of a source without one, such as a GeoTIFF, in UTC: 2024-05-01T05:30."
)


def with_target_options(command: _Command) -> _Command:
    """Add the options of rate, error and guarantees to a command."""
    for option in reversed(_TARGET_OPTIONS):
        command = option(command)
    return command
