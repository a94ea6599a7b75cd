"""Run a compiled graph: the Engine contract and one file per back end."""
