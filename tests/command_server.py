"""Fork a process per command of edgeseg, after importing once what commands import; tests/commands.py starts it.

    python command_server.py [torch]

Takes a JSON object per line with ``words``, ``cwd``, ``environment``, ``out`` and ``err``, one after the other, and
answers each with the exit code of ``python -m edgeseg WORDS``, negative for a signal.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import sys
from typing import Any

# As the command line does before it imports libraries.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from edgeseg.cli.main import COMMANDS, app

LIBRARIES = ("numpy", "cv2", "onnxruntime", "onnx", "rich.console", "rich.table", "rich.progress")
OF_TORCH = ("edgeseg.builder.training", "segmentation_models_pytorch", "timm", "torchmetrics")


def preload(with_torch: bool) -> None:
    """Import what commands import; what is not installed here no command has either."""
    own = (f"edgeseg.cli.{module}" for module, _, _ in COMMANDS.values())
    for name in (*LIBRARIES, *own, *(OF_TORCH if with_torch else ())):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with contextlib.redirect_stdout(io.StringIO()):
        app(["--version"], standalone_mode=False)  # typer imports more when it meets its first option
    gc.freeze()  # pages of what no process changes stay shared


def next_command() -> dict[str, Any]:
    """Return, in a process of its own, the next command; this process answers, and ends where nobody asks any more."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            return dict(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)
    sys.exit()


def become(command: dict[str, Any]) -> None:
    """Take the streams, the folder, the environment and the words of a command."""
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, command["out"], os.O_WRONLY),
        (2, command["err"], os.O_WRONLY),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(command["environment"])
    os.chdir(command["cwd"])
    sys.path.insert(0, os.getcwd())  # as for python -m
    sys.argv[1:] = command["words"]


if __name__ == "__main__":
    del sys.path[0]  # the folder of the tests
    preload("torch" in sys.argv[1:])
    become(next_command())
    runpy.run_module("edgeseg", run_name="__main__", alter_sys=True)
