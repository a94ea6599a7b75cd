"""Power, heat, memory, disk."""

from __future__ import annotations

import math

from edgeseg.device.doctor.finding import NOTE, WARNING, Finding
from edgeseg.device.facts import Facts
from edgeseg.device.power_mode import fastest_power_mode
from edgeseg.device.telemetry import throttled_now

__all__ = ["clocks", "disk", "memory", "over_current", "power_mode", "throttled"]

_BUILD_GIB = 2.5  # TensorRT's builder with its libraries takes 1 to 2.5 GB beside the network


def power_mode(facts: Facts) -> Finding | None:
    """Find a power mode that is not the fastest one."""
    fastest, device = fastest_power_mode(facts.modes), facts.device
    mine = [mode for mode in facts.modes if mode.identifier == device.power_mode_id]
    if fastest is None or not mine or mine[0] == fastest:
        return None
    slower = mine[0].gpu_max_mhz < fastest.gpu_max_mhz
    limit = f", GPU up to {mine[0].gpu_max_mhz:.0f} MHz" if math.isfinite(mine[0].gpu_max_mhz) else ""
    return Finding(
        "power-mode",
        WARNING if slower else NOTE,
        "the power mode holds the GPU back" if slower else "the power mode is not the fastest one",
        f"{mine[0].name} ({mine[0].identifier}){limit}; {fastest.name} ({fastest.identifier}) allows more",
        f"sudo nvpmodel -m {fastest.identifier}",
    )


def clocks(facts: Facts) -> Finding | None:
    """Find clocks that follow the load."""
    device = facts.device
    if not device.gpu_max_mhz or device.clocks_locked:
        return None
    return Finding(
        "clocks",
        NOTE,
        "clocks follow the load, so measurements vary",
        f"GPU between {device.gpu_min_mhz:.0f} and {device.gpu_max_mhz:.0f} MHz, governor {device.gpu_governor or '?'}",
        "before edgeseg bench: sudo jetson_clocks",
    )


def throttled(facts: Facts) -> Finding | None:
    """Find a board that is throttled now."""
    reasons = throttled_now(facts.sample) if facts.device.is_jetson else []
    if not reasons:
        return None
    hottest = facts.sample.hottest
    heat = f"; hottest: {hottest[0]} {hottest[1]:.1f} C" if hottest else ""
    return Finding(
        "throttled",
        WARNING,
        "the board is throttled at this moment",
        "; ".join(reasons) + heat,
        "let it cool, set the fan to full: sudo jetson_clocks --fan; check the power supply",
    )


def over_current(facts: Facts) -> Finding | None:
    """Find that the power protection reacted since the board booted."""
    counts = {name: count for name, count in facts.sample.over_current.items() if count > 0}
    if not counts:
        return None
    return Finding(
        "over-current",
        NOTE,
        "the board's power protection has reacted since it booted, which slows it down for a moment",
        ", ".join(f"{name} {count} times" for name, count in sorted(counts.items())),
        "see whether it goes on under your load; if so use a stronger supply or a lower power mode",
    )


def memory(facts: Facts) -> Finding | None:
    """Find too little memory to build an engine."""
    device = facts.device
    if not device.is_jetson or not device.memory_available_gib:
        return None
    if device.memory_available_gib >= _BUILD_GIB or device.memory_available_gib + device.swap_gib >= 2 * _BUILD_GIB:
        return None
    return Finding(
        "memory",
        WARNING,
        f"building a TensorRT engine may run out of memory: it takes up to {_BUILD_GIB} GiB",
        f"{device.memory_available_gib} GiB available, {device.swap_gib} GiB swap",
        "stop the desktop: sudo systemctl isolate multi-user.target; or add swap: sudo fallocate -l 4G /swapfile && "
        "sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile",
    )


def disk(facts: Facts) -> Finding | None:
    """Find a disk that is nearly full."""
    free = facts.probe.disk_free_gib
    if not facts.probe.python or free >= 2:
        return None
    return Finding(
        "disk",
        WARNING,
        "the disk is nearly full: engines and recordings need room",
        f"{free} GiB free in the home folder",
        "sudo apt clean; then see what is large: du -xh ~ | sort -h | tail",
    )
