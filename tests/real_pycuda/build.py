"""The real pycuda, compiled once against NVIDIA's headers from PyPI and kept in .venvs; and the driver that it loads.

    python -m tests.real_pycuda.build [11|12|13]

builds it for that CUDA. No CUDA toolkit, no nvcc and no GPU is needed: g++, Python's headers and PyPI.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".venvs"
PYCUDA = "2026.1"
HEADERS = {
    "11": ("nvidia-cuda-runtime-cu11==11.8.89", "nvidia-cuda-profiler-api-cu11==11.8.86"),
    "12": ("nvidia-cuda-runtime-cu12==12.9.79", "nvidia-cuda-profiler-api-cu12==12.9.79"),
    "13": ("nvidia-cuda-runtime==13.0.96", "nvidia-cuda-profiler-api==13.0.85"),
}
"""Of the CUDA of JetPack 5, 6 and 7, or near to it."""
_TIMEOUT_S = 900


class CannotBuild(Exception):
    """What is missing on this machine, on one line."""


def pycuda_folder(cuda: str = "12") -> Path:
    """Where pycuda for that CUDA is kept for this Python, whether it is there or not."""
    return KEPT / f"pycuda-{PYCUDA}-cuda{cuda}-{sys.implementation.cache_tag}"


def driver_library(folder: Path) -> Path:
    """Compile ``driver.c`` as libcuda.so.1 into a folder. Raises CannotBuild."""
    compiler = _compiler("gcc")
    library = folder / "libcuda.so.1"
    source = Path(__file__).with_name("driver.c")
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", f"-Wl,-soname,{library.name}"]
    _run([compiler, *flags, str(source), "-o", str(library)])
    link = folder / "libcuda.so"
    if not link.exists():
        link.symlink_to(library.name)
    return library


def built_pycuda(cuda: str = "12") -> Path:
    """The folder to put on the import path; made at the first call, in a minute or two.

    Raises:
        CannotBuild: no compiler, no headers of Python, or PyPI cannot be reached.
    """
    target = pycuda_folder(cuda)
    try:
        KEPT.mkdir(exist_ok=True)
        with open(KEPT / f"{target.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # tests may run beside each other
            if not target.is_dir():
                _build(cuda, target)
    except OSError as error:
        raise CannotBuild(f"nothing can be kept in {KEPT}: {error.strerror}") from error
    return target


def _build(cuda: str, target: Path) -> None:
    _compiler("g++")
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        raise CannotBuild("Python's headers are not installed (python3-dev)")
    with tempfile.TemporaryDirectory(dir=KEPT, prefix="building-") as name:
        work = Path(name)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        _run([*pip, "--no-deps", "--target", str(work / "headers"), *HEADERS[cuda]])
        driver_library(work)
        settings = {
            "CUDA_ENABLE_CURAND": False,
            "CUDA_INC_DIR": [str(path) for path in sorted((work / "headers" / "nvidia").glob("*/include"))],
            "CUDADRV_LIB_DIR": [name],
            # The driver exports what edgeseg needs; of the rest nothing is looked up until it is called.
            "LDFLAGS": ["-Wl,-z,lazy", "-Wl,--no-as-needed"],
        }
        lines = [f"{key} = {value!r}" for key, value in settings.items()]
        (work / ".aksetup-defaults.py").write_text("\n".join(lines), encoding="utf-8")  # pycuda reads it at home
        cache = os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip"))
        made = work / "pycuda"
        wanted = ["--no-binary", "pycuda", "--no-cache-dir", "--target", str(made), f"pycuda=={PYCUDA}"]
        _run([*pip, *wanted], HOME=name, PIP_CACHE_DIR=cache)
        shutil.move(str(made), str(target))


def _compiler(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise CannotBuild(f"there is no {name}")
    return found


def _run(command: list[str], **environment: str) -> None:
    try:
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "LD_LIBRARY_PATH")}
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            env={**kept, **environment},
        )
    except subprocess.TimeoutExpired as error:
        raise CannotBuild(f"{Path(command[0]).name} did not end within {_TIMEOUT_S} s") from error
    except (OSError, subprocess.CalledProcessError) as error:
        said = [line for line in (getattr(error, "stderr", "") or str(error)).splitlines() if "rror" in line]
        raise CannotBuild(f"{' '.join(command[:5])} ... failed: {(said or [str(error)])[-1][:300]}") from error


if __name__ == "__main__":
    print(built_pycuda(*sys.argv[1:2]))
