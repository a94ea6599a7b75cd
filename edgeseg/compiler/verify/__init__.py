"""Verify a graph: the accuracy gate, the precision that runs, NVIDIA's own compiler, the roofline."""
