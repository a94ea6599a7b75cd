"""NVIDIA's own compiler as judge: TensorRT-RTX parses a graph and builds it ahead of time on a CPU, no GPU needed.

It is strongly typed like TensorRT 11 and names its kernels while it builds, so the plan shows how many convolutions
really multiply INT8, what was fused and where tensors go back to float. It is not JetPack's TensorRT: what it says is
"accepted by TensorRT-RTX", not "runs on Xavier". It has no INT8 convolutions for SM75 and none that are transposed.

A compiler of this size may abort or never end, so it works in a process of its own (this module run as a script).
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Iterable

from edgeseg.errors import CompileError, MissingDependencyError, require

__all__ = [
    "COMPUTE_CAPABILITIES",
    "FloatRoundTrip",
    "Kernel",
    "KernelPlan",
    "Tensor",
    "available",
    "kernel_plan_from_onnx",
    "kernels_from_log",
]

COMPUTE_CAPABILITIES = ("SM75", "SM80", "SM86", "SM89", "SM120")
"""What TensorRT-RTX builds for; a Jetson Orin is an Ampere like SM86, but SM87 is not among them."""

_BYTES = {"Float": 4, "Half": 2, "BFloat16": 2, "Int8": 1, "UInt8": 1, "Bool": 1, "FP8": 1, "Int32": 4, "Int64": 8}
_FLOATS = ("Float", "Half", "BFloat16")
_CONVOLUTIONS = ("correlation", "deconv")
_SYNCHRONISATION = ("signal", "wait")
_LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: (?P<inputs>.*?)(?:, Constants: (?P<constants>.*?))?"
    r", Outputs: (?P<outputs>.*?), TacticName: .*?Metadata: ?(?P<layers>.*)"
)
_TENSOR = re.compile(r"\{ Name: (.*?), Dimensions: \[([\d,]*)\].*?Datatype: (\w+)")
_LAYER = re.compile(r"\[ONNX Layer: (.*?)\]")


@dataclass(frozen=True)
class Tensor:
    """What a kernel reads or writes. ``dtype`` is TensorRT's word: ``Float``, ``Half``, ``Int8``, ``UInt8``..."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * _BYTES.get(self.dtype, 4)

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} {self.dtype}"


@dataclass(frozen=True)
class Kernel:
    """One launch on the GPU.

    Attributes:
        name: as the compiler calls it; of a generated kernel the operations in it, like ``MulAddReluRounCast``.
        kind: ``correlation`` and ``deconv`` are convolutions, ``kgen`` is generated pointwise code, and so on.
        layers: names of the ONNX nodes that are in it, as far as the compiler says.
        inputs: activations, and weights that another kernel computes.
        constants: weights, scales and biases.
        outputs: activations.
    """

    name: str
    kind: str
    layers: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def convolutions(self) -> int:
        """How many convolutions are in it; small ones are part of generated code, named ``Corr`` there."""
        return 1 if self.kind in _CONVOLUTIONS else self.name.count("Corr") * self.name.startswith("__myl_")

    @property
    def int8_convolutions(self) -> int:
        """How many of them multiply INT8: their weights are stored as INT8 and not made float by another kernel."""
        return self.convolutions if any(tensor.dtype == "Int8" for tensor in self.constants) else 0

    @property
    def is_conversion(self) -> bool:
        """No convolution, and it reads only float to write only INT8, or the other way round."""
        read, written = ({tensor.dtype for tensor in tensors} for tensors in (self.inputs, self.outputs))
        return not self.convolutions and (
            (_all_float(read) and written == {"Int8"}) or (read == {"Int8"} and _all_float(written))
        )


@dataclass(frozen=True)
class FloatRoundTrip:
    """A float tensor in memory between two kernels that a better place for Q/DQ would have made INT8.

    Attributes:
        tensor: its shape and type, like ``1x24x64x64 Float``.
        written_by: ONNX nodes of the kernel that writes it, which has no convolution.
        read_by: ONNX nodes of the kernel that reads it and writes INT8; empty for a kernel that only makes INT8 float.
    """

    tensor: str
    written_by: tuple[str, ...]
    read_by: tuple[str, ...]


