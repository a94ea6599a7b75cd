"""Frames in, masks out: sources, sinks, the loop."""
