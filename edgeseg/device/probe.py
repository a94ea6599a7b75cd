"""Ask a machine what no file says: what its Python imports, its user's groups, its display, its disk."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from edgeseg.device.gstreamer import GStreamer, gstreamer_from_json

__all__ = ["MODULES", "PROBE_FILE", "Module", "Probe", "Ran", "Runner", "probe_from_json", "probed_modules"]

PROBE_FILE = "edgeseg-probe.json"
MODULES = ("numpy", "cv2", "onnxruntime", "tensorrt", "pycuda", "torch")
"""What is imported to see whether it works. Importing is the only proof; each in a process of its own, since a broken
binary may take its process down."""


class Ran(NamedTuple):
    """Exit code and output of a command that has ended."""

    code: int
    output: str
    errors: str


Runner = Callable[[Sequence[str]], Ran]
"""Runs a command line to its end. A command that cannot be started or takes too long has a code other than 0."""


@dataclass(frozen=True)
class Module:
    """A Python package as this interpreter sees it.

    Attributes:
        version: as it states; empty when it does not import.
        path: path of the file that was imported.
        error: why it does not import; empty when it is not installed at all.
        warning: the last line it wrote to stderr while it was imported.
        detail: for cv2 what its build information says about GStreamer (``"YES (1.16.2)"``, ``"NO"``); for torch
            the CUDA version it was built for, ``"none"`` for a CPU build.
    """

    version: str = ""
    path: str = ""
    error: str = ""
    warning: str = ""
    detail: str = ""

    @property
    def works(self) -> bool:
        """Tell whether it imports."""
        return bool(self.version)


@dataclass(frozen=True)
class Probe:
    """Facts about a machine that no file says.

    Attributes:
        edgeseg: version of this package.
        python: version; empty when no Python was asked.
        executable: path of that Python.
        environment: ``"system"``, ``"venv"`` (sealed off), or ``"venv, system packages visible"``.
        architecture: such as ``"aarch64"``.
        system: kernel name and release.
        cores: logical CPU cores that the process may use.
        modules: MODULES by name; one that is not installed is absent.
        gstreamer: as seen by the Python that would carry pipelines; None where nobody asked.
        distributions: version by name of the pip packages that matter here.
        groups: groups of the user; ``"root"`` among them for the superuser.
        display: whether a desktop is there to draw on.
        disk_free_gib: free space where the home folder is.
    """

    edgeseg: str = ""
    python: str = ""
    executable: str = ""
    environment: str = ""
    architecture: str = ""
    system: str = ""
    cores: int = 0
    modules: Mapping[str, Module] = field(default_factory=dict)
    gstreamer: GStreamer | None = None
    distributions: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    display: bool = False
    disk_free_gib: float = 0.0

    def module(self, name: str) -> Module:
        """Return a module; an empty one when it is not installed."""
        return self.modules.get(name, Module())

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict of all fields."""
        return {**asdict(self), "groups": list(self.groups)}


def probe_from_json(document: Any) -> Probe:
    """Build the probe from what ``to_json`` returned.

    Unknown keys are skipped and missing ones empty, so that old records stay good.

    Raises:
        ValueError: it is not such a document.
    """
    if not isinstance(document, dict):
        raise ValueError("it is not an object")
    modules = _table(document, "modules")
    return Probe(
        modules={name: Module(**_strings(entry, Module)) for name, entry in modules.items() if isinstance(entry, dict)},
        gstreamer=gstreamer_from_json(document.get("gstreamer")),
        distributions={name: str(version) for name, version in _table(document, "distributions").items()},
        groups=tuple(group for group in _list(document, "groups") if isinstance(group, str)),
        display=document.get("display") is True,
        cores=int(_number(document, "cores")),
        disk_free_gib=_number(document, "disk_free_gib"),
        **_strings(document, Probe, ("edgeseg", "python", "executable", "environment", "architecture", "system")),
    )


def _table(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    table = document.get(key, {})
    if not isinstance(table, dict):
        raise ValueError(f"{key} is not an object")
    return table


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    items = document.get(key, [])
    if not isinstance(items, list):
        raise ValueError(f"{key} is not a list")
    return items


def _number(document: Mapping[str, Any], key: str) -> float:
    value = document.get(key) or 0
    if not isinstance(value, (int, float)) or not abs(value) < 1e9:
        raise ValueError(f"{key} is {str(value)[:40]}, not a number")
    return value


def _strings(document: Mapping[str, Any], of: type, names: Sequence[str] = ()) -> dict[str, str]:
    """Return those entries of a document that are strings and have a field in a dataclass."""
    wanted = names or list(of.__dataclass_fields__)  # type: ignore[attr-defined]
    return {name: document[name] for name in wanted if isinstance(document.get(name), str)}


# Given the parent's import path and a name; prints one JSON line last, whatever the module itself printed before it.
_ASK = """
import importlib, importlib.util, json, os, sys
path, name = json.loads(sys.argv[1]), sys.argv[2]
sys.path[:] = path
try:
    found = importlib.util.find_spec(name) is not None
except Exception:
    found = True
said = {}
if found:
    try:
        module = importlib.import_module(name)
        if name == "pycuda":
            driver = importlib.import_module("pycuda.driver")
        version = getattr(module, "__version__", "") or getattr(module, "VERSION_TEXT", "")
        said = {"version": str(version or "unknown"), "path": str(getattr(module, "__file__", "") or "")}
        if name == "cv2":
            lines = [line for line in module.getBuildInformation().splitlines() if "GStreamer:" in line]
            said["detail"] = lines[0].split(":", 1)[1].strip() if lines else ""
        if name == "pycuda":
            try:
                driver.init()
                driver.Device.count()
            except Exception as error:
                said["error"] = "CUDA does not start: " + " ".join(str(error).split())
        if name == "torch":
            said["detail"] = str(module.version.cuda or "none")
            try:
                module.from_numpy(importlib.import_module("numpy").zeros(1))
            except Exception as error:
                said["error"] = "torch.from_numpy: " + str(error)
    except BaseException as error:
        said = {"error": type(error).__name__ + ": " + " ".join(str(error).split())}
print("\\n" + json.dumps(said))
sys.stdout.flush()
sys.stderr.flush()
os._exit(0)
"""


def probed_modules(run: Runner, executable: str, path: Sequence[str]) -> dict[str, Module]:
    """Import each of MODULES in a process of its own.

    Args:
        run: runs a command.
        executable: the Python to ask.
        path: its ``sys.path``.

    Returns:
        The modules by name, without those that are not installed.
    """
    with ThreadPoolExecutor(max_workers=3) as pool:
        asked = pool.map(lambda name: run([executable, "-c", _ASK, json.dumps(list(path)), name]), MODULES)
    modules = {name: _module(ran) for name, ran in zip(MODULES, asked)}
    return {name: module for name, module in modules.items() if module != Module()}


def _module(ran: Ran) -> Module:
    lines = ran.output.strip().splitlines()
    try:
        said = json.loads(lines[-1])
        strings = _strings(said, Module)
    except (IndexError, ValueError, AttributeError):
        return Module(error=f"importing it ended the process with code {ran.code}")
    warned = [line.strip() for line in ran.errors.splitlines() if re.search(r"NumPy|_ARRAY_API|warn", line)]
    if not strings:
        return Module()
    return Module(**{"warning": warned[0][:200] if warned else "", **strings})
