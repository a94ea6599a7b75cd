"""List the Debian packages that are installed, from dpkg's own status file."""

from __future__ import annotations

import re
from pathlib import Path

from edgeseg.device.tree import text_of

__all__ = ["DPKG_STATUS", "RELEVANT", "installed_packages", "newest_version", "upstream_version"]

DPKG_STATUS = "var/lib/dpkg/status"
RELEVANT = re.compile(
    r"nvidia-l4t-(core|camera|gstreamer)|nvidia-jetpack|libnvinfer\d*|python3-libnvinfer|cuda-cudart-\d+-\d+"
    r"|nvidia-opencv|libopencv-python|python3-opencv|python3-gi|gir1\.2-gst[\w.-]*|gstreamer1\.0-[\w.-]*"
)
"""The packages that this toolkit asks about."""


def installed_packages(root: Path) -> dict[str, str]:
    """Map the RELEVANT packages that dpkg calls fully installed under this root to their versions."""
    found = {}
    for paragraph in re.split(r"\n\s*\n", text_of(root / DPKG_STATUS)):
        name = re.match(r"Package: (\S+)$", paragraph.lstrip(), re.MULTILINE)
        if name is None or not RELEVANT.fullmatch(name.group(1)):
            continue
        version = re.search(r"^Version: (\S+)$", paragraph, re.MULTILINE)
        if version and re.search(r"^Status: \S+ \S+ installed$", paragraph, re.MULTILINE):
            found[name.group(1)] = version.group(1)
    return found


def upstream_version(version: str) -> str:
    """Reduce ``"8.5.2-1+cuda11.4"`` to ``"8.5.2"``; empty when it does not start with a dotted number."""
    match = re.match(r"\d{1,9}(\.\d{1,9})+", version)
    return match.group() if match else ""


def newest_version(packages: dict[str, str], name: str) -> str:
    """Return the highest upstream version among the packages whose name matches; empty when there is none."""
    versions = [upstream_version(version) for package, version in packages.items() if re.fullmatch(name, package)]
    return max(versions, key=lambda version: [int(part or 0) for part in version.split(".")], default="")
