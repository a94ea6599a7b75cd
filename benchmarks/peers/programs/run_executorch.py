"""ExecuTorch with XNNPACK."""

from __future__ import annotations

import sys
from importlib.metadata import version

import by_pnnx
import numpy as np
import torch
from turn import Job, Opened, classes_of, main, planes_of


def prepare(job: Job) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    by_pnnx.converted(job)
    sys.path.insert(0, str(job.made))
    from model_pnnx import Model

    height, width = job.facts["size_hw"]
    exported = torch.export.export(Model().eval(), (torch.zeros(1, 3, height, width),))
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    (job.made / "model.pte").write_bytes(lowered.to_executorch().buffer)


def opened(job: Job) -> Opened:
    from executorch.runtime import Runtime

    _limit_threads(job.threads)
    program = Runtime.get().load_program(str(job.made / "model.pte"))
    method, first = program.load_method("forward"), job.frames()[0]
    planes = np.empty((1, 3, *first.shape[:2]), np.float32)
    given = torch.from_numpy(planes_of(first, planes))

    def run() -> torch.Tensor:
        return method.execute((given,))[0]  # type: ignore[no-any-return]

    def segment(frame: np.ndarray) -> np.ndarray:
        planes_of(frame, planes)
        return classes_of(run().numpy()[0])

    return Opened(run, segment, f"ExecuTorch {version('executorch')}")


def _limit_threads(threads: int) -> None:
    """Give its pool so many threads; where this version has no call for that, the cores of the process decide."""
    from executorch.extension.pybindings import portable_lib

    limit = getattr(portable_lib, "_unsafe_reset_threadpool", None)
    if limit is not None:
        limit(threads)


if __name__ == "__main__":
    main(prepare, opened)
