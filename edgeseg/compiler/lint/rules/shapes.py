"""Rules on sizes: fixed inputs, computed shapes, enlargement, weights outside the file."""

from __future__ import annotations

from typing import Iterator

from edgeseg.compiler.graph.onnx_graph import attribute, input_name, node_name
from edgeseg.compiler.lint.rule_graph import RuleGraph
from edgeseg.compiler.lint.targets import Target
from edgeseg.report_data import Finding

__all__ = [
    "dynamic_shapes",
    "external_data",
    "resize_modes",
    "resize_sizes",
    "runtime_shapes",
]


def dynamic_shapes(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find inputs without a fixed shape."""
    for value in graph.inputs:
        shape = value.type.tensor_type.shape
        if any(dim.dim_param or dim.dim_value <= 0 for dim in shape.dim):
            seen = "x".join(f"{dim.dim_param or dim.dim_value}" for dim in shape.dim)
            what = f"the input's shape {seen} is not fixed; the engine would need an optimization profile"
            fix = (
                "export without dynamic_axes, at the size and batch that the camera needs "
                "(edgeseg compile --size WIDTHxHEIGHT)"
            )
            yield Finding("error", "dynamic-shape", value.name, what, fix)


def runtime_shapes(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find shapes and control flow that are computed in every frame."""
    for node in graph.of("Shape", "Size", "ConstantOfShape", "Range", "NonZero", "If", "Loop", "Scan"):
        if target.loads(node.op_type):
            what = f"{node.op_type} is left over: shapes or control flow are computed in every frame and hinder fusion"
            fix = "export with a fixed input shape and simplify with 'edgeseg compile --simplifier onnxsim'"
            yield Finding("warning", "runtime-shape", node_name(node), what, fix)


def external_data(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find weights in another file."""
    for tensor in graph.proto.initializer:
        if tensor.data_location == graph.kinds.EXTERNAL:
            what = "the weights are in another file, which is lost when the graph is copied or parsed from memory"
            fix = "onnx.save(onnx.load(path), path, save_as_external_data=False); a bundle holds one file"
            yield Finding("error", "external-data", tensor.name, what, fix)


_COORDINATES = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")


def resize_modes(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find ways of enlarging that are refused or slow."""
    for node in graph.of("Resize"):
        coordinates = attribute(node, "coordinate_transformation_mode", "half_pixel")
        nearest = attribute(node, "nearest_mode", "round_prefer_floor")
        refused = {
            f"coordinate_transformation_mode {coordinates}": coordinates not in _COORDINATES,
            f"tf_half_pixel_for_nn with nearest_mode {nearest}": coordinates == "tf_half_pixel_for_nn"
            and nearest != "round_prefer_floor",
            "antialias": bool(attribute(node, "antialias", 0)),
            "keep_aspect_ratio_policy": attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch",
        }
        fix = "use mode nearest or linear with asymmetric, half_pixel or align_corners, without antialias"
        for seen in (name for name, wrong in refused.items() if wrong):
            yield Finding("error", "resize-mode", node_name(node), f"Resize with {seen} is refused", fix)
        if attribute(node, "mode", "nearest") == "cubic":
            what = (
                "NVIDIA's operator list has Resize only for nearest and linear; cubic is parsed, but slow and untested"
            )
            yield Finding("warning", "resize-cubic", node_name(node), what, fix)


def resize_sizes(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find enlargements whose scales or sizes are computed."""
    for node in graph.of("Resize"):
        scales, sizes = (input_name(node, index) for index in ((2, 3) if graph.opset >= 11 else (1, 3)))
        if all(graph.is_constant(name) for name in (scales, sizes) if name):
            continue
        fed = {value.name for value in graph.inputs} & {scales, sizes}
        severity = "error" if fed or (scales and not target.int64) else "warning"
        what = "the scales or sizes of Resize are computed while it runs" if not fed else "Resize's scales are an input"
        fix = (
            "interpolate with a constant scale_factor, or simplify a fixed-shape export with "
            "'edgeseg compile --simplifier onnxsim'"
        )
        yield Finding(severity, "resize-sizes", node_name(node), what, fix)
