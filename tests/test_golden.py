"""Golden stores: written once, decoded for ever. This file never writes one."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import xsarcomp  # noqa: F401  registers .sarcomp

GOLDEN = Path(__file__).parent / "golden"
LISTED = dict(reversed(line.split("  ")) for line in (GOLDEN / "SHA256SUMS").read_text().splitlines())
PIXEL_TOLERANCE_DB = 0.002  # what pixels may differ by between machines; symbols never


def decoded(name):
    folder = GOLDEN / name
    if name.startswith("latents"):
        dataset = xr.open_zarr(folder, consolidated=False).sarcomp.decode()
        return np.stack([dataset.vv.values, dataset.vh.values]), "power"
    if name.startswith("zarr3"):
        return xr.open_zarr(folder, consolidated=False).vv.values, "decibel"
    return zarr.open_array(folder, mode="r")[:], "amplitude"


NAMES = sorted(path.stem if path.suffix != ".npy" else path.name[:-4] for path in GOLDEN.glob("*.npy"))


def test_every_golden_file_is_listed_and_unchanged_and_none_is_missing():
    present = {
        path.relative_to(GOLDEN).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in GOLDEN.rglob("*")
        if path.is_file()
        and path.name not in ("README.md", "SHA256SUMS", "write.py")
        and "__pycache__" not in path.parts
    }
    assert present == LISTED


def test_there_is_a_golden_store_of_each_format():
    assert {re.sub(r"-[\d.]+$", "", name) for name in NAMES} == {"latents", "zarr3", "zarr2"}


@pytest.mark.parametrize("name", NAMES)
def test_golden_store_decodes_to_the_values_that_were_written_with_it(name):
    values, scale = decoded(name)
    expected = np.load(GOLDEN / f"{name}.npy", allow_pickle=False)
    assert values.dtype == expected.dtype
    invalid = ~np.isfinite(expected) if scale == "decibel" else ~(np.isfinite(expected) & (expected > 0))
    np.testing.assert_array_equal(values[invalid], expected[invalid])
    if expected.dtype.kind == "u":  # rounding to integers may fall the other way
        assert np.abs(values.astype(int) - expected.astype(int)).max() <= 1
        return
    factor = {"power": 10.0, "decibel": None}[scale]
    both = [array[~invalid].astype(np.float64) for array in (values, expected)]
    both = both if factor is None else [factor * np.log10(array) for array in both]
    assert np.abs(both[0] - both[1]).max() <= PIXEL_TOLERANCE_DB


def test_golden_stores_are_never_written_again():
    version = NAMES[0].split("-")[1]
    run = subprocess.run([sys.executable, GOLDEN / "write.py", version], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "written once" in run.stderr


def test_the_lowest_latents_alone_are_those_of_the_golden_store():
    for name in ("vv_latents", "vh_latents"):
        array = zarr.open_array(GOLDEN / "latents-1.0" / name, mode="r")
        assert array[:].any()
        np.testing.assert_array_equal(array[:1], array[:][:1])
        np.testing.assert_array_equal(array[0], array[:][0])
