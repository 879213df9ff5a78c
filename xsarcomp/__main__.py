"""The command as ``python -m xsarcomp``."""

from xsarcomp.cli import main

if __name__ == "__main__":
    main()
