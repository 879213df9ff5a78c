"""Datasets of backscatter to datasets of latents, and back.

``plan`` decides scale and step after ``inspection`` of a sample; ``append`` plans like earlier latents. ``encode`` and
``decode`` convert, in ``windows`` that they share; ``layout`` says how a store holds each part, ``guarantees`` computes
residuals and gains, ``plane_steps`` keeps the step of each plane, ``metadata`` is the JSON attribute that decoding starts from.
``overview`` and ``overview_grid`` decode quicklooks, ``speckle_keys`` seeds synthetic speckle, ``domain_warning`` compares with
the training data, ``info`` and ``statistics`` describe. May import codec, scenes and what is below; Dask only through scenes.
"""
