"""Words and tables for terminals and notebooks: what the results of the package look like when they are shown.

Everything shown may come from a stranger's store, so all text goes through :mod:`xsarcomp.display.words`, and all markup is made
in :mod:`xsarcomp.display.tables`.
"""
