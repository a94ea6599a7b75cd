"""How much memory an engine takes: a process of its own opens a graph, runs it and says its peak."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from edgeseg.engines.select import ENGINES
from edgeseg.errors import EngineError

__all__ = ["peak_memory_mib"]

_START = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from edgeseg.bench.memory import _main; _main()"
"""Started without the current folder on the path, where another edgeseg, or a json.py, may lie."""
_RUNS = 5
_PATIENCE_S = 300


def peak_memory_mib(engine: str, graph: str, onnx: bytes, threads: int) -> float | None:
    """Return the highest resident memory in MiB of a process that does nothing but run a graph.

    Args:
        engine: one of ``CPU_ENGINES``.
        graph: its name, for messages.
        onnx: its bytes.
        threads: CPU threads, 0 for all.

    Returns:
        The peak, with Python and its libraries in it; None where the system does not say (no /proc).

    Raises:
        EngineError: the process failed.
    """
    command = [sys.executable, "-I", "-c", _START, json.dumps(sys.path), engine, graph, str(threads)]
    try:
        done = subprocess.run(command, input=onnx, capture_output=True, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise EngineError(
            f"{graph} in {engine} ran for {_PATIENCE_S} s in a process of its own without an end"
        ) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise EngineError(f"{graph} in {engine} failed in a process of its own: {said[-1] if said else 'no word'}")
    text = done.stdout.decode(errors="replace").strip()
    try:
        return float(text.splitlines()[-1]) if text else None  # a library may have printed something before
    except ValueError:
        raise EngineError(f"{graph} in {engine} told no peak in a process of its own") from None


def _peak_here() -> float | None:
    """Read the peak of this process. getrusage would say the parent's where that was larger."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) / 1024 if "VmHWM" in lines else None


def _main() -> None:
    engine, graph, threads = sys.argv[1:]
    opener = ENGINES[engine].open
    assert opener is not None
    with opener(sys.stdin.buffer.read(), graph, int(threads)) as opened:
        for _ in range(_RUNS):
            opened.infer(opened.input)
    peak = _peak_here()
    sys.stdout.write("" if peak is None else f"{peak:.1f}")
