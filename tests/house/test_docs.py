"""Pages name what exists: modules with their attributes, files, tests and pages that they link to."""

import pkgutil
import re

import pytest

from tests.support.paths import DOCS, ROOT

PACKAGE = ROOT / "xsarcomp"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), ROOT / "examples/studies/README.md"]
PAGES.remove(DOCS / "changelog.md")  # it names what was there before
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
CODEC_NAMES = {"xsarcomp.backscatter", "xsarcomp.latents", "xsarcomp.integers"}
ROOMS = "|".join(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())


def exists(name):
    """Whether a dotted name is a module, or an attribute of one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def file_exists(path, *folders):
    """Whether a path, a pattern, or a path without its ``.py`` or with an attribute behind it, is a file or folder."""
    stem = re.sub(r"\.[A-Z_]+$", "", path.rstrip("/."))
    return any(list(folder.glob(name)) for folder in folders for name in (stem, f"{stem}.py"))


@pytest.mark.parametrize("page", TEXTS)
def test_modules_that_a_page_names_exist(page):
    names = set(re.findall(r"\bxsarcomp(?:\.[A-Za-z_]\w*)+", TEXTS[page])) - CODEC_NAMES
    rooms = re.findall(rf"`((?:{ROOMS})(?:/\w+)+(?:\.\w+)*)`", TEXTS[page])
    names |= {"xsarcomp." + name.replace("/", ".") for name in rooms if not name.endswith((".py", ".md", ".csv"))}
    assert not sorted(name for name in names if not exists(name))


@pytest.mark.parametrize("page", TEXTS)
def test_files_that_a_page_names_exist(page):
    paths = set(re.findall(r"(?<![\w/.-])((?:docs|tests|examples|xsarcomp)/[\w./*-]*\w/?)", TEXTS[page]))
    assert not sorted(path for path in paths if not file_exists(path, ROOT))


@pytest.mark.parametrize("page", TEXTS)
def test_pages_that_a_page_points_to_exist(page):
    folder = (ROOT / page).parent
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", TEXTS[page])
    pages = re.findall(r"`((?:\.\./)*[\w/-]+\.(?:md|csv))`", TEXTS[page])
    written = {"rate_distortion.md", "rate_distortion.csv"}  # files of any folder, named without it
    assert not [path for path in links if not file_exists(path, folder)]
    assert not [
        path for path in pages if path not in written and not file_exists(path, folder, DOCS, DOCS / "benchmarks", ROOT)
    ]
