"""Check a graph against what each TensorRT imports and builds, without TensorRT installed."""
