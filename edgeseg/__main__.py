"""Run the command line as ``python -m edgeseg``."""

from edgeseg.cli.main import main

main()
