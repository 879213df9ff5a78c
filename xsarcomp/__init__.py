"""Learned compression of Sentinel-1 backscatter for xarray, Dask and Zarr.

``import xsarcomp`` registers ``.sarcomp`` on DataArray, Dataset and DataTree, and the engine and the codecs where their entry
points are not found. The rooms of the package, from top to bottom::

    accessor, backend, cli   .sarcomp, engine="sarcomp", the command
    command_line/ arguments, words and output of the command
    benchmarks/   xsarcomp beside classical codecs
    models/       systems that can be trained, a folder each
    training/     one loop for every system
    evaluation/   comparison of two scenes; the report
    stores/       Zarr: codecs, writing, verification; files
    latents/      datasets of sigma0 or gamma0 to datasets of latents and back
    codec/        one window and one chunk, NumPy in and out
    scenes/       variables, lazy windows, rasters, simulated scenes
    metrics/      metrics of arrays
    radiometry/   scales, decibels, invalid pixels
    tiling, errors, display tiles with halo or overlap; the errors; words and tables that results show
    pretrained/   models that ship with the package

``docs/architecture.md`` describes the rooms, and the way of an array through them.
"""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import distribution as _distribution

from xsarcomp import accessor as _accessor  # registers .sarcomp
from xsarcomp import accessor_tree as _accessor_tree
from xsarcomp.backend import register_engine as _register_engine
from xsarcomp.errors import DomainWarning, SarcompError
from xsarcomp.stores.registration import register_codecs as _register_codecs

try:
    _installed = _distribution("xsarcomp")
    __version__ = _installed.version
    _entry_points = {(_entry.group, _entry.name) for _entry in _installed.entry_points}
except _PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"
    _entry_points = set()

_register_engine()
_register_codecs(_entry_points)

__all__ = ["DomainWarning", "SarcompError", "__version__"]

del _accessor, _accessor_tree
