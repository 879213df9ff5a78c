"""One array of dates and polarizations, as stackstac makes it, compressed: python from_stackstac.py [FOLDER]"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from affine import Affine

import xsarcomp  # noqa: F401  registers .sarcomp
from xsarcomp.scenes.simulation import simulated_dataset


def load_stack() -> xr.DataArray:
    """Simulated, with the dimensions, type and labels of stackstac: float64, NaN, objects among coordinates and attributes.

    In place of: stackstac.stack(items, assets=["vv", "vh"], epsg=32632, resolution=10, chunksize=2048)
    """
    dates = pd.date_range("2024-01-01", periods=2, freq="12D")
    scenes = [simulated_dataset((256, 320), seed=seed)[["vv", "vh"]].to_dataarray("band") for seed in range(len(dates))]
    stack = xr.concat(scenes, dim=dates.rename("time"), coords="minimal", compat="override").astype(np.float64)
    stack = stack.drop_vars("spatial_ref").rename("stackstac-0123").drop_attrs()
    stack = stack.assign_coords(y=stack.y + 5, x=stack.x - 5, band=["vv", "vh"], epsg=32632)
    stack = stack.assign_coords({"sar:polarizations": ((), np.array({"VV", "VH"}, object))})
    corner = (10.0, 0.0, float(stack.x[0]), 0.0, -10.0, float(stack.y[0]))
    stack.attrs = {"crs": "epsg:32632", "transform": Affine(*corner), "resolution": 10.0}
    return stack.chunk(time=1, band=1, y=256, x=256)


def main(folder: Path) -> None:
    stack = load_stack()
    # sets and dicts of the catalog stand in coordinates, and no Zarr store can hold them
    stack = stack.drop_vars([name for name, coordinate in stack.coords.items() if coordinate.dtype == object])

    encoded = stack.sarcomp.encode(bits_per_pixel=1)
    encoded.to_zarr(folder / "stack.zarr", mode="w", consolidated=False)

    decoded = xr.open_dataset(folder / "stack.zarr", engine="sarcomp", chunks={})[stack.name]
    print(f"{dict(decoded.sizes)}, {decoded.dtype}, {decoded.rio.crs}, {decoded.band.values}")
    metrics = decoded.compute().sarcomp.compare(stack.compute())
    print(f"RMSE {metrics['rmse_db']:.2f} dB over {metrics['valid_pixels']} valid pixels")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
