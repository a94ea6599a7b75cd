"""Open what ``edgeseg bench`` times: every graph of every bundle in every engine, and PyTorch beside them."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Iterator, NamedTuple, Sequence

from edgeseg.app.bench_config import BenchConfig
from edgeseg.app.data import size_hw_from
from edgeseg.app.engines import FactoryFrom, cpu_pick, engine_name
from edgeseg.app.models import bundle_or_default, model_stem
from edgeseg.bundle import Bundle
from edgeseg.errors import EdgesegError, EngineError, UsageError

if TYPE_CHECKING:
    from edgeseg.bench.measure import Contender
    from edgeseg.engines.base import Engine
    from edgeseg.engines.host_choice import HostChoice

__all__ = [
    "NamedModel",
    "Opened",
    "Opening",
    "engines_asked_for",
    "first_unasked",
    "missing_for_torch",
    "named_models",
    "opened_contenders",
    "refuse_torch_size",
    "torch_contenders",
]


class NamedModel(NamedTuple):
    """A bundle, its name with the reason why it was taken, and what its contenders are called by besides a graph."""

    bundle: Bundle
    name: str
    prefix: str


@dataclass(frozen=True)
class Opened:
    """An engine and what is timed of it."""

    contender: Contender
    engine: Engine
    bundle: Bundle
    graph: str
    by: str
    threads: int

    @property
    def onnx(self) -> bytes:
        """Return the graph's ONNX; of an engine that was built there is none."""
        return self.bundle.graphs[self.graph].onnx if self.graph in self.bundle.graphs else b""


@dataclass(frozen=True)
class Opening:
    """How engines are opened.

    Attributes:
        stack: closes them.
        tell: takes lines for people.
        factory_from: gives the maker of TensorRT engines.
        threads: CPU threads, 0 for all; several are timed beside each other.
        first: what is timed first on the CPU; None leaves the order as it is.
        leaves_out: whether a graph that an engine of the CPU refuses is left out, or an error.
        left_out: what was, a line each.
    """

    stack: ExitStack
    tell: Callable[[str], None]
    factory_from: FactoryFrom
    threads: Sequence[int]
    first: HostChoice | None
    leaves_out: bool
    left_out: list[str] = field(default_factory=list)

    def suffix(self, threads: int) -> str:
        """Return what tells a contender from that with other threads."""
        return f", {threads or 'all'} threads" if len(self.threads) > 1 else ""

    def leave_out(self, what: str, error: EdgesegError) -> None:
        """Say that something is not timed, and why."""
        self.left_out.append(f"{what} is left out: {error}")
        self.tell(self.left_out[-1])


def named_models(config: BenchConfig) -> list[NamedModel]:
    """Read the bundles. Of two with one name the second has a number."""
    found: list[NamedModel] = []
    for path in config.models or (None,):
        bundle, name = bundle_or_default(path, config.require_signature)
        taken, prefix, count = {model.prefix for model in found}, f"{model_stem(name)}: ", 1
        while prefix in taken:
            count += 1
            prefix = f"{model_stem(name)} ({count}): "
        found.append(NamedModel(bundle, name, prefix if len(config.models) > 1 else ""))
    return found


def engines_asked_for(asked: str) -> list[str]:
    """Return what to time: one engine, or all that are here.

    Raises:
        UsageError: it runs programs and no bundles.
    """
    from edgeseg.engines.select import ENGINES, installed_engines

    if asked != "auto" and ENGINES[asked].takes_program:
        raise UsageError("bench times bundles; a program of torch-tensorrt is timed by 'edgeseg run --program'")
    if asked != "auto":
        return [asked]
    on_board = ["tensorrt"] if engine_name(asked) == "tensorrt" else []
    return on_board + installed_engines()


def first_unasked(asked: str, bundle: Bundle, tell: Callable[[str], None]) -> HostChoice | None:
    """Return what ``auto`` takes on this CPU, which is timed first, and say it; None where another engine runs."""
    if engine_name(asked) is not None:
        return None
    pick = cpu_pick(bundle)
    tell(f"first what runs take: {pick.describe()}")
    return pick.choice


