"""Benchmark of the models against classical codecs: the same planes, rates and errors for all.

``table`` runs it (``xsarcomp benchmark``) and ``markdown`` writes the result. ``planes`` reads scenes, ``measurement`` measures
a codec on them, ``bootstrap`` gives confidence intervals. The codecs are in ``model_codecs`` (ours), ``classical`` and
``video``; ``gaussian_bound`` estimates what a Gaussian model of the scenes would need.

Nothing but the command line and ``examples/studies`` imports this room. It may import every room except the accessors.
"""
