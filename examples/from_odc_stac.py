"""Data as odc-stac loads them, compressed date by date: python from_odc_stac.py [FOLDER]"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import xsarcomp  # noqa: F401  registers .sarcomp
from xsarcomp.scenes.simulation import simulated_dataset


def load_stack() -> xr.Dataset:
    """Simulated, with the dimensions, attributes and nodata of sentinel-1-rtc of the Planetary Computer.

    In place of: odc.stac.load(items, bands=["vv", "vh"], resolution=10, chunks={"x": 2048, "y": 2048})
    """
    dates = pd.date_range("2024-01-01", periods=3, freq="12D")
    scenes = [simulated_dataset((256, 320), seed=seed) for seed in range(len(dates))]
    stack = xr.concat(scenes, dim=dates.rename("time"), coords="minimal", compat="override")
    for name in ("vv", "vh"):
        stack[name] = stack[name].fillna(np.float32(-32768))  # odc-stac leaves declared nodata among the values
        stack[name].attrs = {"nodata": -32768}
        stack[name].encoding = {"grid_mapping": "spatial_ref"}
    return stack.drop_attrs(deep=False).chunk(time=1, y=256, x=256)


def main(folder: Path) -> None:
    stack = load_stack()
    encoded = stack.sarcomp.encode(bits_per_pixel=1)
    encoded.to_zarr(folder / "stack.zarr", mode="w", consolidated=False)

    decoded = xr.open_dataset(folder / "stack.zarr", engine="sarcomp", chunks={})
    print(f"{dict(decoded.sizes)}, {decoded.rio.crs}, scale: {encoded.sarcomp.info()['vv']['scale_reason']}")
    print(f"nodata: {decoded.vv.attrs['nodata']}, {int((decoded.vv == -32768).sum())} pixels, as before:", end=" ")
    print(bool(((decoded.vv == -32768) == (stack.vv == -32768)).all()))
    metrics = decoded.compute().sarcomp.compare(stack.compute())
    print(f"RMSE {metrics['rmse_db']:.2f} dB over {metrics['valid_pixels']} valid pixels")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
