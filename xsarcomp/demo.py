"""Demonstration behind ``xsarcomp demo`` and ``make demo``: one scene compressed into a store, decoded, and measured."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xarray as xr

from xsarcomp.errors import MissingDependencyError
from xsarcomp.scenes.choice import separate_bands
from xsarcomp.stores import files
from xsarcomp.stores.report import store_report

SIMULATED_SHAPE = (1024, 1024)
"""Rows and columns of the simulated scene."""
SEED = 2026
PICTURE_PIXELS = 512
"""Pixels of the picture along each axis, at most."""


def run_demo(source: str | None, output: Path, request: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Compress a scene into a latents store, decode it, measure it and draw it.

    Parameters
    ----------
    source : str or None
        Anything that :func:`xsarcomp.stores.files.open_scene` opens; a simulated Sentinel-1 scene if None.
    output : Path
        Folder for the store and the picture.
    request : dict
        Arguments of ``.sarcomp.encode``.

    Yields
    ------
    tuple of str
        Name and value of each result, as soon as it is known.
    """
    output.mkdir(parents=True, exist_ok=True)
    if source is None:
        from xsarcomp.scenes.simulation import simulated_dataset

        scene = simulated_dataset(SIMULATED_SHAPE, SEED).chunk()
        yield (
            "scene",
            f"simulated Sentinel-1 IW, {' x '.join(map(str, SIMULATED_SHAPE))} pixels, VV and VH, sigma0 power",
        )
    else:
        files.refuse_overlapping(source, str(output / "scene.zarr"))
        scene = separate_bands(files.open_scene(source), request.get("variables"))
        yield "scene", f"{source}: {dict(scene.sizes)}"
    store = str(output / "scene.zarr")
    files.write_store(scene.sarcomp.encode(**request), store, overwrite=True)
    report = store_report(store)
    first = next(iter(report.variables.values()))
    yield "scale", f"{first['scale']} ({first['scale_reason']})"
    yield "model", str(report.model)
    yield "store", store
    yield "original as float32", f"{4 * report.pixels / 1e6:.2f} MB"
    yield "coded", f"{report.payload_bytes / 1e6:.3f} MB, all of the store {report.stored_bytes / 1e6:.3f} MB"
    yield "rate", f"{report.bits_per_pixel:.3f} bits per pixel, 1/{report.ratio:.1f} of float32"
    decoded = xr.open_dataset(store, engine="sarcomp", chunks={})
    metrics = decoded.sarcomp.compare(scene, scale=first["scale"])
    yield "error", f"RMSE {metrics['rmse_db']:.3f} dB, largest {metrics['max_error_db']:.2f} dB"
    yield "ENL ratio", f"{metrics['enl_ratio']:.3f} (decoded over original, 1 is best)"
    yield "edge preservation", f"{metrics['edge_preservation']:.3f} (correlation of gradients, 1 is best)"
    yield "radiometric bias", f"{metrics['bias_db']:+.4f} dB of the mean power"
    yield (
        "valid pixels",
        f"{metrics['valid_pixels']} of {metrics['pixels']}, mask differs in {metrics['mask_mismatch_pixels']}",
    )
    yield "picture", _picture(scene, decoded, first["scale"], output / "comparison.png")


def _picture(scene: xr.Dataset, decoded: xr.Dataset, scale: str, path: Path) -> str:
    """Draw the middle of the scene: original, decoded, difference. Returns the path, or why there is no picture."""
    from xsarcomp.evaluation.pictures import save_comparison

    names = files.backscatter_variables(decoded)
    count = 1 if len(names) > 1 else 2  # a figure has one row a polarization
    planes = [[_middle(dataset[name], count) for name in names] for dataset in (scene, decoded)]
    original_values, decoded_values = (
        xr.concat(arrays, dim="polarization").data if len(arrays) > 1 else arrays[0].data for arrays in planes
    )
    try:
        save_comparison(path, original_values, decoded_values, scale, nodata=scene[names[0]].attrs.get("_FillValue"))
    except MissingDependencyError as error:
        return f"not drawn: {error}"
    return str(path)


def _middle(array: xr.DataArray, planes: int) -> xr.DataArray:
    """Middle of the first planes of an array, at most ``PICTURE_PIXELS`` along each axis, in memory."""
    from xsarcomp.scenes.variables import spatial_dimensions

    spatial = spatial_dimensions(array)
    cut = {
        name: slice(max(0, (size - PICTURE_PIXELS) // 2), max(0, (size - PICTURE_PIXELS) // 2) + PICTURE_PIXELS)
        for name, size in array.sizes.items()
        if name in spatial
    }
    leading = [name for name in array.dims if name not in spatial]
    cut |= {name: slice(0, planes) if name == leading[-1] else slice(0, 1) for name in leading}
    middle = array.isel(cut).transpose(*leading, *spatial)
    return middle.squeeze([name for name in leading if middle.sizes[name] == 1], drop=True).load()
