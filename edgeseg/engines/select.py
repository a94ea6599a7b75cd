"""The table of engines, and which one runs a bundle. Nothing is substituted silently: what cannot run raises."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Mapping

from edgeseg.errors import EngineError
from edgeseg.recipes import FP32, INT8_CPU

if TYPE_CHECKING:
    from edgeseg.bundle import Bundle
    from edgeseg.engines.base import Engine

__all__ = [
    "CPU_ENGINES",
    "ENGINES",
    "EngineKind",
    "cpu_graph",
    "cpu_graphs",
    "engine_from_bundle",
    "installed_engines",
]

_PREFERRED = (INT8_CPU, FP32)


# What an opener opens is imported in it, so that the table costs nothing to read.


def _open_onnxruntime(onnx: bytes, name: str, threads: int) -> Engine:
    from edgeseg.engines.ort import OrtEngine

    return OrtEngine(onnx, name, threads=threads)


def _open_openvino(onnx: bytes, name: str, threads: int) -> Engine:
    from edgeseg.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(onnx, name, threads=threads)


@dataclass(frozen=True)
class EngineKind:
    """A row of ``ENGINES``.

    Attributes:
        module: Python module that it needs.
        extra: extra of edgeseg that brings the module; empty where edgeseg itself does.
        where: what it runs on, for people.
        help: what it runs, for people.
        open: opens an ONNX graph of a bundle: takes its bytes, its name and the number of CPU threads, 0 for all. None
            where TensorRT builds an engine first (``TensorRtFactory``), or where a program is run.
        takes_program: it runs a program that is given beside the bundle.
    """

    module: str
    extra: str
    where: str
    help: str
    open: Callable[[bytes, str, int], Engine] | None = None
    takes_program: bool = False

    @property
    def is_built(self) -> bool:
        """Tell whether it is a flavour of TensorRT, whose engines are built on the machine that runs them."""
        return self.open is None and not self.takes_program


ENGINES: Mapping[str, EngineKind] = {
    "onnxruntime": EngineKind("onnxruntime", "", "CPU", "graphs in a CPU's arithmetic", _open_onnxruntime),
    "openvino": EngineKind("openvino", "openvino", "CPU", "graphs in a CPU's arithmetic", _open_openvino),
    "tensorrt": EngineKind("tensorrt", "tensorrt", "Jetson or NVIDIA GPU", "graphs for TensorRT, built at first use"),
    "rtx": EngineKind("tensorrt_rtx", "rtx", "RTX GPU", "graphs for TensorRT, built at first use by TensorRT-RTX"),
    "torch-tensorrt": EngineKind(
        "torch_tensorrt", "torch-tensorrt", "NVIDIA GPU", "a `.pt2` program given with `program`", takes_program=True
    ),
}
"""What may follow ``--engine``, besides ``auto``."""

CPU_ENGINES = tuple(name for name, kind in ENGINES.items() if kind.open)
"""Engines that open a bundle's graphs for the CPU as they are."""


def installed_engines() -> list[str]:
    """Return the names of the engines in ``CPU_ENGINES`` whose module is here."""
    return [name for name in CPU_ENGINES if importlib.util.find_spec(ENGINES[name].module) is not None]


def cpu_graphs(bundle: Bundle) -> list[str]:
    """Return the names of the bundle's graphs whose arithmetic is a CPU's, preferred first."""
    names = [name for name, graph in bundle.graphs.items() if graph.target != "tensorrt"]
    return sorted(names, key=lambda name: _PREFERRED.index(name) if name in _PREFERRED else len(_PREFERRED))


def cpu_graph(bundle: Bundle, graph: str | None = None) -> str:
    """Return the name of the graph that a CPU runs.

    Args:
        bundle: a compiled model.
        graph: that was asked for; None takes INT8 for the CPU, else FP32.

    Raises:
        EngineError: there is no such graph, or it is for TensorRT.
    """
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
    return graph or names[0]


def engine_from_bundle(
    bundle: Bundle, graph: str | None = None, *, threads: int = 0, engine: str = "onnxruntime"
) -> Engine:
    """Open an engine for a graph of a bundle.

    Args:
        bundle: a compiled model.
        graph: name of one of its graphs; None takes INT8 for the CPU, else FP32.
        threads: CPU threads, 0 for all cores.
        engine: one of ``CPU_ENGINES``.

    Raises:
        EngineError: no such graph or engine, a graph for another target, or one that the bundle's spec does not fit.
        MissingDependencyError: the engine's package is not installed.
    """
    from edgeseg.engines.golden import require_as_spec

    opener = ENGINES[engine].open if engine in ENGINES else None
    if opener is None:
        raise EngineError(f"there is no engine {engine!r}; on a CPU there are {', '.join(CPU_ENGINES)}")
    chosen = cpu_graph(bundle, graph)
    opened = opener(bundle.graphs[chosen].onnx, chosen, threads)
    try:
        require_as_spec(opened, bundle, chosen)
    except BaseException:
        opened.close()
        raise
    return opened
