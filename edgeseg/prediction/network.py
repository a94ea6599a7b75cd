"""What a prediction asks of a network: probabilities for a picture of its size."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from edgeseg.engines.base import Engine
from edgeseg.errors import EngineError
from edgeseg.spec import ModelSpec

__all__ = ["EngineNetwork", "ScoringNetwork"]


class ScoringNetwork(Protocol):
    """A network that gives the probability of every class.

    Attributes:
        spec: classes and size.
        description: what runs it, for people.
    """

    spec: ModelSpec
    description: str

    def probabilities(self, frame: np.ndarray) -> np.ndarray:
        """Return CxHxW float32 for a frame HxWx3 uint8 BGR of ``spec.size_hw``; the caller may write into it.

        H and W of the answer may be smaller by a whole factor.
        """
        ...

    def close(self) -> None:
        """Free everything. May be called twice."""
        ...


class EngineNetwork:
    """The network of an engine whose graph gives scores.

    Args:
        engine: open; closed by ``close``. Of an engine for batches the first place is used.
        spec: of its model.

    Raises:
        EngineError: the engine's graph was compiled without scores.
    """

    def __init__(self, engine: Engine, spec: ModelSpec) -> None:
        if engine.scores is None:
            raise EngineError(
                f"{engine.description} gives classes only; predict with a model of 'edgeseg compile --scores', or with "
                "the graph fp32 on the CPU"
            )
        self.spec, self.description, self._engine = spec, engine.description, engine

    def probabilities(self, frame: np.ndarray) -> np.ndarray:
        """Return CxHxW float32 for a frame HxWx3 uint8 BGR of ``spec.size_hw``. Raises EngineError."""
        np.copyto(self._engine.input[0], frame)
        self._engine.infer(self._engine.input)
        assert self._engine.scores is not None
        return np.array(self._engine.scores[0])

    def close(self) -> None:
        """Free the engine. May be called twice."""
        self._engine.close()