@dataclass(frozen=True)
class KernelPlan:
    """What TensorRT-RTX makes of a graph.

    Attributes:
        compute_capability: like ``"SM86"``.
        tensorrt: version of TensorRT-RTX.
        kernels: in the order in which they start.
        plan_bytes: size of the engine, with the weights and the source of generated kernels.
        build_s: seconds for parsing and building.
    """

    compute_capability: str
    tensorrt: str
    kernels: tuple[Kernel, ...]
    plan_bytes: int
    build_s: float

    @property
    def convolutions(self) -> int:
        return sum(kernel.convolutions for kernel in self.kernels)

    @property
    def int8_convolutions(self) -> int:
        return sum(kernel.int8_convolutions for kernel in self.kernels)

    @property
    def fused(self) -> int:
        """How many kernels hold more than one ONNX node."""
        return sum(len(kernel.layers) > 1 for kernel in self.kernels)

    @property
    def conversions(self) -> int:
        """How many kernels have no convolution and only change float to INT8 or back, whatever else they compute.

        TensorRT-RTX fuses nothing behind an INT8 convolution, so each writes float and a kernel with its bias and
        activation function makes INT8 of that. These are the compiler's; what placement adds is in
        ``float_round_trips``.
        """
        return sum(kernel.is_conversion for kernel in self.kernels)

    @property
    def float_round_trips(self) -> tuple[FloatRoundTrip, ...]:
        """Float tensors between kernels that placement is to blame for.

        These are: every float tensor that a kernel without convolution writes and a kernel that writes INT8 reads
        (it could have been written as INT8); and every kernel without convolution that reads only INT8 and writes
        only float. The float output of a convolution is not one of them, since no placement avoids it here.
        """
        writers = {tensor.name: kernel for kernel in self.kernels for tensor in kernel.outputs}
        trips = []
        for kernel in self.kernels:
            if any(tensor.dtype == "Int8" for tensor in kernel.outputs):
                for tensor in kernel.inputs:
                    writer = writers.get(tensor.name)
                    if tensor.dtype in _FLOATS and writer is not None and not writer.convolutions:
                        trips.append(FloatRoundTrip(str(tensor), writer.layers, kernel.layers))
            elif kernel.is_conversion:
                trips.append(FloatRoundTrip(str(kernel.outputs[0]), kernel.layers, ()))
        return tuple(trips)

    @property
    def activation_bytes(self) -> int:
        """Bytes of activations that all kernels together read and write for one frame."""
        return sum(t.size_bytes for kernel in self.kernels for t in (*kernel.inputs, *kernel.outputs))

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict: the counts, the round trips and every kernel."""
        return {
            "compute_capability": self.compute_capability,
            "tensorrt_rtx": self.tensorrt,
            "kernels": len(self.kernels),
            "convolutions": self.convolutions,
            "int8_convolutions": self.int8_convolutions,
            "conversions": self.conversions,
            "float_round_trips": [asdict(trip) for trip in self.float_round_trips],
            "fused": self.fused,
            "activation_bytes": self.activation_bytes,
            "plan_bytes": self.plan_bytes,
            "build_s": round(self.build_s, 3),
            "kinds": dict(Counter(kernel.kind for kernel in self.kernels)),
            "plan": [_kernel_json(kernel) for kernel in self.kernels],
        }


def available() -> bool:
    """Whether TensorRT-RTX is installed and imports."""
    try:
        require("tensorrt_rtx", "rtx")
    except MissingDependencyError:
        return False
    return True


def kernel_plan_from_onnx(onnx: bytes, compute_capability: str = "SM86", *, timeout_s: float = 600.0) -> KernelPlan:
    """Parse a graph and build it ahead of time, on this CPU, for a GPU that need not be here.

    Args:
        onnx: the serialized model, weights inside.
        compute_capability: one of ``COMPUTE_CAPABILITIES``.
        timeout_s: seconds after which the build is stopped.

    Raises:
        CompileError: the graph is refused (with the parser's first messages), or the compiler aborts or does not end.
        MissingDependencyError: TensorRT-RTX is not installed.
    """
    if compute_capability not in COMPUTE_CAPABILITIES:
        raise CompileError(
            f"TensorRT-RTX cannot build for {compute_capability!r}; it can for {', '.join(COMPUTE_CAPABILITIES)}"
        )
    tensorrt = require("tensorrt_rtx", "rtx").__version__
    with tempfile.TemporaryDirectory() as folder:
        graph, answer = Path(folder) / "graph.onnx", Path(folder) / "answer.json"
        graph.write_bytes(onnx)
        _run_apart([str(graph), compute_capability, str(answer)], timeout_s)
        built = json.loads(answer.read_text(encoding="utf-8"))
    if built["refused"]:
        raise CompileError(f"TensorRT-RTX {tensorrt} refuses the graph for {compute_capability}: {built['refused']}")
    return KernelPlan(
        compute_capability, tensorrt, kernels_from_log(built["log"]), built["plan_bytes"], built["build_s"]
    )


def kernels_from_log(lines: Iterable[str]) -> tuple[Kernel, ...]:
    """The kernels that a detailed build log names; lines that wait for another stream are no kernels.

    Raises:
        CompileError: the log names no kernels, or in a format that is not known here.
    """
    kernels = []
    for line in lines:
        if ", LayerType: " not in line:
            continue
        found = _LINE.search(line)
        if found is None:
            raise CompileError(
                f"this TensorRT-RTX writes its kernel plan in an unknown format, use version 1.7: {line[:120]!r}"
            )
        if found["kind"] not in _SYNCHRONISATION:
            kernels.append(
                Kernel(
                    found["name"],
                    found["kind"],
                    tuple(_LAYER.findall(found["layers"])),
                    *(_tensors(found[part] or "") for part in ("inputs", "constants", "outputs")),
                )
            )
    if not kernels:
        raise CompileError("this TensorRT-RTX names no kernels in its build log; use version 1.7, which does")
    return tuple(kernels)


def _tensors(listing: str) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(name, tuple(int(n) for n in shape.split(",") if n), dtype)
        for name, shape, dtype in _TENSOR.findall(listing)
    )


def _all_float(dtypes: set[str]) -> bool:
    return bool(dtypes) and dtypes.issubset(_FLOATS)


def _kernel_json(kernel: Kernel) -> dict[str, Any]:
    return {
        "name": kernel.name,
        "kind": kernel.kind,
        "layers": list(kernel.layers),
        "reads": [str(tensor) for tensor in kernel.inputs],
        "writes": [str(tensor) for tensor in kernel.outputs],
    }


def _run_apart(arguments: list[str], timeout_s: float) -> None:
    """Run this module in a process of its own; a crash or an endless build becomes a CompileError."""
    command = [sys.executable, "-m", "edgeseg.compiler.rtx", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise CompileError(
            f"TensorRT-RTX did not end within {timeout_s:.0f} s; pass a longer time or a smaller graph"
        ) from error
    if done.returncode:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1][:200]
        raise CompileError(f"TensorRT-RTX broke down on this graph ({how}), its last words: {said}; please report it")


def _built(onnx: bytes, compute_capability: str) -> dict[str, Any]:
    """Parse and build in this process. ``refused`` says why not; else ``log``, ``plan_bytes`` and ``build_s``."""
    trt = require("tensorrt_rtx", "rtx")

    class Log(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
        """Keeps what the compiler says."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.kernels: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)
            self.kernels += [line for line in message.split("\n") if ", LayerType: " in line]

    log = Log()
    began = time.perf_counter()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx):
        return {"refused": _one_line(parser.get_error(i).desc() for i in range(parser.num_errors))}
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, compute_capability), 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return {"refused": _one_line(log.errors)}
    return {
        "refused": "",
        "log": log.kernels,
        "plan_bytes": plan.nbytes,
        "build_s": time.perf_counter() - began,
    }


def _one_line(messages: Iterable[str]) -> str:
    """The first three of the compiler's messages on one line."""
    return "; ".join(" ".join(message.split())[:300] for message in list(messages)[:3]) or "it gives no reason"


def _main(graph: str, compute_capability: str, answer: str) -> None:
    Path(answer).write_text(json.dumps(_built(Path(graph).read_bytes(), compute_capability)), encoding="utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
