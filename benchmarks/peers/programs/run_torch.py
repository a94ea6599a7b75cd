"""PyTorch on the module itself. Variants: eager, compile."""

from __future__ import annotations

import numpy as np
import torch
from turn import Job, Opened, main

from edgeseg.preprocess import normalized
from edgeseg.spec import Preprocess


def prepare(job: Job) -> None:
    if job.variant == "compile":  # what it makes stays in its cache, and turns take it from there
        opened(job).run()


def opened(job: Job) -> Opened:
    torch.set_num_threads(job.threads)
    network = torch.load(job.network / "network.pt", weights_only=False).eval()
    if job.variant == "compile":
        network = torch.compile(network)
    preprocess, first = Preprocess(), job.frames()[:1]

    def logits(image: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            scores: torch.Tensor = network(image)
            return scores

    def segment(frame: np.ndarray) -> np.ndarray:
        found = logits(torch.from_numpy(normalized(frame[None], preprocess)))
        return found.argmax(1)[0].to(torch.uint8).numpy()

    image = torch.from_numpy(normalized(first, preprocess))
    return Opened(lambda: logits(image), segment, f"PyTorch {torch.__version__} {job.variant}")


if __name__ == "__main__":
    main(prepare, opened)
