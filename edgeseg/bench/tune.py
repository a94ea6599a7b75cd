"""Which precision is fastest here, and right: candidates built, tested on golden frames, timed side by side."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import numpy as np

from edgeseg.bench.contenders import engine_contender
from edgeseg.bench.measure import Effort, Measurement, measured_side_by_side
from edgeseg.bundle import Bundle
from edgeseg.engines.tensorrt.factory import OpenedEngine, TensorRtFactory, TensorRtOptions
from edgeseg.errors import EdgesegError, EngineError

__all__ = ["Candidate", "Tuning", "candidates", "tuned"]


@dataclass(frozen=True)
class Candidate:
    """A way to run the network here, and what came of it.

    Attributes:
        options: that it was built with.
        measured: its latency; None when it was refused.
        opened: facts of its engine (closed by now); None when it was refused.
        refused: why it cannot be taken; empty when it can.
    """

    options: TensorRtOptions
    measured: Measurement | None
    opened: OpenedEngine | None
    refused: str

    @property
    def name(self) -> str:
        """Return what people call it: ``int8-implicit``, ``fp16 on DLA 0``."""
        dla = "" if self.options.dla_core is None else f" on DLA {self.options.dla_core}"
        return f"{self.options.precision}{dla}"

    @property
    def agreement(self) -> float:
        """Return the share of golden pixels with FP32's class; NaN when it was refused."""
        return float("nan") if self.opened is None else self.opened.self_test.agreement

    @property
    def int8_share(self) -> float:
        """Return the share of convolutions that are INT8; NaN when it was refused."""
        return float("nan") if self.opened is None else self.opened.cached.precisions.int8_share

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "name": self.name,
            "refused": self.refused,
            "measured": None if self.measured is None else self.measured.to_json(),
            "self_test": None if self.opened is None else self.opened.self_test.to_json(),
            "precisions": None if self.opened is None else self.opened.cached.precisions.to_json(),
        }


@dataclass(frozen=True)
class Tuning:
    """What was tried, and the candidate with the lowest median ms/frame among those that passed."""

    candidates: Sequence[Candidate]
    best: Candidate

    def verdict(self) -> str:
        """Say in one line which is taken and, when that is not INT8, that INT8 does not pay here."""
        taken = self.best.measured
        assert taken is not None
        rivals = [c for c in self.candidates if c.measured is not None and c is not self.best]
        said = f"{self.best.name} is taken: {taken.frame.p50_ms:.2f} ms/frame"
        for rival in rivals:
            assert rival.measured is not None
            times, low, high = taken.ratio_to(rival.measured)
            said += f"; {times:.2f}x ({low:.2f}-{high:.2f}) as fast as {rival.name}"
        if not str(self.best.options.precision).startswith("int8"):
            said += ". INT8 is not faster for this network on this device, or did not pass"
        return said


def candidates(factory: TensorRtFactory, dla_cores: int) -> list[TensorRtOptions]:
    """FP16, implicit INT8 and Q/DQ where they exist, and the first DLA core where there is one.

    A DLA takes INT8 from Q/DQ only where precision is in the graph.
    """
    api = factory.api
    implicit = ["int8-implicit"] if api.implicit_int8 else []
    found = [TensorRtOptions(precision=name) for name in [*implicit, "int8-qdq", "fp16"]]
    if dla_cores:
        int8 = implicit if api.precision_flags else ["int8-qdq"]
        found += [TensorRtOptions(precision=name, dla_core=0) for name in [*int8, "fp16"]]
    return found


def tuned(
    factory: TensorRtFactory,
    bundle: Bundle,
    model: str,
    tried: Sequence[TensorRtOptions],
    frames: Sequence[np.ndarray],
    *,
    seconds: float = 10.0,
    warmup_s: float = 5.0,
    on_result: Callable[[str], None] = lambda line: None,
) -> Tuning:
    """Build every candidate, drop those that fail their golden frames, and time the rest in alternating turns.

    Args:
        factory: of engines on this device.
        bundle: the model.
        model: its name.
        tried: what to compare.
        frames: HxWx3 uint8 BGR camera frames to time with.
        seconds: measuring time per candidate.
        warmup_s: warm-up per candidate.
        on_result: takes a line for people about each candidate.

    Raises:
        EngineError: no candidate can be taken.
    """
    refused: dict[int, str] = {}
    passed: list[int] = []
    for index, options in enumerate(tried):  # all are built before any is kept open: a builder needs the memory
        try:
            factory.open(bundle, model, options).engine.close()
            passed.append(index)
        except EdgesegError as error:
            refused[index] = str(error)
            on_result(f"{options.precision} is out: {error}")
    if not passed:
        raise EngineError(f"no candidate can be taken; the first: {refused[0]}")
    with ExitStack() as stack:
        opened = {index: factory.open(bundle, model, tried[index]) for index in passed}
        contenders = []
        for index, one in opened.items():
            stack.enter_context(one.engine)
            contenders.append(engine_contender(Candidate(tried[index], None, None, "").name, one.engine, bundle.spec))
        measured = dict(zip(opened, measured_side_by_side(contenders, frames, Effort(seconds, warmup_s))))
    all_of_them = [
        Candidate(options, measured.get(index), opened.get(index), refused.get(index, ""))
        for index, options in enumerate(tried)
    ]
    timed = [candidate for candidate in all_of_them if candidate.measured is not None]
    best = min(timed, key=lambda one: one.measured.frame.p50_ms if one.measured else 0.0)
    return Tuning(all_of_them, best)
