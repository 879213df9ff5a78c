"""Datasets of backscatter to datasets of latents, and back.

``plan`` decides with the help of ``look``; ``encode`` and ``decode`` are the two ways; ``metadata`` is what travels between them.
``guarantees``, ``overview``, ``plane_steps``, ``append``, ``speckle_keys`` and ``domain_warning`` serve both; ``info`` and
``statistics`` describe. May import codec, scenes and what is below; Dask only through ``scenes.windows``.
"""
