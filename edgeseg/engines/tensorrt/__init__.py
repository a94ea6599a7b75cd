"""Build and run TensorRT engines on the device, and keep them."""
