"""Sentinel-1 backscatter as the tools and archives hand it out: dimensions, types, attributes, nodata, odd habits.

Imitations, except where a name begins with ``real``: those call the library itself on files that are written here. The values
are simulated. What is imitated was read in the libraries or written by them; the tests hold imitation and library together.
Each function gives a :class:`Product`: the data, and what has to be understood of it.
"""

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rioxarray  # noqa: F401  registers .rio
import xarray as xr

from xsarcomp.scenes.simulation import simulate_scene, simulated_dataset

TIMES = pd.DatetimeIndex(["2024-01-01", "2024-01-13"])
SHAPE = (136, 152)
PIXEL = 10.0


@dataclass(frozen=True)
class Product:
    """A product, and what has to be understood of it."""

    data: xr.Dataset | xr.DataArray
    scale: str
    names: tuple[str, ...]
    """Variables with backscatter."""
    epsg: int | None
    """Reference system that rioxarray finds; None where the product keeps it where rioxarray does not look."""
    nodata: float | None = None
    """Number that stands for no data."""
    left_out: tuple[str, ...] = field(default=())
    """Attributes that are objects of Python, which no store can hold."""


def planes(times: int = 2) -> dict[str, np.ndarray]:
    """Power of vv and vh: float32, shape (time, y, x), NaN along the borders."""
    scenes = [simulated_dataset(SHAPE, seed=seed) for seed in range(times)]
    return {name: np.stack([scene[name].values for scene in scenes]) for name in ("vv", "vh")}


def grid(first: float = 0.5) -> dict[str, np.ndarray]:
    """Coordinates of the pixels: centers, or top left corners for ``first=0``."""
    rows, columns = SHAPE
    return {"y": 5_400_000.0 - PIXEL * (np.arange(rows) + first), "x": 600_000.0 + PIXEL * (np.arange(columns) + first)}


