"""A time series: compressed date by date, appended to, and read as one pixel over time: python time_stack.py [FOLDER]"""

import sys
import tempfile
from pathlib import Path

import pandas as pd
import xarray as xr

import xsarcomp  # noqa: F401  registers .sarcomp
from xsarcomp.scenes.simulation import simulated_dataset


def simulated_stack(dates: pd.DatetimeIndex) -> xr.Dataset:
    """Simulated scenes of one place; in place of: xr.open_mfdataset("*.nc")."""
    scenes = [simulated_dataset((192, 256), seed=int(date.day_of_year)) for date in dates]
    return xr.concat(scenes, dim=dates.rename("time"), coords="minimal", compat="override")


def main(folder: Path) -> None:
    dates = pd.date_range("2024-01-01", periods=5, freq="12D")
    stack = simulated_stack(dates)

    # chunks of the transparent store hold one date each, so dates can be appended later: with the step of the first ones
    first, later = stack.isel(time=slice(0, 4)), stack.isel(time=slice(4, None))
    encoding = first.sarcomp.encoding(ratio=32)
    first.sarcomp.to_zarr(folder / "stack.zarr", mode="w", encoding=encoding, consolidated=False)
    later.sarcomp.append(folder / "stack.zarr")

    stored = xr.open_zarr(folder / "stack.zarr", consolidated=False, decode_coords="all")
    print(f"{dict(stored.sizes)}, {stored.rio.crs}")
    print("one pixel over time:", stored.vv.isel(y=96, x=128).values.round(3))
    metrics = stored.sarcomp.compare(stack)
    print(f"RMSE {metrics['rmse_db']:.2f} dB over {metrics['valid_pixels']} valid pixels")

    # latents grow in the same way
    first.sarcomp.encode(ratio=32).sarcomp.to_zarr(folder / "latents.zarr", mode="w", consolidated=False)
    later.sarcomp.append(folder / "latents.zarr")
    decoded = xr.open_dataset(folder / "latents.zarr", engine="sarcomp", chunks={})
    print(f"latents of {decoded.sizes['time']} dates, RMSE {decoded.sarcomp.compare(stack)['rmse_db']:.2f} dB")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
