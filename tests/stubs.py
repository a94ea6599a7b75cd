"""Fetches TensorRT's types (package tensorrt-stubs, types only) and mends what is no Python in them.

    python tests/stubs.py .venvs/stubs

The package depends on TensorRT itself, which pip cannot install everywhere, and its generated files hold parameters
that are called ``in`` and one without a default behind one with.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGE = "tensorrt-stubs==10.13.0.35.1"
MENDED = {
    "self, in: list": "self, in_: list",
    "IPluginV3, in: list": "IPluginV3, in_: list",
    "power: Weights = None, channel_axis: int)": "power: Weights = None, channel_axis: int = 0)",
}


def main(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--upgrade"]
    subprocess.run([*command, "--target", str(folder), PACKAGE], check=True)
    stub = folder / "tensorrt_bindings" / "tensorrt.pyi"
    text = stub.read_text()
    for wrong, right in MENDED.items():
        assert wrong in text, f"{PACKAGE} has changed: {wrong!r} is gone"
        text = text.replace(wrong, right)
    compile(text, str(stub), "exec")
    stub.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
