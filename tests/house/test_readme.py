"""What the README says is so: its program runs, its commands exist, its tree is the tree."""

import re
import warnings

import pytest
import xarray as xr
from click.testing import CliRunner

from tests.support.paths import ROOT
from xsarcomp.cli import cli
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "xsarcomp"


def blocks(language):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [text for found, text in fenced if found == language]


def commands():
    """Lines of the README that call the command, without their comments."""
    lines = "\n".join(blocks("")).splitlines()
    return [line.partition("#")[0].split() for line in lines if line.startswith("xsarcomp ")]


@pytest.fixture
def scene_in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scene = simulated_dataset((256, 256), 1)
    bands = xr.concat([scene.vv, scene.vh], dim="band", combine_attrs="drop")
    bands.assign_attrs(long_name=("vv", "vh")).rio.to_raster("s1.tif", tiled=True, blockxsize=128, blockysize=128)
    return tmp_path


def run_quick_start():
    """The names that the program leaves; warnings are errors, but for two of other libraries."""
    namespace = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Use `@` matmul", PendingDeprecationWarning)  # rioxarray with affine 3
        # xarray consolidates by default, and zarr says that format 3 does not specify it yet
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        exec(compile(blocks("python")[0], "README.md", "exec"), namespace)
    return namespace


def test_quick_start_runs_as_it_stands(scene_in_folder, capsys):
    namespace = run_quick_start()
    plain = namespace["plain"].compute()
    assert "rmse_db" in capsys.readouterr().out
    for restored in (namespace["decoded"], plain):
        assert restored.sarcomp.compare(namespace["scene"])["rmse_db"] < 1.5
    xr.testing.assert_equal(namespace["decoded"].x, namespace["scene"].x)
    assert {path.name for path in scene_in_folder.iterdir()} == {"s1.tif", "scene.zarr", "plain.zarr"}


def test_latents_can_be_opened_with_zarr_alone_as_the_readme_says(scene_in_folder):
    run_quick_start()
    latents = xr.open_zarr("scene.zarr")
    assert any(str(name).endswith("_latents") for name in latents.data_vars)
    assert latents.sarcomp.decode().band_data.chunks is not None


@pytest.mark.parametrize("command", sorted({words[1] for words in commands()}))
def test_commands_of_the_readme_exist(command):
    result = CliRunner().invoke(cli, [command, "--help"])
    assert result.exit_code == 0


def test_readme_shows_the_commands_that_matter():
    assert {words[1] for words in commands()} >= {"encode", "info", "decode", "compare", "train"}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_options_in_the_readme_exist(words):
    text = CliRunner().invoke(cli, [words[1], "--help"]).output
    for word in words:
        assert not word.startswith("--") or word in text


def test_options_named_in_comments_exist():
    named = set(re.findall(r"--[a-z][a-z-]+", README))
    offered = "".join(CliRunner().invoke(cli, [name, "--help"]).output for name in cli.commands)
    assert all(option in offered for option in named), named


def test_block_of_the_package_names_each_room_and_nothing_that_is_missing():
    block = next(text for text in blocks("") if text.startswith("xsarcomp/"))
    rooms = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.glob("*/__init__.py")}
    named = set(re.findall(r"(?<![\w/.])[\w./-]+(?:/|\.py\b)", block))
    assert not {f"{room}/" for room in rooms} - named
    folders = (PACKAGE, ROOT, ROOT / "docs", ROOT / "examples")
    assert not [name for name in named if not any((folder / name).exists() for folder in folders)]


def test_files_that_the_readme_points_to_exist():
    for path in re.findall(r"`((?:docs|examples|tests)/[\w./-]+)`", README):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"xsarcomp train (\S+\.toml)", README):
        assert (ROOT / path).exists(), path


def test_presets_are_those_of_the_package():
    from xsarcomp.codec.target import PRESETS

    rows = dict(re.findall(r'^\| "(\w+)"(?:, ([\d.]+)[^|]*)? \|', README, re.MULTILINE))
    assert set(rows) == set(PRESETS)
    for name, bits in PRESETS.items():
        assert (32 / int(name[:-1]) if name.endswith("x") else float(rows[name])) == bits, name
