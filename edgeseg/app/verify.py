"""Run the golden frames of a bundle on what would run it here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Sequence

from edgeseg.app.bench_config import VerifyConfig
from edgeseg.app.engines import FactoryFrom, cpu_pick, engine_name, quiet_factory
from edgeseg.app.models import bundle_or_default, model_stem, signature_lines
from edgeseg.bundle import Bundle
from edgeseg.errors import GateRefused, UsageError
from edgeseg.progress import Progress

if TYPE_CHECKING:
    from edgeseg.engines.golden import SelfTest
    from edgeseg.engines.tensorrt.factory import TensorRtFactory

__all__ = ["TestedGraph", "Verification", "verify"]


@dataclass(frozen=True)
class TestedGraph:
    """What the golden frames gave for a graph in an engine."""

    graph: str
    engine: str
    test: SelfTest


@dataclass(frozen=True)
class Verification:
    """The self-tests of a bundle: its name with the reason why it was taken, who signed it, the results."""

    model: str
    signed_by: str | None
    results: Sequence[TestedGraph]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        results = [{"graph": one.graph, "engine": one.engine, **one.test.to_json()} for one in self.results]
        return {"model": self.model, "signed_by": self.signed_by, "results": results}

    def require(self) -> None:
        """Raise GateRefused: a graph failed."""
        failed = [one.graph for one in self.results if not one.test.passed]
        if failed:
            raise GateRefused(
                f"self-test failed for {', '.join(failed)}; compile the bundle again, or run another graph"
            )


def verify(
    config: VerifyConfig, progress: Progress = Progress(), *, factory_from: FactoryFrom = quiet_factory
) -> Verification:
    """Compare the class maps of a bundle's golden frames with those that FP32 gave on the host.

    Args:
        config: which bundle, graph and engine.
        progress: takes a line per step.
        factory_from: gives the maker of TensorRT engines.

    Raises:
        UsageError: the engine is one that runs no bundles.
        EdgesegError: the bundle or the engine cannot be opened; a test that failed raises nothing here.
    """
    from edgeseg.engines.select import ENGINES

    bundle, name = bundle_or_default(config.model, config.require_signature)
    chosen = engine_name(config.engine)
    if chosen is not None and ENGINES[chosen].takes_program:
        raise UsageError(
            "a program is verified each time it is opened: 'edgeseg run --engine torch-tensorrt --program'"
        )
    progress.step(f"model: {name}")
    for line in signature_lines(bundle, config.require_signature):
        progress.step(line)
    if chosen is not None and ENGINES[chosen].is_built:
        with factory_from(chosen, progress.step) as factory:
            results = [_in_tensorrt(bundle, name, config.graph, factory)]
    else:
        results = _on_the_cpu(bundle, chosen, config.graph, progress)
    return Verification(name, bundle.signer, results)


def _in_tensorrt(bundle: Bundle, name: str, graph: str | None, factory: TensorRtFactory) -> TestedGraph:
    from edgeseg.engines.tensorrt.factory import TensorRtOptions

    made = factory.open(bundle, model_stem(name), TensorRtOptions(precision=graph), test=True, refuse=False)
    with made.engine as engine:
        return TestedGraph(made.precision, engine.description, made.self_test)


def _on_the_cpu(bundle: Bundle, asked: str | None, graph: str | None, progress: Progress) -> list[TestedGraph]:
    """Test each graph in the engine that was asked for, else in that which ``auto`` takes for it."""
    from edgeseg.engines.golden import run_self_test
    from edgeseg.engines.select import cpu_graphs, engine_from_bundle

    results = []
    for one in [graph] if graph else cpu_graphs(bundle):
        by, threads = asked, 0
        if by is None:
            pick = cpu_pick(bundle, one)
            by, threads = pick.choice.engine, pick.choice.threads
            progress.step(pick.describe())
        with engine_from_bundle(bundle, one, threads=threads, engine=by) as engine:
            test = run_self_test(engine, bundle, one)
        results.append(TestedGraph(one, engine.description, test))
        progress.step(f"{'passed' if test.passed else 'FAILED'}: {one} in {by}: {test.describe()}")
    return results
