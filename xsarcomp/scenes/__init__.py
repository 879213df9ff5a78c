"""Scenes as xarray datasets: files, variables, windows, simulation. Imports radiometry, metrics, tiling and errors.

- ``rasters``: GeoTIFF and NetCDF files, in and out.  ``variables``: backscatter, dimensions, polarizations, nodata.
- ``windows``: lazy arrays computed window by window.  ``calls``: writes run block by block. Only these two import Dask.
- ``sampling``: windows that represent a variable.
- ``simulation``: scenes with known speckle.  ``land_cover``: the landscape under them.
- ``large_scene``: scenes of any size, computed where they are read.
"""
