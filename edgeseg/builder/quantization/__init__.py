"""Fine-tune a network under the arithmetic of its INT8 graph."""

from edgeseg.builder.quantization.network import QuantizedNetwork, TrainedGraph

__all__ = ["QuantizedNetwork", "TrainedGraph"]
