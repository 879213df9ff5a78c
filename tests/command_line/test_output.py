"""What commands print: everything from files and stores as text, nothing that controls the terminal."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.commands import run_here
from xsarcomp import cli
from xsarcomp.command_line.arguments import Moment, Place, split_names
from xsarcomp.command_line.messages import ARGUMENTS, options_in_text
from xsarcomp.command_line.output import print_json, say
from xsarcomp.display import size as size_text
from xsarcomp.display import visible
from xsarcomp.latents.metadata import ATTRIBUTE
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.files import open_store


@given(st.text(st.characters(), max_size=40))
def test_any_text_is_one_printable_line_and_printable_text_stays(text):
    assert visible(text).isprintable()
    assert text.isprintable() == (visible(text) == text)
    visible(text).encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\r\tc\x00", r"a\nb\r\tc\x00"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),
        ("v\u200bv\ufeff", r"v\u200bv\ufeff"),
        ("\x9b31m\u2028", r"\x9b31m\u2028"),
        ("\udcff.tif", r"\udcff.tif"),
        ("Zürich σ⁰ 入射角", "Zürich σ⁰ 入射角"),
    ],
)
def test_what_controls_a_terminal_is_shown_as_text(text, shown):
    assert visible(text) == shown


def test_lines_and_json_go_out_without_control_characters():
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        say("a\x1b\n")
        say("b\u202e", err=True)
        print_json({"\x1b": "\u202e\n"})
    assert errors.getvalue() == "b\\u202e\n"
    lines = output.getvalue().splitlines()
    assert lines[0] == "a\\x1b\\n"
    assert all(line.isprintable() for line in lines)
    assert json.loads("".join(lines[1:])) == {"\x1b": "\u202e\n"}


WORDS = {
    "name it: variables=['vv', 'vh'], or recompress=True\nat once": "name it: --variables vv,vh, or --recompress at once",
    "keep_means=False saves": "--no-keep-means saves",
    "keep_means=True costs": "--keep-means costs",
    "Say scale='power', 'decibel' or 'amplitude'": "Say --scale power, 'decibel' or 'amplitude'",
    "Pass scale=... instead": "Pass --scale ... instead",
    "max_error_db=1.0, bits_per_pixel=0.2 cannot be met": "--max-error-db 1.0, --bits-per-pixel 0.2 cannot be met",
    "bits_per_pixel=1e-09, gives": "--bits-per-pixel 1e-09, gives",
    "max_error_db is 0.0": "--max-error-db is 0.0",
    "ratio is inf, expected": "--ratio is inf, expected",
    "mode='w', or resume=True": "--overwrite, or --resume",
    "Write it anew without resume": "Write it anew without --resume",
    "because variables= names it": "because --variables names it",
    "not among variables=": "not among --variables",
    "variables=[...] names those to compress": "--variables NAME,NAME names those to compress",
    "decode it with .sarcomp.decode()": "decode it with xsarcomp decode",
    "decode(restore='speckle')": "xsarcomp decode --restore speckle",
    "expected what encode() made": "expected what xsarcomp encode made",
    "first dates, scene.sarcomp.encode(...).sarcomp.to_zarr(...)": "first dates, xsarcomp encode SOURCE STORE",
    "name it, scene.assign_coords(time=...)": "name it, --time 2024-05-01T05:30",
    "Rename them: array.rename(...)": "Rename them: array.rename(...) in Python",
    "dataset.clip(min=1e-3) puts a value": "dataset.clip(min=1e-3) in Python puts a value",
    "a.assign(scale=2) and my_scale=3": "a.assign(--scale 2) and my_scale=3",
    "the scale is that of the model": "the scale is that of the model",
    "Declare it: array.attrs['nodata'] = -9999.5; NaN says": "Declare it: gdal_edit.py -a_nodata -9999.5 FILE for a GeoTIFF; NaN says",
    "bits_per_pixel, ratio were given together": "--bits-per-pixel, --ratio were given together",
    "gives bits_per_pixel 0.2358 on": "gives --bits-per-pixel 0.2358 on",
    "keys ['keep_means', 'model'] (dtype, max_error_db, scale)": "keys ['keep_means', 'model'] (dtype, max_error_db, scale)",
    "again with encode(like=store)": "again with xsarcomp append",
    "data/scale=10/rmse_db/max_error_db.tif and": "data/scale=10/rmse_db/max_error_db.tif and",
    "folder/dataset.zarr and scene.tif": "folder/dataset.zarr and scene.tif",
}


@pytest.mark.parametrize("said", WORDS)
def test_arguments_in_messages_become_options(said):
    assert options_in_text(said) == WORDS[said]


def test_all_arguments_that_become_options_are_options():
    known = {
        option.lstrip("-").replace("-", "_")
        for command in cli.cli.commands.values()
        for parameter in command.params
        for option in parameter.opts
    }
    assert not {*ARGUMENTS} - known


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("file:///data/a%20b.zarr", "/data/a b.zarr"),
        ("file:/data/a%2520b.zarr", "/data/a%20b.zarr"),
        ("a%20b.zarr", "a%20b.zarr"),
        ("a b/../c.zarr", "a b/../c.zarr"),
        ("~/a.zarr", "/home/somebody/a.zarr"),
        ("s3://bucket/a%20b.zarr", "s3://bucket/a%20b.zarr"),
    ],
)
def test_places_are_paths_or_urls_however_they_are_typed(monkeypatch, typed, taken):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Place().convert(typed, None, None) == taken


def test_commands_take_urls_of_files_with_spaces(tmp_path):
    simulated_dataset((64, 64), 1)[["vv"]].to_netcdf(tmp_path / "a b.nc")
    url = f"file://{tmp_path}/"
    run_here("encode", f"{url}a%20b.nc", f"{url}x%20y.zarr", "--model", "s1-grd-10m-lapped", folder=tmp_path)
    for name in (f"{url}x%20y.zarr", "x y.zarr"):
        assert run_here("info", name, "--json", folder=tmp_path)[0].startswith("{")
        run_here("verify", name, "--quick", folder=tmp_path)
    run_here("decode", f"{url}x%20y.zarr", f"{url}x%20y.tif", folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a b.nc", "x y.zarr", "x y.tif"}


@pytest.mark.parametrize(
    ("typed", "time"),
    [
        ("2024-05-01", datetime(2024, 5, 1)),
        ("2024-05-01T05:30Z", datetime(2024, 5, 1, 5, 30)),
        ("2024-05-01 07:30:01+02:00", datetime(2024, 5, 1, 5, 30, 1)),
    ],
)
def test_times_are_taken_in_utc(typed, time):
    assert Moment().convert(typed, None, None) == time


def test_names_of_variables_are_divided_by_commas():
    assert split_names(" vv, vh,,") == ["vv", "vh"]
    assert split_names(None) is None


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (66_123, "66.1 kB"), (999_600, "1 MB")]
)
def test_sizes_are_three_digits_and_a_unit(size, text):
    assert size_text(size) == text


@pytest.mark.slow
@pytest.mark.parametrize("command", [["info"], ["info", "--latents"], ["verify", "--quick"]], ids=" ".join)
def test_texts_of_a_store_do_not_control_the_terminal(command, tmp_path):
    scene = simulated_dataset((64, 70), seed=2)[["vv"]].rename(vv="vv\x1b[31m\u202e")
    encoded = scene.sarcomp.encode(bits_per_pixel=1)
    for variable in encoded.variables.values():
        if ATTRIBUTE in variable.attrs:
            variable.attrs[ATTRIBUTE] = variable.attrs[ATTRIBUTE] | {
                "scale_reason": "\x1b[2J\nforged",
                "target": "\x07",
            }
    encoded.sarcomp.to_zarr(tmp_path / "store.zarr", consolidated=False)
    assert open_store(str(tmp_path / "store.zarr")).sarcomp.info()["vv\x1b[31m\u202e"]["target"] == "\x07"
    output, errors = run_here(*command, "store.zarr", folder=tmp_path)
    assert errors == ""
    assert all(line.isprintable() for line in output.split("\n"))
    if command == ["info"]:
        assert r"\x1b[2J\nforged" in output
        assert r"vv\x1b[31m\u202e: latents" in output
