"""The way of one window of a scene and of one stored chunk: NumPy in, NumPy out.

``window`` and ``chunk`` are its two doors, ``coder`` a ready model. Steps: ``lapped``, ``quantization``, ``contexts``, ``signs``,
``entropy_coding``, ``range_coder``, ``frame``, ``sections``. Guarantees: ``settings``, ``guarantees``, ``error_bound``, ``tile_means``,
``residual_coding``. Models: ``model_card``, ``model_file``, ``installed_models``. Also ``rate_control`` and ``speckle``.
May import radiometry, tiling and errors; never xarray, Dask or Zarr, and torch only in ``network``.
"""
