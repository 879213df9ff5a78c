"""Write golden stores of the current format version into new folders; refuses to touch one that exists.

usage: python tests/format/golden/write.py VERSION

Older versions were written by older versions of this file and of the package; ``cases.py`` says what their streams are.
"""

import hashlib
import sys
import warnings
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from leveled_cases import STREAMS

import xsarcomp  # noqa: F401  registers .sarcomp
from xsarcomp.codec.installed_models import resolve_model
from xsarcomp.scenes.simulation import simulated_dataset
from xsarcomp.stores.codec_numcodecs import BackscatterCodec

GOLDEN = Path(__file__).parent


def latents(folder: Path) -> np.ndarray:
    """Latents store of a scene in power with every kind of invalid pixel, as ``encode`` makes it by default."""
    scene = simulated_dataset((66, 34), 11)
    scene.vv[3:9, 4:30] = 0.0
    scene.vv[20, 20:24] = -1e-4
    scene.vh[0, 0] = np.inf
    encoded = scene.sarcomp.encode(bits_per_pixel=1.5)
    encoded.to_zarr(folder, zarr_format=3, consolidated=False, mode="w-")
    decoded = xr.open_zarr(folder, consolidated=False).sarcomp.decode()
    return np.stack([decoded.vv.values, decoded.vh.values])


def transparent(folder: Path) -> np.ndarray:
    """Transparent store of Zarr format 3 in decibel, with chunks that end outside the array."""
    scene = simulated_dataset((66, 52), 12, scale="decibel").drop_vars("vh").chunk(y=48, x=48)
    encoding = scene.sarcomp.encoding(bits_per_pixel=1.0)
    scene.to_zarr(folder, zarr_format=3, consolidated=False, mode="w-", encoding=encoding)
    return xr.open_zarr(folder, consolidated=False).vv.values


def format_2(folder: Path) -> np.ndarray:
    """Array of Zarr format 2 in Fortran order, digital numbers as amplitude, in chunks of several tiles."""
    power = simulated_dataset((66, 70), 13).vh.values
    numbers = np.nan_to_num(np.sqrt(power) * 1000).astype(np.uint16)
    codec = BackscatterCodec(resolve_model("s1-grd-10m-lapped"), 2.0, "amplitude", 0, keep_means=True)
    array = zarr.create_array(
        folder,
        shape=numbers.shape,
        chunks=(66, 66),
        dtype="u2",
        zarr_format=2,
        order="F",
        compressors=[codec],
        fill_value=0,
    )
    array[:] = numbers
    return zarr.open_array(folder, mode="r")[:]


def sums() -> str:
    """Hash of every golden file, in the format of sha256sum."""
    files = sorted(path for path in GOLDEN.rglob("*") if path.is_file() and path.suffix not in (".md", ".py", ".pyc"))
    files.remove(GOLDEN / "SHA256SUMS")
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(GOLDEN).as_posix()}\n" for path in files
    )


def main(version: str) -> None:
    """Write all stores and the list of hashes."""
    stores = {"latents": latents, "zarr3": transparent, "zarr2": format_2}
    writers = {f"{name}-{version}": write for name, write in stores.items()}
    writers |= {f"streams-{version}/{name}": stream.write for name, stream in STREAMS.items()}
    check_unchanged([name for name in writers if (GOLDEN / name).exists()])
    for name, write in writers.items():
        (GOLDEN / name).parent.mkdir(exist_ok=True)
        with warnings.catch_warnings(category=UserWarning, action="ignore"):  # values unlike the training data
            np.save(GOLDEN / f"{name}.npy", write(GOLDEN / name))
    (GOLDEN / "SHA256SUMS").write_text(sums())


def check_unchanged(existing: list[str]) -> None:
    """Stop if something is there already, or if what is listed is not what is there."""
    if existing:
        sys.exit(f"{', '.join(existing)} exists: golden stores are written once")
    for line in (GOLDEN / "SHA256SUMS").read_text().splitlines():
        expected, name = line.split("  ")
        path = GOLDEN / name
        if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            sys.exit(f"{name} was changed: restore it, golden stores are written once")


if __name__ == "__main__":
    main(sys.argv[1])
