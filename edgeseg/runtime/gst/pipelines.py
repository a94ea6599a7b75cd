"""URI -> GStreamer pipeline: plain elements elsewhere, NVIDIA's on a Jetson, where the hardware decodes and scales."""

from __future__ import annotations

import re
import shlex
import string
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple
from urllib.parse import quote, unquote

from edgeseg.credentials import address_parts, redacted
from edgeseg.errors import UsageError

__all__ = ["CAPTURE_FLIPS", "CAPTURE_FORMATS", "CaptureOptions", "Pipeline", "file_pipeline", "pipeline_from_uri"]

CAPTURE_FLIPS = {
    "none": "identity",
    "rotate-90": "90r",
    "rotate-180": "180",
    "rotate-270": "90l",
    "horizontal": "horiz",
    "vertical": "vert",
}
"""Flip -> ``video-direction`` of videoflip (its older ``method`` does nothing in GStreamer 1.22)."""
_NVIDIA_FLIPS = {"none": 0, "rotate-90": 3, "rotate-180": 2, "rotate-270": 1, "horizontal": 4, "vertical": 6}
CAPTURE_FORMATS = {
    "mjpeg": "image/jpeg",
    "h264": "video/x-h264",
    "yuyv": "video/x-raw,format=YUY2",
    "nv12": "video/x-raw,format=NV12",
    "bgr": "video/x-raw,format=BGR",
}
_ENDS = re.compile(r"\bnum-buffers\b|\b(?:multi)?filesrc\b|\bsplitmuxsrc\b|\bfile://")
"""What makes a pipeline one that ends: every frame of it counts, and its end is no fault."""


_RTSP_OPENS = (
    *("rtsp", "rtspu", "rtspt", "rtsph", "rtsp-sdp", "rtsps", "rtspsu", "rtspst", "rtspsh"),
    *("udp", "rtp", "appsrc"),
)


@dataclass(frozen=True)
class CaptureOptions:
    """What may be asked of a camera or stream.

    Attributes:
        size_hw: height and width of the frames that arrive; None leaves it to the source (on a Jetson: ``network_hw``).
        rate: frames per second asked of a camera; 0 leaves it to the driver.
        flip: a key of ``CAPTURE_FLIPS``.
        format: a key of ``CAPTURE_FORMATS``, for V4L2 cameras; empty leaves it to the driver.
        latency_ms: how long an RTSP stream may wait for late packets.
        transport: of RTSP: ``"tcp"`` or ``"udp"``.
        jetson: use NVIDIA's elements.
        network_hw: the network's input size; the hardware of a Jetson scales to it when no size is asked.
        software: decode, turn and scale on the CPU, whatever the machine has.
    """

    size_hw: tuple[int, int] | None = None
    rate: float = 0.0
    flip: str = "none"
    format: str = ""
    latency_ms: int = 100
    transport: str = "tcp"
    jetson: bool = False
    network_hw: tuple[int, int] | None = None
    software: bool = False

    def __post_init__(self) -> None:
        if self.flip not in CAPTURE_FLIPS:
            raise UsageError(f"`flip` is one of {', '.join(CAPTURE_FLIPS)}, got {self.flip!r}")
        if self.format and self.format not in CAPTURE_FORMATS:
            raise UsageError(f"`format` is one of {', '.join(CAPTURE_FORMATS)}, got {self.format!r}")
        if self.transport not in ("tcp", "udp"):
            raise UsageError(f"`rtsp_transport` is tcp or udp, got {self.transport!r}")

    @property
    def asks_nothing(self) -> bool:
        """Tell whether all of size, rate, flip and format are left to the source."""
        left = replace(self, latency_ms=100, transport="tcp", jetson=False, software=False, network_hw=None)
        return left == CaptureOptions()


