"""Arguments, output and messages of the command ``xsarcomp``, whose calls are in :mod:`xsarcomp.cli`.

``arguments`` has the types of arguments and the options that commands share, ``output`` tables, JSON and progress, and
``messages`` the words of errors. No heavy import: ``--help`` answers at once.
"""
