"""The page on the public surface: every name that it lists is there, and every method of the accessor is listed."""

import importlib
import re

import pytest

import xsarcomp
from tests.support.paths import DOCS
from xsarcomp import accessor
from xsarcomp.accessor_tree import DataTreeAccessor
from xsarcomp.cli import cli

PAGE = (DOCS / "api.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(xsarcomp[\w.]*)` \| (.*) \|$", PAGE, re.MULTILINE)
NAMES = [(module, name) for module, names in ROWS for name in re.findall(r"`(\w+)`", names)]


def test_the_page_lists_modules():
    assert len(ROWS) > 15


@pytest.mark.parametrize(("module", "name"), NAMES, ids=str)
def test_each_name_is_there_and_documented(module, name):
    found = getattr(importlib.import_module(module), name)
    assert not callable(found) or found.__doc__


def test_the_package_offers_what_the_page_says_and_no_more():
    line = PAGE.split("`xsarcomp` itself offers")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", line)) == set(xsarcomp.__all__)


def test_each_method_of_the_accessor_is_listed():
    section = PAGE.split("## `.sarcomp`")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    classes = [accessor.Accessor, accessor.DatasetAccessor, accessor.DataArrayAccessor, DataTreeAccessor]
    methods = {name for one in classes for name in vars(one) if not name.startswith("_")}
    assert listed == methods


def test_each_command_is_listed():
    line = PAGE.split("* The command `xsarcomp`:")[1].split("Exit status")[0]
    assert set(re.findall(r"`(\w+)`", line)) == set(cli.commands)
