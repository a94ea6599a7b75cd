"""A board without a board: fake TensorRT of some version, fake CUDA, and our engine on top, in this process."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeseg.bundle import Bundle
from edgeseg.device.detect import detected_device
from edgeseg.engines.cuda.device import Cuda
from edgeseg.engines.tensorrt.api import TensorRt
from edgeseg.engines.tensorrt.build import BuiltPlan, built_plan
from edgeseg.engines.tensorrt.cache import EngineCache
from edgeseg.engines.tensorrt.engine import TensorRtEngine
from edgeseg.engines.tensorrt.factory import TensorRtFactory, TensorRtOptions
from tests.engines.tensorrt.tiny import tiny_bundle
from tests.fake_cuda import FakeCuda
from tests.fake_tensorrt import fake_tensorrt

VERSIONS = ("8.5.2.2", "8.6.2.3", "10.3.0.30", "10.13.3.9", "10.16.2.10", "11.4.1.1")
_THIS_DEVICE = detected_device()
"""Looked at once: that reads all of dpkg's status."""


class Rig:
    """One board.

    Args:
        version: of TensorRT.
        folder: for its engine cache.
        integrated: memory shared with the CPU.
        settings: for ``fake_tensorrt``; a CUDA graph replays with its context's current addresses, the worst case.
    """

    def __init__(self, version: str, folder: Path, *, integrated: bool = True, **settings: Any) -> None:
        self.fake = FakeCuda(integrated=integrated)
        self.module = fake_tensorrt(version, self.fake, **{"replay": "current", **settings})
        self.api = TensorRt(self.module)
        self.cache = EngineCache(folder)
        self.said: list[str] = []
        self.builds = 0
        self.factory = TensorRtFactory(
            self.cache,
            say=self.said.append,
            api=self.api,
            open_cuda=self.cuda,
            build=self._build,
            device=lambda: replace(_THIS_DEVICE, memory_available_gib=self.fake.free_mib / 1024),
        )

    def cuda(self) -> Cuda:
        return Cuda(driver=self.fake.driver, library=self.fake.libcuda)

    def _build(self, flavour: str, onnx: bytes, request: Any, **rest: Any) -> BuiltPlan:
        self.builds += 1
        return built_plan(self.api, onnx, request, **rest)

    def engine(self, bundle: Bundle | None = None, **options: Any) -> TensorRtEngine:
        return self.factory.open(bundle or tiny_bundle(), "tiny", TensorRtOptions(**options)).engine

    def leaks(self) -> dict[str, int]:
        """What is alive although nothing should be."""
        gc.collect()
        counts = {**self.fake.live(), **self.module.live()}
        counts["contexts retained"] -= (
            self.fake._runtime_retained
        )  # by TensorRT's own CUDA runtime, until the process ends
        return {name: count for name, count in counts.items() if count}
