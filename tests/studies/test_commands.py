"""The studies as programs: each is listed with its command, names it in its docstring, and answers ``--help``."""

import importlib
import re

import pytest
from click.testing import CliRunner

from tests.support.paths import EXAMPLES

pytestmark = pytest.mark.slow

STUDIES = EXAMPLES / "studies"
LISTED = re.findall(
    r"^\| `(\w+)\.py`.*\| `python examples/studies/(\w+)\.py", (STUDIES / "README.md").read_text(), re.M
)


def test_each_program_is_listed_with_its_command():
    programs = {path.stem for path in STUDIES.glob("*.py") if "@click.command()" in path.read_text()}
    assert {name for name, _ in LISTED} == programs
    assert all(name == called for name, called in LISTED)


@pytest.mark.parametrize("name", sorted(name for name, _ in LISTED))
def test_program_names_its_command_and_answers_help(name):
    study = importlib.import_module(name)
    assert f"python examples/studies/{name}.py " in study.__doc__
    result = CliRunner().invoke(study.main, ["--help"])
    assert result.exit_code == 0
    assert "--output" in result.output