@dataclass(frozen=True)
class Pipeline:
    """A pipeline whose appsink is named ``frames``.

    Attributes:
        text: for ``gst-launch-1.0``, without credentials.
        properties: element name -> property -> value, set before it starts; credentials are only here.
        live: frames carry capture times of the pipeline's clock.
        endless: the end of the stream is a failure (cameras), not the end of a file; MJPEG over HTTP is found out.
        waits: a full reader holds the pipeline back (files); else frames are dropped and counted.
        software: hardware decoders are passed over.
        schemes: of the addresses that its elements may open. What is received may name others: a playlist names parts,
            a description of a stream a place of its own. Empty: any.
    """

    text: str
    properties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    live: bool = True
    endless: bool = True
    waits: bool = False
    software: bool = False
    schemes: tuple[str, ...] = ()

    def shown(self) -> str:
        """Return a command line that a shell takes and that shows the same pipeline.

        Credentials are left out. Nobody takes frames there, so that its appsink drops them.
        """
        told = redacted(self.text)
        for name, values in self.properties.items():
            for key, value in values.items():
                shown = "***" if key in ("user-id", "user-pw") else redacted(str(value))
                told = told.replace(f"name={name}", f"name={name} {key}={_gst_quoted(shown)}", 1)
        told += " drop=true wait-on-eos=false"
        return " ".join(["gst-launch-1.0", "-v", *map(_shell_quoted, _launch_words(told))])


def pipeline_from_uri(uri: str, options: CaptureOptions = CaptureOptions()) -> Pipeline:
    """Make the pipeline for a URI.

    Args:
        uri: ``rtsp://``, ``rtsps://``, ``http://``, ``https://``, ``csi://N``, ``v4l2:///dev/videoN``, ``gst://PIPELINE``
            (its last element's frames are taken), or ``file:///PATH`` of a video.
        options: what is asked of it.

    Raises:
        UsageError: no such source.
    """
    if options.software:
        return replace(_pipeline(uri, replace(options, jetson=False)), software=True)
    return _pipeline(uri, options)


def file_pipeline(path: Path, options: CaptureOptions = CaptureOptions()) -> Pipeline:
    """Make the pipeline for a video file. Raises UsageError: an option that files do not take."""
    if options.rate:
        raise UsageError("`rate` is for cameras of this machine; a video has a rate of its own")
    if options.format:
        raise UsageError("`format` is for V4L2 cameras; a video has a format of its own")
    if options.software:
        return replace(_file(path, replace(options, jetson=False)), software=True)
    return _file(path, options)


def _pipeline(uri: str, options: CaptureOptions) -> Pipeline:
    scheme = uri.partition("://")[0]
    if scheme not in _SCHEMES:
        raise UsageError(f"no GStreamer source for {scheme}://; there are {', '.join(_SCHEMES)}")
    kind = _SCHEMES[scheme]
    if options.rate and not kind.takes_rate:
        raise UsageError(f"`rate` is for cameras of this machine; a source {scheme}:// has a rate of its own")
    if options.format and not kind.takes_format:
        raise UsageError(f"`format` is for V4L2 cameras; a source {scheme}:// has a format of its own")
    return kind.make(uri, options)


def _rtsp(uri: str, options: CaptureOptions) -> Pipeline:
    parts = address_parts(uri)
    name = parts.hostname or ""
    host = (f"[{name}]" if ":" in name else name) + (f":{parts.port}" if parts.port else "")
    if not host:
        raise UsageError(f"{redacted(uri)} names no host; rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH")
    location = f"{parts.scheme}://{host}{_as_sent(parts.path)}" + (f"?{_as_sent(parts.query)}" if parts.query else "")
    properties: dict[str, Any] = {"location": location}
    if parts.username is not None:
        properties["user-id"], properties["user-pw"] = unquote(parts.username), unquote(parts.password or "")
    text = (
        f"rtspsrc name=origin protocols={options.transport} latency={options.latency_ms} "
        f"timeout=5000000 tcp-timeout=5000000 ! application/x-rtp,media=video ! decodebin ! {_to_frames(options)}"
    )
    return Pipeline(text, {"origin": properties}, schemes=_RTSP_OPENS)


