"""The graph as a rule reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator

from edgeseg.compiler.graph.onnx_graph import OnnxGraph, nested_nodes
from edgeseg.errors import CompileError, first_line, require

if TYPE_CHECKING:
    import onnx

__all__ = ["SEVERITIES", "TO_INT8", "RuleGraph"]

SEVERITIES = ("error", "warning", "note")
TO_INT8 = "run 'edgeseg compile --int8' and take the graph int8-tensorrt"


class RuleGraph(OnnxGraph):
    """A model as the rules read it: nodes with those of bodies, types and shapes inferred as far as they can be.

    Args:
        model: any; it is not changed.

    Attributes:
        kinds: ONNX's element types by name, such as ``kinds.UINT8``.
        opset: version of the ONNX operators.
        functions: names of the functions that the model defines.
        function_nodes: nodes inside them.
        inputs: those that are no weights.
        outputs: of the graph.

    Raises:
        CompileError: it is not valid ONNX.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        tools = require("onnx", "compile")
        try:
            graph = tools.shape_inference.infer_shapes(model).graph
        except (tools.shape_inference.InferenceError, ValueError) as error:
            raise CompileError(
                f"the graph is not valid ONNX: {first_line(error)}; export it again, or check it with onnx.checker"
            ) from error
        super().__init__(graph, bodies=True)
        names = (
            name for node in self.nodes for name in (node.op_type, node.domain, node.name, *node.input, *node.output)
        )
        if not all(isinstance(name, str) for name in names):
            raise CompileError("the graph is not valid ONNX: a name in it is no text; export it again")
        self.kinds = tools.TensorProto
        self.opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
        self.functions = {function.name for function in model.functions}
        self.function_nodes = tuple(node for function in model.functions for node in nested_nodes(function))
        weights = {tensor.name for tensor in graph.initializer}
        self.inputs = [value for value in graph.input if value.name not in weights]
        self.outputs = list(graph.output)

    def is_constant(self, tensor: str) -> bool:
        """Return whether a tensor is stored in the file."""
        return tensor in self.constants

    def type(self, tensor: str) -> int:
        """Return the ONNX element type of a tensor; 0 where it is unknown."""
        return int(self.types.get(tensor, 0))

    def type_name(self, tensor: str) -> str:
        """Return the element type in words, such as ``INT64``."""
        kind = self.type(tensor)
        return str(self.kinds.DataType.Name(kind)) if kind in self.kinds.DataType.values() else f"number {kind}"

    def constants_of_type(self, kind: int) -> Iterator[str]:
        """Yield the names of the constants of one element type."""
        return (name for name, tensor in self.constants.items() if tensor.data_type == kind)

    @property
    def quantizers(self) -> list[onnx.NodeProto]:
        """Return the Q/DQ nodes."""
        return self.of("QuantizeLinear", "DequantizeLinear")
