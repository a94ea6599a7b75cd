"""Edit ONNX graphs: fold, simplify, batch, convert to float16, store weights."""
