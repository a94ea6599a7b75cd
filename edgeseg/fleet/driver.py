"""Who deploys, so that others can tell whether that process is still there."""

from __future__ import annotations

import os
import socket
from pathlib import Path

__all__ = ["is_gone", "shown", "this_driver"]


def this_driver() -> str:
    """Return ``USER@HOST PID START PLACE`` of this process. PLACE is of this boot and this table of processes."""
    user = os.environ.get("USER") or str(os.getuid())
    name = "".join(sign for sign in f"{user}@{socket.gethostname()}" if sign.isprintable() and sign != " ")
    return f"{name} {os.getpid()} {_start(os.getpid()) or '-'} {_place()}"


def shown(driver: str) -> str:
    """Return what people are told of a driver."""
    name, pid = (driver.split() + ["somebody", "-"])[:2]
    return f"{name}, process {pid}"


def is_gone(driver: str) -> bool:
    """Tell whether a driver ran here, and does not any more."""
    try:
        _, pid, start, place = driver.split()
    except ValueError:
        return False
    return place == _place() != "-" and start != "-" and _start(int(pid) if pid.isdecimal() else 0) != start


def _place() -> str:
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return "-"


def _start(pid: int) -> str:
    """Return when a process was started, in ticks since boot; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
