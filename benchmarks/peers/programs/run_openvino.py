"""OpenVINO with the latency hint and its own choice of float precision, which is bfloat16 where the CPU has it.

Variants: float, int8 (NNCF with its defaults), and the same of our FP32 graph, which takes the frame and gives the
class map: float-frame, int8-frame.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # neither OpenVINO nor NNCF reports to a server
import openvino  # noqa: E402
from turn import Job, Opened, classes_of, main, planes_of  # noqa: E402


def _source(job: Job) -> str:
    return str(job.network / ("frame.onnx" if job.variant.endswith("frame") else "scores.onnx"))


def prepare(job: Job) -> None:
    if job.variant.startswith("float"):
        return
    import nncf
    import onnx

    graph, frames = onnx.load(_source(job)), job.calibration()
    feed = graph.graph.input[0].name

    def fed(frame: np.ndarray) -> dict[str, np.ndarray]:
        if job.variant.endswith("frame"):
            return {feed: frame[None]}
        return {feed: planes_of(frame, np.empty((1, 3, *frame.shape[:2]), np.float32))}

    data = nncf.Dataset([fed(frame) for frame in frames])
    onnx.save(nncf.quantize(graph, data, subset_size=len(frames)), job.made / "int8.onnx")


def opened(job: Job) -> Opened:
    core = openvino.Core()
    path = str(job.made / "int8.onnx") if job.variant.startswith("int8") else _source(job)
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": job.threads}
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    request, first = compiled.create_infer_request(), job.frames()[0]
    is_frame = job.variant.endswith("frame")
    planes = np.empty((1, *first.shape) if is_frame else (1, 3, *first.shape[:2]), np.uint8 if is_frame else np.float32)
    request.set_input_tensor(openvino.Tensor(planes, shared_memory=True))

    def run() -> np.ndarray:
        request.infer(share_outputs=True)
        return request.get_output_tensor().data[0]  # type: ignore[no-any-return]

    def segment(frame: np.ndarray) -> np.ndarray:
        if is_frame:
            planes[0] = frame
            return run()
        planes_of(frame, planes)
        return classes_of(run())

    segment(first)
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    version = openvino.__version__.split("-")[0]
    return Opened(run, segment, f"OpenVINO {version}, floats in {precision}")


if __name__ == "__main__":
    main(prepare, opened)
