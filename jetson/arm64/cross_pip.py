"""pip for a board that is not here: the wheels a Jetson would take, resolved on any host.

``pip download --platform`` picks wheels for the target but evaluates environment markers (``platform_machine``,
``python_version``) for the host, so what it resolves is wrong. This runs the same pip with the target's markers.

Example: python cross_pip.py --python 3.8.10 --glibc 31 --extra preview edgeseg.whl -- download --dest wheels
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

from pip._internal.cli.main import main as pip
from pip._vendor.packaging import markers
from pip._vendor.packaging.requirements import Requirement

_HERE = markers.default_environment


def main() -> int:
    """Run pip for the target with what the wheel requires."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help="whose requirements are meant")
    parser.add_argument("--python", required=True, metavar="X.Y.Z", help="the board's Python")
    parser.add_argument("--glibc", required=True, type=int, metavar="MINOR", help="the board's glibc 2.MINOR")
    parser.add_argument("--extra", action="append", default=[])
    parser.add_argument("--without", action="append", default=[], help="a package that is built on the board")
    parser.add_argument("pip", nargs="+", help="after --: pip's command and its options")
    options = parser.parse_args()

    environment = target_environment(options.python)
    wanted = requirements(options.wheel, options.extra, options.without, environment)
    markers.default_environment = lambda: environment
    command, *rest = options.pip
    platforms = [f"--platform={tag}" for tag in platform_tags(options.glibc)]
    binary = ["--only-binary=:all:", f"--python-version={options.python}", "--implementation=cp"]
    return int(pip([command, *binary, *platforms, *rest, *wanted]))


def target_environment(python: str) -> dict[str, str]:
    """What markers see on an arm64 Linux with CPython ``python`` (``3.8.10``)."""
    return {
        **_HERE(),
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": "posix",
        "platform_machine": "aarch64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": "linux",
    }


def platform_tags(glibc_minor: int) -> list[str]:
    """Every manylinux tag that glibc 2.``glibc_minor`` on arm64 accepts, newest first."""
    return [f"manylinux_2_{minor}_aarch64" for minor in range(glibc_minor, 16, -1)] + ["manylinux2014_aarch64"]


def requirements(wheel: Path, extras: list[str], without: list[str], environment: dict[str, str]) -> list[str]:
    """The requirements of ``wheel`` with ``extras`` that hold in ``environment``, less those ``without``."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    unknown = set(extras) - set(metadata.get_all("Provides-Extra") or [])
    if unknown:
        raise SystemExit(f"{wheel.name} has no extra {', '.join(sorted(unknown))}")
    found = []
    for requirement in map(Requirement, metadata.get_all("Requires-Dist") or []):
        marker = requirement.marker
        if marker and not any(marker.evaluate({**environment, "extra": extra}) for extra in ["", *extras]):
            continue
        if requirement.name in without:
            continue
        requirement.marker = None
        found.append(str(requirement))
    return found


if __name__ == "__main__":
    sys.exit(main())
