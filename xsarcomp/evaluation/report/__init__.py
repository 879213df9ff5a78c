"""HTML report of a comparison: one page that needs no other file.

``digest`` reduces a plane of any size to what its pictures need, ``histograms`` counts its values piece by piece,
``digest_pictures`` draws a digest, ``page`` fills the template ``page.html.jinja``.

May import what :mod:`xsarcomp.evaluation` may; Jinja and Matplotlib only inside functions, because they are optional.
"""
