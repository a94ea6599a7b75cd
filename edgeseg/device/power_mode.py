"""Read which power modes a Jetson has and which one is set, from nvpmodel's files: no root, no binary needed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from edgeseg.device.tree import text_of

__all__ = ["PowerMode", "current_power_mode", "fastest_power_mode", "power_mode_from_query", "power_modes"]

STATUS = "var/lib/nvpmodel/status"
CONFIGURATION = "etc/nvpmodel.conf"


@dataclass(frozen=True)
class PowerMode:
    """One mode of ``/etc/nvpmodel.conf``.

    Attributes:
        identifier: the number that ``nvpmodel -m`` takes; higher is not faster.
        name: such as ``"MODE_15W_6CORE"`` or ``"MAXN"``; empty when the configuration does not name it.
        gpu_max_mhz: the GPU clock it allows; infinite when the mode sets no limit, NaN when it does not say.
    """

    identifier: int
    name: str
    gpu_max_mhz: float = math.nan


def power_modes(configuration: str) -> tuple[PowerMode, ...]:
    """Parse the modes in the text of ``/etc/nvpmodel.conf``, in its order."""
    modes = []
    for header, body in re.findall(r"^\s*<\s*POWER_MODEL\s+([^>\n]*)>([^<]*)", configuration, re.MULTILINE):
        identifier = re.search(r"\bID=(\d{1,6})\b", header)
        name = re.search(r"\bNAME=(\S+)", header)
        if identifier and name:
            modes.append(PowerMode(int(identifier.group(1)), name.group(1), _gpu_limit(body)))
    return tuple(modes)


def current_power_mode(root: Path) -> PowerMode | None:
    """Return the mode that nvpmodel set last; None when it never wrote one (a PC, a container without the mount)."""
    match = re.search(r"pmode:(\d{1,6})", text_of(root / STATUS))
    if match is None:
        return None
    identifier = int(match.group(1))
    for mode in power_modes(text_of(root / CONFIGURATION)):
        if mode.identifier == identifier:
            return mode
    return PowerMode(identifier, "")


def power_mode_from_query(answer: str) -> PowerMode | None:
    """Parse the output of ``nvpmodel -q``: a line ``NV Power Mode: NAME`` and the number on the line after it."""
    match = re.search(r"NV Power Mode:\s*(\S+)\s+(\d{1,6})\b", answer)
    return PowerMode(int(match.group(2)), match.group(1)) if match else None


def fastest_power_mode(modes: tuple[PowerMode, ...]) -> PowerMode | None:
    """Return the mode that allows most: MAXN before any wattage, then the watts and the cores that its name states."""
    return max(modes, key=_rank, default=None)


def _rank(mode: PowerMode) -> tuple[float, ...]:
    watts = re.search(r"(\d{1,4})W", mode.name)
    cores = re.search(r"(\d{1,3})CORE", mode.name)
    unlimited = ("MAXN" in mode.name) + ("SUPER" in mode.name)
    return unlimited, int(watts.group(1)) if watts else 0, int(cores.group(1)) if cores else 0, -mode.identifier


def _gpu_limit(body: str) -> float:
    match = re.search(r"^\s*GPU\s+MAX_FREQ\s+(-?\d{1,12})", body, re.MULTILINE)
    if match is None:
        return math.nan
    return int(match.group(1)) / 1e6 if int(match.group(1)) > 0 else math.inf
