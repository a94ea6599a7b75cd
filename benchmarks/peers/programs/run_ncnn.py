"""ncnn with its defaults, of the model that pnnx makes."""

from __future__ import annotations

from typing import Any

import by_pnnx
import ncnn
import numpy as np
from turn import Job, Opened, classes_of, main, planes_of


def opened(job: Job) -> Opened:
    net = ncnn.Net()
    net.opt.num_threads = job.threads
    if net.load_param(str(job.made / "model.ncnn.param")) or net.load_model(str(job.made / "model.ncnn.bin")):
        raise SystemExit("ncnn cannot load what pnnx made")
    first = job.frames()[0]
    planes = np.empty((1, 3, *first.shape[:2]), np.float32)
    # A Mat does not keep its array alive, and this one reads it anew in every run.
    image = ncnn.Mat(planes_of(first, planes)[0])

    def run() -> Any:
        extractor = net.create_extractor()
        extractor.input("in0", image)
        failed, scores = extractor.extract("out0")
        if failed:
            raise SystemExit("ncnn cannot run what pnnx made")
        return scores

    def segment(frame: np.ndarray) -> np.ndarray:
        planes_of(frame, planes)
        return classes_of(np.asarray(run()))

    return Opened(run, segment, f"ncnn {ncnn.__version__}")


if __name__ == "__main__":
    main(by_pnnx.converted, opened)
