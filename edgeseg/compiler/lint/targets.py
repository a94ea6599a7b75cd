"""TensorRT versions that a graph is checked for, and what each of them reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from edgeseg.compiler.lint.operators import imported_operators
from edgeseg.device.jetpack import RELEASES, TENSORRT_11_JETPACK, version_tuple

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True)
class Target:
    """A TensorRT version and what a graph must know about it.

    Attributes:
        name: key of ``TARGETS``.
        tensorrt: version, (major, minor).
        opset: the newest ONNX opset that it reads.
        product: ``"TensorRT"`` or ``"TensorRT-RTX"``, whose versions count apart.
        opset_verified: whether ``opset`` was read in NVIDIA's documentation of this version.
        uint8_io: network inputs and outputs may be uint8 (8.5 and newer).
        integer_to_uint8: Cast between integers and uint8, not only between floats and uint8; None is not verified.
        int64: INT64 is a type of its own; before 10 the parser casts it to INT32.
        strongly_typed: there are no precision flags; types are those of the graph.
        implicit_int8: INT8 from a calibration cache.
        newer_axes: axes are read where opset 18 put them: an input of reductions and Pad, an attribute of Resize.
        local_functions: functions that the graph defines are read (9 and newer).
        zero_tolerant: Q/DQ without a zero point, with a uint8 zero point of 0 or with float16 scales is read.
        dla: the boards whose deep learning accelerator it can use; empty for none.
        lacks: operators that it imports and then refuses.
    """

    name: str
    tensorrt: tuple[int, int]
    opset: int
    product: str = "TensorRT"
    opset_verified: bool = True
    uint8_io: bool = True
    integer_to_uint8: bool | None = True
    int64: bool = True
    strongly_typed: bool = False
    implicit_int8: bool = True
    newer_axes: bool = True
    local_functions: bool = True
    zero_tolerant: bool = True
    dla: str = ""
    lacks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.product} {self.tensorrt[0]}.{self.tensorrt[1]}"

    def loads(self, operator: str) -> bool:
        """Return whether the parser takes an operator of ONNX."""
        return operator in imported_operators(self.product, self.tensorrt) and operator not in self.lacks


_RELEASES = {release.jetpack: release for release in RELEASES}


def _target(jetpack: str, **facts: Any) -> Target:
    """A JetPack with the TensorRT that comes with it."""
    release = _RELEASES[jetpack]
    return Target(f"jetpack-{jetpack}", tensorrt=_major_minor(release.tensorrt), dla=release.dla, **facts)


def _major_minor(version: str) -> tuple[int, int]:
    major, minor = version_tuple(version)[:2]
    return major, minor


_TENSORRT_8: dict[str, Any] = {
    "opset": 17,
    "int64": False,
    "zero_tolerant": False,
    "newer_axes": False,
    "local_functions": False,
}
_TENSORRT_11: dict[str, Any] = {"opset": 24, "opset_verified": False, "strongly_typed": True, "implicit_int8": False}
_FIRST_WITH_11 = _RELEASES[TENSORRT_11_JETPACK]
_TARGETS = (
    _target("5.1", integer_to_uint8=False, **_TENSORRT_8),
    _target("6.0", integer_to_uint8=None, **_TENSORRT_8),
    _target("6.1", opset=20, opset_verified=False),
    _target("6.2", opset=20, opset_verified=False),
    _target("7.0", opset=24, opset_verified=False),
    _target("7.2", opset=24),
    Target(
        "jetpack-7.2-trt11",
        tensorrt=_major_minor(_FIRST_WITH_11.newer_tensorrt),
        dla=_FIRST_WITH_11.newer_dla,
        **_TENSORRT_11,
    ),
    Target(
        "tensorrt-rtx-1.7",
        tensorrt=(1, 7),
        opset=25,
        product="TensorRT-RTX",
        opset_verified=False,
        strongly_typed=True,
        implicit_int8=False,
        lacks=("NonZero",),
    ),
)
TARGETS: Mapping[str, Target] = {target.name: target for target in _TARGETS}
"""JetPack and the TensorRT that comes with it. Containers bring others: what counts is the TensorRT version."""
