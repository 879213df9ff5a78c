"""A store that any reader of Zarr opens, and the latents of the other kind: python open_a_compressed_store.py [FOLDER]"""

import sys
import tempfile
from pathlib import Path

import xarray as xr

import xsarcomp  # noqa: F401  registers .sarcomp
from xsarcomp.scenes.simulation import simulated_dataset


def main(folder: Path) -> None:
    scene = simulated_dataset((384, 384), seed=2)

    # transparent: each chunk decodes itself, so the reader needs xsarcomp installed but calls nothing
    encoding = scene.sarcomp.encoding(rmse_db=0.8)
    scene.to_zarr(folder / "plain.zarr", mode="w", encoding=encoding, consolidated=False)
    plain = xr.open_zarr(folder / "plain.zarr", consolidated=False, decode_coords="all")  # all: with its CRS
    print(f"plain: variables {sorted(plain.data_vars)}, mean of vv {float(plain.vv.mean()):.4f}")
    window = plain.vv.isel(y=slice(100, 110), x=slice(100, 110))
    print(f"a window of {window.shape} reads only the chunks that it touches: {window.values.mean():.4f}")

    # latents: integers, for learning as they are, or decoded to backscatter
    scene.sarcomp.encode(rmse_db=0.8).to_zarr(folder / "latents.zarr", mode="w", consolidated=False)
    latents = xr.open_zarr(folder / "latents.zarr", consolidated=False)
    print(f"latents: {dict(latents.vv_latents.sizes)}, {float((latents.vv_latents != 0).mean()):.0%} are not zero")
    print(f"made with: {latents.sarcomp.info()['vv']['model']}, step {latents.sarcomp.info()['vv']['step_db']:.2f} dB")
    decoded = latents.sarcomp.decode()
    print(f"decoded: RMSE {decoded.sarcomp.compare(scene)['rmse_db']:.3f} dB, asked for 0.8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
