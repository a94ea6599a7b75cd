"""MNN with its defaults, of the model that its converter makes of ONNX."""

from __future__ import annotations

import _tools
import MNN
import numpy as np
from turn import Job, Opened, classes_of, main, planes_of


def prepare(job: Job) -> None:
    # Not the command mnnconvert: that installs a package when it is imported, and sends what it did to a server.
    source, target = job.network / "scores.onnx", job.made / "model.mnn"
    command = ["mnnconvert", "-f", "ONNX", "--modelFile", source, "--MNNModel", target, "--bizCode", "peer"]
    _tools.mnnconvert([str(one) for one in command])
    if not target.is_file():
        raise SystemExit("its converter made nothing")


def opened(job: Job) -> Opened:
    interpreter = MNN.Interpreter(str(job.made / "model.mnn"))
    session = interpreter.createSession({"backend": "CPU", "numThread": job.threads})
    given = interpreter.getSessionInput(session)
    found = interpreter.getSessionOutput(session)
    first = job.frames()[0]
    planes = planes_of(first, np.empty((1, 3, *first.shape[:2]), np.float32))

    def tensor(array: np.ndarray) -> MNN.Tensor:
        return MNN.Tensor(array.shape, MNN.Halide_Type_Float, array, MNN.Tensor_DimensionType_Caffe)

    scores = np.empty(found.getShape(), np.float32)

    def segment(frame: np.ndarray) -> np.ndarray:
        given.copyFrom(tensor(planes_of(frame, planes)))
        interpreter.runSession(session)
        held = tensor(scores)
        found.copyToHostTensor(held)
        return classes_of(np.asarray(held.getNumpyData()).reshape(scores.shape)[0])

    segment(first)
    return Opened(lambda: interpreter.runSession(session), segment, f"MNN {MNN.version()}")


if __name__ == "__main__":
    main(prepare, opened)
