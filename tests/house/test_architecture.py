"""House rules: short files, rooms that say what they hold, few parameters, public things documented, no code from data.

Each test goes through the whole package and lists the offenders.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

import xsarcomp

PACKAGE = Path(xsarcomp.__file__).parent
ARCHITECTURE = PACKAGE.parent / "docs" / "architecture.md"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
ROOMS = sorted({path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")} - {"."})
MOST_FILES_AT_THE_ROOT = 12
LONGEST_FILE = 400
LONGER_FILES: dict[str, str] = {}
"""Files that may be longer, and why."""
LONGEST_FUNCTION = 60
LONGEST_DOCSTRING_OF_A_ROOM = 10
MOST_PARAMETERS = 9
MORE_PARAMETERS = {
    "accessor_base.py encode": "each parameter is one word of the user's request, keyword only",
    "accessor_base.py encoding": "each parameter is one word of the user's request, keyword only",
}
"""Functions that may have more parameters, by file and name, and why."""
FLAT_ARRAYS = "codec/kernels/"
"""Compiled functions take every array by itself; numba compiles no objects."""
FIRST_WORDS = {"What", "Which", "How", "From", "Who", "Where", "Whether"}
"""A docstring names the thing; it does not begin like a riddle."""


@cache
def tree(name):
    """Syntax tree of a file of the package."""
    return ast.parse((PACKAGE / name).read_text(encoding="utf-8"), filename=name)


def functions():
    """File and node of all functions of the package, methods and inner ones too."""
    for name in FILES:
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield name, node


def lines_without_docstring(function):
    """Lines from ``def`` to the end; text that explains is not held against a function."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    return lines - (function.body[0].end_lineno - function.body[0].lineno + 1)


def parameters(function):
    """Names of the parameters of a function, without those that Python fills."""
    given = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    return [parameter.arg for parameter in given if parameter.arg not in ("self", "cls")]


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


def listed(offenders):
    """One offender a line, so that a failure shows them all."""
    return "\n" + "\n".join(map(str, offenders))


def test_few_files_stand_at_the_root_of_the_package():
    at_the_root = [name for name in FILES if "/" not in name]
    assert len(at_the_root) <= MOST_FILES_AT_THE_ROOT, listed(at_the_root)


def test_every_room_says_what_it_holds_and_has_no_code_of_its_own():
    offenders = []
    for room in ROOMS:
        name = f"{room}/__init__.py"
        docstring = ast.get_docstring(tree(name)) if name in FILES else None
        if docstring is None:
            offenders.append(f"{name}: missing, or without docstring")
        elif (lines := len(docstring.splitlines())) > LONGEST_DOCSTRING_OF_A_ROOM:
            offenders.append(f"{name}: a docstring of {lines} lines")
        elif len(tree(name).body) > 1:
            offenders.append(f"{name}: code")
    assert not offenders, listed(offenders)


def test_every_file_has_a_docstring():
    offenders = [name for name in FILES if not ast.get_docstring(tree(name))]
    assert not offenders, listed(offenders)


def test_docstrings_of_files_begin_with_the_thing():
    beginnings = {name: (ast.get_docstring(tree(name)) or " ").split()[:1] for name in FILES}
    offenders = [f"{name}: {word}" for name, words in beginnings.items() for word in words if word in FIRST_WORDS]
    assert not offenders, listed(offenders)


def test_files_are_short():
    lines = {name: len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) for name in FILES}
    long = {name: count for name, count in lines.items() if count > LONGEST_FILE}
    offenders = [f"{name}: {count} lines" for name, count in long.items() if name not in LONGER_FILES]
    offenders += [f"{name}: an exception that is not needed" for name in LONGER_FILES if name not in long]
    assert not offenders, listed(offenders)


def test_functions_are_short():
    offenders = [
        f"{name} {function.name}: {lines} lines"
        for name, function in functions()
        if (lines := lines_without_docstring(function)) > LONGEST_FUNCTION
    ]
    assert not offenders, listed(offenders)


def test_functions_have_few_parameters():
    many = {
        f"{name} {function.name}": len(parameters(function))
        for name, function in functions()
        if len(parameters(function)) > MOST_PARAMETERS and not name.startswith(FLAT_ARRAYS)
    }
    offenders = [f"{function}: {count}" for function, count in many.items() if function not in MORE_PARAMETERS]
    offenders += [
        f"{function}: an exception that is not needed" for function in MORE_PARAMETERS if function not in many
    ]
    assert not offenders, listed(offenders)


def test_public_functions_and_classes_have_a_docstring():
    offenders = [
        f"{name} {public}"
        for name in FILES
        for public, node in public_definitions(tree(name).body)
        if not ast.get_docstring(node)
    ]
    assert not offenders, listed(offenders)


def test_the_architecture_names_each_room():
    if not ARCHITECTURE.exists():
        pytest.skip("docs/ is not installed with the package")
    text = ARCHITECTURE.read_text(encoding="utf-8")
    offenders = [room for room in ROOMS if f"`{room}/`" not in text]
    assert not offenders, listed(offenders)


def test_the_docstring_of_the_package_names_each_room():
    offenders = [room for room in ROOMS if "/" not in room and f"{room}/" not in xsarcomp.__doc__]
    assert not offenders, listed(offenders)


def test_nothing_in_the_package_runs_code_that_comes_as_data():
    forbidden = {"eval", "exec", "compile", "__import__", "torch.load", "builtins.eval", "builtins.exec"}
    modules = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch.load"}
    offenders = []
    for name in FILES:
        calls = [node for node in ast.walk(tree(name)) if isinstance(node, ast.Call)]
        offenders += [f"{name} {call}" for call in {dotted(call.func) for call in calls} & forbidden]
        offenders += [f"{name} {module}" for module in imported(name) if {module, module.split(".")[0]} & modules]
        offenders += [
            f"{name} allow_pickle"
            for call in calls
            for keyword in call.keywords
            if keyword.arg == "allow_pickle"
            and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
        ]
    assert not offenders, listed(offenders)
