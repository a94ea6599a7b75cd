"""Read a network of any exporter into the canonical graph: torch modules and ONNX files."""
