"""Pieces of the commands that mend a machine."""

from __future__ import annotations

import re

from edgeseg.device.facts import Facts

__all__ = [
    "apt",
    "distributions",
    "listed",
    "new_environment",
    "opencv_wheels",
    "pip",
    "then",
    "version_of",
    "without_wheels",
]


def pip(facts: Facts) -> str:
    """Return the pip command of the very Python that was asked."""
    return f"{facts.probe.executable or 'python3'} -m pip"


def apt(facts: Facts, what: str) -> str:
    """Return an apt command, with sudo where that is needed."""
    return ("" if "root" in facts.probe.groups else "sudo ") + f"apt {what}"


def then(command: str) -> str:
    """Return the second half of two commands; empty for none."""
    return f" && {command}" if command else ""


def new_environment(python: str = "python3") -> str:
    """Return a command that makes a virtual environment with the system's packages, and edgeseg in it."""
    make = f"{python} -m venv --system-site-packages ~/edgeseg-env && ~/edgeseg-env/bin/pip install '.[tensorrt]'"
    return f"{make}   # in a clone of edgeseg, where jetson/setup.sh does it all"


def distributions(facts: Facts, pattern: str) -> list[str]:
    """Return the installed distributions whose whole name matches a pattern."""
    return [name for name in facts.probe.distributions if re.fullmatch(pattern, name)]


def opencv_wheels(facts: Facts) -> list[str]:
    """Return pip's distributions of OpenCV."""
    return distributions(facts, r"opencv-(contrib-)?python(-headless)?")


def without_wheels(facts: Facts) -> str:
    """Return the command that uninstalls pip's OpenCV; empty where there is none."""
    wheels = opencv_wheels(facts)
    return f"{pip(facts)} uninstall -y {' '.join(wheels)}" if wheels else ""


def listed(facts: Facts, names: list[str]) -> str:
    """Return distributions with their versions, for people."""
    return ", ".join(f"{name} {facts.probe.distributions[name]}" for name in names)


def version_of(text: str) -> tuple[int, ...]:
    """Parse ``"8.5.2.2"`` to (8, 5, 2, 2); what follows the dotted numbers is left out."""
    match = re.match(r"\d{1,6}(\.\d{1,6})*", text)
    return tuple(map(int, match.group().split("."))) if match else ()
