"""Comparison of restored with original scenes: metrics in one dictionary, pictures, an HTML report.

``compare`` is the entry; ``matching`` pairs the planes of two scenes, ``plane_pair`` holds such a pair and cuts it into
pieces, ``pooling`` and ``map_sums`` add up the metrics of pieces, ``glossary`` explains each metric, ``pictures`` draws
scenes, ``report`` writes the page.

May import stores, latents, codec, scenes, radiometry, metrics, tiling and errors; not torch, dask or zarr.
"""
