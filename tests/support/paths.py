"""Folders of the checkout that tests read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""Root of the checkout."""
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"
GOLDEN = ROOT / "tests" / "format" / "golden"
"""Stored streams of all formats, and the program that wrote them."""
