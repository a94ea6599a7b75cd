"""Render ``demo://street``: a street seen from a moving car, with exact ground truth.

The camera is procedural: ``StreetScene(seed).render(index)`` gives a frame and its labels, bit for bit the same
wherever and in whatever order it is called. Start reading at scene.py, which says what stands where;
camera.py projects and lights, canvas.py draws colour and label with the same shape, roadside.py and
traffic.py paint things, surroundings.py the sky and the ground, and chance.py hashes the dice for all of
them.
"""

from __future__ import annotations

from edgeseg.demo.canvas import CLASSES, PALETTE
from edgeseg.demo.scene import StreetScene

__all__ = ["CLASSES", "PALETTE", "StreetScene"]
