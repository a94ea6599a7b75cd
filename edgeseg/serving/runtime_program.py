"""Make a model of a runtime of what pnnx left in this folder, and run it on ``frames.npy``.

A program of its own, which needs no edgeseg: these libraries print a lot, start threads that stay, and may crash. It
writes the model and ``classes.npy``.
"""

import importlib
import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np


def _ncnn(network: Any, frame: np.ndarray, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Pnnx has made the model."""
    ncnn = importlib.import_module("ncnn")
    net = ncnn.Net()
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise SystemExit("ncnn cannot load what pnnx made")

    def run(frame: np.ndarray) -> np.ndarray:
        planes = np.ascontiguousarray(_planes(frame)[0])  # held until the end: a Mat does not keep its array's memory
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(planes).clone())
        failed, scores = extractor.extract("out0")
        if failed:
            raise SystemExit("ncnn cannot run what pnnx made")
        return np.array(scores)

    return run


def _litert(network: Any, frame: np.ndarray, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Frames and scores are NHWC, as LiteRT's users have them."""
    torch, litert = importlib.import_module("torch"), importlib.import_module("litert_torch")
    last = litert.to_channel_last_io(network, args=[0], outputs=[0]).eval()
    path.write_bytes(litert.convert(last, (torch.from_numpy(frame),)).model_content())
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(str(path))
    interpreter.allocate_tensors()
    (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(frame: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given["index"], frame)
        interpreter.invoke()
        scores: np.ndarray = interpreter.get_tensor(found["index"])[0].transpose(2, 0, 1)
        return scores

    return run


def _executorch(network: Any, frame: np.ndarray, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    torch, exir = importlib.import_module("torch"), importlib.import_module("executorch.exir")
    xnnpack = importlib.import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    exported = torch.export.export(network, (torch.from_numpy(_planes(frame)),))
    lowered = exir.to_edge_transform_and_lower(exported, partitioner=[xnnpack.XnnpackPartitioner()])
    path.write_bytes(lowered.to_executorch().buffer)
    runtime = importlib.import_module("executorch.runtime").Runtime.get()
    method = runtime.load_program(str(path)).load_method("forward")

    def run(frame: np.ndarray) -> np.ndarray:
        scores: np.ndarray = method.execute((torch.from_numpy(_planes(frame)),))[0].numpy()[0]
        return scores

    return run


def _planes(frame: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frame.transpose(0, 3, 1, 2))


def main(runtime: str, name: str) -> None:
    """Convert and run.

    Args:
        runtime: ``"ncnn"``, ``"litert"`` or ``"executorch"``.
        name: of the model's file.
    """
    frames = np.load("frames.npy").astype(np.float32)
    network = None if runtime == "ncnn" else importlib.import_module("model_pnnx").Model().eval()
    opener = {"ncnn": _ncnn, "litert": _litert, "executorch": _executorch}[runtime]
    opened = opener(network, frames[:1], Path(name))
    np.save("classes.npy", np.stack([opened(frame[None]).argmax(0).astype(np.uint8) for frame in frames]))


if __name__ == "__main__":
    main(*sys.argv[1:])
