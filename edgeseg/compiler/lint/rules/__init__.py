"""The rules of the lint, a module per topic; ``RULES`` and ``DLA_RULES`` are the list.

A rule is a function that takes a graph and a target and yields findings. A new one goes into the module of its topic
and into the table below, and gets a bad and a good graph in ``tests/compiler/test_lint.py``.

An error is refused by the parser or the builder, or is outside what NVIDIA documents. A warning builds, but runs
slower, in float, or with other numbers than were calibrated. A note has to be known to build or to run the graph.
"""

from __future__ import annotations

from typing import Callable, Iterator

from edgeseg.compiler.lint.rule_graph import RuleGraph
from edgeseg.compiler.lint.rules import dla, operators, quantization, shapes, types
from edgeseg.compiler.lint.targets import Target
from edgeseg.report_data import Finding

__all__ = ["DLA_RULES", "RULES", "Rule"]

Rule = Callable[[RuleGraph, Target], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    operators.unsupported_operators,
    operators.local_functions,
    operators.custom_operators,
    operators.opset,
    operators.unread_axes,
    shapes.dynamic_shapes,
    shapes.runtime_shapes,
    operators.training_mode,
    shapes.external_data,
    types.element_types,
    types.uint8_network_io,
    types.uint8_readers,
    types.uint8_intermediates,
    types.uint8_casts,
    types.int64_io,
    types.int64_constants,
    shapes.resize_modes,
    shapes.resize_sizes,
    operators.max_pool,
    quantization.zero_points,
    quantization.uint8_quantization,
    quantization.int32_bias,
    quantization.scales,
    quantization.weight_axis,
    quantization.half_quantized,
    quantization.quantized_before_commuting,
    quantization.quantized_before_activation,
    quantization.concat_scales,
    operators.unfolded_batch_normalization,
    quantization.int8_flag,
    quantization.precision_flags,
    quantization.implicit_calibration,
    quantization.float16_weights,
)
"""Findings of one severity are said in this order."""
DLA_RULES: tuple[Rule, ...] = (
    dla.dla_boards,
    dla.dla_explicit_quantization,
    dla.dla_resize,
    dla.dla_concat,
    dla.dla_transposed_convolution,
    dla.dla_silu,
    dla.dla_operators,
)
"""Asked besides where a graph is to run on the accelerator; the first also where a target has none."""
