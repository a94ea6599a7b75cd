"""The Pythons of this machine, by version."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Sequence


def interpreter(version: str) -> Path | None:
    """Return a Python of a version like ``3.8``: one on the path, or one of pyenv's; None where there is none."""
    candidates = [shutil.which(f"python{version}")]
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True).stdout.strip()
        candidates += [str(path / "bin" / "python") for path in sorted(Path(root, "versions").glob(f"{version}.*"))]
    for candidate in candidates:
        probe = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
        if candidate:
            done = subprocess.run([candidate, "-c", probe], capture_output=True, text=True)
            if done.stdout.strip() == version:
                return Path(candidate)
    return None


def run(command: Sequence[str], cwd: Path) -> str:
    """Run a command without this Python's settings, and return what it printed.

    Raises:
        AssertionError: it failed.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYENV_VERSION", "VIRTUAL"))}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done.stdout
