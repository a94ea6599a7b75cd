"""Work on a graph from elsewhere in a child process with limits on time and memory.

ONNX's shape inference aborts the process on some malformed graphs that the ONNX checker passes, and an ``If``, ``Loop``
or ``Resize`` can keep ONNX Runtime busy for ever or ask for all memory. In a child such a graph is one error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Callable, Mapping

from edgeseg import errors
from edgeseg.compiler.importers.canonical import network_graph
from edgeseg.compiler.importers.wanted import Wanted
from edgeseg.errors import CompileError, EdgesegError, first_line, require

if TYPE_CHECKING:
    import onnx

__all__ = ["answer_in_child", "answer_of_child", "network_graph_in_child"]

LIMIT_S = 300
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {0} import _child; _child()"


def network_graph_in_child(
    model: onnx.ModelProto, wanted: Wanted, *, limit_s: int = LIMIT_S
) -> tuple[onnx.ModelProto, list[str]]:
    """Run ``canonical.network_graph`` in a child process.

    Args:
        model: of sound structure (``check_structure``).
        wanted: passed on.
        limit_s: longest time it may take.

    Raises:
        CompileError: the graph crashes native code, needs too much time or memory, or as ``network_graph`` says.
        UsageError: as ``network_graph`` says.
    """
    lines, content = answer_of_child(__name__, {"wanted": wanted.to_json()}, model.SerializeToString(), limit_s=limit_s)
    onnx_model: onnx.ModelProto = require("onnx", "compile").ModelProto.FromString(content)
    return onnx_model, lines


def answer_of_child(
    module: str, request: Mapping[str, Any], content: bytes, *, limit_s: int = LIMIT_S
) -> tuple[Any, bytes]:
    """Let a child process work on a graph.

    Args:
        module: name of one of ours, whose ``_child`` calls ``answer_in_child``.
        request: of JSON.
        content: of the graph.
        limit_s: longest time it may take.

    Returns:
        What the child's work gave.

    Raises:
        CompileError: the graph crashes native code, or needs too much time or memory.
        EdgesegError: as the work raises.
    """
    sent = json.dumps({**request, "limit_s": limit_s}).encode() + b"\n" + content
    command = [sys.executable, "-c", _START.format(module), json.dumps(sys.path)]
    try:
        done = subprocess.run(command, input=sent, capture_output=True, timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        raise CompileError(_too_long(limit_s)) from error
    if done.returncode:
        raise CompileError(_why_it_ended(done.returncode, done.stderr, limit_s))
    head, _, content = done.stdout.partition(b"\n")
    answer = json.loads(head)
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["message"])
    return answer["lines"], content


def _too_long(limit_s: int) -> str:
    return (
        f"the graph keeps ONNX Runtime busy for more than {limit_s} s; export it without loops, or at a smaller `size`"
    )


def _why_it_ended(returncode: int, stderr: bytes, limit_s: int) -> str:
    if returncode == -signal.SIGXCPU:
        return _too_long(limit_s)
    if returncode < 0:
        name = signal.Signals(-returncode).name
        return f"the graph crashes ONNX's libraries ({name}): it is malformed or needs too much memory; export it again"
    last = stderr.decode(errors="replace").strip().splitlines()[-1:]
    return f"the process that cleans the graph ended with code {returncode}: {' '.join(last)[:300]}"


def answer_in_child(work: Callable[[bytes, Mapping[str, Any]], tuple[Any, bytes]]) -> None:
    """Read a request from stdin, answer on stdout; native libraries that print get stderr.

    Args:
        work: takes the graph and the request, and gives something for JSON and bytes.
    """
    answer_to = os.dup(1)
    os.dup2(2, 1)
    head, _, content = sys.stdin.buffer.read().partition(b"\n")
    request: dict[str, Any] = json.loads(head)
    _limit(request["limit_s"])
    with open(answer_to, "wb") as file:
        file.write(_answer(work, content, request))


def _child() -> None:
    answer_in_child(_network_graph)


def _network_graph(content: bytes, request: Mapping[str, Any]) -> tuple[list[str], bytes]:
    model = require("onnx", "compile").ModelProto.FromString(content)
    model, lines = network_graph(model, Wanted.from_json(request["wanted"]))
    return lines, model.SerializeToString()


def _answer(
    work: Callable[[bytes, Mapping[str, Any]], tuple[Any, bytes]], content: bytes, request: Mapping[str, Any]
) -> bytes:
    try:
        lines, content = work(content, request)
        return json.dumps({"lines": lines}).encode() + b"\n" + content
    except EdgesegError as error:
        kind, message = type(error).__name__, str(error)
    except MemoryError:
        kind, message = "CompileError", "the graph needs more memory than this machine has; pass a smaller `size`"
    except Exception as error:  # whatever a hostile graph brings about is the graph's fault, not ours
        kind, message = "CompileError", f"the graph cannot be used: {type(error).__name__}: {first_line(error)[:300]}"
    return json.dumps({"error": kind, "message": " ".join(message.split())}).encode() + b"\n"


def _limit(limit_s: int) -> None:
    import resource

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cores = os.cpu_count() or 1
    wanted = (
        (resource.RLIMIT_AS, (memory, memory)),
        (resource.RLIMIT_CPU, (limit_s * cores, limit_s * cores + 10)),
        (resource.RLIMIT_CORE, (0, 0)),
    )
    set_limit: Callable[[int, tuple[int, int]], None] = resource.setrlimit
    for kind, limits in wanted:
        # A limit that a shell or a service has set stays: nobody may raise it, and it was set on purpose.
        soft, hard = (
            one if there == resource.RLIM_INFINITY else min(one, there)
            for one, there in zip(limits, resource.getrlimit(kind))
        )
        set_limit(kind, (min(soft, hard), hard))
