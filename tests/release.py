"""Build the wheel and the sdist, and try the wheel alone: ``make release``.

The wheel is built from the sdist, so that the sdist is whole. On each Python a bare environment gets the wheel and what
it depends on, imports it elsewhere than in this clone, and runs the demo.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from edgeseg import __version__
from tests.interpreters import interpreter, run

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
INSIDE = ("edgeseg/__init__.py", "edgeseg/py.typed", "edgeseg/models/street.edgeseg")
"""Files that a wheel without would still import."""
DEMO = "demo://street?frames=30"


def main(folder: Path) -> int:
    """Build into a folder and try the wheel on every Python. Return the exit code."""
    newest = released(ROOT / "CHANGELOG.md")
    if newest != __version__:
        print(f"failed: the newest version of CHANGELOG.md is {newest}, edgeseg is {__version__}; add a section")
        return 1
    wheel, sdist = built(folder)
    print(f"built {wheel} ({wheel.stat().st_size / 1e6:.1f} MB) and {sdist} ({sdist.stat().st_size / 1e6:.1f} MB)")
    lines = faults_of_wheel(wheel) + faults_of_sdist(sdist)
    print("\n".join(lines) or "passed: both have every file that they need")
    for version in VERSIONS:
        lines.append(tried(version, wheel))
        print(lines[-1], flush=True)
    return int(any(line.startswith("failed") for line in lines) or not any(line.startswith("passed") for line in lines))


def released(changelog: Path) -> str:
    """Return the newest version of a changelog."""
    found = re.search(r"^## \[([^\]]+)\]", changelog.read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1) if found else ""


def built(folder: Path) -> tuple[Path, Path]:
    """Build (wheel, sdist) into a folder, in place of older ones."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], check=True, stdout=sys.stderr)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def faults_of_wheel(wheel: Path) -> list[str]:
    """Return what is wrong with the files of a wheel: what it lacks, and what does not belong there."""
    names = zipfile.ZipFile(wheel).namelist()
    foreign = sorted({name.split("/")[0] for name in names} - {"edgeseg", f"edgeseg-{__version__}.dist-info"})
    lacking = [f"failed: {wheel.name} lacks {name}" for name in INSIDE if name not in names]
    return lacking + [f"failed: {wheel.name} has {name}, which is not of the package" for name in foreign]


def faults_of_sdist(sdist: Path) -> list[str]:
    """Return what an sdist lacks of what git knows of the package and its tests."""
    known = subprocess.run(["git", "ls-files", "edgeseg", "tests"], cwd=ROOT, capture_output=True, text=True)
    with tarfile.open(sdist) as archive:
        inside = {name.split("/", 1)[-1] for name in archive.getnames()}
    return [f"failed: {sdist.name} lacks {name}" for name in known.stdout.splitlines() if name not in inside]


def tried(version: str, wheel: Path) -> str:
    """Install a wheel on a Python, import it and run the demo. Return the line that says how it went."""
    python = interpreter(version)
    if python is None:
        return f"skipped: Python {version} is not on this machine (python{version} on PATH, or pyenv)"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            run([str(python), "-m", "venv", "venv"], folder)
            run(["venv/bin/pip", "install", "-q", "--disable-pip-version-check", str(wheel.resolve())], folder)
            said = run(["venv/bin/edgeseg", "--version"], folder)
            assert said == f"edgeseg {__version__}\n", said
            code = "import edgeseg; [getattr(edgeseg, name) for name in edgeseg.__all__]"
            run(["venv/bin/python", "-c", code], folder)
            run(["venv/bin/edgeseg", "run", "--source", DEMO, "--sink", "out.mp4"], folder)
            size = (folder / "out.mp4").stat().st_size
            assert size > 10_000, f"out.mp4 has {size} bytes"
        except AssertionError as error:
            return f"failed: Python {version}\n{error}"
    return f"passed: Python {version} installs the wheel, imports every public name and runs the demo"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "dist")))
