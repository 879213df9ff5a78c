"""The codec of one window of a scene and of one stored chunk: NumPy in, NumPy out.

``window`` and ``chunk`` are called by other rooms; ``coder`` is a model that is ready to use. Steps of the coder: ``lapped``,
``quantization``, ``contexts``, ``signs``, ``entropy_tables``, ``entropy_coding``, ``range_coder``, ``frame``, ``sections``.
Guarantees: ``settings``, ``guarantees``, ``error_bound``, ``tile_means``, ``residual_coding``. Models: ``model_card``,
``model_file``, ``installed_models``. Also ``rate_control`` and synthetic ``speckle`` with its ``speckle_spectrum``.
Compiled loops are in ``kernels``, the integer network is in ``network``.
May import radiometry, tiling and errors; never xarray, Dask or Zarr, and torch only in ``network``.
"""
