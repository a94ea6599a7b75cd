"""Know the JetPack releases: the one table of which L4T, Python, CUDA, TensorRT and chips belong together.

Detection, the doctor and the lint read it; ``jetson/releases.py`` writes what the scripts need of it into their files.
What the table does not know is unknown, never guessed. Numbers and versions are those of NVIDIA's release pages and of
the recipes of OE4T/meta-tegra.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Mapping

__all__ = [
    "OLDEST_TENSORRT",
    "RELEASES",
    "SERIES",
    "SOCS",
    "TENSORRT_11_JETPACK",
    "Release",
    "Series",
    "Soc",
    "image_of_l4t",
    "jetpack_version",
    "release",
    "release_of_l4t",
    "series_of_l4t",
    "version_tuple",
]

OLDEST_TENSORRT = (8, 5)
"""The first TensorRT that edgeseg can use."""


@dataclass(frozen=True)
class Soc:
    """A Tegra chip.

    Attributes:
        name: name in the device tree.
        chip_id: its number in ``/sys/devices/soc*/soc_id``.
        family: name of the modules that have it.
        compute_capability: compute capability of its GPU.
        int8_kernels: whether TensorRT has INT8 kernels for that GPU.
    """

    name: str
    chip_id: str
    family: str
    compute_capability: str
    int8_kernels: bool = True


SOCS: Mapping[str, Soc] = {
    soc.name: soc
    for soc in (
        Soc("tegra210", "33", "Nano and TX1", "5.3", int8_kernels=False),
        Soc("tegra186", "24", "TX2", "6.2", int8_kernels=False),
        Soc("tegra194", "25", "Xavier", "7.2"),
        Soc("tegra234", "35", "Orin", "8.7"),
        Soc("tegra264", "38", "Thor", "11.0"),
    )
}


@dataclass(frozen=True)
class Series:
    """Facts that all releases of one JetPack major version share.

    Attributes:
        jetpack: ``"5"``.
        l4t: major versions of L4T.
        ubuntu: version of the system.
        python: version that JetPack's modules are for.
        glibc: minor version of the system's C library.
        sbsa: packages are those of Arm servers, so that pip's TensorRT and torch run too.
    """

    jetpack: str
    l4t: tuple[int, ...]
    ubuntu: str
    python: str
    glibc: int
    sbsa: bool = False


SERIES: Mapping[str, Series] = {
    series.jetpack: series
    for series in (
        Series("4", (32,), "18.04", "3.6", 27),
        Series("5", (35,), "20.04", "3.8", 31),
        Series("6", (36,), "22.04", "3.10", 35),
        Series("7", (38, 39), "24.04", "3.12", 39, sbsa=True),
    )
}


@dataclass(frozen=True)
class Release:
    """One JetPack.

    Attributes:
        jetpack: ``"5.1.2"``.
        l4t: releases of L4T that are this JetPack; empty when they are not published.
        cuda: version that it brings.
        tensorrt: version that it brings.
        socs: chips that it runs on.
        image: tag of ``nvcr.io/nvidia/l4t-jetpack`` that runs on it; empty when there is none.
        dla: boards whose deep learning accelerators that TensorRT can use, for people; empty when it cannot.
        newer_tensorrt: version that NVIDIA supports on it beside its own; empty when there is none.
        newer_dla: ``dla`` of that version.
    """

    jetpack: str
    l4t: tuple[str, ...]
    cuda: str
    tensorrt: str
    socs: tuple[str, ...]
    image: str = ""
    dla: str = ""
    newer_tensorrt: str = ""
    newer_dla: str = ""

    @property
    def series(self) -> Series:
        """Return the series of its major version."""
        return SERIES[self.jetpack[0]]

    @property
    def usable(self) -> bool:
        """Tell whether its TensorRT is new enough."""
        return version_tuple(self.tensorrt) >= OLDEST_TENSORRT

    def runs_tensorrt(self, version: tuple[int, ...]) -> bool:
        """Tell whether NVIDIA supports a TensorRT of 11 or newer on it; older ones always pass."""
        return version < (11,) or bool(self.newer_tensorrt) and version >= version_tuple(self.newer_tensorrt)


_OLD, _XAVIER_ORIN = ("tegra210", "tegra186", "tegra194"), ("tegra194", "tegra234")
_ORIN, _THOR, _ORIN_THOR = ("tegra234",), ("tegra264",), ("tegra234", "tegra264")
_DLA_XAVIER, _DLA_5 = "Xavier NX and AGX Xavier", "Xavier NX, AGX Xavier, AGX Orin and Orin NX"
_DLA_6, _DLA_11 = "AGX Orin and Orin NX", "AGX Orin with JetPack 7.2.2 or newer"
_R35, _R363, _R364 = "r35.4.1", "r36.3.0", "r36.4.0"

RELEASES = (
    Release("4.6", ("32.6.1",), "10.2", "8.0.1", _OLD, dla=_DLA_XAVIER),
    Release("4.6.1", ("32.7.1",), "10.2", "8.2.1", _OLD, dla=_DLA_XAVIER),
    Release("4.6.2", ("32.7.2",), "10.2", "8.2.1", _OLD, dla=_DLA_XAVIER),
    Release("4.6.3", ("32.7.3",), "10.2", "8.2.1", _OLD, dla=_DLA_XAVIER),
    Release("4.6.4", ("32.7.4",), "10.2", "8.2.1", _OLD, dla=_DLA_XAVIER),
    Release("4.6.5", ("32.7.5",), "10.2", "8.2.1", _OLD, dla=_DLA_XAVIER),
    Release("4.6.6", ("32.7.6",), "10.2", "8.2.1", _OLD, dla=_DLA_XAVIER),
    Release("5.0.2", ("35.1.0",), "11.4", "8.4.1", _XAVIER_ORIN, _R35, _DLA_5),
    Release("5.1", ("35.2.1",), "11.4", "8.5.2", _XAVIER_ORIN, _R35, _DLA_5),
    Release("5.1.1", ("35.3.1",), "11.4", "8.5.2", _XAVIER_ORIN, _R35, _DLA_5),
    Release("5.1.2", ("35.4.1",), "11.4", "8.5.2", _XAVIER_ORIN, _R35, _DLA_5),
    Release("5.1.3", ("35.5.0",), "11.4", "8.5.2", _XAVIER_ORIN, _R35, _DLA_5),
    Release("5.1.4", ("35.6.0",), "11.4", "8.5.2", _XAVIER_ORIN, _R35, _DLA_5),
    Release("5.1.5", ("35.6.1", "35.6.2", "35.6.3"), "11.4", "8.5.2", _XAVIER_ORIN, _R35, _DLA_5),
    Release("5.1.6", ("35.6.4",), "11.4", "8.5.2", _XAVIER_ORIN, _R35, _DLA_5),
    Release("6.0 DP", ("36.2.0",), "12.2", "8.6.2", _ORIN, _R363, _DLA_6),
    Release("6.0", ("36.3.0",), "12.2", "8.6.2", _ORIN, _R363, _DLA_6),
    Release("6.1", ("36.4.0",), "12.6", "10.3.0", _ORIN, _R364, _DLA_6),
    Release("6.2", ("36.4.3",), "12.6", "10.3.0", _ORIN, _R364, _DLA_6),
    Release("6.2.1", ("36.4.4", "36.4.7"), "12.6", "10.3.0", _ORIN, _R364, _DLA_6),
    Release("6.2.2", ("36.5.0",), "12.6", "10.3.0", _ORIN, _R364, _DLA_6),
    Release("6.2.3", ("36.5.2",), "12.6", "10.3.0", _ORIN, _R364, _DLA_6),
    Release("7.0", ("38.2.0", "38.2.1", "38.2.2"), "13.0", "10.13.3", _THOR),
    Release("7.1", ("38.4.0",), "13.0", "10.13.3", _THOR),
    Release("7.2", ("39.2.0",), "13.2", "10.16.2", _ORIN_THOR),
    Release("7.2.1", ("39.2.1",), "13.2", "10.16.2", _ORIN_THOR),
    Release("7.2.2", (), "13.2", "10.16.2", _ORIN_THOR, newer_tensorrt="11.4.1", newer_dla=_DLA_11),
)
"""Oldest first."""

TENSORRT_11_JETPACK = next(one.jetpack for one in RELEASES if one.newer_tensorrt)
"""The first JetPack on which NVIDIA supports TensorRT 11."""


def release(jetpack: str) -> Release | None:
    """Return the release of a JetPack version such as ``"5.1.2"``; None when it is not known."""
    return next((one for one in RELEASES if one.jetpack == jetpack), None)


def release_of_l4t(l4t: str) -> Release | None:
    """Return the release that an L4T version such as ``"35.4.1"`` belongs to; None when it is not known."""
    return next((one for one in RELEASES if l4t in one.l4t), None)


def series_of_l4t(l4t: str) -> Series | None:
    """Return the JetPack major version of an L4T version, by its own major version; None when it is not known."""
    return next(
        (series for series in SERIES.values() if version_tuple(l4t)[:1] in [(major,) for major in series.l4t]), None
    )


def image_of_l4t(l4t: str) -> str:
    """Return the tag of the ``l4t-jetpack`` image for an L4T version: the newest of its series that is not newer.

    Images are made for ranges of releases, so this holds for the releases in between too. Empty when there is none.
    """
    mine = version_tuple(l4t)
    fitting = [
        one.image
        for one in RELEASES
        for known in one.l4t
        if mine[:1] == version_tuple(known)[:1] and version_tuple(known)[: len(mine)] <= mine
    ]
    return fitting[-1] if fitting else ""


def jetpack_version(l4t: str, package: str = "") -> str:
    """Return the JetPack version of an L4T release.

    Args:
        l4t: such as ``"35.4.1"``; empty when this is no Jetson.
        package: version of the installed ``nvidia-jetpack`` package, such as ``"6.2.1+b38"``. It settles what the
            table does not know, unless it was left behind by a JetPack that this L4T cannot be of.

    Returns:
        ``"5.1.2"``, ``"unknown (L4T 39.9)"``, or empty for an empty release.
    """
    if not l4t:
        return ""
    known, stated = release_of_l4t(l4t), re.match(r"(\d+)(\.\d+)+", package)
    if known:
        return known.jetpack
    series = SERIES.get(stated.group(1)) if stated else None
    left_behind = series is not None and version_tuple(l4t)[:1] not in [(major,) for major in series.l4t]
    return stated.group() if stated and not left_behind else f"unknown (L4T {l4t})"


def version_tuple(version: str) -> tuple[int, ...]:
    """Parse ``"36.4.3"`` to (36, 4, 3); empty for anything that is not dotted numbers."""
    return tuple(map(int, version.split("."))) if re.fullmatch(r"\d{1,6}(\.\d{1,6})*", version) else ()
