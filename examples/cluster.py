"""Compress and restore on the processes of a Dask cluster: python cluster.py [FOLDER]"""

import sys
import tempfile
from pathlib import Path

import xarray as xr
from distributed import Client, LocalCluster

import xsarcomp  # noqa: F401  registers .sarcomp
from xsarcomp.scenes.simulation import simulated_dataset


def main(folder: Path) -> None:
    # the graph carries the id of the model; each process loads the verified weights itself, once
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        print(f"{len(client.scheduler_info()['workers'])} processes")
        scene = simulated_dataset((768, 768), seed=4).chunk(y=512, x=512)
        encoded = scene.sarcomp.encode(preset="browse")
        encoded.to_zarr(folder / "scene.zarr", mode="w", consolidated=False)

        decoded = xr.open_dataset(folder / "scene.zarr", engine="sarcomp", chunks={})
        print(f"mean of vv on the cluster: {float(decoded.vv.mean().compute()):.4f}")
        restored = decoded.compute()
    metrics = restored.sarcomp.compare(scene.compute())
    print(f"RMSE {metrics['rmse_db']:.2f} dB at a quarter of a bit per pixel")


if __name__ == "__main__":  # the processes import this file: without the guard each would start a cluster
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
