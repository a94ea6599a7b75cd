"""Build a plan in a process of its own: without PyTorch or ONNX Runtime in memory, and its end is survived.

On a Jetson the builder shares memory with everything else; when it takes too much the kernel kills it, and that is
reported as what it is. Every way to write the graph gets a process of its own, so that the next one begins with a CUDA
that works and all memory free, whatever became of the last. This module is also the script that the process runs.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from edgeseg.engines.tensorrt.api import Log, tensorrt_module
from edgeseg.engines.tensorrt.build import (
    MEMORY_ADVICE,
    Attempt,
    BuildRequest,
    BuiltPlan,
    OnProgress,
    OutOfMemory,
    Refusal,
    Trials,
    built_plan,
    refusal_error,
    speaks_of_memory,
)
from edgeseg.engines.tensorrt.layers import LayerPrecisions
from edgeseg.engines.tensorrt.variants import VARIANTS, GraphVariant
from edgeseg.errors import EdgesegError, EngineError
from edgeseg.files import atomic_write, scratch_folder

__all__ = ["built_plan_in_child"]

_GRAPH, _REQUEST, _CACHE, _PLAN, _RESULT = "graph.onnx", "request.json", "timing.cache", "plan", "result.json"
_LOG, _INSPECTOR = "tensorrt.log", "inspector.json"
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG: a command that is killed takes its builder, and the memory, with it
_STOPPED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class _End:
    """End of a process.

    Attributes:
        code: its exit code; negative is the signal.
        words: the last lines that it printed elsewhere than on stdout.
        attempt: the last attempt that it made; None when it came to none.
    """

    code: int
    words: tuple[str, ...]
    attempt: Attempt | None


def built_plan_in_child(
    flavour: str,
    onnx: bytes,
    request: BuildRequest,
    *,
    timing_cache: bytes = b"",
    variants: tuple[GraphVariant, ...] = VARIANTS,
    timeout_s: float | None = None,
    on_progress: OnProgress = lambda phase, done, total: None,
    keep: Path | None = None,
) -> BuiltPlan:
    """Build a plan like ``built_plan``, in a fresh process. Ctrl-C ends the process too.

    What TensorRT said and what its inspector showed (``tensorrt.log``, ``inspector.json``) goes into the folder
    ``keep``, whatever comes of the build.

    Args:
        flavour: a key of ``FLAVOURS``.
        onnx: a graph of a bundle.
        request: precision and limits.
        timing_cache: cache of an earlier build with this TensorRT on this GPU, or empty.
        variants: ways to write the graph.
        timeout_s: the process is stopped after this many seconds; None waits as long as it takes.
        on_progress: called with (phase, steps done, steps in all).
        keep: folder for TensorRT's messages; None keeps none.

    Raises:
        OutOfMemory: TensorRT said so, or the kernel killed the process.
        EngineError: the plan cannot be built, or the process broke down over every variant.
    """
    job = {"flavour": flavour, "request": asdict(request)}
    with scratch_folder() as files:
        (files / _GRAPH).write_bytes(onnx)
        (files / _CACHE).write_bytes(timing_cache)
        try:
            answer = _answered(files, job, Trials(variants), on_progress, timeout_s)
        finally:
            if keep is not None:
                _keep(files, keep)
        if "refused" in answer:
            raise (OutOfMemory if answer["out_of_memory"] else EngineError)(answer["refused"])
        return _plan_from(answer, (files / _PLAN).read_bytes(), (files / _CACHE).read_bytes())


def _keep(files: Path, folder: Path) -> None:
    """Copy what TensorRT said, as far as it came."""
    for name in (_LOG, _INSPECTOR):
        if (files / name).is_file():
            atomic_write(folder / name, (files / name).read_bytes())


def _answered(
    files: Path,
    job: Mapping[str, Any],
    trials: Trials,
    on_progress: OnProgress,
    timeout_s: float | None,
) -> dict[str, Any]:
    """Return what the last process says; each tries one variant."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    tensorrt, trouble = "", ""
    while trials.first < len(trials.variants):
        (files / _REQUEST).write_text(json.dumps({**job, "trials": trials.to_json()}), encoding="utf-8")
        end = _run(files, on_progress, deadline)
        if end is None:
            raise EngineError(f"the TensorRT builder did not end within {timeout_s:.0f} s and was stopped")
        answer = _answer(files)
        if answer is None:
            trouble = _trouble(end)
            began = trials.variants[trials.first].describe()
            last = end.attempt or Attempt(trials.first, began, tensorrt, trials.refusals)
            refusals = (*last.refusals, Refusal(trouble, last.variant))
            tensorrt, trials = last.tensorrt, Trials(trials.variants, last.index + 1, refusals)
        elif "next" in answer:
            refusals = _refusals_from(answer["refusals"])
            tensorrt, trials = answer["tensorrt"], Trials(trials.variants, answer["next"], refusals)
        else:
            return answer
    raise refusal_error(tensorrt, trials.refusals) if tensorrt else EngineError(trouble)


