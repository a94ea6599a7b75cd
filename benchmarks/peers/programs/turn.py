"""What the program of every contender does: prepare a network once, then take turns, each in a process of its own.

    PROGRAM prepare VARIANT NETWORK MADE THREADS
    PROGRAM turn VARIANT NETWORK MADE THREADS WARMUP_S SECONDS CALLS CLOCK MAPS

``NETWORK`` is a folder of ``inputs.py``, ``MADE`` a folder of the contender's own. A turn writes the class maps of all
frames to ``MAPS`` (``-`` for none) and ends with a line of JSON. ``CLOCK`` is ``wall`` or ``cpu``, the time of the
process. Only numpy is needed here: it runs in the contender's own environment.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np


@dataclass(frozen=True)
class Job:
    """What a program is asked for.

    Attributes:
        variant: which of the ways that the program knows.
        network: folder with the graphs, frames and facts.
        made: folder for what the contender makes of them.
        threads: that its engine may use.
    """

    variant: str
    network: Path
    made: Path
    threads: int

    @property
    def facts(self) -> dict[str, Any]:
        """Return ``size_hw``, ``mean``, ``std`` and ``classes`` of the network."""
        return json.loads((self.network / "facts.json").read_text())  # type: ignore[no-any-return]

    def frames(self) -> np.ndarray:
        """Return the frames that are timed, NxHxWx3 uint8 BGR."""
        return np.load(self.network / "frames.npy")  # type: ignore[no-any-return]

    def calibration(self) -> np.ndarray:
        """Return the frames for INT8, NxHxWx3 uint8 BGR."""
        return np.load(self.network / "calibration.npy")  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Opened:
    """An engine that is ready.

    Attributes:
        run: the graph alone, on an input that is in place.
        segment: HxWx3 uint8 BGR frame -> HxW uint8 class map, as this engine's users would write it.
        description: name, version and precision, for people.
    """

    run: Callable[[], object]
    segment: Callable[[np.ndarray], np.ndarray]
    description: str


def planes_of(frame: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Write an HxWx3 uint8 frame into 1x3xHxW float32 and return that."""
    np.copyto(planes[0], frame.transpose(2, 0, 1))
    return planes


def classes_of(scores: np.ndarray) -> np.ndarray:
    """Return the class map HxW uint8 of scores CxHxW."""
    return scores.argmax(0).astype(np.uint8)  # type: ignore[no-any-return]


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def _laps(call: Callable[[], object], seconds: float, calls: int, clock: Callable[[], float]) -> list[float]:
    """Return the milliseconds of calls, for so long and at least so many."""
    laps: list[float] = []
    while len(laps) < calls or sum(laps) < 1e3 * seconds:
        began = clock()
        call()
        laps.append(1e3 * (clock() - began))
    return laps


def _turn(opened: Opened, frames: np.ndarray, more: list[str]) -> dict[str, Any]:
    warmup_s, seconds, calls, clock = float(more[0]), float(more[1]), int(more[2]), CLOCKS[more[3]]
    taken = iter(range(sys.maxsize))
    timed: dict[str, Callable[[], object]] = {
        "frame": lambda: opened.segment(frames[next(taken) % len(frames)]),
        "graph": opened.run,
    }
    found: dict[str, Any] = {"description": opened.description}
    for name, call in timed.items():
        _laps(call, warmup_s, 2, clock)
        found[name] = [round(lap, 4) for lap in _laps(call, seconds, calls, clock)]
    return found


def main(prepare: Callable[[Job], None], opened: Callable[[Job], Opened]) -> None:
    """Do what the command line says.

    Args:
        prepare: makes what ``opened`` needs in the job's folder.
        opened: opens the engine.
    """
    what, variant, network, made, threads, *more = sys.argv[1:]
    job = Job(variant, Path(network), Path(made), int(threads))
    if what == "prepare":
        prepare(job)
        return
    *more, maps = more
    engine, frames = opened(job), job.frames()
    found = _turn(engine, frames, more)
    if maps != "-":
        np.save(maps, np.stack([engine.segment(frame).copy() for frame in frames]))
    print(f"\n{json.dumps(found)}", flush=True)
