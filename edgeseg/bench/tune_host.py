"""Which CPU engine, graph and number of threads is fastest here, and right: judged on golden frames, timed in turns."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import numpy as np

from edgeseg.bench.contenders import engine_contender
from edgeseg.bench.measure import Effort, Measurement, measured_side_by_side
from edgeseg.bundle import Bundle
from edgeseg.device.detect import Device
from edgeseg.engines.golden import SelfTest, run_self_test
from edgeseg.engines.host_choice import HostChoice
from edgeseg.engines.host_pick import host_pick
from edgeseg.engines.select import cpu_graphs, engine_from_bundle, installed_engines
from edgeseg.errors import EdgesegError, EngineError

__all__ = ["HostCandidate", "HostTuning", "host_candidates", "tuned_on_host"]


@dataclass(frozen=True)
class HostCandidate:
    """A way to run the network on this CPU, and what came of it.

    Attributes:
        choice: engine, graph, threads.
        measured: its latency; None when it was refused.
        self_test: on the golden frames; None when it did not come so far.
        refused: why it cannot be taken; empty when it can.
    """

    choice: HostChoice
    measured: Measurement | None
    self_test: SelfTest | None
    refused: str

    @property
    def name(self) -> str:
        """Return what people call it."""
        return self.choice.name

    @property
    def agreement(self) -> float:
        """Return the share of golden pixels with FP32's class; NaN when it was not tested."""
        return float("nan") if self.self_test is None else self.self_test.agreement

    @property
    def int8_share(self) -> float:
        """Return NaN: no CPU engine is asked how many of its convolutions are INT8."""
        return float("nan")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "name": self.name,
            "refused": self.refused,
            "measured": None if self.measured is None else self.measured.to_json(),
            "self_test": None if self.self_test is None else self.self_test.to_json(),
            "precisions": None,
        }


@dataclass(frozen=True)
class HostTuning:
    """What was tried, and the candidate with the lowest median ms/frame among those that passed."""

    candidates: Sequence[HostCandidate]
    best: HostCandidate

    def verdict(self) -> str:
        """Say in one line which is taken, and how it compares with what would run without a choice."""
        taken, first = self.best.measured, self.candidates[0]
        assert taken is not None
        said = f"{self.best.name} is taken: {taken.frame.p50_ms:.2f} ms/frame"
        if first is self.best or first.measured is None:
            return said
        times, low, high = taken.ratio_to(first.measured)
        return f"{said}; {times:.2f}x ({low:.2f}-{high:.2f}) as fast as {first.name}"


def host_candidates(bundle: Bundle, device: Device) -> list[HostChoice]:
    """Return every installed CPU engine x graph x threads: all cores, half of them, one. First what no choice gives."""
    cores = device.cores
    threads = list(dict.fromkeys([0, *(count for count in (cores // 2, 1) if 0 < count < cores)]))
    usual = host_pick(bundle, device).choice
    found = [
        HostChoice(engine, graph, count)
        for engine in installed_engines()
        for graph in cpu_graphs(bundle)
        for count in threads
    ]
    return sorted(found, key=lambda choice: choice != usual)


def tuned_on_host(
    bundle: Bundle,
    tried: Sequence[HostChoice],
    frames: Sequence[np.ndarray],
    effort: Effort,
    *,
    on_result: Callable[[str], None] = lambda line: None,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> HostTuning:
    """Open every candidate, drop those that fail the golden frames, and time the rest in alternating turns.

    Args:
        bundle: the model.
        tried: what to compare.
        frames: HxWx3 uint8 BGR camera frames to time with.
        effort: how long each is timed.
        on_result: takes a line for people about each candidate that is out.
        report: counts inside the timing.

    Raises:
        EngineError: no candidate can be taken.
    """
    refused: dict[int, str] = {}
    tests: dict[int, SelfTest] = {}
    with ExitStack() as stack:
        contenders = {}
        for index, choice in enumerate(tried):
            try:
                engine = engine_from_bundle(bundle, choice.graph, threads=choice.threads, engine=choice.engine)
                stack.enter_context(engine)
                tests[index] = run_self_test(engine, bundle, choice.graph)
                tests[index].require(choice.name)
                contenders[index] = engine_contender(choice.name, engine, bundle.spec)
            except EdgesegError as error:
                refused[index] = str(error)
                on_result(f"{choice.name} is out: {error}")
        if not contenders:
            raise EngineError(f"no candidate can be taken; the first: {refused[0]}")
        measured = measured_side_by_side(list(contenders.values()), frames, effort, report=report)
    times = dict(zip(contenders, measured))
    found = [
        HostCandidate(choice, times.get(index), tests.get(index), refused.get(index, ""))
        for index, choice in enumerate(tried)
    ]
    best = min((one for one in found if one.measured), key=lambda one: one.measured.frame.p50_ms if one.measured else 0)
    return HostTuning(found, best)
