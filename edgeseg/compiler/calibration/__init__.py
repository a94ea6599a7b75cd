"""Collect tensor ranges from calibration images, and write them as TensorRT's cache."""
