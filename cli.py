"""Launcher: `python cli.py VERB` in a checkout is the same as the console script `relook VERB`."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
