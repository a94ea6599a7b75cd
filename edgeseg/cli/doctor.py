"""``edgeseg doctor``: one block to paste into an issue, with what is wrong and how to fix it."""

import importlib
import importlib.util
from typing import Any, Dict, List, Tuple

from edgeseg import __version__
from edgeseg.cli.console import JsonFlag, print_json, say
from edgeseg.cli.models import SHIPPED, bundle_or_default
from edgeseg.device.detect import detected_device
from edgeseg.errors import EdgesegError, missing

_EXTRAS = {
    "torch": "train",
    "onnx": "compile",
    "onnxsim": "compile",
    "openvino": "openvino",
    "tensorrt": "JetPack",
    "pycuda": "tensorrt",
}


def doctor(as_json: JsonFlag = False) -> None:
    """Check this machine: packages, OpenCV and GStreamer, cameras, the shipped model. Exit 1 if something is broken.

    Example: edgeseg doctor
    """
    device = detected_device()
    facts, problems = _checked()
    if as_json:
        print_json({"device": device.to_json(), "facts": facts, "problems": problems})
    else:
        say(f"edgeseg {__version__} on {device.describe()}")
        say(f"  system: {device.system} {device.architecture}")
        for name, value in facts.items():
            say(f"  {name}: {value}")
        for problem in problems:
            say(f"problem: {problem}")
        say("no problems found" if not problems else f"{len(problems)} problem(s)")
    if problems:
        raise SystemExit(1)


def _checked() -> Tuple[Dict[str, str], List[str]]:
    facts: Dict[str, str] = {}
    problems: List[str] = []
    facts["numpy"] = _version("numpy")
    for name in ("onnxruntime", "cv2"):
        facts[name] = _version(name)
        if facts[name].startswith(("missing", "broken")):
            problems.append(f"{name} is {facts[name]}")
    if not facts["cv2"].startswith(("missing", "broken")):
        facts["cv2 GStreamer"] = _gstreamer()
    for name, extra in _EXTRAS.items():
        found = importlib.util.find_spec(name) is not None
        facts[name] = "installed" if found else f"not installed (optional, {extra})"
    facts["cameras"] = _cameras()
    try:
        bundle, _ = bundle_or_default(SHIPPED)
        facts["shipped model"] = f"{SHIPPED}, graphs {', '.join(bundle.graphs)}"
    except EdgesegError as error:
        problems.append(str(error))
    return facts, problems


def _version(module: str) -> str:
    """Version and place of an importable module; importing is the only proof that it works."""
    try:
        loaded: Any = importlib.import_module(module)
    except ImportError as error:
        return f"missing: {missing(module, '', error)}"
    except Exception as error:  # a broken binary raises anything on import (ABI mismatches raise AttributeError)
        return f"broken ({type(error).__name__}: {error})"
    return f"{loaded.__version__} ({loaded.__file__})"


def _gstreamer() -> str:
    import cv2

    lines = [line.strip() for line in cv2.getBuildInformation().splitlines() if "GStreamer" in line]
    return lines[0].split(":", 1)[1].strip() if lines else "unknown"


def _cameras() -> str:
    from edgeseg.runtime.sources.camera import camera_devices

    return ", ".join(camera_devices()) or "none (/dev/video*)"
