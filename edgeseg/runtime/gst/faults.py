"""What GStreamer says went wrong -> a SourceError that says what it is and what to do."""

from __future__ import annotations

import re
from typing import Any, Mapping

from edgeseg.errors import SourceError
from edgeseg.runtime.credentials import redacted

__all__ = ["source_fault"]

_CSI_HELP = {
    "no element": (
        "missing",
        "GStreamer has no nvarguscamerasrc: this is no Jetson, or a container without NVIDIA's plugins; on the board: "
        "sudo apt install nvidia-l4t-gstreamer, and in a container --runtime nvidia",
    ),
    "daemon": (
        "busy",
        "the argus daemon does not answer; sudo systemctl restart nvargus-daemon, and in a container mount "
        "/tmp/argus_socket",
    ),
    "no sensor": (
        "not found",
        "no camera sensor is connected, or the device tree lacks it; check the ribbon cable and "
        "/opt/nvidia/jetson-io/jetson-io.py",
    ),
}
_DAEMON_SIGNS = ("capturesession", "connecting to nvargus", "argus_socket", "cannot create camera provider", "timeout")
_SENSOR_SIGNS = ("no cameras available", "invalid camera device", "no camera", "sensor-id")

# (domain, code) of GStreamer 1.x, gsterror.h
_KINDS = {
    ("gst-resource-error-quark", 3): "not found",
    ("gst-resource-error-quark", 4): "busy",
    ("gst-resource-error-quark", 15): "auth",  # NOT_AUTHORIZED
    ("gst-stream-error-quark", 5): "codec",  # WRONG_TYPE ... CODEC_NOT_FOUND
    ("gst-stream-error-quark", 6): "codec",
    ("gst-core-error-quark", 12): "codec",  # MISSING_PLUGIN
}
_SIGNS = (
    ("auth", ("unauthorized", "forbidden", "not authorized", "(401)", "(403)")),
    ("not found", ("not found", "(404)", "no such file", "cannot identify device", "could not resolve")),
    ("gone", ("device was unplugged", "no such device", "device has been removed", "poll error", "not a capture")),
    ("busy", ("busy", "in use")),
    ("timeout", ("timeout", "timed out")),
    ("unreachable", ("connection refused", "failed to connect", "could not connect", "unreachable", "no route")),
    ("codec", ("no decoder", "missing", "no element", "not-negotiated", "could not determine type", "unsupported")),
    ("ended", ("end-of-file", "eof", "connection closed", "could not read from resource", "reset by peer", "gone")),
)
_ADVICE = {
    "auth": "check user and password: rtsp://USER:PASSWORD@HOST/PATH",
    "not found": "check the address",
    "gone": "is it still plugged in?",
    "busy": "another program holds it (fuser -v /dev/video*)",
    "timeout": "is the camera on, and its network up?",
    "unreachable": "is the camera on, and is the port right?",
    "codec": "a GStreamer plugin is missing: sudo apt install gstreamer1.0-libav gstreamer1.0-plugins-bad",
    "ended": "the other side closed the connection",
}


_PLACE = re.compile(r"[\w./-]+\.c\(\d+\)|\w+://\S+")


def source_fault(what: str, failure: Mapping[str, Any], printed: str = "") -> SourceError:
    """The error of a source.

    Args:
        what: the source, for people, without credentials.
        failure: ``domain``, ``code``, ``text``, ``debug`` as GStreamer gave them.
        printed: what the process wrote beside that; NVIDIA's plugins say there what is wrong.
    """
    text, debug = str(failure["text"]), str(failure["debug"])
    plain = _PLACE.sub(" ", f"{text} {debug} {printed}")  # line numbers and addresses hold digits like those of errors
    said = plain.lower()
    if "nvarguscamerasrc" in said or "argus" in printed.lower():
        which = _csi_reason(said)
        if which is not None:
            kind, help_text = _CSI_HELP[which]
            return SourceError(f"{what} does not open: {help_text}", kind)
    kind = _kind(failure, said)
    detail = redacted(" ".join(text.split()))
    advice = _ADVICE.get(kind, "")
    return SourceError(f"{what}: {kind or 'broken'}: {detail}" + (f"; {advice}" if advice else ""), kind or "broken")


def _csi_reason(said: str) -> str | None:
    if "no element" in said:
        return "no element"
    if any(sign in said for sign in _SENSOR_SIGNS):
        return "no sensor"
    if any(sign in said for sign in _DAEMON_SIGNS):
        return "daemon"
    return None


def _kind(failure: Mapping[str, Any], said: str) -> str:
    sure = _KINDS.get((str(failure["domain"]), failure["code"]))
    if sure:
        return sure
    for kind, signs in _SIGNS:
        if any(sign in said for sign in signs):
            return kind
    return ""
