"""The self-test: an engine on the bundle's golden frames, against the class maps that FP32 gave on the host."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeseg.bundle import Bundle
from edgeseg.engines.base import Engine
from edgeseg.errors import EngineError, GateRefused

__all__ = ["FLOAT_AGREEMENT", "SelfTest", "self_tested"]

FLOAT_AGREEMENT = {"fp32": 0.999, "fp16": 0.99}
"""Least share of golden pixels with FP32's class, where a bundle does not say."""

_INT8_AGREEMENT = 0.95
_RARE = 0.002  # classes with a smaller share of the golden pixels are not looked at one by one
_LOST = 0.25


@dataclass(frozen=True)
class SelfTest:
    """What the golden frames gave.

    Attributes:
        frames: how many there are.
        agreement: share of pixels with the class that FP32 gave on the host.
        limit: least share to pass, which the bundle carries for FP32, FP16 and INT8.
        lost: classes of which less than a quarter of FP32's pixels was found.
    """

    frames: int
    agreement: float
    limit: float
    lost: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return self.agreement >= self.limit and not self.lost

    def describe(self) -> str:
        """``99.25 % of pixels as FP32 on 4 golden frames (limit 95 %)``."""
        lost = f", lost: {', '.join(self.lost)}" if self.lost else ""
        share, limit = f"{100 * self.agreement:.2f} %", f"{100 * self.limit:g} %"
        return f"{share} of pixels as FP32 on {self.frames} golden frames (limit {limit}){lost}"

    def require(self, what: str) -> None:
        """Raise GateRefused unless passed."""
        if not self.passed:
            raise GateRefused(
                f"self-test failed: {what} has {self.describe()}; 'edgeseg tune' tries other precisions, "
                "--fallback runs on the CPU instead"
            )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {**asdict(self), "lost": list(self.lost), "passed": self.passed}


def self_tested(engine: Engine, bundle: Bundle, precision: str) -> SelfTest:
    """Run the golden frames.

    Args:
        engine: of one of the bundle's graphs.
        bundle: with golden frames.
        precision: ``"fp32"``, ``"fp16"``, or anything that begins with ``int8``: sets the limit.

    Raises:
        EngineError: the bundle has no golden frames, or the engine failed.
    """
    golden = bundle.golden
    if golden is None or not len(golden.frames):
        raise EngineError("the bundle has no golden frames, so nothing on it can be checked; compile it again")
    batch = engine.input.shape[0]
    found = np.concatenate([engine.infer(np.repeat(frame[None], batch, 0))[:1].copy() for frame in golden.frames])
    same = found == golden.classes
    expected = [(golden.classes == index) for index in range(len(bundle.spec.classes))]
    lost = tuple(
        name for name, mask in zip(bundle.spec.classes, expected) if mask.mean() >= _RARE and same[mask].mean() < _LOST
    )
    return SelfTest(len(found), float(same.mean()), _limit(bundle, "int8" if "int8" in precision else precision), lost)


def _limit(bundle: Bundle, precision: str) -> float:
    """What the bundle carries; older ones carry the gate's limit for INT8."""
    gate = bundle.report.get("limits", {}).get("min_agreement", _INT8_AGREEMENT)
    limits = {**FLOAT_AGREEMENT, "int8": gate, **bundle.report.get("self_test", {})}
    return float(limits[precision])
