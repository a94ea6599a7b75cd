"""Take results into your own code in a thread of its own, so that a slow database does not hold up the camera.

python examples/own_sink.py
"""

import sqlite3
from pathlib import Path

import edgeseg

MODEL = Path("street")  # a name of `edgeseg models`, or the path of yours


class RoadTable(edgeseg.FrameSink):
    """A table with the share of road in each frame."""

    description = "table of road shares"

    def __init__(self, path: str, road: int) -> None:
        self._path, self._road = path, road
        self._rows = []  # type: list[tuple[str, float]]

    def write(self, result: edgeseg.Segmentation) -> None:
        """Take one result. Raise edgeseg.SinkError where it cannot be kept."""
        self._rows.append((result.frame.name, float(result.area[self._road])))

    def close(self) -> None:
        """Write the table. May be called twice."""
        with sqlite3.connect(self._path) as table:
            table.execute("CREATE TABLE IF NOT EXISTS road (frame TEXT, share REAL)")
            table.executemany("INSERT INTO road VALUES (?, ?)", self._rows)
        self._rows = []


road = edgeseg.load(MODEL).spec.classes.index("road")
config = edgeseg.RunConfig(model=MODEL, sources=["demo://street?frames=20"])
summary = edgeseg.run(config, sinks=[RoadTable("road.db", road)])
print(f"{summary['frames']} frames in road.db")
