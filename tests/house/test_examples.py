"""The examples run as they stand, from any folder, without network and real data."""

import os
import subprocess
import sys

import pytest

from tests.support.paths import EXAMPLES

pytestmark = pytest.mark.slow

PROGRAMS = sorted(EXAMPLES.glob("*.py"))
NEEDED = {"icechunk_store": ("icechunk",)}
"""Packages that an example shows, and xsarcomp does not need."""


def test_there_are_examples():
    names = {path.stem for path in PROGRAMS}
    assert names >= {"compress_a_scene", "open_a_compressed_store", "time_stack", "cluster", "train_a_model"}
    assert names >= {"object_store", "icechunk_store", "from_odc_stac", "from_stackstac"}


@pytest.mark.parametrize("example", PROGRAMS, ids=lambda path: path.stem)
def test_example_is_short(example):
    assert len(example.read_text(encoding="utf-8").splitlines()) <= 60


@pytest.mark.parametrize("example", PROGRAMS, ids=lambda path: path.stem)
def test_example_runs_and_writes_into_the_given_folder_alone(example, tmp_path):
    for package in NEEDED.get(example.stem, ()):
        pytest.importorskip(package, reason=f"the example shows {package}: pip install {package}")
    (tmp_path / "here").mkdir()
    (tmp_path / "output").mkdir()
    finished = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(example), str(tmp_path / "output")],
        cwd=tmp_path / "here",
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert finished.returncode == 0, finished.stderr
    assert "Traceback" not in finished.stderr
    assert "RMSE" in finished.stdout
    assert any((tmp_path / "output").iterdir())
    assert not any((tmp_path / "here").iterdir())
