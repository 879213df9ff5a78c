"""Compress a scene to a Zarr store, open it again and measure what was lost: python compress_a_scene.py [FOLDER]"""

import sys
import tempfile
from pathlib import Path

import xarray as xr

import xsarcomp  # noqa: F401  registers .sarcomp
from xsarcomp.scenes.simulation import simulated_dataset


def main(folder: Path) -> None:
    # in place of: xr.open_dataset("scene.tif", engine="rasterio", chunks={})
    scene = simulated_dataset((512, 640), seed=1).chunk(y=256, x=256)

    encoded = scene.sarcomp.encode(bits_per_pixel=1)  # lazy; or ratio=32, rmse_db=0.8, preset="browse"
    encoded.to_zarr(folder / "scene.zarr", mode="w", consolidated=False)

    decoded = xr.open_dataset(folder / "scene.zarr", engine="sarcomp", chunks={})
    metrics = decoded.sarcomp.compare(scene)
    stored = sum(path.stat().st_size for path in (folder / "scene.zarr").rglob("*") if path.is_file())
    print(f"float32: {scene.vv.nbytes + scene.vh.nbytes} bytes, store with all of its metadata: {stored} bytes")
    print(f"RMSE {metrics['rmse_db']:.2f} dB, bias of the mean power {metrics['bias_db']:+.3f} dB")
    print(f"reference system: {decoded.rio.crs}, invalid pixels: {int(decoded.vv.isnull().sum())}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