def _as_sent(text: str) -> str:
    """A path or query as a request takes it: a blank would end it."""
    return quote(text, safe=string.punctuation)


def _http(uri: str, options: CaptureOptions) -> Pipeline:
    parts = address_parts(uri)
    suffix = Path(parts.path).suffix.lower()
    user, at, host = parts.netloc.rpartition("@")
    if at:  # as it was typed, a blank or an @ in it would end it
        user = ":".join(quote(unquote(word), safe="") for word in user.split(":", 1))
        parts = parts._replace(netloc=f"{user}@{host}")
    uri = parts._replace(path=_as_sent(parts.path), query=_as_sent(parts.query)).geturl()
    # HLS comes in bursts of seconds: the pipeline's clock paces it. A stored video is paced by its reader.
    stored = suffix in (".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v")
    text = f"uridecodebin name=origin ! {_to_frames(options, paced=suffix == '.m3u8', stored=stored)}"
    return Pipeline(
        text,
        {"origin": {"uri": uri}},
        live=False,
        endless=False,
        waits=stored,
        schemes=("http", "https", "icy", "icyx"),
    )


def _file(path: Path, options: CaptureOptions) -> Pipeline:
    # Behind a valve qtdemux takes data as they are pushed. Where it pulls, a clip that was trimmed without encoding it
    # again loses as much at its end as its edit list skips at its beginning (1.22 compares the end in media time). A
    # queue would do it too, but hangs now and then (1.22) where the index is at the end of the file.
    pushed = "valve ! " if _is_movie(path) else ""
    text = f"filesrc name=origin ! {pushed}decodebin ! {_to_frames(options, stored=True)}"
    return Pipeline(
        text, {"origin": {"location": str(path)}}, live=False, endless=False, waits=True, schemes=("file", "pushfile")
    )


def _is_movie(path: Path) -> bool:
    """Whether a file is MP4 or MOV by its content, whatever it is called."""
    try:
        with open(path, "rb") as file:
            return file.read(8)[4:] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")
    except OSError:
        return path.suffix.lower() in (".mp4", ".mov", ".m4v")


def _csi(uri: str, options: CaptureOptions) -> Pipeline:
    sensor = _place(uri)
    if not re.fullmatch(r"\d{1,2}", sensor or "0"):
        raise UsageError(f"a CSI camera is csi://0, csi://1 ..., got csi://{sensor}")
    if options.software:
        raise UsageError("csi:// goes through NVIDIA's elements only; leave `capture` out")
    caps = "video/x-raw(memory:NVMM),format=NV12"
    if options.rate:
        caps += f",framerate={_fraction(options.rate)}"
    text = f"nvarguscamerasrc name=origin sensor-id={sensor or 0} ! {caps} ! {_through_hardware(options)}"
    return Pipeline(text)


def _v4l2(uri: str, options: CaptureOptions) -> Pipeline:
    formats = [CAPTURE_FORMATS[options.format]] if options.format else ["video/x-raw", "image/jpeg"]
    rate = f",framerate={_fraction(options.rate)}" if options.rate else ""
    size = f",width={options.size_hw[1]},height={options.size_hw[0]}" if options.format and options.size_hw else ""
    # Without a wish the driver chooses; with one, what cannot be had is an error and not something else.
    wanted = ";".join(name + rate + size for name in formats) if options.format or options.rate else ""
    chosen = f'capsfilter caps="{wanted}" ! ' if wanted else ""
    # What webcams send as JPEG, jpegdec decodes and hardware decoders often do not; where the driver chooses, the
    # capture process sees to that.
    decode = "jpegparse ! jpegdec" if options.format == "mjpeg" else "decodebin"
    return Pipeline(
        f"v4l2src name=origin ! {chosen}{decode} ! {_to_frames(options)}", {"origin": {"device": _place(uri)}}
    )


def _custom(uri: str, options: CaptureOptions) -> Pipeline:
    text = _place(uri)
    if not text.strip():
        raise UsageError("gst:// is followed by a pipeline, e.g. 'gst://videotestsrc is-live=true'")
    live = not _ENDS.search(text)
    return Pipeline(f"{text} ! {_to_frames(options)}", live=live, endless=live, waits=not live)


