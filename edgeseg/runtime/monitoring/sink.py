"""The sink behind ``--shadow`` and ``--drift``: one inference of the higher precision serves both."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Iterable

import numpy as np

from edgeseg.bundle import Bundle
from edgeseg.descriptors import descriptor_from_image
from edgeseg.engines.base import Engine
from edgeseg.engines.select import engine_from_bundle
from edgeseg.errors import EdgesegError, SinkError, UsageError, require
from edgeseg.images import read_image
from edgeseg.picture_files import pictures_in
from edgeseg.recipes import FP16, FP32
from edgeseg.resizing import class_map_at
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.monitoring.drift import DriftGraph, DriftWatch
from edgeseg.runtime.monitoring.shadow import ShadowAgreement
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.runtime.sinks.own import keep_picture
from edgeseg.runtime.state import RunState

__all__ = ["FieldSink"]

_UNLIKE = 0.1
"""Least descriptor distance of two saved frames: half a second of a driving camera."""


class FieldSink(FrameSink):
    """Looks at some frames more closely than the running graph can; on one CPU thread of low priority, its own.

    Args:
        bundle: the model that runs.
        state: of the run; warnings are told there, by ``"shadow"`` and ``"drift"``.
        shadow: compare one of so many results with a higher precision (FP32, else FP16); 0 does not.
        drift: measure one of so many frames against the calibration set; 0 does not.
        drift_frames: folder for frames that drift, as PNG, unlike each other; ready for ``compile --calib``. Frames
            that are there already count.
        most_frames: at most so many are saved there.

    Attributes:
        shadow: see ``ShadowAgreement``; None without.
        drift: see ``DriftWatch``; None without.

    Raises:
        UsageError: nothing was asked for, or the bundle lacks what is needed.
        SinkError: the folder cannot be used.
        EngineError: the graph cannot be run.
    """

    samples = True

    def __init__(
        self,
        bundle: Bundle,
        state: RunState,
        *,
        shadow: int = 0,
        drift: int = 0,
        drift_frames: Path | None = None,
        most_frames: int = 100,
    ) -> None:
        if shadow < 0 or drift < 0 or not (shadow or drift):
            raise UsageError(f"`shadow` and `drift` take one frame of so many, 1 or more; got {shadow} and {drift}")
        if drift_frames is not None and not drift:
            raise UsageError("`drift_frames` keeps frames that drift, so it needs `drift` N")
        self._spec, self._every = bundle.spec, {"shadow": shadow, "drift": drift}
        self._seen = 0
        self._slowed = False
        self._engine: Engine | None = None
        self._graph: DriftGraph | None = None
        self._frames = None if drift_frames is None else _DriftFrames(drift_frames, most_frames)
        self.shadow: ShadowAgreement | None = None
        self.drift: DriftWatch | None = None
        parts = []
        if drift:
            self._graph = DriftGraph(bundle)
            golden = bundle.golden.frames if bundle.golden else np.empty((0, 0, 0, 3), np.uint8)
            self.drift = DriftWatch(self._graph, golden, lambda level, text: state.tell(level, "drift", text))
            parts.append(f"drift of 1 frame in {drift}")
        if shadow:
            graph = _higher_precision(bundle)
            if graph != FP32 or self._graph is None:
                self._engine = engine_from_bundle(bundle, graph, threads=1)
            self.shadow = ShadowAgreement(bundle.spec.classes, lambda level, text: state.tell(level, "shadow", text))
            parts.append(f"{graph} shadow of 1 frame in {shadow}")
        self.description = ", ".join(parts)

    def write(self, result: Segmentation) -> None:
        """Compare one of so many results with the higher precision and the calibration set."""
        number, self._seen = self._seen, self._seen + 1
        looks = {what for what, every in self._every.items() if every and number % every == 0}
        if not looks:
            return
        self._slow_down()
        frame = self._spec.resized(result.frame.image)
        try:
            ids = self._looked_at(frame, result, "drift" in looks)
        except EdgesegError as error:
            raise SinkError(f"{self.description}: {error}") from error
        if self.shadow is not None and "shadow" in looks:
            self.shadow.add(class_map_at(result.ids, (ids.shape[0], ids.shape[1])), ids)

    def close(self) -> None:
        """Close the engine of the higher precision."""
        if self._engine is not None:
            self._engine.close()

    def to_json(self) -> dict[str, Any]:
        """``{"shadow": ..., "drift": ...}``, what was asked for."""
        parts = {"shadow": self.shadow, "drift": self.drift}
        return {name: part.to_json() for name, part in parts.items() if part is not None}

    def metrics(self) -> Iterable[Any]:
        """Prometheus metric families, for a collector. Raises MissingDependencyError without prometheus-client."""
        core = require("prometheus_client.core", "preview")
        if self.shadow is not None:
            ratio = core.GaugeMetricFamily(
                "edgeseg_shadow_agreement_ratio",
                "IoU of the running graph's class with a higher precision's, over the latest shadow frames.",
                labels=["class"],
            )
            for name, value in self.shadow.to_json()["window"].items():
                ratio.add_metric([name], value)
            yield ratio
            yield core.CounterMetricFamily("edgeseg_shadow_frames", "Frames compared.", value=self.shadow.frames)
        if self.drift is not None:
            frames = core.CounterMetricFamily("edgeseg_drift_frames", "Frames measured.", labels=["drifts"])
            frames.add_metric(["yes"], self.drift.drifting)
            frames.add_metric(["no"], self.drift.looked - self.drift.drifting)
            yield frames
            yield core.GaugeMetricFamily(
                "edgeseg_drift_ratio", "Share of the latest measured frames that drift.", value=self.drift.share
            )

    def _looked_at(self, frame: np.ndarray, result: Segmentation, for_drift: bool) -> np.ndarray:
        """The higher precision's hxw class ids; drift is judged on the way."""
        if self.drift is None or self._graph is None or (self._engine is not None and not for_drift):
            assert self._engine is not None
            return self._inferred(self._engine, frame)
        reading = self._graph.read(frame)
        if for_drift and self.drift.add(reading) and self._frames is not None:
            self._frames.offer(result.frame.image)
        return reading.ids if self._engine is None else self._inferred(self._engine, frame)

    def _inferred(self, engine: Engine, frame: np.ndarray) -> np.ndarray:
        return np.asarray(engine.infer(np.repeat(frame[None], engine.input.shape[0], 0))[0])

    def _slow_down(self) -> None:
        """The frames go first: on Linux a niceness belongs to a thread."""
        if not self._slowed:
            self._slowed = True
            with suppress(OSError, AttributeError):
                if threading.current_thread() is not threading.main_thread():
                    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


class _DriftFrames:
    """Keeps a few frames that are unlike each other."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        try:
            folder.mkdir(parents=True, exist_ok=True)
            there = pictures_in(folder).files
        except OSError as error:
            raise SinkError(f"{folder} cannot be a folder of frames: {error.strerror}; name another") from error
        self._descriptors = [descriptor_from_image(read_image(path)) for path in there[:most]]

    def offer(self, image: np.ndarray) -> None:
        """Save it, unless there are enough or one like it. Raises SinkError when the disk refuses."""
        if len(self._descriptors) >= self._most:
            return
        descriptor = descriptor_from_image(image)
        if any(float(np.linalg.norm(descriptor - other)) < _UNLIKE for other in self._descriptors):
            return
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%fZ")
        try:
            keep_picture(self._folder / f"drift-{now}.png", image)
        except OSError as error:
            raise SinkError(f"{self._folder} cannot be written: {error.strerror}; free space") from error
        self._descriptors.append(descriptor)


def _higher_precision(bundle: Bundle) -> str:
    for name in (FP32, FP16):
        if name in bundle.graphs and bundle.graphs[name].target != "tensorrt":
            return name
    raise UsageError("`shadow` needs the bundle's FP32 or FP16 graph, and it has neither; compile it again")
