"""Copy from a machine a tree of the few files that the doctor reads, for support and for our fixtures.

Only what is listed here is copied. Serial numbers, host names, addresses and package lists are not.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Callable

from edgeseg.device import facts
from edgeseg.device.packages import DPKG_STATUS, installed_packages
from edgeseg.device.power_mode import CONFIGURATION, STATUS
from edgeseg.device.probe import PROBE_FILE, Probe, probe_from_json
from edgeseg.device.telemetry import MONITORS
from edgeseg.device.tree import matches, text_of
from edgeseg.errors import InputError
from edgeseg.files import write_new

__all__ = ["check_record_folder", "probe_of_record", "write_record"]

_MEASURED = ("name", "in*_label", "in[123]_input", "curr[123]_input", "power*_input")
_COPIED = (
    "etc/nv_tegra_release",
    CONFIGURATION,
    STATUS,
    "proc/device-tree/model",
    "proc/device-tree/compatible",
    "proc/device-tree/host1x@*/nvdla*/status",
    "proc/device-tree/bus@0/host1x@*/nvdla*/status",
    facts.DRIVER,
    "sys/devices/soc[0-9]*/family",
    "sys/devices/soc[0-9]*/machine",
    "sys/devices/soc[0-9]*/soc_id",
    "usr/local/cuda/version.json",
    "sys/class/thermal/thermal_zone*/type",
    "sys/class/thermal/thermal_zone*/temp",
    "sys/class/thermal/cooling_device*/type",
    "sys/class/thermal/cooling_device*/cur_state",
    "sys/class/hwmon/hwmon*/oc*_event_cnt",
    *(f"{monitor}/{leaf}" for monitor in MONITORS for leaf in _MEASURED),
    "sys/class/devfreq/*/cur_freq",
    "sys/class/devfreq/*/min_freq",
    "sys/class/devfreq/*/max_freq",
    "sys/class/devfreq/*/governor",
    "sys/kernel/debug/bpmp/debug/clk/emc/*rate",
    "sys/devices/system/cpu/cpufreq/policy*/scaling_cur_freq",
    "sys/devices/system/cpu/cpufreq/policy*/scaling_min_freq",
    "sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq",
    "sys/devices/system/cpu/cpufreq/policy*/scaling_governor",
    "sys/class/video4linux/video*/name",
)


def write_record(root: Path, folder: Path, probe: Probe) -> list[str]:
    """Copy what the doctor reads of ``root`` into an empty or new folder.

    Args:
        root: ``/``.
        folder: where to write; it is created.
        probe: what the machine's Python said.

    Returns:
        The paths that were written, relative to the folder.

    Raises:
        InputError: the folder already holds something.
        OSError: the folder cannot be written.
    """
    check_record_folder(folder)
    written = {}
    for pattern in _COPIED:
        written.update({_relative(root, path): text_of(path) for path in matches(root, pattern) if text_of(path)})
    for name, reduce in _REDUCED.items():
        written[name] = reduce(root, name)
    for pattern in (*facts.PRESENCE, *_MARKS):
        written.update({_marker(root, path): "" for path in matches(root, pattern)})
    written[PROBE_FILE] = json.dumps(probe.to_json(), indent=1)
    kept = [name for name in written if written[name] or name not in _REDUCED]
    for name in kept:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_new(folder / name, (written[name] + "\n").encode() if written[name] else b"", durable=False)
    return sorted(kept)


def check_record_folder(folder: Path) -> None:
    """Refuse a folder to which a record cannot be written without touching anything that exists.

    Raises:
        InputError: the folder already holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} already holds something; name a new folder to record into")


def probe_of_record(root: Path) -> Probe:
    """Read the probe in a recorded tree; an empty one when the tree has none.

    Raises:
        InputError: the file is there, but it is not a probe.
    """
    path = root / PROBE_FILE
    if not path.is_file():
        return Probe()
    try:
        return probe_from_json(json.loads(text_of(path)))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not what 'edgeseg doctor --record' writes: {error}") from error


_MARKS = (
    ".dockerenv",
    "run/.containerenv",
    "run/systemd/container",
    "proc/device-tree/host1x@*",
    "proc/device-tree/host1x@*/nvdla*",
    "proc/device-tree/bus@0/host1x@*",
    "proc/device-tree/bus@0/host1x@*/nvdla*",
)


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _marker(root: Path, path: Path) -> str:
    """Return the file that stands for a path of which only the existence counts; a folder is kept by a file in it."""
    return _relative(root, path) + ("/present" if path.is_dir() else "")


def _packages(root: Path, name: str) -> str:
    paragraphs = (
        f"Package: {package}\nStatus: install ok installed\nVersion: {version}\n"
        for package, version in installed_packages(root).items()
    )
    return "\n".join(paragraphs)


def _cpuinfo(root: Path, name: str) -> str:
    """Return the first core's name and flags."""
    lines = re.findall(r"^(?:model name|Model|flags|Features)\s*:.*$", text_of(root / name), re.MULTILINE)
    return "\n".join({line.split(":")[0]: line for line in reversed(lines)}.values())


def _meminfo(root: Path, name: str) -> str:
    wanted = ("MemTotal", "MemFree", "MemAvailable", "SwapTotal", "SwapFree")
    return "\n".join(line for line in text_of(root / name).splitlines() if line.startswith(wanted))


def _cgroup(root: Path, name: str) -> str:
    match = re.search(r"docker|kubepods|containerd|lxc", text_of(root / name))
    return f"0::/{match.group()}" if match else ""


def _mounts(root: Path, name: str) -> str:
    there = " /etc/nv_tegra_release " in text_of(root / name)
    return "1 0 0:1 / /etc/nv_tegra_release ro - none none ro" if there else ""


def _apt_source(root: Path, name: str) -> str:
    match = re.search(r"\br\d+\.\d+\b", text_of(root / name))
    return f"deb https://repo.download.nvidia.com/jetson/common {match.group()} main" if match else ""


_REDUCED: dict[str, Callable[[Path, str], str]]
_REDUCED = {
    DPKG_STATUS: _packages,
    "proc/cpuinfo": _cpuinfo,
    "proc/meminfo": _meminfo,
    "proc/1/cgroup": _cgroup,
    facts.MOUNTS: _mounts,
    facts.APT_SOURCE: _apt_source,
}
