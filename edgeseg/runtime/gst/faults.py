"""What GStreamer says went wrong -> a SourceError that says what it is and what to do."""

from __future__ import annotations

import re
from typing import Any, Mapping

from edgeseg.credentials import redacted
from edgeseg.errors import SourceError

__all__ = ["csi_fault", "end_fault", "source_fault"]

_CSI_FAULTS = (
    (
        re.compile(r'no element "?nvarguscamerasrc'),
        "missing",
        "GStreamer has no nvarguscamerasrc: this is no Jetson, or a container without NVIDIA's plugins; on the board: "
        "sudo apt install nvidia-l4t-gstreamer, and in a container docker run --runtime nvidia",
    ),
    (
        re.compile(r"invalid camera device specified (\d+) specified, (\d+) max index"),
        "not found",
        "there is no camera csi://{0}; the highest number is csi://{1}",
    ),
    (
        re.compile(r"no cameras? available|invalid camera device"),
        "not found",
        "no camera sensor is connected, or the device tree lacks it; check the ribbon cable and "
        "/opt/nvidia/jetson-io/jetson-io.py",
    ),
    (
        re.compile(r"frame rate specified is greater"),
        "broken",
        "the sensor does not deliver so many frames per second; pass a smaller `rate`, or none",
    ),
    (
        re.compile(r"create camera ?provider|connecting to nvargus|argus_socket"),
        "busy",
        "the argus daemon does not answer; sudo systemctl restart nvargus-daemon, and in a container mount "
        "/tmp/argus_socket",
    ),
    (
        re.compile(r"capturesession|alreadyallocated|\bis in use\b|\bunavailable\b"),
        "busy",
        "the argus daemon gives no session with the camera: another program has it, or one that crashed left it open; "
        "sudo systemctl restart nvargus-daemon (`argus_restart` does that)",
    ),
    (
        re.compile(r"timeout|timed out|\bdisconnected\b|\bcancelled\b"),
        "busy",
        "the argus daemon does not answer in time; sudo systemctl restart nvargus-daemon, and in a container mount "
        "/tmp/argus_socket",
    ),
)
"""What NVIDIA's camera source, or Argus below it, says -> kind and help; the first that fits."""
_CSI_SAYS = re.compile(r"Error generated\. \S*gstnvarguscamerasrc\.cpp, \w+:\d+ ([^\n]*)")
"""How NVIDIA's camera source says why it gives up. No frame comes after that."""
_NOISE = re.compile(
    r"GStreamer-(?:WARNING|CRITICAL)|\(Argus\)|^(?:GST_ARGUS: |CONSUMER: |sh: \d+: |NvMM|nvbuf|libEGL|Opening in )"
)
"""Lines that come from libraries that are loaded in passing, or that are not about a fault."""
_HARDWARE = re.compile(r"(?:nv|va|vaapi|omx|msdk|qsv|v4l2)\w*(?:dec|decoder|conv|convert|postproc|enc|bin)\b")

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
    "codec": "a GStreamer plugin is missing: sudo apt install gstreamer1.0-libav gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly",
    "ended": "the other side closed the connection",
}


_PLACE = re.compile(r"[\w./-]+\.c\(\d+\)|\w+://\S+")
_NO_ELEMENT = re.compile(r'no element "([^"]+)"')


