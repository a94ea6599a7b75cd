"""Measure what ``edgeseg bench`` tells of a contender beside its times: accuracy, memory, age of results, layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Sequence, TypeVar

from edgeseg.app.bench_config import BenchConfig
from edgeseg.app.bench_opening import NamedModel, Opened
from edgeseg.app.data import dataset_from
from edgeseg.errors import EdgesegError, UsageError
from edgeseg.images import Dataset
from edgeseg.labels import refuse_unusable_labels
from edgeseg.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from edgeseg.bench.camera_rate import CameraRate
    from edgeseg.bench.layers import LayerTime

__all__ = ["Beside", "Besides", "labelled_for"]

T = TypeVar("T")


@dataclass(frozen=True)
class Beside:
    """What was measured of a contender beside its times. What was not asked for is None or empty.

    Attributes:
        miou: mean IoU; None also where no class has a pixel.
        worst_class: name of the class with the lowest IoU, and that.
        peak_memory_mib: of a process that runs the graph alone.
        camera: ages of results at the rate of a camera.
        layers: times, slowest first.
    """

    miou: float | None = None
    worst_class: tuple[str, float] | None = None
    peak_memory_mib: float | None = None
    camera: CameraRate | None = None
    layers: Sequence[LayerTime] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "miou": self.miou,
            "worst_class": self.worst_class,
            "peak_memory_mib": self.peak_memory_mib,
            "camera": None if self.camera is None else self.camera.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }


def labelled_for(config: BenchConfig, models: Sequence[NamedModel]) -> Dataset | None:
    """Return labelled data that fits every bundle, where some is asked for.

    Raises:
        UsageError: the bundles have different classes.
        EdgesegError: the data cannot be used.
    """
    if config.data is None:
        return None
    spec = models[0].bundle.spec
    for model in models:
        if model.bundle.spec.classes != spec.classes:
            raise UsageError(f"{model.name} has other classes than {models[0].name}; time them with `data` one by one")
    labelled = dataset_from(config.data, spec=spec, need_labels=True)
    refuse_unusable_labels(labelled, spec)
    return labelled


@dataclass(frozen=True)
class Besides:
    """Measure what was asked for beside the times. No engine is timed meanwhile.

    Attributes:
        config: says what is asked for.
        frames: HxWx3 uint8 BGR.
        labelled: data with labels, or None.
        progress: takes a line per step, and counts.
        failed: takes a line for what could not be measured; the rest goes on.
    """

    config: BenchConfig
    frames: Sequence[np.ndarray]
    labelled: Dataset | None
    progress: Progress
    failed: Callable[[str], None]

    def of(self, one: Opened) -> Beside:
        """Measure what was asked for of a contender."""
        miou, worst = self._tried(f"mIoU of {one.contender.name}", lambda: self._accuracy(one)) or (None, None)
        return Beside(
            miou,
            worst,
            self._tried(f"peak memory of {one.contender.name}", lambda: self._memory(one)),
            self._tried(f"{one.contender.name} behind a camera", lambda: self._camera(one)),
            self._tried(f"layers of {one.contender.name}", lambda: self._layers(one)) or (),
        )

    def _tried(self, what: str, measure: Callable[[], T]) -> T | None:
        try:
            return measure()
        except EdgesegError as error:
            self.failed(f"{what}: {error}")
            return None

    def _accuracy(self, one: Opened) -> tuple[float | None, tuple[str, float] | None]:
        from edgeseg.engines.evaluate import evaluate_engine

        labelled = self.labelled
        if labelled is None:
            return None, None

        def done(index: int, classes: Any) -> None:
            self.progress.count(f"mIoU of {one.contender.name}", index + 1, len(labelled))

        confusion = evaluate_engine(one.engine, one.bundle.spec, labelled, on_map=done)
        known = {name: float(iou) for name, iou in zip(one.bundle.spec.classes, confusion.iou()) if iou == iou}
        worst = min(known.items(), key=lambda item: item[1], default=None)
        return (confusion.miou() if known else None), worst

    def _memory(self, one: Opened) -> float | None:
        from edgeseg.bench.memory import peak_memory_mib
        from edgeseg.engines.select import CPU_ENGINES

        if not self.config.memory or one.by not in CPU_ENGINES:
            return None
        self.progress.step(f"peak memory of {one.contender.name}")
        return peak_memory_mib(one.by, one.graph, one.onnx, one.threads)

    def _camera(self, one: Opened) -> CameraRate | None:
        from edgeseg.bench.camera_rate import at_camera_rate

        fps, seconds = self.config.camera_fps, self.config.seconds
        if not fps:
            return None
        self.progress.step(f"{one.contender.name} behind a camera of {fps:g} frames per second, {seconds:g} s")
        return at_camera_rate(one.contender, self.frames, fps, seconds)

    def _layers(self, one: Opened) -> Sequence[LayerTime]:
        from edgeseg.bench.layers import built_layer_times, layer_times
        from edgeseg.engines.tensorrt.engine import TensorRtEngine

        if not self.config.layers:
            return ()
        self.progress.step(f"layers of {one.contender.name}")
        for row in one.engine.input:
            one.bundle.spec.resized(self.frames[0], out=row)
        if isinstance(one.engine, TensorRtEngine):
            return built_layer_times(one.engine)
        return layer_times(one.by, one.onnx, one.engine.input, threads=one.threads)
