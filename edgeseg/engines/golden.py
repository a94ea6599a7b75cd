"""Test what runs a bundle on its golden frames, against the class maps that are known to be right."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Sequence

import numpy as np

from edgeseg.bundle import Bundle, Golden
from edgeseg.engines.base import Engine
from edgeseg.errors import EngineError, GateRefused
from edgeseg.recipes import FP16, FP32
from edgeseg.resizing import class_map_at

__all__ = ["FLOAT_AGREEMENT", "SelfTest", "golden_of", "require_as_spec", "run_self_test", "self_test_of"]

FLOAT_AGREEMENT = {FP32: 0.999, FP16: 0.99}
"""Least share of golden pixels with FP32's class, where a bundle does not say."""

_RARE = 0.002  # classes with a smaller share of the golden pixels are not looked at one by one
_LOST = 0.25


@dataclass(frozen=True)
class SelfTest:
    """Result of the golden frames.

    Attributes:
        frames: number of golden frames.
        agreement: share of pixels with the right class: for an engine, that which FP32 gave on the host.
        limit: least share to pass, which the bundle carries for FP32, FP16 and INT8.
        lost: classes of which less than a quarter of these pixels was found.
    """

    frames: int
    agreement: float
    limit: float
    lost: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Tell whether the share is large enough and no class is lost."""
        return self.agreement >= self.limit and not self.lost

    def describe(self, like: str = "FP32") -> str:
        """Describe the result, e.g. ``99.25 % of pixels as FP32 on 4 golden frames (limit 95 %)``."""
        lost = f", lost: {', '.join(self.lost)}" if self.lost else ""
        share, limit = f"{100 * self.agreement:.2f} %", f"{100 * self.limit:g} %"
        return f"{share} of pixels as {like} on {self.frames} golden frames (limit {limit}){lost}"

    def require(self, what: str) -> None:
        """Refuse a result that has not passed.

        Raises:
            GateRefused: the test has not passed; the message names ``what``.
        """
        if not self.passed:
            raise GateRefused(
                f"self-test failed: {what} has {self.describe()}; 'edgeseg tune' tries other precisions, "
                "`fallback` runs on the CPU instead"
            )

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict of all fields and ``passed``."""
        return {**asdict(self), "lost": list(self.lost), "passed": self.passed}


def require_as_spec(engine: Engine, bundle: Bundle, name: str) -> None:
    """Compare a graph with what the bundle says of it: a spec of another network gives the same empty mask for ever.

    Args:
        engine: engine of one of the bundle's graphs. It runs the first golden frame.
        bundle: its spec and golden frames.
        name: name of the graph, for the message.

    Raises:
        EngineError: size, layout or number of classes differ.
    """
    spec = bundle.spec
    height, width = spec.size_hw
    if tuple(engine.input.shape[1:]) != (height, width, 3):
        raise EngineError(
            f"{name} takes {'x'.join(map(str, engine.input.shape))}, but the spec of its bundle says {width}x{height} "
            "pixels; compile it again"
        )
    if engine.scores is not None and engine.scores.shape[1] != len(spec.classes):
        raise EngineError(
            f"{name} scores {engine.scores.shape[1]} classes, but the spec of its bundle has {len(spec.classes)}; "
            "compile it again"
        )
    golden = bundle.golden
    frame = (
        golden.frames[:1] if golden is not None and len(golden.frames) else np.zeros((1, height, width, 3), np.uint8)
    )
    most = int(engine.infer(np.repeat(frame, engine.input.shape[0], 0)).max())
    if most >= len(spec.classes):
        raise EngineError(
            f"{name} gives class {most}, but the spec of its bundle has {len(spec.classes)}; compile it again"
        )


def golden_of(bundle: Bundle) -> Golden:
    """Return the golden frames. Raises EngineError: the bundle has none."""
    golden = bundle.golden
    if golden is None or not len(golden.frames):
        raise EngineError("the bundle has no golden frames, so nothing that runs it can be checked; compile it again")
    return golden


def self_test_of(found: np.ndarray, expected: np.ndarray, classes: Sequence[str], limit: float) -> SelfTest:
    """Compare class maps of the golden frames.

    Args:
        found: NxHxW class ids of what is tested.
        expected: NxHxW class ids.
        classes: their names.
        limit: least share of pixels to pass.
    """
    same = found == expected
    masks = [(name, expected == index) for index, name in enumerate(classes)]
    lost = tuple(name for name, mask in masks if mask.mean() >= _RARE and same[mask].mean() < _LOST)
    return SelfTest(len(found), float(same.mean()), limit, lost)


def run_self_test(engine: Engine, bundle: Bundle, precision: str) -> SelfTest:
    """Run the golden frames and compare the class maps with FP32's.

    Args:
        engine: engine of one of the bundle's graphs.
        bundle: the bundle with golden frames.
        precision: ``"fp32"``, ``"fp16"``, or anything with ``int8``, as ``"int8-cpu"``; it sets the limit.

    Raises:
        EngineError: the bundle has no golden frames, or the engine failed.
    """
    golden = golden_of(bundle)
    require_as_spec(engine, bundle, precision)
    batch = engine.input.shape[0]
    found = [
        class_map_at(engine.infer(np.repeat(frame[None], batch, 0))[0], bundle.spec.size_hw).copy()
        for frame in golden.frames
    ]
    return self_test_of(np.stack(found), golden.classes, bundle.spec.classes, _limit(bundle, precision))


def _limit(bundle: Bundle, precision: str) -> float:
    """Return the limit that the bundle carries for a graph or precision; older bundles have the gate's for INT8."""
    limits = {**FLOAT_AGREEMENT, "int8": bundle.report.limits.min_agreement, **bundle.report.self_test}
    return limits["int8" if "int8" in precision and precision not in limits else precision]
