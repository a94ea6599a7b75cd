"""Static lint of an ONNX graph for a TensorRT version, without TensorRT installed.

What each TensorRT refuses is taken from NVIDIA's operator lists and parser sources of that version, and, for
TensorRT-RTX, from what its parser and builder said to small graphs. A finding that rests on less says "not verified".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Mapping

from edgeseg.compiler.lint.rules import DLA_RULES, RULES, SEVERITIES, Graph, Target
from edgeseg.device.jetpack import RELEASES, TENSORRT_11_JETPACK, version_tuple
from edgeseg.report_data import Finding

if TYPE_CHECKING:
    import onnx

__all__ = ["TARGETS", "Finding", "Target", "linted"]

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


def linted(model: onnx.ModelProto, target: Target, *, dla: bool = False) -> list[Finding]:
    """What stands between a graph and a TensorRT version, most severe first; alike findings are one.

    Args:
        model: any ONNX model; it is not changed.
        target: of ``TARGETS``, or one of your own.
        dla: also ask what of the graph the target's deep learning accelerator can run.

    Raises:
        CompileError: the graph is not valid ONNX.
    """
    graph = Graph(model)
    asked = (DLA_RULES if target.dla else DLA_RULES[:1]) if dla else ()
    found = [finding for rule in RULES + asked for finding in rule(graph, target)]
    return sorted(_grouped(found), key=lambda finding: SEVERITIES.index(finding.severity))


def _grouped(found: list[Finding]) -> list[Finding]:
    """One finding for each thing that is wrong, with the first place and the number of others."""
    places: dict[Finding, list[str]] = {}
    for finding in found:
        places.setdefault(replace(finding, where=""), []).append(finding.where)
    return [
        replace(finding, where=where[0] if len(where) == 1 else f"{where[0]} and {len(where) - 1} more")
        for finding, where in places.items()
    ]
