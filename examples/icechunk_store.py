"""A series of dates in an Icechunk repository: a commit for each, and the state before: python icechunk_store.py [FOLDER]"""

import sys
import tempfile
from pathlib import Path

import icechunk
import pandas as pd
import xarray as xr

import xsarcomp  # noqa: F401  registers .sarcomp
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.verification import verify_store


def simulated_scene(date: pd.Timestamp) -> xr.Dataset:
    return simulated_dataset((192, 256), seed=date.day_of_year).expand_dims(time=[date])


def open_stack(session: icechunk.Session) -> xr.Dataset:
    return xr.open_zarr(session.store, consolidated=False, decode_coords="all")


def main(folder: Path) -> None:
    # in place of: icechunk.s3_storage(bucket="...", prefix="stack", from_env=True)
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(folder / "stack")))
    first, *later = pd.date_range("2024-01-01", periods=3, freq="12D")

    session = repository.writable_session("main")
    scene = simulated_scene(first)  # a transparent store: dates can be appended, and every date keeps the bound
    scene.to_zarr(session.store, encoding=scene.sarcomp.encoding(max_error_db=1.0), consolidated=False)
    snapshot = session.commit(f"{first:%Y-%m-%d}")
    for date in later:
        session = repository.writable_session("main")
        simulated_scene(date).to_zarr(session.store, append_dim="time", consolidated=False)
        session.commit(f"{date:%Y-%m-%d}")  # readers see all of it or nothing

    stack = open_stack(repository.readonly_session("main"))
    before = open_stack(repository.readonly_session(snapshot_id=snapshot))
    print(f"now {stack.sizes['time']} dates, before {before.sizes['time']}; {stack.rio.crs}")
    print("history:", [commit.message for commit in repository.ancestry(branch="main")])
    originals = xr.concat(
        [simulated_scene(date) for date in [first, *later]], dim="time", coords="minimal", compat="override"
    )
    metrics = stack.sarcomp.compare(originals)
    print(f"RMSE {metrics['rmse_db']:.2f} dB, no pixel off by more than {metrics['max_error_db']:.2f} dB")
    print(f"sound: {verify_store(repository.readonly_session('main').store).ok}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
