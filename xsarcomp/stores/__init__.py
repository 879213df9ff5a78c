"""Zarr stores: the only room that imports zarr and numcodecs.

Codecs that Zarr calls: ``codec_zarr`` (format 3), ``codec_numcodecs`` (format 2), ``codec_settings`` (their common settings);
``transparent`` plans encodings of transparent stores. Reading and writing: ``files`` (paths and URLs), ``opening``,
``report`` (rate and sizes), ``writing`` (block by block), ``array_writes``, ``resuming`` (partial stores). Verification: ``verification``,
``manifest`` (format), ``structure_checks`` (whole stores), ``chunk_checks`` (single chunks), ``listing`` (groups),
``stored_array`` (chunks as bytes). May import latents and every room below it.
"""