def source_fault(what: str, failure: Mapping[str, Any], printed: str = "", *, delivered: bool = False) -> SourceError:
    """Make the error of a source that failed.

    Args:
        what: the source, for people, without credentials.
        failure: ``domain``, ``code``, ``text``, ``debug`` as GStreamer gave them, and ``element``, the factory of the
            element that failed, where that is known.
        printed: what the process wrote beside that; NVIDIA's plugins say there what is wrong.
        delivered: frames came before.
    """
    text, debug, element = str(failure["text"]), str(failure["debug"]), str(failure.get("element") or "")
    if "nvarguscamerasrc" in f"{text} {debug} {element}".lower() or _CSI_SAYS.search(printed):
        fault = csi_fault(what, f"{text}\n{debug}", printed, delivered=delivered)
        if fault is not None:
            return fault
    missing = _NO_ELEMENT.search(text)
    if missing and missing.group(1).startswith("nv"):
        return SourceError(
            f"{what}: GStreamer has no {missing.group(1)}; {_hardware_help(missing.group(1))}", "missing"
        )
    if _HARDWARE.match(element):
        detail = redacted(" ".join(text.split()))
        return SourceError(f"{what}: {element} does not work here: {detail}; {_hardware_help(element)}", "missing")
    # Line numbers and addresses hold digits like those of errors. What is printed is mostly about something else.
    kind = _kind(failure, _PLACE.sub(" ", f"{text} {debug}").lower())
    detail = redacted(" ".join(text.split()))
    advice = _ADVICE.get(kind, "")
    return SourceError(f"{what}: {kind or 'broken'}: {detail}" + (f"; {advice}" if advice else ""), kind or "broken")


def end_fault(what: str, printed: str, *, csi: bool = False, delivered: bool = False) -> SourceError:
    """Make the error of a source without an end that ended: some fail like that, and only print why.

    Args:
        what: the source, for people, without credentials.
        printed: what the process wrote.
        csi: it is NVIDIA's camera source.
        delivered: frames came before.
    """
    fault = csi_fault(what, "", printed, delivered=delivered) if csi or _CSI_SAYS.search(printed) else None
    if fault is not None:
        return fault
    if csi:
        return SourceError(
            f"{what}: ended: NVIDIA's camera source stopped and said no reason; journalctl -u nvargus-daemon", "ended"
        )
    lines = _without_noise(printed).splitlines()
    if not lines:
        return SourceError(f"{what}: ended: the other side ended the stream", "ended")
    said = redacted(" ".join(lines[-1].split()))[-200:]
    kind = "" if delivered else _kind({"domain": "", "code": 0}, _PLACE.sub(" ", " ".join(lines)).lower())
    advice = _ADVICE.get(kind, "")
    return SourceError(
        f"{what}: {kind or 'ended'}: the stream ended, and its process printed: {said}"
        + (f"; {advice}" if advice else ""),
        kind or "ended",
    )


def csi_fault(what: str, said: str, printed: str, *, delivered: bool) -> SourceError | None:
    """Say what is wrong with a CSI camera; None when nothing known was said.

    Args:
        what: the source, for people.
        said: what its error says.
        printed: what its process wrote.
        delivered: frames came before.

    A line of NVIDIA's source decides. Argus prints much else, at the start too, which once frames came means nothing.
    """
    happened = "stopped" if delivered else "does not open"
    # Its last line may only say that it goes on with what an earlier one said, or be one that another thread cut short.
    reasons = [reason for reason in reversed(_CSI_SAYS.findall(printed)) if reason.strip()]
    texts = [*reasons, said, *([] if delivered or reasons else [printed])]
    for text in texts:
        for pattern, kind, help_text in _CSI_FAULTS:
            found = pattern.search(text.lower())
            if found:
                return SourceError(f"{what} {happened}: {help_text.format(*found.groups())}", kind)
    if reasons:
        return SourceError(f"{what} {happened}: NVIDIA's camera source says: {redacted(reasons[0].strip())}", "broken")
    return None


def _hardware_help(element: str) -> str:
    nvidia = "a container needs docker run --runtime nvidia, a board sudo apt install nvidia-l4t-gstreamer"
    without = "`capture` software does without hardware decoders and converters"
    return f"{nvidia}; {without}" if element.startswith("nv") else without


def _without_noise(printed: str) -> str:
    return "\n".join(line for line in printed.splitlines() if line.strip() and not _NOISE.search(line))


def _kind(failure: Mapping[str, Any], said: str) -> str:
    sure = _KINDS.get((str(failure["domain"]), failure["code"]))
    if sure:
        return sure
    for kind, signs in _SIGNS:
        if any(sign in said for sign in signs):
            return kind
    return ""
