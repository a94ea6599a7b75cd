"""Predict one picture as well as a network can: several scales, mirrored, tile by tile, steady over time."""
