"""Fetches NVIDIA's Triton Inference Server with its Python backend, out of the wheel of nvidia-pytriton.

    python tests/triton_server.py .venvs/triton

The wheel itself wants NumPy 1, so it is unpacked and not installed.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

WHEEL = "nvidia-pytriton==0.7.0"
ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venvs" / "triton"


def server_command(folder: Path = FOLDER) -> list[str] | None:
    """The beginning of a command that starts the server with this Python's backend; None where it is not here."""
    server = folder / "pytriton" / "tritonserver"
    program = server / "bin" / "tritonserver"
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    backend = server / "backends" / "python"
    if not (program.exists() and (backend / f"for-{version}").exists()):
        return None
    return [str(program), "--backend-directory", str(backend.parent), "--exit-timeout-secs", "5"]


def main(folder: Path) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        print("Triton's wheel is for Linux on x86-64; its tests are skipped here")
        return
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--dest", str(folder), WHEEL], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    wheel.unlink()
    server = folder / "pytriton" / "tritonserver"
    backend, version = server / "backends" / "python", f"{sys.version_info[0]}.{sys.version_info[1]}"
    stub = backend / "triton_python_backend_stub"
    shutil.copy2(server / "python_backend_stubs" / version / stub.name, stub)
    for file in (server / "bin" / "tritonserver", stub):
        file.chmod(0o755)
    (backend / f"for-{version}").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
