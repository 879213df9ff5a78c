"""A store of few, larger objects behind a URL, as object stores like them: python object_store.py [FOLDER]"""

import sys
import tempfile
from pathlib import Path

import xarray as xr

import xsarcomp  # noqa: F401  registers .sarcomp
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.report import store_report
from xsarcomp.stores.verification import verify_store, write_manifest


def main(folder: Path) -> None:
    # in place of: url, options = "s3://bucket/scene.zarr", {"endpoint_url": "https://...", "anon": False}
    url, options = f"file://{folder}/scene.zarr", {"auto_mkdir": True}
    scene = simulated_dataset((1024, 1024), seed=5).chunk(y=1024, x=1024)

    encoded = scene.sarcomp.encode(max_error_db=2.0)
    for variable in encoded.data_vars.values():
        if "chunks" in variable.encoding:  # 2 x 2 chunks in each object; a block of Dask must hold whole objects
            *planes, rows, columns = variable.encoding["chunks"]
            variable.encoding["shards"] = (*planes, 2 * rows, 2 * columns)
    encoded.to_zarr(url, mode="w", storage_options=options, consolidated=False)
    write_manifest(url, storage_options=options)  # what belongs where, so that a lost object is noticed

    report = store_report(url, storage_options=options)
    print(f"{report.objects} objects, {report.stored_bytes} bytes, {report.ratio:.0f} times fewer for the pixels")
    decoded = xr.open_dataset(url, engine="sarcomp", storage_options=options)
    window = decoded.isel(
        y=slice(600, 700), x=slice(100, 200)
    ).load()  # reads the chunks that it needs, not whole objects
    metrics = window.sarcomp.compare(scene.isel(y=slice(600, 700), x=slice(100, 200)).compute())
    print(f"RMSE {metrics['rmse_db']:.2f} dB, no pixel off by more than {metrics['max_error_db']:.2f} dB")
    print(f"sound: {verify_store(url, storage_options=options).ok}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
