"""A 30 fps camera into an engine of 100 ms: frames stay fresh, for as long as one looks.

A minute here; ``EDGESEG_FRESHNESS_S=300`` for the five minutes of benchmarks/runtime.md.
"""

from __future__ import annotations

import os
import time
from typing import Any, Callable

import numpy as np
import pytest

from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.policy import Policy
from edgeseg.runtime.sources import source_from_uri
from tests.fakes import CollectingSink, ThresholdEngine
from tests.system.conftest import LIVE

pytestmark = pytest.mark.system
SECONDS = float(os.environ.get("EDGESEG_FRESHNESS_S", "60"))
ENGINE_MS, INTERVAL_MS, MARGIN_MS = 100.0, 1000 / 30, 10.0


class SlowEngine(ThresholdEngine):
    """Takes 100 ms, as a large network does, without taking the processor from the camera."""

    def _run(self) -> np.ndarray:
        started = time.perf_counter()
        answer = super()._run()
        time.sleep(max(0.0, ENGINE_MS / 1e3 - (time.perf_counter() - started)))
        return answer


class Ages(CollectingSink):
    def __init__(self) -> None:
        super().__init__()
        self.ms: list[float] = []

    def write(self, result: Segmentation) -> None:
        self.ms.append((time.perf_counter_ns() - result.frame.captured_ns) / 1e6)


def test_latest_is_fresh_and_flat(live: Callable[..., Any]) -> None:
    sink = Ages()
    with live([source_from_uri(LIVE)], [sink], engine=SlowEngine()) as running:
        time.sleep(SECONDS)
    ages = np.array(sink.ms[20:])
    source = running.state.sources["0"]
    bound = ENGINE_MS + INTERVAL_MS + MARGIN_MS
    quarters = [float(np.percentile(part, 99)) for part in np.array_split(ages, 4)]
    slope = np.polyfit(np.linspace(0, SECONDS / 60, len(ages)), ages, 1)[0]
    print(
        f"{len(ages)} results in {SECONDS:g} s: age p50 {np.median(ages):.1f} p99 {np.percentile(ages, 99):.1f} ms "
        f"(bound {bound:.1f}), by quarter {[f'{q:.1f}' for q in quarters]}, slope {slope:+.2f} ms/min, "
        f"superseded {source.dropped['superseded']} of {source.produced}"
    )
    assert np.percentile(ages, 99) <= bound
    assert abs(slope) * SECONDS / 60 < INTERVAL_MS / 2, "it grows"
    assert source.dropped["superseded"] > source.segmented, "two of three frames are dropped, and counted"


def test_no_older_result_than_the_deadline_leaves(live: Callable[..., Any]) -> None:
    sink = Ages()
    policy = Policy("deadline", 120)
    with live([source_from_uri(LIVE)], [sink], engine=SlowEngine(), policy=policy) as running:
        time.sleep(min(20, SECONDS))
    dropped = running.state.sources["0"].dropped
    # Half a millisecond between the check and this test's own clock.
    assert len(sink.ms) > 50 and max(sink.ms) <= 120.5
    assert dropped["late"] + dropped["stale"] + running.state.sinks[0].lost["late"] > 0, "some would have been older"
