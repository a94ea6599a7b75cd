"""NVIDIA's own compiler as judge: TensorRT-RTX parses a graph and builds it ahead of time on a CPU, no GPU needed.

It is strongly typed like TensorRT 11 and names its kernels while it builds, so the plan shows how many convolutions
really multiply INT8, what was fused and where tensors go back to float. It is not JetPack's TensorRT: what it says is
"accepted by TensorRT-RTX", not "runs on Xavier". It has no INT8 convolutions for SM75 and none that are transposed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from edgeseg.engines.tensorrt.build import BuildRequest
from edgeseg.engines.tensorrt.kernels import FLOATS, Kernel, kernels_from_log
from edgeseg.engines.tensorrt.variants import GraphVariant
from edgeseg.engines.tensorrt.worker import built_plan_in_child
from edgeseg.errors import CompileError, EngineError, MissingDependencyError, require
from edgeseg.report_data import FloatRoundTrip, KernelPlanSummary

__all__ = ["COMPUTE_CAPABILITIES", "KernelPlan", "rtx_is_installed", "kernel_plan_from_onnx"]

COMPUTE_CAPABILITIES = ("SM75", "SM80", "SM86", "SM89", "SM120")
"""What TensorRT-RTX builds for; a Jetson Orin is an Ampere like SM86, but SM87 is not among them."""


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
        """Count the convolutions in all kernels."""
        return sum(kernel.convolutions for kernel in self.kernels)

    @property
    def int8_convolutions(self) -> int:
        """Count the convolutions that kernels run in INT8."""
        return sum(kernel.int8_convolutions for kernel in self.kernels)

    @property
    def fused(self) -> int:
        """Count the kernels that hold more than one ONNX node."""
        return sum(len(kernel.layers) > 1 for kernel in self.kernels)

    @property
    def conversions(self) -> int:
        """Count the kernels without a convolution that change float to INT8 or back, whatever else they compute.

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
                    if tensor.dtype in FLOATS and writer is not None and not writer.convolutions:
                        trips.append(FloatRoundTrip(str(tensor), writer.layers, kernel.layers))
            elif kernel.is_conversion:
                trips.append(FloatRoundTrip(str(kernel.outputs[0]), kernel.layers, ()))
        return tuple(trips)

    @property
    def activation_bytes(self) -> int:
        """Bytes of activations that all kernels together read and write for one frame."""
        return sum(t.size_bytes for kernel in self.kernels for t in (*kernel.inputs, *kernel.outputs))

    def summary(self) -> KernelPlanSummary:
        """Return the counts and the round trips, for a bundle's report."""
        return KernelPlanSummary(
            compute_capability=self.compute_capability,
            tensorrt_rtx=self.tensorrt,
            kernels=len(self.kernels),
            convolutions=self.convolutions,
            int8_convolutions=self.int8_convolutions,
            conversions=self.conversions,
            float_round_trips=self.float_round_trips,
            fused=self.fused,
            activation_bytes=self.activation_bytes,
            plan_bytes=self.plan_bytes,
            build_s=round(self.build_s, 3),
            kinds=dict(Counter(kernel.kind for kernel in self.kernels)),
        )

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict: the summary and every kernel."""
        return {**self.summary().to_json(), "plan": [_kernel_json(kernel) for kernel in self.kernels]}


def rtx_is_installed() -> bool:
    """Tell whether TensorRT-RTX is installed and imports."""
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
    request = BuildRequest("fp32", compute_capability=compute_capability)
    try:
        built = built_plan_in_child("rtx", onnx, request, variants=(GraphVariant(),), timeout_s=timeout_s)
        kernels = kernels_from_log(built.kernel_log)
    except EngineError as error:
        raise CompileError(f"for {compute_capability}: {error}") from error
    return KernelPlan(compute_capability, tensorrt, kernels, len(built.plan), built.build_s)


def _kernel_json(kernel: Kernel) -> dict[str, Any]:
    return {
        "name": kernel.name,
        "kind": kernel.kind,
        "layers": list(kernel.layers),
        "reads": [str(tensor) for tensor in kernel.inputs],
        "writes": [str(tensor) for tensor in kernel.outputs],
    }
