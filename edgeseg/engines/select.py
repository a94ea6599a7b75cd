"""Which engine runs a bundle on this machine. Nothing else is substituted: what cannot run raises."""

from __future__ import annotations

from edgeseg.bundle import Bundle
from edgeseg.engines.base import Engine
from edgeseg.engines.golden import require_as_spec
from edgeseg.engines.openvino import OpenVinoEngine
from edgeseg.engines.ort import OrtEngine
from edgeseg.errors import EngineError
from edgeseg.recipes import FP32, INT8_CPU

__all__ = ["CPU_ENGINES", "cpu_graphs", "engine_from_bundle"]

CPU_ENGINES = ("onnxruntime", "openvino")
_PREFERRED = (INT8_CPU, FP32)


def cpu_graphs(bundle: Bundle) -> list[str]:
    """Names of the bundle's graphs whose arithmetic is a CPU's, preferred first."""
    names = [name for name, graph in bundle.graphs.items() if graph.target != "tensorrt"]
    return sorted(names, key=lambda name: _PREFERRED.index(name) if name in _PREFERRED else len(_PREFERRED))


def engine_from_bundle(
    bundle: Bundle, graph: str | None = None, *, threads: int = 0, engine: str = "onnxruntime"
) -> Engine:
    """Open an engine.

    Args:
        bundle: a compiled model.
        graph: name of one of its graphs; None takes INT8 for the CPU, else FP32.
        threads: CPU threads, 0 for all cores.
        engine: ``"onnxruntime"``, or ``"openvino"`` where the extra of that name is installed.

    Raises:
        EngineError: no such graph or engine, a graph for another target, or one that the bundle's spec does not fit.
        MissingDependencyError: the engine's package is not installed.
    """
    if engine not in CPU_ENGINES:
        raise EngineError(f"there is no engine {engine!r}; on a CPU there are {', '.join(CPU_ENGINES)}")
    names = cpu_graphs(bundle)
    if graph is not None and graph not in bundle.graphs:
        raise EngineError(f"the bundle has no graph {graph!r}; it has {', '.join(bundle.graphs)}")
    if graph is not None and graph not in names:
        raise EngineError(
            f"graph {graph!r} is for TensorRT and gives wrong numbers in a CPU's INT8 kernels; "
            f"on this machine run {', '.join(names)}"
        )
    if not names:
        raise EngineError("the bundle holds graphs for TensorRT only; compile it again with a CPU graph")
    chosen = graph or names[0]
    run_by = OpenVinoEngine if engine == "openvino" else OrtEngine
    opened = run_by(bundle.graphs[chosen].onnx, chosen, threads=threads)
    try:
        require_as_spec(opened, bundle, chosen)
    except BaseException:
        opened.close()
        raise
    return opened