def decibel(power: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return 10 * np.log10(power)


def odc_stac(nodata: float | None = -32768) -> Product:
    """``odc.stac.load`` 0.5.3 of a collection whose bands declare nodata, or do not."""
    data = xr.Dataset(coords={"y": grid()["y"], "x": grid()["x"], "time": TIMES.as_unit("us")}).rio.write_crs(32632)
    for name in ("y", "x"):
        step = PIXEL if name == "x" else -PIXEL
        data[name].attrs = {"units": "metre", "resolution": step, "crs": "EPSG:32632"}
    data["spatial_ref"] = data.spatial_ref.astype(np.int32).copy(data=np.int32(32632))
    data.spatial_ref.attrs["GeoTransform"] = "600000 10 0 5400000 0 -10"
    for name, values in planes().items():
        filled = values if nodata is None else np.where(np.isnan(values), np.float32(nodata), values)
        attributes = {} if nodata is None else {"nodata": int(nodata)}
        data[name] = xr.Variable(("time", "y", "x"), filled, attributes, {"grid_mapping": "spatial_ref"})
    return Product(data, "power", ("vv", "vh"), 32632, nodata)


def odc_stac_with_nan() -> Product:
    return odc_stac(None)


def stac_items(folder: Path, *, declared: bool) -> list:
    """Two items of files in a folder, as a catalogue would list them; nodata is declared in the items and the files or nowhere."""
    import pystac
    from rasterio.warp import transform_bounds

    items = []
    for number, time in enumerate(TIMES):
        scene = odc_stac(-32768 if declared else None).data.isel(time=number, drop=True)
        west, south, east, north = transform_bounds(32632, 4326, *scene.rio.bounds())
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        item = pystac.Item(
            id=f"S1A_{number}",
            geometry={"type": "Polygon", "coordinates": [ring]},
            bbox=[west, south, east, north],
            datetime=time.to_pydatetime().replace(tzinfo=datetime.UTC),
            properties={
                "sat:orbit_state": "ascending",
                "sar:polarizations": ["VV", "VH"],
                "proj:epsg": 32632,
                "proj:shape": list(SHAPE),
                "proj:transform": list(scene.rio.transform())[:6],
            },
        )
        for name in ("vv", "vh"):
            plane = scene[name].drop_attrs(deep=False)
            path = folder / f"{number}_{name}.tif"
            (plane.rio.write_nodata(-32768) if declared else plane).rio.to_raster(path)
            asset = pystac.Asset(href=str(path), title=name.upper(), media_type=pystac.MediaType.COG, roles=["data"])
            if declared:
                asset.extra_fields["raster:bands"] = [{"nodata": -32768, "data_type": "float32"}]
            item.add_asset(name, asset)
        items.append(item)
    return items


def real_odc_stac(folder: Path, *, declared: bool) -> xr.Dataset:
    """What ``odc.stac.load`` gives of the items, lazily."""
    import odc.stac

    return odc.stac.load(
        stac_items(folder, declared=declared),
        bands=["vv", "vh"],
        like=odc_stac().data.odc.geobox,
        chunks={"y": 100, "x": 100},
    )


@dataclass(frozen=True)
class RasterSpec:
    """What ``attrs["spec"]`` of stackstac is: an object with the grid in it."""

    epsg: int
    bounds: tuple[float, ...]
    resolutions_xy: tuple[float, float]


RasterSpec.__module__ = "stackstac.raster_spec"


def stackstac() -> Product:
    """``stackstac.stack`` 0.5.1: one float64 array, corners as coordinates, an object among the attributes, many coordinates."""
    from affine import Affine

    values = np.stack(list(planes().values()), axis=1).astype(np.float64)
    corners = grid(0)
    bounds = (corners["x"][0], corners["y"][-1] - PIXEL, corners["x"][-1] + PIXEL, corners["y"][0])
    array = xr.DataArray(
        values,
        dims=("time", "band", "y", "x"),
        coords={
            "time": TIMES.as_unit("ns"),
            "id": ("time", ["S1A_0", "S1A_1"]),
            "band": ["vv", "vh"],
            **corners,
            "sat:orbit_state": "ascending",
            "proj:epsg": 32632,
            "proj:shape": ((), np.array(set(SHAPE), object)),
            "proj:transform": ((), np.array({PIXEL, 0.0, -PIXEL}, object)),
            "sar:polarizations": ((), np.array({"VV", "VH"}, object)),
            "raster:bands": ((), np.array({"nodata": -32768, "data_type": "float32"}, object)),
            "title": ("band", ["VV", "VH"]),
            "epsg": 32632,
        },
        name="stackstac-7bf8086518be504de5efc434730a2691",
        attrs={
            "spec": RasterSpec(32632, bounds, (PIXEL, PIXEL)),
            "crs": "epsg:32632",
            "transform": Affine(PIXEL, 0.0, bounds[0], 0.0, -PIXEL, bounds[3]),
            "resolution": PIXEL,
        },
    )
    return Product(array, "power", (array.name,), 32632, left_out=("spec", "transform"))


def real_stackstac(folder: Path) -> xr.DataArray:
    """What ``stackstac.stack`` gives of the items."""
    import stackstac

    return stackstac.stack(stac_items(folder, declared=True), assets=["vv", "vh"], chunksize=100)


def xee(dims: tuple[str, ...] = ("time", "y", "x")) -> Product:
    """``xr.open_dataset("COPERNICUS/S1_GRD", engine="ee")``: decibels, and the size of a pixel as ``scale_factor`` in encoding."""
    coordinates = {"time": TIMES.as_unit("ns"), **{name: values.astype(np.float32) for name, values in grid().items()}}
    shape = (*SHAPE, PIXEL)
    angle = np.broadcast_to(np.linspace(31.1, 38.7, SHAPE[1]), (2, *SHAPE))
    bands = {"VV": decibel(planes()["vv"]), "VH": decibel(planes()["vh"]), "angle": angle}
    variables = {}
    for name, values in bands.items():
        attributes = {
            "id": name,
            "data_type": "{'type': 'PixelType', 'precision': 'double'}",
            "dimensions": list(shape[1::-1]),
            "crs": "EPSG:32632",
            "crs_transform": [PIXEL, 0, 600_000, 0, -PIXEL, 5_400_000],
        }
        encoding = {
            "source": name,
            "scale_factor": PIXEL,
            "scale_units": "meter",
            "dtype": np.dtype("float64"),
            "preferred_chunks": {"time": 48, "x": 512, "y": 256},
            "bounds": (600_000.0, 5_398_640.0, 601_520.0, 5_400_000.0),
        }
        variable = xr.Variable(("time", "y", "x"), values.astype(np.float64), attributes).transpose(*dims)
        variable.encoding = encoding
        variables[name] = variable
    return Product(xr.Dataset(variables, coordinates), "decibel", ("VV", "VH"), 32632)


def xee_before_0_1() -> Product:
    """The order of dimensions of earlier versions."""
    return xee(("time", "x", "y"))


def planetary_computer_rtc() -> Product:
    """sentinel-1-rtc: -32768 as declared nodata, and borders of scenes from before 2018 that are filled with zeros."""
    product = odc_stac()
    for name in product.names:
        product.data[name][:, :, -9:] = 0.0
    return product


def hyp3(code: str) -> xr.DataArray:
    """An RTC product of ASF HyP3, named after its file; 0 where there is no data."""
    power = planes(1)["vv"][0]
    values = {"p": power, "d": decibel(power), "a": np.sqrt(power)}[code]
    array = xr.DataArray(
        np.nan_to_num(values.astype(np.float32), nan=0.0),
        dims=("y", "x"),
        coords=grid(),
        name=f"S1A_IW_20240101T155531_DVP_RTC10_G_g{code}uned_5685_VV",
        attrs={"_FillValue": 0.0, "AREA_OR_POINT": "Area"},
    )
    return array.rio.write_crs(32632)


def hyp3_power() -> Product:
    return Product(hyp3("p"), "power", (hyp3("p").name,), 32632, 0)


def hyp3_decibel() -> Product:
    return Product(hyp3("d"), "decibel", (hyp3("d").name,), 32632, 0)


def hyp3_amplitude() -> Product:
    return Product(hyp3("a"), "amplitude", (hyp3("a").name,), 32632, 0)


def opera_rtc() -> Product:
    """OPERA RTC-S1 of a burst: gamma0 at 30 m with NaN, and a mask of layover and shadow."""
    values = planes(1)
    y, x = (
        coordinate[0] + np.sign(coordinate[1] - coordinate[0]) * 30.0 * np.arange(coordinate.size)
        for coordinate in grid().values()
    )
    mask = np.where(np.isnan(values["vv"][0]), 255, 0).astype(np.uint8)
    mask[40:50, 60:90] = 2
    data = xr.Dataset(
        {
            "VV": (
                ("y", "x"),
                values["vv"][0],
                {"long_name": "radiometric terrain-corrected backscatter VV", "units": "1"},
            ),
            "VH": (
                ("y", "x"),
                values["vh"][0],
                {"long_name": "radiometric terrain-corrected backscatter VH", "units": "1"},
            ),
            "mask": (("y", "x"), mask, {"long_name": "layover/shadow mask"}),
        },
        coords={"y": y, "x": x},
    )
    for name in ("VV", "VH"):
        data[name].encoding["_FillValue"] = np.float32(np.nan)
    return Product(data.rio.write_crs(32632), "power", ("VV", "VH"), 32632)


def ssl4eo() -> Product:
    """A file of SSL4EO-S12 v1.1: decibels in float16, a reference system for each sample; two samples of one date, not 64 of four."""
    samples, dates, edge = 2, 1, 264
    rng = np.random.default_rng(4)
    scenes = [simulate_scene((edge, edge), seed=seed, nodata_border=False) for seed in range(samples * dates)]
    values = decibel(np.stack(scenes))
    data = xr.Dataset(
        {
            "bands": (
                ("sample", "time", "band", "y", "x"),
                values.reshape(samples, dates, 2, edge, edge).astype(np.float16),
            )
        },
        coords={
            "band": ["vv", "vh"],
            "sample": [f"ssl4eos12_train_{number:07d}" for number in range(samples)],
            "center_lat": ("sample", rng.uniform(-40, 60, samples)),
            "center_lon": ("sample", rng.uniform(-180, 180, samples)),
            "crs": ("sample", [32632, 32745]),
            "time_": (
                ("sample", "time"),
                np.array(["2020-01-03"] * samples * dates, "datetime64[ns]").reshape(samples, dates),
            ),
            "x_": (("sample", "x"), np.tile(np.arange(edge) * PIXEL, (samples, 1))),
            "y_": (("sample", "y"), np.tile(-np.arange(edge) * PIXEL, (samples, 1))),
        },
    )
    return Product(data, "decibel", ("bands",), None)


def eopf(dtype: Any = np.uint16) -> xr.Dataset:
    """The group ``measurements`` of a Sentinel-1 GRD product in EOPF's Zarr: digital numbers that were not calibrated."""
    amplitude = np.sqrt(np.nan_to_num(planes(1)["vv"][0])) * 620
    times = np.datetime64("2024-01-01T05:30:00", "ns") + np.arange(SHAPE[0]) * np.timedelta64(1_500_000, "ns")
    return xr.Dataset(
        {
            "grd": (
                ("azimuth_time", "ground_range"),
                np.rint(amplitude).astype(dtype),
                {"long_name": "measurement data set for GRD IW"},
            )
        },
        coords={
            "azimuth_time": times,
            "ground_range": PIXEL * np.arange(SHAPE[1], dtype=np.float64),
            "line": ("azimuth_time", np.arange(SHAPE[0])),
            "pixel": ("ground_range", np.arange(SHAPE[1])),
        },
    )


PRODUCTS = [
    odc_stac,
    odc_stac_with_nan,
    stackstac,
    xee,
    xee_before_0_1,
    planetary_computer_rtc,
    hyp3_power,
    hyp3_decibel,
    hyp3_amplitude,
    opera_rtc,
    ssl4eo,
]
