"""Graph simplification by onnxsim or onnxslim, believed only after the outputs were compared."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterator

import numpy as np

from edgeseg.compiler.graph.onnx_graph import dims_of
from edgeseg.compiler.graph.run import opened_onnx
from edgeseg.errors import CompileError, MissingDependencyError, require

if TYPE_CHECKING:
    import onnx

__all__ = ["SIMPLIFIERS", "Simplified", "simplified_onnx"]

SIMPLIFIERS = ("onnxsim", "onnxslim", "none")


@dataclass(frozen=True)
class Simplified:
    """A simplified model, node counts before and after, and the largest output difference that was seen."""

    model: onnx.ModelProto
    simplifier: str
    nodes_before: int
    nodes_after: int
    max_difference: float


def simplified_onnx(model: onnx.ModelProto, simplifier: str = "onnxsim") -> Simplified:
    """Simplify a float model with one static float32 input.

    Args:
        model: the graph.
        simplifier: ``"onnxsim"``, ``"onnxslim"`` (pure Python, where onnxsim has no wheel) or ``"none"``.

    Raises:
        MissingDependencyError: the simplifier is not installed; the message names the other one.
        CompileError: the simplified graph computes something else.
    """
    before = len(model.graph.node)
    simplified = _simplify(model, simplifier)
    difference = _largest_difference(model, simplified)
    if not difference <= 1e-4:
        raise CompileError(
            f"{simplifier} changed what the graph computes (largest relative difference {difference:.2g}); "
            "pass `simplifier` with another of " + ", ".join(SIMPLIFIERS)
        )
    return Simplified(simplified, simplifier, before, len(simplified.graph.node), difference)


def _simplify(model: onnx.ModelProto, simplifier: str) -> onnx.ModelProto:
    if simplifier == "none":
        return model
    if simplifier not in SIMPLIFIERS:
        raise CompileError(f"no simplifier {simplifier!r}; there are {', '.join(SIMPLIFIERS)}")
    try:
        tool = require(simplifier, "compile")
    except MissingDependencyError as error:
        other = next(name for name in SIMPLIFIERS if name != simplifier)
        raise MissingDependencyError(f"{error}, or pass `simplifier` {other}") from error
    if simplifier == "onnxslim":
        slim: onnx.ModelProto = tool.slim(model)
        return slim
    simplified: onnx.ModelProto
    with _silence():
        simplified, _ = tool.simplify(model)
    return simplified


@contextmanager
def _silence() -> Iterator[None]:
    """The native part of onnxsim writes a line per operator that it cannot compute beforehand."""
    kept = [os.dup(1), os.dup(2)]
    try:
        with open(os.devnull, "wb") as nowhere:
            for target in (1, 2):
                os.dup2(nowhere.fileno(), target)
        yield
    finally:
        for target, before in zip((1, 2), kept):
            os.dup2(before, target)
            os.close(before)


def _largest_difference(before: onnx.ModelProto, after: onnx.ModelProto) -> float:
    """Largest output difference on three random inputs, relative to the largest output; NaN if one is NaN."""
    differences = [0.0]
    rng = np.random.default_rng(0)
    feed = before.graph.input[0]
    shape = dims_of(feed)
    run_before, run_after = opened_onnx(before), opened_onnx(after)
    for _ in range(3):
        feeds = {feed.name: rng.standard_normal(shape, dtype=np.float32)}
        for one, other in zip(run_before(feeds), run_after(feeds)):
            differences.append(float(np.abs(one - other).max() / max(1e-6, np.abs(one).max())))
    return float(np.max(differences))
