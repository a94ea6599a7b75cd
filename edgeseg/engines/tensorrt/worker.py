"""Builds a plan in a process of its own: it starts without PyTorch or ONNX Runtime in memory, and its end is survived.

On a Jetson the builder shares memory with everything else; when it takes too much the kernel kills it, and that is
reported as what it is. This module is also the script that the process runs.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, Mapping, Sequence

from edgeseg.engines.tensorrt.api import tensorrt_module
from edgeseg.engines.tensorrt.build import BuildRequest, BuiltPlan, OnProgress, OutOfMemory, built_plan
from edgeseg.engines.tensorrt.graph import VARIANTS, GraphVariant
from edgeseg.engines.tensorrt.layers import LayerPrecisions
from edgeseg.errors import EdgesegError, EngineError

__all__ = ["built_apart"]

_GRAPH, _REQUEST, _CACHE, _PLAN, _RESULT = "graph.onnx", "request.json", "timing.cache", "plan", "result.json"
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG: a command that is killed takes its builder, and the memory, with it
_MEMORY_ADVICE = "close other programs, add swap, or allow less with edgeseg compile --workspace-mib"


def built_apart(
    flavour: str,
    onnx: bytes,
    request: BuildRequest,
    *,
    timing_cache: bytes = b"",
    variants: Sequence[GraphVariant] = VARIANTS,
    timeout_s: float | None = None,
    on_progress: OnProgress = lambda phase, done, total: None,
) -> BuiltPlan:
    """``built_plan`` in a fresh process, for a flavour of TensorRT by name. Ctrl-C ends the process too.

    The process is stopped after ``timeout_s`` seconds; None waits as long as it takes.

    Raises:
        OutOfMemory: TensorRT said so, or the kernel killed the process.
        EngineError: as ``built_plan``, or the process broke down.
    """
    with tempfile.TemporaryDirectory(prefix="edgeseg-build-") as folder:
        files = Path(folder)
        (files / _GRAPH).write_bytes(onnx)
        (files / _CACHE).write_bytes(timing_cache)
        job = {"flavour": flavour, "request": asdict(request), "variants": [asdict(variant) for variant in variants]}
        (files / _REQUEST).write_text(json.dumps(job), encoding="utf-8")
        last_words = _run(files, on_progress, timeout_s)
        try:
            answer = json.loads((files / _RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise EngineError(f"the TensorRT builder ended without an answer; its last words: {last_words}") from error
        if "refused" in answer:
            raise (OutOfMemory if answer["out_of_memory"] else EngineError)(answer["refused"])
        return _plan_from(answer, (files / _PLAN).read_bytes(), (files / _CACHE).read_bytes())


def _run(files: Path, on_progress: OnProgress, timeout_s: float | None) -> str:
    """Run the script to its end and pass its progress on. Returns the last line that it printed elsewhere."""
    command = [sys.executable, "-m", "edgeseg.engines.tensorrt.worker", str(files)]
    with open(files / "stderr", "w+b") as errors:
        process = subprocess.Popen(
            command, cwd=files, env=_environment(), stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace"
        )
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(timeout_s or 0, stop)
        try:
            if timeout_s is not None:
                timer.start()
            assert process.stdout is not None
            for line in process.stdout:
                progress = _progress_from(line)
                if progress is not None:
                    on_progress(*progress)
            code = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines() or ["nothing"]
    if late.is_set():
        raise EngineError(f"the TensorRT builder did not end within {timeout_s:.0f} s and was stopped")
    if code == -signal.SIGKILL:
        raise OutOfMemory(f"the TensorRT builder was killed, most likely for lack of memory; {_MEMORY_ADVICE}")
    if code and "bad_alloc" in "".join(said):
        raise OutOfMemory(f"the TensorRT builder ran out of memory ({said[-1][:200]}); {_MEMORY_ADVICE}")
    if code:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise EngineError(f"the TensorRT builder broke down ({how}); its last words: {said[-1][:300]}")
    return said[-1][:300]


def _environment() -> dict[str, str]:
    """The builder imports what this process would, and nothing that lies about in the user's folder."""
    paths = [str(Path(entry).resolve()) for entry in sys.path if entry]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _progress_from(line: str) -> tuple[str, int, int] | None:
    """A progress line of ours; None for what TensorRT prints itself."""
    try:
        phase, done, total = json.loads(line)["progress"]
        return str(phase), int(done), int(total)
    except (ValueError, KeyError, TypeError):
        return None


def _plan_from(answer: Mapping[str, Any], plan: bytes, timing_cache: bytes) -> BuiltPlan:
    return BuiltPlan(
        plan=plan,
        variant=GraphVariant(**answer["variant"]),
        precisions=LayerPrecisions.from_json(answer["precisions"]),
        timing_cache=timing_cache,
        notes=tuple(answer["notes"]),
        kernel_log=tuple(answer["kernel_log"]),
        build_s=answer["build_s"],
    )


def _main(folder: str) -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    files = Path(folder)
    job = json.loads((files / _REQUEST).read_text(encoding="utf-8"))
    wanted = job["request"]
    request = BuildRequest(**{**wanted, "float_layers": tuple(wanted["float_layers"])})

    def report(phase: str, done: int, total: int) -> None:
        sys.stdout.write(json.dumps({"progress": [phase, done, total]}) + "\n")
        sys.stdout.flush()

    try:
        built = built_plan(
            tensorrt_module(job["flavour"]),
            (files / _GRAPH).read_bytes(),
            request,
            timing_cache=(files / _CACHE).read_bytes(),
            variants=[GraphVariant(**variant) for variant in job["variants"]],
            on_progress=report,
        )
    except EdgesegError as error:
        answer: dict[str, Any] = {"refused": str(error), "out_of_memory": isinstance(error, OutOfMemory)}
    else:
        (files / _PLAN).write_bytes(built.plan)
        (files / _CACHE).write_bytes(built.timing_cache)
        answer = {
            "variant": asdict(built.variant),
            "precisions": built.precisions.to_json(),
            "notes": built.notes,
            "kernel_log": built.kernel_log,
            "build_s": built.build_s,
        }
    (files / _RESULT).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
