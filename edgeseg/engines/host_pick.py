"""Which CPU engine ``auto`` takes: the choice of ``edgeseg tune`` here, else what is measured fastest on such CPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Mapping, Sequence

from edgeseg.engines.golden import run_self_test
from edgeseg.engines.host_choice import HostChoice
from edgeseg.engines.select import ENGINES, cpu_graph, engine_from_bundle, installed_engines
from edgeseg.errors import EngineError, GateRefused

if TYPE_CHECKING:
    from edgeseg.bundle import Bundle
    from edgeseg.device.detect import Device
    from edgeseg.engines.base import Engine

__all__ = ["FASTEST", "USUAL", "EngineTimes", "HostPick", "host_pick", "open_pick"]

USUAL = "onnxruntime"
"""What runs where nothing else is known to be faster: it comes with edgeseg, and the gate judged its arithmetic."""


@dataclass(frozen=True)
class EngineTimes:
    """How fast engines are on a kind of CPU: a row of ``FASTEST``.

    Attributes:
        instructions: that the CPU has; of ``Device.int8_instructions``.
        is_int8: of INT8 graphs, else of float ones.
        times: engine -> its time as a share of ONNX Runtime's.
    """

    instructions: str
    is_int8: bool
    times: Mapping[str, float]


FASTEST: Sequence[EngineTimes] = (
    EngineTimes("AVX512-VNNI", True, {"openvino": 0.65}),
    EngineTimes("AVX-VNNI", True, {"openvino": 0.81}),
    EngineTimes("AVX2", True, {"openvino": 0.77}),
    EngineTimes("AVX512-VNNI", False, {"openvino": 1.04}),
    EngineTimes("AVX2", False, {"openvino": 1.11}),
)
"""Measured for benchmarks/cpu-engines.md, "What auto takes". The first row of a CPU's instructions counts. A CPU in no
row, as every ARM one, was not measured."""


@dataclass(frozen=True)
class HostPick:
    """What ``auto`` takes for a bundle on this CPU.

    Attributes:
        choice: engine, graph, threads.
        why: in words, with what would change it.
        is_judged: it was right here already, or is the engine that the graph was judged in when it was compiled.
    """

    choice: HostChoice
    why: str
    is_judged: bool

    def describe(self) -> str:
        """Return the line that a run says."""
        return f"auto takes {self.choice.name}: {self.why}"


def host_pick(
    bundle: Bundle,
    device: Device,
    *,
    graph: str | None = None,
    threads: int = 0,
    remembered: HostChoice | None = None,
    installed: Sequence[str] | None = None,
) -> HostPick:
    """Pick the CPU engine, graph and threads for a bundle.

    Args:
        bundle: the model.
        device: this machine.
        graph: that was asked for; None takes the choice's, else INT8 for the CPU, else FP32.
        threads: that were asked for; 0 takes the choice's, else all.
        remembered: of ``edgeseg tune`` here; left out where another graph or number of threads was asked for.
        installed: engines to pick from; None is ``installed_engines()``.

    Raises:
        EngineError: the bundle has no such graph for a CPU.
    """
    if remembered and graph in (None, remembered.graph) and threads in (0, remembered.threads):
        return HostPick(remembered, "'edgeseg tune' chose it for this model here", is_judged=True)
    chosen = cpu_graph(bundle, graph)
    engine, why = _measured_best(bundle, chosen, device, installed_engines() if installed is None else installed)
    return HostPick(HostChoice(engine, chosen, threads), f"{why}; 'edgeseg tune' measures here", engine == USUAL)


def _measured_best(bundle: Bundle, graph: str, device: Device, installed: Sequence[str]) -> tuple[str, str]:
    """Return the engine and why it is taken."""
    is_int8 = bundle.graphs[graph].recipe.is_int8
    row = next(
        (row for row in FASTEST if row.is_int8 == is_int8 and row.instructions in device.int8_instructions), None
    )
    if row is None:
        return USUAL, f"no engine's speed is known for such a CPU ({device.architecture})"
    kind = f"{'INT8' if is_int8 else 'float'} on CPUs with {row.instructions}"
    best = min(row.times, key=lambda engine: row.times[engine])
    share = f"{row.times[best]:.2f} of {USUAL}'s time for {kind}"
    if row.times[best] >= 1:
        return USUAL, f"{best} takes {share}"
    if best not in installed:
        return USUAL, f"{best} takes {share} and is not installed (pip install 'edgeseg[{ENGINES[best].extra}]')"
    if bundle.golden is None or not len(bundle.golden.frames):
        return USUAL, f"{best} takes {share}, but the bundle has no golden frames to check it with"
    return best, f"measured at {share}"


def open_pick(bundle: Bundle, pick: HostPick) -> Engine:
    """Open what was picked; what nobody judged yet has to pass the golden frames.

    Raises:
        GateRefused: it fails the golden frames.
        EngineError: it cannot be opened.
    """
    choice = pick.choice
    if pick.is_judged:
        return engine_from_bundle(bundle, choice.graph, threads=choice.threads, engine=choice.engine)
    try:
        engine = engine_from_bundle(bundle, choice.graph, threads=choice.threads, engine=choice.engine)
    except EngineError as error:
        raise EngineError(f"{error}; `engine` {USUAL} runs it without {choice.engine}") from error
    try:
        test = run_self_test(engine, bundle, choice.graph)
        if not test.passed:
            raise GateRefused(
                f"self-test failed: {choice.name} has {test.describe()}; `engine` {USUAL} runs it without "
                f"{choice.engine}"
            )
    except BaseException:
        engine.close()
        raise
    return engine