def opened_contenders(models: Sequence[NamedModel], engines: Sequence[str], opening: Opening) -> Iterator[Opened]:
    """Open every graph of every bundle in every engine until the stack closes; at least one.

    Raises:
        EdgesegError: one cannot be opened and is not to be left out, or none can be.
    """
    from edgeseg.engines.select import ENGINES, cpu_graphs

    first, is_empty = opening.first, True
    for model in models:
        graphs = sorted(cpu_graphs(model.bundle), key=lambda name: first is not None and name != first.graph)
        for by in sorted(engines, key=lambda name: first is not None and name != first.engine):
            if ENGINES[by].is_built:
                found = _in_tensorrt(model, by, opening)
            else:
                found = _on_cpu(model, by, graphs, opening)
            for one in found:
                is_empty = False
                opening.tell(f"opened {one.contender.name}")
                yield one
    if is_empty:
        why = "; ".join(opening.left_out) or "the bundles have no graph for these engines"
        raise EngineError(f"there is nothing to time: {why}")


def _on_cpu(model: NamedModel, by: str, graphs: Sequence[str], opening: Opening) -> Iterator[Opened]:
    from edgeseg.engines.select import engine_from_bundle

    for graph in graphs:
        for threads in opening.threads:
            called = f"{graph if by == 'onnxruntime' else f'{graph} in {by}'}{opening.suffix(threads)}"
            try:
                engine = engine_from_bundle(model.bundle, graph, threads=threads, engine=by)
            except EdgesegError as error:
                if not opening.leaves_out:
                    raise
                opening.leave_out(f"{model.prefix}{called}", error)
                continue
            opening.stack.enter_context(engine)
            yield _opened(model, called, engine, graph, by, threads)


def _in_tensorrt(model: NamedModel, flavour: str, opening: Opening) -> Iterator[Opened]:
    """Open what ``edgeseg run`` would take, INT8 and FP16; a precision that TensorRT refuses is said and left out."""
    from edgeseg.engines.tensorrt.factory import TensorRtOptions

    with opening.factory_from(flavour, opening.tell) as factory:
        timed = set()
        for precision in (None, "int8", "fp16"):
            try:
                made = factory.open(model.bundle, model_stem(model.name), TensorRtOptions(precision=precision))
            except EdgesegError as error:
                if precision is None:
                    raise
                opening.leave_out(f"{model.prefix}{precision} in TensorRT", error)
                continue
            if made.cached.path in timed:
                made.engine.close()
                continue
            timed.add(made.cached.path)
            engine = opening.stack.enter_context(made.engine)
            yield _opened(model, f"{made.precision} in TensorRT", engine, str(made.precision), flavour, 0)


def _opened(model: NamedModel, called: str, engine: Engine, graph: str, by: str, threads: int) -> Opened:
    from edgeseg.bench.contenders import engine_contender

    held, spec = model.bundle.graphs.get(graph), model.bundle.spec
    facts = {
        "model": model_stem(model.name),
        "graph": graph,
        "engine": by,
        "threads": threads,
        "size_hw": list(spec.size_hw),
        "graph_mib": None if held is None else round(len(held.onnx) / 2**20, 3),
    }
    contender = engine_contender(f"{model.prefix}{called}", engine, spec, facts)
    return Opened(contender, engine, model.bundle, graph, by, threads)


def refuse_torch_size(config: BenchConfig) -> None:
    """Raise UsageError for a size of PyTorch's input that is none, or that nothing would be timed at."""
    if config.torch_size is None:
        return
    size_hw_from(config.torch_size)
    if not config.torch or config.soak:
        raise UsageError("`torch_size` is of PyTorch, which is not timed here; leave it out")


def torch_contenders(config: BenchConfig, bundle: Bundle, opening: Opening) -> list[Contender]:
    """Return PyTorch eager for each number of threads, at a size that its network takes: multiples of 32."""
    from edgeseg.bench.contenders import torch_contender

    height, width = size_hw_from(config.torch_size) if config.torch_size else bundle.spec.size_hw
    size_hw = (height + -height % 32, width + -width % 32)
    classes = len(bundle.spec.classes)
    return [torch_contender(size_hw, classes, threads, opening.suffix(threads)) for threads in opening.threads]


def missing_for_torch() -> list[str]:
    """Return the packages without which PyTorch cannot be timed."""
    names = ("torch", "segmentation_models_pytorch")
    return [name for name in names if importlib.util.find_spec(name) is None]
