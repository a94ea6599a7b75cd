"""What every step of a compilation reads, and how a step judges a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Sequence

import numpy as np

from edgeseg.compiler.options import CompileData, CompileOptions
from edgeseg.compiler.step_cache import StepCache
from edgeseg.compiler.verify.gate import labelled_sha256, measured_accuracy
from edgeseg.progress import Progress
from edgeseg.report_data import Accuracy
from edgeseg.spec import ModelSpec

if TYPE_CHECKING:
    import onnx

__all__ = ["Job", "job_from_data"]


@dataclass(frozen=True)
class Job:
    """What every step of a compilation reads.

    Attributes:
        spec: of the network.
        data: images.
        options: what to emit and what to allow.
        cache: what long steps found before.
        progress: takes a line per step, and counts inside long steps.
        evaluation_sha256: ``labelled_sha256`` of the evaluation images; empty where nothing is cached.
    """

    spec: ModelSpec
    data: CompileData
    options: CompileOptions
    cache: StepCache
    progress: Progress
    evaluation_sha256: str

    def judge(
        self,
        model: onnx.ModelProto,
        name: str,
        *,
        float_qdq: bool = False,
        reference: Sequence[np.ndarray] | None = None,
    ) -> tuple[Accuracy, list[np.ndarray]]:
        """Run a graph over the evaluation images.

        Args:
            model: for one frame.
            name: of the graph or step, for people.
            float_qdq: judge with TensorRT's arithmetic.
            reference: FP32's class maps (HxW uint8), to agree with.

        Returns:
            Its accuracy, and its class maps (HxW uint8).
        """
        return measured_accuracy(
            model.SerializeToString(),
            self.spec,
            self.data.evaluation,
            float_qdq=float_qdq,
            reference=reference,
            cache=self.cache,
            data_sha256=self.evaluation_sha256,
            report=self.counter(f"judging {name}"),
        )

    def counter(self, what: str) -> Callable[[int, int], None]:
        """Return what a long step calls with (items done, items in all)."""
        return lambda done, total: self.progress.count(what, done, total)


def job_from_data(
    spec: ModelSpec, data: CompileData, options: CompileOptions, cache: StepCache, progress: Progress
) -> Job:
    """Begin a compilation. Raises ImageError: an evaluation image cannot be used."""
    digest = labelled_sha256(data.evaluation, spec) if cache.folder else ""
    return Job(spec, data, options, cache, progress, digest)
