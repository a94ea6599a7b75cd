"""Remove from a text what tells whose machine it is: names, homes, addresses, serial numbers, passwords."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Iterable

from edgeseg.credentials import redacted
from edgeseg.device.packages import DPKG_STATUS
from edgeseg.device.probe import Probe
from edgeseg.device.tree import matches, text_of

__all__ = ["Identity", "identity_of", "without_identity"]

_HOME = re.compile(r"/home/[^/\s\"':;,()]+")
_MEDIA = re.compile(r"(/run)?/media/[^/\s\"':;,()]+")
_RUNTIME = re.compile(r"/run/user/\d+")
_MAC = re.compile(
    r"(?<![\w:])[0-9a-f]{2}(?::[0-9a-f]{2}){5}(?![\w:])|(?<![\w-])[0-9a-f]{2}(?:-[0-9a-f]{2}){5}(?![\w-])",
    re.IGNORECASE,
)
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)
_SERIAL = re.compile(r"\b(serial(?:[ _-]?(?:number|no\.?|#))?[\"']?\s*[:=]\s*[\"']?)[^\s,;\"']+", re.IGNORECASE)
_BOARD_SERIAL = re.compile(r"(?<![\w.])14\d{11}(?![\w.])")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b", re.IGNORECASE)
_SECRET = re.compile(
    r"\b([\w-]*(?:password|passwd|token|secret|authorization|api[-_]?key)[\"']?\s*[:=]\s*[\"']?)(?:(?:bearer|basic)\s+)?[^\s,;\"']+",
    re.IGNORECASE,
)
_DOTTED = re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})(?!\w|\.\d)")
_COLONS = re.compile(r"(?<![\w:.])[0-9a-f:]*:[0-9a-f:]*:[0-9a-f:.]*(?:%\w+)?(?![\w:])", re.IGNORECASE)
_VERSION_BEFORE = re.compile(
    r"(?:version|tensorrt|tensorrt-rtx|cudnn|cublas|cuda|opencv|release|==|>=|<=|v)[ :=-]*$", re.I
)
_COMMON = frozenset(
    (
        *(
            "root",
            "user",
            "users",
            "admin",
            "ubuntu",
            "debian",
            "linux",
            "pi",
            "docker",
            "localhost",
            "home",
            "desktop",
        ),
        *("nvidia", "jetson", "tegra", "tegra-ubuntu", "orin", "xavier", "nano", "thor", "agx", "nx", "edgeseg"),
        *("board", "device", "camera", "video", "test", "dev", "kit", "server", "host", "build", "bench", "doctor"),
        *("cpu", "gpu", "core", "power", "mode", "system", "release", "sys", "nv", "cuda", "tensorrt", "python"),
    )
)
"""Names of users and hosts that say nothing about anybody, and that stand in other places of a report too."""

_OWN_KEY = re.compile(r"[a-z]\w*|(?:etc|proc|sys|usr|var|dev|run|tmp)/\S+")
"""Keys of our documents and paths that the doctor reads: a user who is called like a word of theirs is not meant."""
_LONG = 4


@dataclass(frozen=True)
class Identity:
    """Words that must not leave a machine.

    Attributes:
        names: names of its users and of itself; whole words are taken out, and parts of ``a_b`` too if they are
            long.
        secrets: serial numbers and the like, wherever they stand.
        versions: four numbers with dots that are versions and no addresses.
    """

    names: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    versions: frozenset[str] = frozenset()


_SERIAL_FILES = (
    "proc/device-tree/serial-number",
    "proc/device-tree/chosen/*serial*",
    "sys/devices/soc[0-9]*/serial_number",
    "sys/class/dmi/id/*serial*",
    "sys/class/dmi/id/product_uuid",
    "sys/class/net/*/address",
    "etc/machine-id",
)


def identity_of(root: Path, probe: Probe, names: Iterable[str]) -> Identity:
    """Collect what to take out of a report about a machine.

    Args:
        root: ``/``, or a recorded tree.
        probe: what its Python said; its versions stay.
        names: known names of users and hosts; those that say nothing are left alone.
    """
    own = {name for name in (*names, text_of(root / "etc/hostname")) if len(name) > 1 and name.lower() not in _COMMON}
    secrets = {text_of(path) for pattern in _SERIAL_FILES for path in matches(root, pattern)}
    versions = [module.version + " " + module.detail for module in probe.modules.values()]
    versions += [
        *probe.distributions.values(),
        *re.findall(r"^Version: .*$", text_of(root / DPKG_STATUS), re.MULTILINE),
    ]
    four = frozenset(re.findall(r"(?<![\d.])\d+(?:\.\d+){3}(?![\d.])", " ".join(versions)))
    longest_first = sorted((secret for secret in secrets if len(secret) > 5), key=len, reverse=True)
    return Identity(tuple(sorted(own, key=len, reverse=True)), tuple(longest_first), four)


def without_identity(value: Any, identity: Identity) -> Any:
    """Return a JSON-serialisable value with every text in it cleaned."""
    if isinstance(value, str):
        return _cleaned(value, identity)
    if isinstance(value, dict):
        return {_cleaned_key(str(key), identity): without_identity(item, identity) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_identity(item, identity) for item in value]
    return value


def _cleaned_key(key: str, identity: Identity) -> str:
    return _cleaned(key, replace(identity, names=()) if _OWN_KEY.fullmatch(key) else identity)


def _cleaned(text: str, identity: Identity) -> str:
    for secret in identity.secrets:
        text = text.replace(secret, "SERIAL")
    # Line by line, for what lies between the address of one and an @ of another is no password.
    text = "\n".join(map(redacted, text.split("\n")))
    text = _SECRET.sub(r"\1***", text)
    text = _SERIAL.sub(r"\1SERIAL", text)
    text = _MAC.sub("MAC", _UUID.sub("UUID", _BOARD_SERIAL.sub("SERIAL", text)))
    text = _EMAIL.sub("EMAIL", text)
    text = _RUNTIME.sub("/run/user/N", _MEDIA.sub("/media/DISK", _HOME.sub("~", text)))
    text = _COLONS.sub(_unless_no_address, text)
    text = _DOTTED.sub(lambda found: _unless_version(found, identity), text)
    for name in identity.names:
        letter = r"[^\W_]" if len(name) >= _LONG else r"\w"
        text = re.sub(rf"(?<!{letter}){re.escape(name)}(?!{letter})", "NAME", text, flags=re.IGNORECASE)
    return text


def _unless_no_address(found: re.Match[str]) -> str:
    """Replace an IPv6 address; it has two colons at least, as times and C++ have; a digit sets it apart from C++."""
    text = found.group().split("%")[0]
    try:
        return "IP" if re.search(r"\d", text) and ipaddress.IPv6Address(text) else found.group()
    except ValueError:
        return found.group()


def _unless_version(found: re.Match[str], identity: Identity) -> str:
    """Replace an IPv4 address; ``10.3.0.30`` is TensorRT's version and could be an address."""
    if found.group() in identity.versions or _VERSION_BEFORE.search(found.string[: found.start()][-24:]):
        return found.group()
    return "IP" if all(int(part) < 256 for part in found.group().split(".")) else found.group()
