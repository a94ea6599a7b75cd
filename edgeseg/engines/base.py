"""Define the contract that every back end keeps; tests/engine_contract.py proves it for each of them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Mapping, Sequence

import numpy as np

from edgeseg.errors import EngineError
from edgeseg.spec import ModelSpec

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CLOSED", "Engine", "lanes_of", "require_shapes"]

CLOSED = "the engine is closed; open it again"
"""What an engine says that is used after its end."""

_MOST_LANES = 4
"""Each takes the memory of a frame's activations, and sources and sinks want to run too."""


class Engine(ABC):
    """A compiled graph, ready to run.

    An engine is open from the start; ``with`` or ``close`` frees it. After that ``infer`` raises EngineError. The
    engine owns its buffers: ``input`` may be filled in place, and what ``infer`` returns is valid until the next call
    or ``close``.

    Attributes:
        description: back end, graph and threads, for people.
        input: NxHxWx3 uint8 BGR buffer of the engine's own.
        scores: NxCxHxW float32 probability of every class, filled by ``infer`` and valid until the next call; None
            for graphs that were compiled without scores.
        spec: of the model, where ``open_engine`` opened it; None for an engine that was made of a bare graph.
        laps_ms: parts of the latest ``infer`` that the back end times itself, like ``h2d``, ``compute`` and
            ``d2h``.
    """

    description: str
    input: np.ndarray
    scores: np.ndarray | None = None
    spec: ModelSpec | None = None
    laps_ms: Mapping[str, float] = MappingProxyType({})

    def infer(self, frames: np.ndarray) -> np.ndarray:
        """Segment frames.

        Args:
            frames: NxHxWx3 uint8 BGR of exactly the graph's shape; ``self.input`` is taken without a copy.

        Returns:
            NxHxW uint8 class ids, valid until the next call.

        Raises:
            EngineError: the shape or dtype is wrong, the engine is closed, or the back end failed.
        """
        if frames.shape != self.input.shape or frames.dtype != np.uint8:
            raise EngineError(
                f"the engine takes {self.input.shape} uint8, got {frames.shape} {frames.dtype}; "
                "resize with ModelSpec.resized"
            )
        if frames is not self.input:
            np.copyto(self.input, frames)
        return self._run()

    def lanes(self) -> Sequence[Engine]:
        """Open engines of the same graph that may run at the same time, each with buffers of its own.

        They give the answers of this one and share its threads: a frame takes longer in one of them, and all of them
        together segment more frames per second, since threads of one frame wait for each other.

        Returns:
            Two or more, open, to be closed by whoever asked; none where this engine cannot, or has a single thread.

        Raises:
            EngineError: the engine is closed, or there is no memory for them.
        """
        return ()

    @abstractmethod
    def _run(self) -> np.ndarray:
        """Run on ``self.input``. Raises EngineError: the engine is closed, or the run failed."""

    @abstractmethod
    def close(self) -> None:
        """Free everything. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def lanes_of(threads: int) -> tuple[int, int]:
    """Return how many lanes an engine of so many threads has (0 is all cores), and the threads of each."""
    threads = threads or len(os.sched_getaffinity(0))
    lanes = min(threads, _MOST_LANES)
    return lanes, threads // lanes


def require_shapes(
    name: str, frame: Sequence[object], classes: Sequence[object], scores: Sequence[object] | None = None
) -> None:
    """Refuse a graph that does not map NxHxWx3 of fixed size to Nxhxw, and to NxCxhxw scores if it gives any.

    The class map is as large as the frame, or smaller by a whole factor where the last enlargement was left out.

    Args:
        name: name of the graph, for the message.
        frame: shape of its input; what is no number is not fixed.
        classes: shape of its first output.
        scores: shape of its second output; None without one.

    Raises:
        EngineError: a rank or size is another one, or is not fixed.
    """
    given = f"{name} maps {_by(frame)} to {_by(classes)}" + ("" if scores is None else f" and {_by(scores)}")
    sizes = [side for side in (*frame, *classes, *(scores or ())) if isinstance(side, int) and side > 0]
    if len(sizes) < len(frame) + len(classes) + len(scores or ()):
        raise EngineError(f"{given}; expected sizes that are fixed")
    fits = len(frame) == 4 and len(classes) == 3 and frame[0] == classes[0] and frame[3] == 3
    if not fits or not _is_smaller_by_a_factor(*sizes[1:3], *sizes[5:7]):
        raise EngineError(f"{given}; expected NxHxWx3 to NxHxW")
    if scores is not None and (len(scores) != 4 or [scores[0], *scores[2:]] != [*classes]):
        raise EngineError(f"{given}; expected NxHxWx3 to NxHxW and NxCxHxW scores")


def _is_smaller_by_a_factor(height: int, width: int, low_height: int, low_width: int) -> bool:
    factor = height // low_height
    return (height, width) == (factor * low_height, factor * low_width)


def _by(shape: Sequence[object]) -> str:
    return "x".join("?" if side is None else str(side) for side in shape) or "a scalar"
