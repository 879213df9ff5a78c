"""The house rules: every file on the map, short files and functions, public things documented, no code from data."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import xsarcomp

PACKAGE = Path(xsarcomp.__file__).parent
ARCHITECTURE = PACKAGE.parent / "docs" / "architecture.md"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
ROOMS = ("models", "training", "evaluation")
LONGEST_FILE = 300
LONGEST_FUNCTION = 60
LONGER_FILES: dict[str, str] = {}
"""Files that may be longer, and why."""


def tree(name):
    """Syntax tree of a file of the package."""
    return ast.parse((PACKAGE / name).read_text(encoding="utf-8"), filename=name)


def functions(name):
    """All functions of a file, methods and inner ones too."""
    return [node for node in ast.walk(tree(name)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def lines_without_docstring(function):
    """Lines from ``def`` to the end; text that explains is not held against a function."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    return lines - (function.body[0].end_lineno - function.body[0].lineno + 1)


def public_definitions(body, prefix=""):
    """Name and node of public functions, classes and methods; what stands inside a function is nobody's interface."""
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield f"{prefix}{node.name}", node
        if isinstance(node, ast.ClassDef):
            yield from public_definitions(node.body, f"{node.name}.")


def dotted(node):
    """Dotted name of an expression, as far as it is one: ``torch.load``."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def imported(name):
    """Names of all modules that a file imports, wherever in the file."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def mapped_files():
    """Files in the first column of the map in ``docs/architecture.md``."""
    section = ARCHITECTURE.read_text(encoding="utf-8").split("## The map")[1].split("\n## ")[0]
    return re.findall(r"^\| `([\w/]+\.py)` \|", section, re.MULTILINE)


def test_the_map_of_the_architecture_names_each_file_once_and_no_other():
    if not ARCHITECTURE.exists():
        pytest.skip("docs/ is not installed with the package")
    assert sorted(mapped_files()) == FILES


@pytest.mark.parametrize("name", [name for name in FILES if "/" not in name and not name.startswith("__")])
def test_the_docstring_of_the_package_names_each_file_at_the_root(name):
    assert re.search(rf"\b{Path(name).stem}\b", xsarcomp.__doc__)


@pytest.mark.parametrize("room", ROOMS)
def test_the_docstring_of_the_package_names_each_room(room):
    assert f"{room}/" in xsarcomp.__doc__


def test_no_file_stands_in_a_room_that_nobody_knows():
    assert {name.split("/")[0] for name in FILES if "/" in name} == set(ROOMS)


@pytest.mark.parametrize("name", FILES)
def test_files_are_short(name):
    lines = len((PACKAGE / name).read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE or name in LONGER_FILES


@pytest.mark.parametrize("name", FILES)
def test_functions_are_short(name):
    long = {function.name: lines_without_docstring(function) for function in functions(name)}
    assert not {function: lines for function, lines in long.items() if lines > LONGEST_FUNCTION}


@pytest.mark.parametrize("name", FILES)
def test_public_functions_and_classes_have_a_docstring(name):
    assert not [public for public, node in public_definitions(tree(name).body) if not ast.get_docstring(node)]


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith("/__init__.py")])
def test_files_say_in_their_docstring_what_they_are_for(name):
    assert ast.get_docstring(tree(name))


def test_importing_the_package_loads_no_heavy_library():
    code = "import sys, xsarcomp; print(*sorted({'torch', 'dask', 'zarr', 'numcodecs', 'numba'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


@pytest.mark.parametrize("name", FILES)
def test_nothing_in_the_package_runs_code_that_comes_as_data(name):
    calls = {dotted(node.func) for node in ast.walk(tree(name)) if isinstance(node, ast.Call)}
    forbidden = {"eval", "exec", "compile", "__import__", "torch.load", "builtins.eval", "builtins.exec"}
    modules = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch.load"}
    assert not calls & forbidden
    assert not {module for module in imported(name) if module in modules or module.split(".")[0] in modules}
    allow = [
        keyword
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "allow_pickle"
        and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
    ]
    assert not allow
