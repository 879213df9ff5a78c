"""Shared fixtures: where the real data lies, and small simulated scenes."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def sar_data():
    """Folder of the real Sentinel-1 samples, or a skip that says how to provide it."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("XSARCOMP_DATA", default))
    if not (folder / "index.csv").is_file():
        pytest.skip(f"no real SAR data in {folder}: set XSARCOMP_DATA to the folder that holds index.csv")
    return folder
