"""The commands in tests: :func:`run` in a new process, :func:`run_here` in this one, and sources to run them on.

:func:`write_geotiff` and :func:`stack` make the sources, :func:`strict_json` reads what ``--json`` prints.
"""

import contextlib
import io
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xsarcomp.cli import main
from xsarcomp.scenes.simulation import simulated_dataset

COMMAND = [sys.executable, "-c", "from xsarcomp.cli import main; main()"]
NODATA = {"nan": ("power", np.nan), "zero": ("decibel", 0.0), "minus-9999": ("decibel", -9999.0)}
STORES = {"latents": [], "transparent": ["--transparent"]}


def run(*arguments, folder, status=0):
    """Run a command in a folder; its standard output and error."""
    finished = subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=600, env={**os.environ}
    )
    assert finished.returncode == status, finished.stderr
    return finished.stdout, finished.stderr


def run_here(*arguments, folder, status=0):
    """The same without a new process, for speed."""
    output, errors = io.StringIO(), io.StringIO()
    found = 0
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setattr(sys, "argv", ["xsarcomp", *map(str, arguments)])
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                main()
            except SystemExit as stop:
                found = stop.code
    assert found == status, errors.getvalue()
    return output.getvalue(), errors.getvalue()


def refuse_constant(name):
    raise AssertionError(f"{name} is not JSON")


def strict_json(text):
    return json.loads(text, parse_constant=refuse_constant)


def write_geotiff(path, scale="power", nodata=np.nan, shape=(200, 216)):
    scene = simulated_dataset(shape, 3, scale)
    bands = xr.concat([scene.vv, scene.vh], dim="band", combine_attrs="drop").fillna(nodata)
    bands.attrs = {"long_name": ("vv", "vh")}
    bands.rio.write_nodata(nodata).rio.to_raster(path)


def stack():
    times = pd.date_range("2024-01-01", periods=3, freq="12D", name="time")
    scenes = [simulated_dataset((96, 120), seed) for seed in range(3)]
    joined = xr.concat(scenes, dim=times, coords="minimal", compat="override")
    joined["angle"] = (("y", "x"), np.linspace(30, 45, 96 * 120, dtype=np.float32).reshape(96, 120))
    return joined.assign_attrs(history="made for a test")
