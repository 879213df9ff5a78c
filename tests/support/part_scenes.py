"""Small scenes, their latents, and the ways to read a store of them, for tests of what happens to parts."""

import xarray as xr

from xsarcomp.scenes.simulation import simulated_dataset

MODEL = "s1-grd-10m-lapped"
STORED = {"zarr_format": 3, "consolidated": False}
SIZE = 64


def scene(seed=1, size=SIZE, polarizations=("vv",)):
    """A square scene in power whose coordinates have 10 m, with a value that is no backscatter."""
    values = simulated_dataset((size, size), seed=seed)[list(polarizations)].drop_vars("spatial_ref")
    values.vv[1, 2] = -1e-3
    return values


def encode(dataset, **request):
    return dataset.sarcomp.encode(**({"rmse_db": 1.0} | request), model=MODEL, scale="power")


def opened(path, **options):
    return xr.open_zarr(path, consolidated=False, **options)


def ways_to_read(path):
    return {
        "decode": lambda: opened(path).sarcomp.decode().vv.load(),
        "in memory": lambda: opened(path, chunks=None).load().sarcomp.decode().vv,
        "engine": lambda: xr.open_dataset(path, engine="sarcomp").vv.load(),
        "overview": lambda: opened(path).sarcomp.decode(overview=8).vv.load(),
        "overview by the engine": lambda: xr.open_dataset(path, engine="sarcomp", overview=8).vv.load(),
    }
