"""List what our GStreamer processes use, the Debian packages that bring it, and what of it is there.

``gstreamer.txt`` beside this file is the one list: a package per line, then the namespaces (capital) and elements that
we use of it. ``jetson/setup.sh``, the Dockerfiles and ``tests/system/install.sh`` install from it. This file imports
only the standard library, so that ``jetson/check_imports.py`` can load it alone.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

__all__ = [
    "BINDINGS",
    "NVIDIA_ELEMENTS",
    "GStreamer",
    "candidate_pythons",
    "gstreamer_from_json",
    "gstreamer_install",
    "gstreamer_packages",
    "probed_gstreamer",
]

SYSTEM_PYTHON = "/usr/bin/python3"
BINDINGS = "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst"
"""What a Python must be able to run to carry a pipeline."""

NVIDIA_ELEMENTS = ("nvarguscamerasrc", "nvv4l2decoder", "nvvidconv")
"""Of JetPack's nvidia-l4t-gstreamer, on a Jetson."""


@dataclass(frozen=True)
class GStreamer:
    """GStreamer as seen by the Python that would carry our pipelines.

    Attributes:
        python: that Python; empty when none has the bindings.
        version: such as ``"1.16.3"``; likewise.
        error: why none has them, Python by Python.
        missing: namespaces and elements that are not there or do not load, NVIDIA's among them.
    """

    python: str = ""
    version: str = ""
    error: str = ""
    missing: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        """Tell whether there is a Python that can carry a pipeline."""
        return bool(self.version)


def gstreamer_packages() -> dict[str, tuple[str, ...]]:
    """Map each Debian package to the namespaces and elements that we use of it."""
    lines = Path(__file__).with_name("gstreamer.txt").read_text(encoding="utf-8").splitlines()
    return {name: tuple(provides) for name, *provides in map(str.split, lines)}


def gstreamer_install(missing: Sequence[str] = ()) -> str:
    """Return ``install PACKAGE ...`` for apt with the packages of missing namespaces and elements; all by default."""
    packages = gstreamer_packages()
    wanted = [name for name, provides in packages.items() if not missing or set(provides) & set(missing)]
    return f"install {' '.join(wanted)}"


def candidate_pythons() -> list[str]:
    """List the Pythons that may carry a pipeline, in order: this one, if it has the bindings at all, and the system's.

    The bindings are a Debian package for the system's Python; a virtual environment needs none of its own.
    """
    here = [sys.executable] if importlib.util.find_spec("gi") else []
    return list(dict.fromkeys((*here, SYSTEM_PYTHON)))


# Given namespaces and elements; prints one JSON line last. Elements are loaded: the registry may know one that is gone.
_ASK = """
import json, sys
said = {"python": "%d.%d.%d" % sys.version_info[:3]}
try:
    BINDINGS
    import importlib
    Gst.init(None)
    said["version"] = ".".join(map(str, Gst.version()[:3]))
    said["missing"] = []
    for name in json.loads(sys.argv[1]):
        try:
            if name[0].isupper():
                gi.require_version(name, "1.0")
                importlib.import_module("gi.repository." + name)
            elif Gst.ElementFactory.find(name).load() is None:
                raise ValueError(name)
        except Exception:
            said["missing"].append(name)
except BaseException as error:
    said["error"] = type(error).__name__ + ": " + " ".join(str(error).split())
print("\\n" + json.dumps(said))
"""

Run = Callable[[Sequence[str]], "tuple[int, str, str]"]


def probed_gstreamer(run: Run, pythons: Sequence[str] | None = None) -> GStreamer:
    """Ask the Pythons as the runtime does: the first that has the bindings carries the pipelines.

    Args:
        run: runs a command line; returns its exit code, output and errors.
        pythons: Pythons to ask, in order; None takes ``candidate_pythons()``.
    """
    wanted = [name for provides in gstreamer_packages().values() for name in provides] + list(NVIDIA_ELEMENTS)
    refusals = []
    for python in candidate_pythons() if pythons is None else pythons:
        script = _ASK.replace("BINDINGS", BINDINGS.replace("; ", "\n    "))
        code, output, errors = run([python, "-I", "-c", script, json.dumps(wanted)])
        said = _answer(output)
        if "version" in said:
            return GStreamer(python, str(said["version"]), missing=tuple(map(str, said.get("missing", ()))))
        last = (errors.strip().splitlines() or [""])[-1][:200]
        why = said.get("error") or f"it ended with code {code}" + (f" ({last})" if last else "")
        refusals.append(f"{python}{' (' + str(said['python']) + ')' if 'python' in said else ''}: {why}")
    return GStreamer(error="; ".join(refusals))


def _answer(output: str) -> Mapping[str, Any]:
    lines = output.strip().splitlines()
    try:
        said = json.loads(lines[-1])
    except (IndexError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def gstreamer_from_json(document: Any) -> GStreamer | None:
    """Read what a probe wrote about GStreamer; None where it did not ask.

    Raises:
        ValueError: the document is no such object.
    """
    if document is None:
        return None
    if not isinstance(document, dict):
        raise ValueError("gstreamer is not an object")
    texts = {name: document[name] for name in ("python", "version", "error") if isinstance(document.get(name), str)}
    missing = document.get("missing") or []
    if not isinstance(missing, list):
        raise ValueError("gstreamer.missing is not a list")
    return GStreamer(**texts, missing=tuple(name for name in missing if isinstance(name, str)))
