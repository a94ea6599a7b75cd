"""The board and its release."""

from __future__ import annotations

from edgeseg.device.doctor.commands import version_of
from edgeseg.device.doctor.finding import PROBLEM, WARNING, Finding
from edgeseg.device.facts import Facts
from edgeseg.device.jetpack import OLDEST_TENSORRT, RELEASES, SOCS, Series, release_of_l4t

__all__ = ["no_int8_kernels", "old_jetpack", "old_tensorrt", "unknown_l4t"]

_USABLE: Series = next(one.series for one in RELEASES if one.usable)


def old_jetpack(facts: Facts) -> Finding | None:
    """Find a JetPack older than the first that edgeseg supports."""
    first = min(_USABLE.l4t)
    if not facts.l4t or facts.l4t[0] >= first:
        return None
    return Finding(
        "jetpack-4",
        PROBLEM,
        f"this JetPack is too old: JetPack {_USABLE.jetpack} (L4T {first}) is the first that edgeseg supports",
        f"JetPack {facts.device.jetpack}, L4T {facts.device.l4t}",
        "flash JetPack 5.1 (Xavier) or 6 (Orin) with NVIDIA SDK Manager; for Nano and TX2 there is none",
    )


def old_tensorrt(facts: Facts) -> Finding | None:
    """Find a TensorRT that is too old, of a JetPack that otherwise would do."""
    known = release_of_l4t(facts.device.l4t)
    if known is None or known.usable or old_jetpack(facts) or version_of(facts.device.tensorrt) >= OLDEST_TENSORRT:
        return None
    return Finding(
        "tensorrt-too-old",
        PROBLEM,
        "the TensorRT of this JetPack is too old: edgeseg needs " + ".".join(map(str, OLDEST_TENSORRT)),
        f"JetPack {facts.device.jetpack}, TensorRT {facts.device.tensorrt or known.tensorrt}",
        "update to JetPack 5.1 or newer with apt or NVIDIA SDK Manager",
    )


def unknown_l4t(facts: Facts) -> Finding | None:
    """Find an L4T that is not in the table of releases."""
    device = facts.device
    if not device.is_jetson or (device.l4t and not device.jetpack.startswith("unknown")) or device.in_container:
        return None
    return Finding(
        "l4t-unknown",
        WARNING,
        "this L4T release is not one that this version knows, so nothing is assumed about it",
        f"L4T {device.l4t or 'not stated in /etc/nv_tegra_release nor by the nvidia-l4t-core package'}",
        "pip install --upgrade edgeseg; if that does not help, report it with this block",
    )


def no_int8_kernels(facts: Facts) -> Finding | None:
    """Find a GPU for which TensorRT has no INT8 kernels."""
    if facts.device.compute_capability not in [soc.compute_capability for soc in SOCS.values() if not soc.int8_kernels]:
        return None
    return Finding(
        "no-int8-kernels",
        WARNING,
        "this GPU has no INT8 kernels: TensorRT needs compute capability 6.1, or 7 and up, for them",
        f"{facts.device.soc}, compute capability {facts.device.compute_capability}",
        "edgeseg compile --fp16",
    )
