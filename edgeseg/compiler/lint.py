"""Static lint of an ONNX graph for a TensorRT version, without TensorRT installed.

What each TensorRT refuses is taken from NVIDIA's operator lists and parser sources of that version, and, for
TensorRT-RTX, from what its parser and builder said to small graphs. A finding that rests on less says "not verified".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Mapping

from edgeseg.compiler.lint_rules import DLA_RULES, RULES, SEVERITIES, Finding, Graph, Target

if TYPE_CHECKING:
    import onnx

__all__ = ["TARGETS", "Finding", "Target", "linted"]

_JETPACK_5_1 = Target(
    "jetpack-5.1",
    tensorrt=(8, 5),
    opset=17,
    integer_to_uint8=False,
    int64=False,
    zero_tolerant=False,
    dla="Xavier NX, AGX Xavier, AGX Orin and Orin NX",
    lacks=("LayerNormalization", "GroupNormalization", "IsInf", "Hardmax", "DeformConv", "STFT"),
)
_JETPACK_6_1 = Target(
    "jetpack-6.1",
    tensorrt=(10, 3),
    opset=20,
    opset_verified=False,
    dla="AGX Orin and Orin NX",
    lacks=("STFT",),
)
_TARGETS = (
    _JETPACK_5_1,
    replace(
        _JETPACK_5_1,
        name="jetpack-6.0",
        tensorrt=(8, 6),
        integer_to_uint8=None,
        dla="AGX Orin and Orin NX",
        lacks=("Hardmax", "DeformConv", "STFT"),
    ),
    _JETPACK_6_1,
    replace(_JETPACK_6_1, name="jetpack-6.2"),
    Target("jetpack-7.0", tensorrt=(10, 13), opset=24, opset_verified=False),
    Target("jetpack-7.2", tensorrt=(10, 16), opset=24),
    Target(
        "jetpack-7.2-trt11",
        tensorrt=(11, 4),
        opset=25,
        strongly_typed=True,
        implicit_int8=False,
        dla="AGX Orin with JetPack 7.2.2 or newer",
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
