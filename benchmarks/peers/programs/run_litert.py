"""LiteRT with XNNPACK, which it takes by itself on a CPU."""

from __future__ import annotations

import sys
from importlib.metadata import version

import by_pnnx
import numpy as np
from turn import Job, Opened, main


def prepare(job: Job) -> None:
    import litert_torch
    import torch

    by_pnnx.converted(job)
    sys.path.insert(0, str(job.made))
    from model_pnnx import Model

    last = litert_torch.to_channel_last_io(Model().eval(), args=[0], outputs=[0]).eval()
    frame = torch.from_numpy(job.frames()[:1].astype(np.float32))
    (job.made / "model.tflite").write_bytes(litert_torch.convert(last, (frame,)).model_content())


def opened(job: Job) -> Opened:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(job.made / "model.tflite"), num_threads=job.threads)
    interpreter.allocate_tensors()
    (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()

    def segment(frame: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given["index"], frame[None].astype(np.float32))
        interpreter.invoke()
        return interpreter.get_tensor(found["index"])[0].argmax(-1).astype(np.uint8)  # type: ignore[no-any-return]

    segment(job.frames()[0])
    return Opened(interpreter.invoke, segment, f"LiteRT {version('ai-edge-litert')}")


if __name__ == "__main__":
    main(prepare, opened)
