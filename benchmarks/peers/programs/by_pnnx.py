"""pnnx: ncnn's converter, which also writes a network as a program of PyTorch, as ``edgeseg export`` uses it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

from turn import Job


def converted(job: Job) -> None:
    """Put a model of ncnn and ``model_pnnx.py`` into the job's folder, and go there: it looks for weights beside it."""
    package = importlib.util.find_spec("pnnx")
    if package is None or package.origin is None:
        raise SystemExit("pnnx is not installed")
    height, width = job.facts["size_hw"]
    (job.made / "model.onnx").write_bytes((job.network / "scores.onnx").read_bytes())
    command = [str(Path(package.origin).with_name("pnnx")), "model.onnx", f"inputshape=[1,3,{height},{width}]f32"]
    subprocess.run(command, cwd=job.made, check=True, stdout=subprocess.DEVNULL)
    os.chdir(job.made)