def _stored(uri: str, options: CaptureOptions) -> Pipeline:
    return _file(Path(unquote(_place(uri), errors="surrogateescape")), options)


def _place(uri: str) -> str:
    return uri.partition("://")[2]


class _Scheme(NamedTuple):
    """How a pipeline is made, and what may be asked of it besides size and flip."""

    make: Callable[[str, CaptureOptions], Pipeline]
    takes_rate: bool = False
    takes_format: bool = False


_SCHEMES = {
    "rtsp": _Scheme(_rtsp),
    "rtsps": _Scheme(_rtsp),
    "http": _Scheme(_http),
    "https": _Scheme(_http),
    "csi": _Scheme(_csi, takes_rate=True),
    "v4l2": _Scheme(_v4l2, takes_rate=True, takes_format=True),
    "gst": _Scheme(_custom),
    "file": _Scheme(_stored),
}


def _to_frames(options: CaptureOptions, paced: bool = False, stored: bool = False) -> str:
    """Decoded video, in whatever memory, -> BGR frames of the size asked; stored ones upright, as their file says."""
    if options.jetson:
        # nvvidconv reads no BGR, and in old releases no 4:2:2 of JPEG; videoconvert passes on what it does read.
        return f"videoconvert ! {_through_hardware(options, paced, stored)}"
    caps = _size_caps(options.size_hw)
    upright = f"videoconvert ! {_UPRIGHT} ! " if stored else ""
    scale = "videoscale ! " if options.size_hw else ""
    return f"{upright}{_flip(options)}{scale}videoconvert ! video/x-raw,format=BGR{caps} ! {_appsink(paced)}"


_UPRIGHT = "videoflip video-direction=auto"


def _flip(options: CaptureOptions) -> str:
    return f"videoflip video-direction={CAPTURE_FLIPS[options.flip]} ! " if options.flip != "none" else ""


def _through_hardware(options: CaptureOptions, paced: bool = False, stored: bool = False) -> str:
    """The hardware scales and turns; BGR it cannot write, so that the last step is the CPU's, on the small picture.

    How a phone was held only videoflip reads from a file; so there it turns the small picture, which may then have the
    size of one that lies.
    """
    caps = _size_caps(options.size_hw or options.network_hw)
    flip = f" flip-method={_NVIDIA_FLIPS[options.flip]}" if options.flip != "none" and not stored else ""
    upright = f"{_UPRIGHT} ! {_flip(options)}videoscale ! " if stored else ""
    return (
        f"nvvidconv{flip} ! video/x-raw,format=BGRx{caps} ! {upright}videoconvert ! video/x-raw,format=BGR{caps} ! "
        f"{_appsink(paced)}"
    )


def _size_caps(size_hw: tuple[int, int] | None) -> str:
    return f",width={size_hw[1]},height={size_hw[0]}" if size_hw else ""


def _appsink(paced: bool) -> str:
    return f"appsink name=frames sync={str(paced).lower()} max-buffers=1"


def _gst_quoted(value: str) -> str:
    """A value as gst-launch reads it."""
    if re.fullmatch(r"[\w./:@*+-]+", value, re.ASCII):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _launch_words(text: str) -> list[str]:
    """A pipeline as the arguments of gst-launch-1.0, which puts them together again with blanks between them.

    It would put a backslash before a blank within an argument, but not where it is between double quotes.
    """
    words, quoted = [""], False
    for before, letter in zip(" " + text, text):
        if letter == " " and not quoted:
            words.append("")
            continue
        if letter == '"' and not (quoted and before == "\\"):
            quoted = not quoted
        words[-1] += letter
    return words


def _shell_quoted(word: str) -> str:
    return word if word == "!" else shlex.quote(word)


def _fraction(rate: float) -> str:
    return f"{round(rate * 1000)}/1000" if rate != int(rate) else f"{int(rate)}/1"
