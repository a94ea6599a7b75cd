"""Drift: how far the activations of the field's frames are from those of the calibration set.

Two measures per frame, each on at most 12 activation tensors spread over the network's depth, the first included:

- ``clipped``: share of elements beyond the calibrated range, which INT8 cuts off. On the shipped model (min-max over
  431 images) it is 2e-5 or less for ordinary frames, and 9e-5 or less also for inverted, overexposed, dark and noisy
  ones: only a strong green cast (up to 3e-3) raises it over the floor. Alone it would see next to nothing.
- ``shifted``: root mean square distance of the tensor's channel means from the calibrated channel means, in units of
  the largest one among the golden frames. The largest of the 12 was 0.75 to 1.30 on 73 ordinary frames (CamVid val,
  rendered streets of other seeds), 2.4 to 4.0 overexposed, 3.2 to 3.4 at 15 % of the light, 3.0 to 5.0 with noise of 40
  and 80 levels, 2.9 to 3.5 with a blue or green cast, 5.1 all white, 2.3 to 2.5 for inverted CamVid, but 1.2 to 2.4 for
  inverted streets, whose means happen to stay. A turn of the hue by 120 degrees or swapped red and blue (0.9 to 1.2)
  cannot be told from ordinary frames this way.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

from edgeseg.bundle import CHANNEL_MEANS, CLIPPED, Bundle
from edgeseg.errors import EngineError, UsageError, first_line, require
from edgeseg.recipes import FP32

__all__ = ["CLIP_FLOOR", "CLIP_TIMES", "SHIFT_TIMES", "DriftGraph", "DriftWatch", "Reading"]

CLIP_FLOOR = 1e-4
CLIP_TIMES = 10.0
SHIFT_TIMES = 1.5
_LEAST_SHIFT = 0.01
_AT_LEAST = 10


@dataclass(frozen=True)
class Reading:
    """What one frame gave.

    Attributes:
        ids: hxw uint8 class ids of the FP32 graph.
        clipped: (k,) float64 share of elements beyond the calibrated range, 0-1.
        shifted: (m,) float64 distance of channel means from the calibrated ones, in units of the tensor.
    """

    ids: np.ndarray
    clipped: np.ndarray
    shifted: np.ndarray


_OF_ANOTHER_GRAPH = "the bundle's ranges belong to another graph than its FP32 graph; compile it again"


class DriftGraph:
    """The bundle's FP32 graph with the two measures computed inside it; a thread of the CPU.

    Args:
        bundle: with an FP32 graph, ranges and the probe that measures drift.

    Attributes:
        clip_tensors, shift_tensors: names of what is measured.
        widths: (m,) float64 calibrated width (high - low) of the shift tensors.

    Raises:
        UsageError: the bundle has no FP32 graph, no probe, or no ranges that fit it.
        EngineError: the graph cannot be run.
    """

    def __init__(self, bundle: Bundle) -> None:
        if bundle.ranges is None or FP32 not in bundle.graphs:
            raise UsageError("drift needs the calibrated ranges and the FP32 graph, and the bundle lacks one of them")
        if bundle.drift is None:
            raise UsageError("the bundle holds nothing that measures drift; compile it again")
        self._session = _session(bundle.graphs[FP32].onnx + bundle.drift)
        self._feed = self._session.get_inputs()[0]
        names = [output.name for output in self._session.get_outputs()]
        self.clip_tensors = [name[len(CLIPPED) :] for name in names if name.startswith(CLIPPED)]
        self.shift_tensors = [name[len(CHANNEL_MEANS) :] for name in names if name.startswith(CHANNEL_MEANS)]
        self._outputs = [names[0], *(CLIPPED + name for name in self.clip_tensors)]
        self._outputs += [CHANNEL_MEANS + name for name in self.shift_tensors]
        tensors, means = bundle.ranges.tensors, bundle.ranges.means
        fitting = all(name in tensors and name in means for name in self.shift_tensors)
        if not fitting or not self.clip_tensors or not self.shift_tensors:
            raise UsageError(_OF_ANOTHER_GRAPH)
        self.widths = np.array([tensors[name][1] - tensors[name][0] for name in self.shift_tensors])
        self._means = [np.asarray(means[name], np.float64) for name in self.shift_tensors]

    def read(self, frame: np.ndarray) -> Reading:
        """Measure one HxWx3 uint8 BGR frame at the network's size. Raises EngineError, UsageError."""
        batch = np.repeat(frame[None], self._feed.shape[0], 0)
        try:
            found = self._session.run(self._outputs, {self._feed.name: batch})
        except Exception as error:  # onnxruntime raises its own types, as below
            raise EngineError(f"onnxruntime failed on the FP32 graph for drift: {first_line(error)}") from error
        split = 1 + len(self.clip_tensors)
        if any(got.size != mean.size for got, mean in zip(found[split:], self._means)):
            raise UsageError(_OF_ANOTHER_GRAPH)
        shifted = [float(np.sqrt(np.mean((got - mean) ** 2))) for got, mean in zip(found[split:], self._means)]
        clipped = np.array([float(share) for share in found[1:split]])
        return Reading(np.asarray(found[0])[0], clipped, np.array(shifted))


