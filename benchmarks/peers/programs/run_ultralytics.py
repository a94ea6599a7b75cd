"""Ultralytics' ``predict`` on the same network: its letterbox, its ONNX Runtime backend, its results.

Ultralytics is AGPL: it is run here, and nothing of it is in edgeseg. Its backend takes RGB of 0-1, so the normalisation
is put in front of the graph, and the graph says what Ultralytics' own exports say of themselves.
"""

from __future__ import annotations

import os

import numpy as np
import onnx
from onnx import helper, numpy_helper
from turn import Job, Opened, main


def prepare(job: Job) -> None:
    model, facts = onnx.load(job.network / "plain.onnx"), job.facts
    graph = model.graph
    feed = graph.input[0].name
    height, width = facts["size_hw"]
    for name, values in (("mean", facts["mean"]), ("std", facts["std"])):
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.float32).reshape(1, 3, 1, 1), name))
    nodes = [
        helper.make_node("Sub", ["images", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], [feed]),
    ]
    nodes += list(graph.node)
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, height, width]))
    names = {index: str(index) for index in range(facts["classes"])}
    said = {"task": "semantic", "stride": 32, "batch": 1, "channels": 3, "imgsz": [height, width], "names": names}
    helper.set_model_props(model, {key: str(value) for key, value in said.items()})
    onnx.checker.check_model(model)
    onnx.save(model, job.made / "model.onnx")


def opened(job: Job) -> Opened:
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_CONFIG_DIR=str(job.made))
    import onnxruntime
    import torch
    import ultralytics

    torch.set_num_threads(job.threads)
    model = ultralytics.YOLO(str(job.made / "model.onnx"), task="semantic")
    height, width = job.facts["size_hw"]

    def segment(frame: np.ndarray) -> np.ndarray:
        (result,) = model.predict(frame, imgsz=(height, width), device="cpu", verbose=False)
        return np.asarray(result.semantic_mask.data).astype(np.uint8)

    segment(job.frames()[0])
    backend, image = model.predictor.model, torch.zeros(1, 3, height, width)
    return Opened(
        lambda: backend(image),
        segment,
        f"Ultralytics {ultralytics.__version__} with ONNX Runtime {onnxruntime.__version__}",
    )


if __name__ == "__main__":
    main(prepare, opened)
