"""ONNX Runtime as it is installed.

Variants: fp32, int8 (``quantize_static`` with its defaults), loop (the lines that most people write first, with a graph
that takes normalised RGB).
"""

from __future__ import annotations

from typing import Any, Iterator

import cv2
import numpy as np
import onnxruntime as ort
from turn import Job, Opened, classes_of, main, planes_of

GRAPHS = {"fp32": "scores.onnx", "loop": "plain.onnx"}


def prepare(job: Job) -> None:
    if job.variant != "int8":
        return
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, feed: str) -> None:
            frames = job.calibration()
            planes = (planes_of(one, np.empty((1, 3, *one.shape[:2]), np.float32)) for one in frames)
            self._feeds: Iterator[dict[str, np.ndarray]] = ({feed: one} for one in planes)

        def get_next(self) -> Any:
            return next(self._feeds, None)

    source, ready = job.network / "scores.onnx", job.made / "ready.onnx"
    quant_pre_process(str(source), str(ready))
    session = ort.InferenceSession(str(ready), providers=["CPUExecutionProvider"])
    quantize_static(str(ready), str(job.made / "int8.onnx"), Reader(session.get_inputs()[0].name))


def opened(job: Job) -> Opened:
    options = ort.SessionOptions()
    options.intra_op_num_threads = job.threads
    path = job.made / "int8.onnx" if job.variant == "int8" else job.network / GRAPHS[job.variant]
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed, facts, first = session.get_inputs()[0].name, job.facts, job.frames()[0]
    height, width = facts["size_hw"]
    mean, std = np.array(facts["mean"], np.float32), np.array(facts["std"], np.float32)
    planes = np.empty((1, 3, height, width), np.float32)

    def run(given: np.ndarray) -> np.ndarray:
        return session.run(None, {feed: given})[0][0]  # type: ignore[no-any-return]

    def by_planes(frame: np.ndarray) -> np.ndarray:
        return classes_of(run(planes_of(frame, planes)))

    def loop(frame: np.ndarray) -> np.ndarray:
        image = cv2.cvtColor(cv2.resize(frame, (width, height)), cv2.COLOR_BGR2RGB)
        image = (image.astype(np.float32) / 255 - mean) / std
        classes = np.argmax(run(np.ascontiguousarray(image.transpose(2, 0, 1))[None]), axis=0).astype(np.uint8)
        return cv2.resize(classes, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_NEAREST)  # type: ignore[no-any-return]

    given = planes_of(first, planes).copy()
    return Opened(lambda: run(given), loop if job.variant == "loop" else by_planes, f"ONNX Runtime {ort.__version__}")


if __name__ == "__main__":
    main(prepare, opened)
