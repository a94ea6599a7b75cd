"""Which CPU engine, graph and number of threads is fastest here, and right: judged on golden frames, timed in turns."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Callable, Sequence

import numpy as np

from edgeseg.bench.candidates import Candidate, Tuning, refuse_none, timed
from edgeseg.bench.contenders import engine_contender
from edgeseg.bench.measure import Effort
from edgeseg.bundle import Bundle
from edgeseg.device.detect import Device
from edgeseg.engines.golden import run_self_test
from edgeseg.engines.host_choice import HostChoice
from edgeseg.engines.host_pick import host_pick
from edgeseg.engines.select import cpu_graphs, engine_from_bundle, installed_engines
from edgeseg.errors import EdgesegError

__all__ = ["host_candidates", "tuned_on_host"]


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
) -> Tuning[HostChoice]:
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
    found = [Candidate(choice, choice.name) for choice in tried]
    with ExitStack() as stack:
        contenders = {}
        for index, choice in enumerate(tried):
            try:
                engine = engine_from_bundle(bundle, choice.graph, threads=choice.threads, engine=choice.engine)
                stack.enter_context(engine)
                test = run_self_test(engine, bundle, choice.graph)
                found[index] = replace(found[index], self_test=test)
                test.require(choice.name)
                contenders[index] = engine_contender(choice.name, engine, bundle.spec)
            except EdgesegError as error:
                found[index] = replace(found[index], refused=str(error))
                on_result(f"{choice.name} is out: {error}")
        refuse_none(found)
        is_interrupted = timed(found, contenders, frames, effort, report=report, on_result=on_result)
    return Tuning(found, found[:1], is_interrupted=is_interrupted)
