"""An environment for every peer, made from pinned requirements and kept until these change.

``uv`` makes them. Those that need torch borrow it from the Python that runs the script, by a ``.pth`` file: with CUDA's
libraries a copy would be several GB for each of them.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements"
BORROWS_TORCH = ("executorch", "litert", "ncnn", "ultralytics")
_TIMEOUT_S = 1800


class Unavailable(Exception):
    """A contender cannot run; the message is one line that says why."""


def last_line(text: str, otherwise: str) -> str:
    """Return the last line of a text that says something, in at most 160 characters."""
    lines = [line.strip() for line in text.splitlines() if any(letter.isalnum() for letter in line)]
    return (lines[-1] if lines else otherwise)[:160]


def python_of(name: str, folder: Path) -> Path:
    """Return the Python of a peer's environment, which is made where it is not there.

    Args:
        name: of a file in ``requirements``; empty for the Python that runs this.
        folder: of all environments.

    Raises:
        Unavailable: it cannot be made.
    """
    if not name:
        return Path(sys.executable)
    wanted = (REQUIREMENTS / f"{name}.txt").read_text()
    where = folder / name
    python, made = where / "bin" / "python", where / "made-of.txt"
    if made.is_file() and made.read_text() == wanted:
        return python
    _run([*_uv(), "venv", "--quiet", "--clear", "--python", sys.executable, str(where)])
    install = [*_uv(), "pip", "install", "--quiet", "--python", str(python), "-r", str(REQUIREMENTS / f"{name}.txt")]
    if name in BORROWS_TORCH:
        (packages,) = where.glob("lib/python*/site-packages")
        (packages / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"])
        install += ["--overrides", str(REQUIREMENTS / "borrowed.txt")]
    _run(install)
    made.write_text(wanted)
    return python


def _uv() -> list[str]:
    found = shutil.which("uv")
    if found is not None:
        return [found]
    if importlib.util.find_spec("uv") is not None:
        return [sys.executable, "-m", "uv"]
    raise Unavailable("uv makes the environments and is not installed; pip install uv")


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"its environment was not made in {_TIMEOUT_S} s") from error
    if done.returncode:
        raise Unavailable(f"its environment cannot be made: {last_line(done.stderr, 'uv says nothing')}")
