"""Run a compiled graph: the Engine contract and one file per back end."""

from edgeseg.engines.base import Engine
from edgeseg.engines.select import engine_from_bundle

__all__ = ["Engine", "engine_from_bundle"]