def _run(files: Path, on_progress: OnProgress, deadline: float | None) -> _End | None:
    """Run the script to its end and pass its progress on; None when it was stopped at the deadline."""
    command = [sys.executable, "-m", "edgeseg.engines.tensorrt.worker", str(files)]
    attempt = None
    with open(files / "stderr", "w+b") as errors:
        process = subprocess.Popen(
            command, cwd=files, env=_environment(), stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace"
        )
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(0 if deadline is None else max(deadline - time.monotonic(), 0), stop)
        try:
            if deadline is not None:
                timer.start()
            assert process.stdout is not None
            for line in process.stdout:
                progress = _progress_from(line)
                if progress is not None:
                    on_progress(*progress)
                attempt = _attempt_from(line) or attempt
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
    return None if late.is_set() else _End(code, tuple(said[-50:]), attempt)


def _answer(files: Path) -> dict[str, Any] | None:
    """The answer that a process left, even if it broke down afterwards; None when it left none."""
    try:
        answer: dict[str, Any] = json.loads((files / _RESULT).read_text(encoding="utf-8"))
        (files / _RESULT).unlink()
        return answer
    except (OSError, ValueError):
        return None


def _trouble(end: _End) -> str:
    """Describe how a process broke down. Raises OutOfMemory or EngineError when another one would fare no better."""
    words = end.words[-1][:300]
    if end.code == -signal.SIGKILL:
        raise OutOfMemory(f"the TensorRT builder was killed, most likely for lack of memory; {MEMORY_ADVICE}")
    if end.code and speaks_of_memory(end.words):
        raise OutOfMemory(f"the TensorRT builder ran out of memory ({words}); {MEMORY_ADVICE}")
    if any(os.strerror(errno.ENOSPC) in line for line in end.words):
        raise EngineError(
            f"the TensorRT builder has no space left on the disk of {tempfile.gettempdir()}; free some, or set "
            "TMPDIR to a folder of another"
        )
    if -end.code in _STOPPED:
        raise EngineError(f"the TensorRT builder was stopped by signal {-end.code}; compile again")
    if not end.code:
        return f"the TensorRT builder ended without an answer; its last words: {words}"
    how = f"signal {-end.code}" if end.code < 0 else f"exit code {end.code}"
    return f"the TensorRT builder broke down ({how}); its last words: {words}"


def _environment() -> dict[str, str]:
    """Return the environment of the builder: it imports what this process would, and nothing from the user's folder."""
    paths = [str(Path(entry).resolve()) for entry in sys.path if entry]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _progress_from(line: str) -> tuple[str, int, int] | None:
    """Parse a progress line of ours; None for what TensorRT prints itself."""
    try:
        phase, done, total = json.loads(line)["progress"]
        return str(phase), int(done), int(total)
    except (ValueError, KeyError, TypeError):
        return None


def _attempt_from(line: str) -> Attempt | None:
    """Parse a line of ours that announces an attempt; None for everything else."""
    try:
        said = json.loads(line)["attempt"]
        return Attempt(**{**said, "refusals": _refusals_from(said["refusals"])})
    except (ValueError, KeyError, TypeError):
        return None


def _refusals_from(said: Sequence[Mapping[str, str]]) -> tuple[Refusal, ...]:
    return tuple(Refusal(**refusal) for refusal in said)


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


class _Next(Exception):
    """Error of a process whose variant was refused while there is another."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt.variant)
        self.attempt = attempt


class _Spoken(deque):  # type: ignore[type-arg]
    """Queue that keeps TensorRT's errors and prints them: the last words of a process that breaks down."""

    def append(self, line: str) -> None:
        super().append(line)
        sys.stderr.write(" ".join(line.split()) + "\n")
        sys.stderr.flush()


def _say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _main(folder: str) -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    files = Path(folder)
    job = json.loads((files / _REQUEST).read_text(encoding="utf-8"))
    wanted = job["request"]
    request = BuildRequest(**{**wanted, "float_layers": tuple(wanted["float_layers"])})
    trials = Trials.from_json(job["trials"])

    def heard(what: str, text: str) -> None:
        # TensorRT calls this from C++, which an exception would end; no log is worth a build.
        with suppress(OSError), open(files / what, "a" if what == _LOG else "w", encoding="utf-8") as file:
            file.write(text + "\n")

    def announce(attempt: Attempt) -> None:
        if len(attempt.refusals) > len(trials.refusals):
            raise _Next(attempt)
        _say(attempt=asdict(attempt))

    try:
        api = tensorrt_module(job["flavour"])
        api.heard = heard
        built = built_plan(
            api,
            (files / _GRAPH).read_bytes(),
            request,
            timing_cache=(files / _CACHE).read_bytes(),
            trials=trials,
            on_progress=lambda phase, done, total: _say(progress=[phase, done, total]),
            on_attempt=announce,
            new_log=lambda: Log(errors=_Spoken(maxlen=50)),
        )
    except _Next as following:
        to_come = following.attempt
        answer: dict[str, Any] = {
            "next": to_come.index,
            "tensorrt": to_come.tensorrt,
            "refusals": [asdict(refusal) for refusal in to_come.refusals],
        }
    except EdgesegError as error:
        answer = {"refused": str(error), "out_of_memory": isinstance(error, OutOfMemory)}
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
