"""Quantize a graph: Q/DQ pairs, dynamic INT8, equalisation, sensitivity, mixed precision."""
