"""The command line: one file per command. The only room that prints, reads the environment or catches broadly.

Files with commands do without ``from __future__ import annotations``: on Python 3.8 typer cannot
read options from strings.
"""