class DriftWatch:
    """Says which frames drift, and when too many do.

    Args:
        graph: that measures.
        golden: NxHxWx3 uint8 BGR frames at the network's size that count as ordinary.
        tell: takes (level, text) when more than half of the window's frames drift, and when less than a quarter do.
        window: frames.

    Attributes:
        looked: frames judged.
        drifting: frames that drifted.
        share: of the window's frames that drift, 0-1.
        alarmed: the alarm was told and has not been taken back.

    Raises:
        UsageError: there are no golden frames. EngineError: the graph failed.
    """

    def __init__(
        self, graph: DriftGraph, golden: np.ndarray, tell: Callable[[str, str], None], window: int = 50
    ) -> None:
        if not len(golden):
            raise UsageError("drift is measured against the bundle's golden frames, and it has none; compile it again")
        ordinary = [graph.read(frame) for frame in golden]
        self._clip_limit = np.maximum(CLIP_FLOOR, CLIP_TIMES * np.max([one.clipped for one in ordinary], 0))
        baseline = np.maximum(_LEAST_SHIFT * graph.widths, np.max([one.shifted for one in ordinary], 0))
        self._shift_limit = SHIFT_TIMES * baseline
        self._graph, self._tell = graph, tell
        self._window: deque[bool] = deque(maxlen=window)
        self.looked = self.drifting = 0
        self.share = 0.0
        self.alarmed = False
        self._latest: dict[str, Any] = {}

    def add(self, reading: Reading) -> bool:
        """Judge one frame: True where it drifts."""
        clip, shift = reading.clipped / self._clip_limit, reading.shifted / self._shift_limit
        drifts = bool(max(clip.max(), shift.max()) > 1)
        self._latest = {
            "clipped": float(reading.clipped.max()),
            "clipped_tensor": self._graph.clip_tensors[int(clip.argmax())],
            "shifted": round(SHIFT_TIMES * float(shift.max()), 3),
            "shifted_tensor": self._graph.shift_tensors[int(shift.argmax())],
        }
        self.looked += 1
        self.drifting += drifts
        self._window.append(drifts)
        self.share = sum(self._window) / len(self._window)
        self._judge()
        return drifts

    def to_json(self) -> dict[str, Any]:
        """Counts, the window's share, and the latest frame's largest measures with their tensors."""
        counts = {"frames": self.looked, "drifting": self.drifting, "share": round(self.share, 4)}
        return {**counts, "alarm": self.alarmed, "latest": self._latest}

    def _judge(self) -> None:
        if len(self._window) < _AT_LEAST:
            return
        if not self.alarmed and self.share > 0.5:
            self.alarmed = True
            self._tell(
                "warning",
                f"{100 * self.share:.0f} % of the latest {len(self._window)} frames are unlike the calibration set "
                f"(channel means {self._latest['shifted']:.1f} times as far as on golden frames): look at the camera, "
                "or calibrate again with frames of this place",
            )
        elif self.alarmed and self.share < 0.25:
            self.alarmed = False
            self._tell("info", f"{100 * self.share:.0f} % of the latest frames drift: like the calibration set again")


def _session(model: bytes) -> Any:
    """Load a graph with ONNX Runtime for one thread of the CPU. Raises EngineError."""
    ort = require("onnxruntime", "")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # an error comes as an exception, which is said once
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own types, without a public common base
        raise EngineError(f"onnxruntime cannot load the FP32 graph for drift: {first_line(error)}") from error
