"""What is loaded when: importing is cheap, engines and codecs load what they need and no more."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "dask", "zarr", "numcodecs", "distributed", "matplotlib", "scipy", "skimage", "rioxarray", "rasterio")


def loaded_after(program):
    """Heavy packages in a fresh process after a program."""
    code = f"import sys\n{program}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split()) & set(HEAVY)


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_after("import xsarcomp") <= loaded_after("import xarray")


@pytest.mark.parametrize(
    "module",
    [
        "accessor",
        "backend",
        "tiling",
        "codec.rate_control",
        "codec.installed_models",
        "codec.chunk",
        "latents.plan",
        "latents.metadata",
        "latents.encode",
        "scenes.sampling",
        "scenes.variables",
        "stores.transparent",
    ],
)
def test_modules_below_the_hosts_load_nothing_heavy(module):
    assert loaded_after(f"import xsarcomp.{module}") <= loaded_after("import xarray")


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
