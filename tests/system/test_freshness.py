"""A 30 fps camera into an engine of 100 ms: frames stay fresh, for as long as one looks.

What is judged is what happened, in units of this machine's own slowness. The ages in milliseconds of
benchmarks/runtime.md need a quiet machine: ``EDGESEG_FRESHNESS_S=300`` measures them, for five minutes.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy as np
import pytest

from edgeseg.runtime.frame import Frame, Segmentation
from edgeseg.runtime.loop.feed import Supervision
from edgeseg.runtime.policy import Policy
from edgeseg.runtime.sources import source_from_uri
from tests import HANG_S
from tests.fakes import CollectingSink, ThresholdEngine
from tests.system.conftest import LIVE

pytestmark = pytest.mark.system
ENGINE_MS, INTERVAL_MS, MARGIN_MS = 100.0, 1000 / 30, 10.0
PATIENT = Supervision(stall_s=HANG_S)


class SlowEngine(ThresholdEngine):
    """Takes 100 ms, as a large network does, without taking the processor from the camera."""

    def __init__(self) -> None:
        super().__init__()
        self.took_ms: list[float] = []

    def _run(self) -> np.ndarray:
        started = time.perf_counter()
        answer = super()._run()
        time.sleep(max(0.0, ENGINE_MS / 1e3 - (time.perf_counter() - started)))
        self.took_ms.append((time.perf_counter() - started) * 1e3)
        return answer


@dataclass(frozen=True)
class Watched(Policy):
    """Keeps what it was asked of each frame, by its number: the age in ms, and the answer.

    It is asked when the engine takes the frame, when the result is handed out, and when a sink takes it.
    """

    asked: dict[int, list[tuple[float, bool]]] = field(default_factory=lambda: defaultdict(list))

    def too_old(self, frame: Frame, now_ns: int) -> bool:
        answer = super().too_old(frame, now_ns)
        self.asked[frame.index].append(((now_ns - frame.captured_ns) / 1e6, answer))
        return answer

    def ages_ms(self, place: int) -> list[float]:
        """Ages of the frames when it was asked for the first, second or third time."""
        return [answers[place][0] for answers in list(self.asked.values()) if len(answers) > place]


class Numbers(CollectingSink):
    """Keeps the numbers of frames, and their ages."""

    def __init__(self) -> None:
        super().__init__()
        self.indices: list[int] = []
        self.ms: list[float] = []

    def write(self, result: Segmentation) -> None:
        self.indices.append(result.frame.index)
        self.ms.append((time.perf_counter_ns() - result.frame.captured_ns) / 1e6)


def test_no_frame_waits_for_the_one_before_it(live: Callable[..., Any]) -> None:
    """Anywhere between camera and engine, a queue of one frame would cost an engine time, and a longer one more."""
    engine, policy = SlowEngine(), Watched("latest")
    with live([source_from_uri(LIVE)], [Numbers()], engine=engine, policy=policy, supervision=PATIENT) as running:
        running.more_frames(100, HANG_S)
    waited_ms, engine_ms = policy.ages_ms(0)[50:], float(np.median(engine.took_ms))
    assert np.median(waited_ms) < engine_ms, "frames queue"
    source = running.state.sources["0"]
    assert sum(source.dropped.values()) > source.segmented, "two of three frames are dropped, and counted"


def test_no_older_result_than_the_deadline_leaves(live: Callable[..., Any]) -> None:
    looking, sink = Watched("latest"), Numbers()
    with live([source_from_uri(LIVE)], engine=SlowEngine(), policy=looking, supervision=PATIENT) as running:
        running.more_frames(30, HANG_S)
    policy = Watched("deadline", float(np.median(looking.ages_ms(1))))  # about every other result is older

    def has_seen_both() -> bool:
        return len(sink.indices) >= 20 and sum(answers[-1][1] for answers in list(policy.asked.values())) >= 5

    with live([source_from_uri(LIVE)], [sink], engine=SlowEngine(), policy=policy, supervision=PATIENT) as running:
        running.wait(has_seen_both, HANG_S, "results and late ones")
    refused = {index for index, answers in policy.asked.items() if any(is_old for _, is_old in answers)}
    assert not refused & set(sink.indices)
    for index in sink.indices:
        assert len(policy.asked[index]) == 3 and max(policy.asked[index])[0] <= policy.deadline_ms
    dropped, lost = running.state.sources["0"].dropped, running.state.sinks[0].lost
    assert dropped["late"] + dropped["stale"] + lost["late"] == len(refused), "each is counted once"


@pytest.mark.skipif("EDGESEG_FRESHNESS_S" not in os.environ, reason="needs a quiet machine and EDGESEG_FRESHNESS_S")
def test_ages_on_a_quiet_machine(live: Callable[..., Any]) -> None:
    sink, seconds = Numbers(), float(os.environ["EDGESEG_FRESHNESS_S"])
    with live([source_from_uri(LIVE)], [sink], engine=SlowEngine()) as running:
        time.sleep(seconds)
    ages = np.array(sink.ms[20:])
    source = running.state.sources["0"]
    bound = ENGINE_MS + INTERVAL_MS + MARGIN_MS
    quarters = [float(np.percentile(part, 99)) for part in np.array_split(ages, 4)]
    slope = np.polyfit(np.linspace(0, seconds / 60, len(ages)), ages, 1)[0]
    print(
        f"{len(ages)} results in {seconds:g} s: age p50 {np.median(ages):.1f} p99 {np.percentile(ages, 99):.1f} ms "
        f"(bound {bound:.1f}), by quarter {[f'{q:.1f}' for q in quarters]}, slope {slope:+.2f} ms/min, "
        f"superseded {source.dropped['superseded']} of {source.produced}"
    )
    assert np.percentile(ages, 99) <= bound
    assert abs(slope) * seconds / 60 < INTERVAL_MS / 2, "it grows"
