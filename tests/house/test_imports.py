"""Importing is cheap: engines and codecs load what they need and no more. Each law runs in a fresh process."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

HEAVY = (
    "torch", "dask", "zarr", "numcodecs", "numba", "distributed", "matplotlib", "scipy", "skimage", "rioxarray", "rasterio",
)  # fmt: skip
LIGHT = (
    "accessor", "backend", "tiling", "codec.rate_control", "codec.installed_models", "codec.chunk", "latents.plan",
    "latents.metadata", "latents.encode", "scenes.sampling", "scenes.variables", "stores.transparent",
)  # fmt: skip
"""Modules below the hosts."""


def loaded_after(program):
    """Heavy packages in a fresh process after a program."""
    code = f"import sys\n{program}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split()) & set(HEAVY)


def test_importing_the_package_and_the_modules_below_the_hosts_loads_nothing_heavy():
    program = (
        f"import importlib, xarray\nheavy = lambda: set({HEAVY}) & set(sys.modules)\n"
        "before = heavy()\nassert not before & {'torch', 'dask', 'zarr', 'numcodecs', 'numba'}, before\n"
        f"for name in ('xsarcomp', *(f'xsarcomp.{{module}}' for module in {LIGHT})):\n"
        "    importlib.import_module(name)\n"
        "    if heavy() - before:\n"
        "        sys.exit(f'{name} loads {heavy() - before}')"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys\n{program}"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_the_codecs_load_no_torch_and_no_dask():
    assert not loaded_after("import xsarcomp.stores.codec_zarr, xsarcomp.stores.codec_numcodecs") & {
        "torch",
        "dask",
        "rioxarray",
        "matplotlib",
    }


def test_listing_the_engines_of_xarray_loads_no_torch():
    found = loaded_after("import xarray\nassert 'sarcomp' in xarray.backends.list_engines()")
    assert "torch" not in found


def test_a_model_without_a_network_codes_without_torch_and_without_zarr():
    program = (
        "import numpy, xarray, xsarcomp\n"
        "values = xarray.DataArray(numpy.full((32, 32), 0.1, 'f4'), dims=('y', 'x'), name='vv')\n"
        "encoded = values.sarcomp.encode(rmse_db=1, scale='power', model='s1-grd-10m-lapped')\n"
        "assert encoded.sarcomp.decode().vv.shape == (32, 32)"
    )
    assert not loaded_after(program) & {"torch", "zarr", "matplotlib", "rioxarray"}
