"""Zarr stores: the only room that imports zarr and numcodecs.

Codecs that Zarr calls: ``codec_zarr``, ``codec_numcodecs``, ``codec_settings``; encodings of plain stores: ``transparent``.
Reading and writing: ``files``, ``opening``, ``report``, ``writing``, ``resuming``. Verification: ``verification``, ``manifest``,
``structure_checks``, ``chunk_checks``, ``listing``, ``stored_array``. May import latents and everything below it.
"""
