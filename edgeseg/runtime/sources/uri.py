"""The table of sources: how each scheme is opened, and what it is."""

from __future__ import annotations

import os
import re
import shlex
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Mapping, Sequence

from edgeseg.credentials import address_parts, redacted
from edgeseg.errors import SourceError, UsageError, first_line
from edgeseg.files import path_from_uri, text_from, text_of
from edgeseg.picture_files import IMAGE_SUFFIXES, image_files, listed_files, pictures_in, pictures_matching
from edgeseg.runtime.gst.pipelines import CaptureOptions, pipeline_from_uri
from edgeseg.runtime.gst.process import gstreamer_python
from edgeseg.runtime.policy import Policy
from edgeseg.runtime.sources.base import FrameSource
from edgeseg.uris import Location, UriKind, known_kinds, located

__all__ = [
    "CAPTURES",
    "PAGE_SOURCES",
    "SOURCES",
    "SourceKind",
    "SourceRequest",
    "Stream",
    "source_from_uri",
    "source_path",
    "sources_help",
    "streams_from_uri",
]

CAPTURES = ("auto", "gstreamer", "software", "opencv")
_CAMERA = re.compile(r"(?:v4l2://)?(?:/dev/video)?(\d+)")


@dataclass(frozen=True)
class SourceRequest:
    """What is asked of any source.

    Attributes:
        options: size, rate, flip and format asked of cameras and streams.
        capture: one of ``CAPTURES`` but ``"software"``, which is in ``options``.
        mend: see ``FrameSource.mend``.
    """

    options: CaptureOptions
    capture: str
    mend: Callable[[str], bool]

    def by_gstreamer(self) -> bool:
        """Return whether GStreamer reads what OpenCV could read too. Raises UsageError: only it can do as asked."""
        if self.capture == "gstreamer" or (self.capture == "auto" and gstreamer_python()):
            return True
        if not self.options.asks_nothing:
            raise UsageError("`size`, `rate`, `flip` and `format` need GStreamer; see edgeseg doctor")
        return False


# What an opener opens is imported in it, so that the table costs nothing to read.


def _open_camera(at: Location, asked: SourceRequest) -> FrameSource:
    from edgeseg.runtime.sources.camera import CameraSource, refuse_missing_camera
    from edgeseg.runtime.sources.gstreamer import GstSource

    found = _CAMERA.fullmatch(at.uri)
    if found is None:
        raise UsageError(f"a camera is 0, /dev/video0 or v4l2:///dev/video0, got {at.uri!r}")
    number = int(found.group(1))
    if not asked.by_gstreamer():
        return CameraSource(number)
    uri = f"v4l2:///dev/video{number}"
    return GstSource(pipeline_from_uri(uri, asked.options), uri, check=lambda: refuse_missing_camera(number))


def _open_pipeline(at: Location, asked: SourceRequest) -> FrameSource:
    from edgeseg.runtime.sources.gstreamer import GstSource

    scheme = at.uri.partition("://")[0]
    if asked.capture == "opencv":
        raise UsageError(f"{scheme}:// is read through GStreamer only; leave `capture` out")
    if scheme.startswith("http") and not address_parts(at.uri).hostname:
        raise UsageError(f"{scheme}:// names no host, got {redacted(at.uri)}; write {scheme}://HOST/PATH")
    check = (lambda: _refuse_unreachable(at.uri)) if scheme.startswith("http") else (lambda: None)
    return GstSource(pipeline_from_uri(at.uri, asked.options), at.uri, check=check, mend=asked.mend)


def _open_stored(at: Location, asked: SourceRequest) -> FrameSource:
    path = path_from_uri(at.uri)
    if path.is_dir():
        files = image_files(path)
        return _images(files, f"{len(files)} images in {text_of(path)}{pictures_in(path).left_out()}", asked)
    if path.is_file():
        return _file(path, asked)
    found = pictures_matching(path)
    if found.files:
        return _images(found.files, f"{len(found.files)} images matching {text_of(path)}{found.left_out()}", asked)
    # Not a file that is there: it may be an address that was mistyped, with its password.
    hint = "; a camera in the network is rtsp://USER:PASSWORD@HOST/PATH" if "@" in str(path) else ""
    what = f"{_hidden(str(path))} is no file, folder or glob with images, and no camera number"
    raise SourceError(what + hint, "not found")


def _open_replay(at: Location, asked: SourceRequest) -> FrameSource:
    from edgeseg.runtime.recording.replay import replay_from_uri

    return replay_from_uri(at.uri)


def _open_rosbag(at: Location, asked: SourceRequest) -> FrameSource:
    from edgeseg.runtime.rosbag.source import RosbagSource

    return RosbagSource(Path(at.place), at.values.get("topic"))


def _open_street(at: Location, asked: SourceRequest) -> FrameSource:
    from edgeseg.runtime.sources.demo import StreetSource

    return StreetSource(at.uri)


@dataclass(frozen=True)
class SourceKind(UriKind):
    """A row of ``SOURCES``.

    Attributes:
        open: makes the source of a URI; it is not open yet.
        is_live: frames arrive by themselves; None where that depends on what is there.
        takes_options: size, rate, flip and format can be asked of it.
        from_page: the URIs of it that the page may add, as a regular expression; empty for none. No files: who opens
            the page may not read the disk. No pipelines: they run code.
    """

    open: Callable[[Location, SourceRequest], FrameSource]
    is_live: bool | None = False
    takes_options: bool = False
    from_page: str = ""


_ADDRESS = r"(?:rtsps?|https?)://[^\s/?#!\"'\\]+(?:[/?#][^\s!\"'\\]*)?"

SOURCES: Mapping[str, SourceKind] = {
    "v4l2": SourceKind(
        _open_camera,
        "camera (0)",
        "a USB camera; `0`, `/dev/video0`, `v4l2:///dev/video0` and `camera` 0 are the same",
        is_live=True,
        takes_options=True,
        from_page=r"\d{1,3}|/dev/video\d{1,3}|v4l2://(?:/dev/video)?\d{1,3}",
    ),
    "csi": SourceKind(
        _open_pipeline,
        "csi://0",
        "a CSI camera of a Jetson",
        is_live=True,
        takes_options=True,
        from_page=r"csi://\d{1,2}(?:\?[\x21-\x7e]*)?",
    ),
    "rtsp": SourceKind(
        _open_pipeline,
        "rtsp://",
        "a network camera: H.264, H.265, MJPEG; `rtsps://` for TLS; `rtsp_transport` udp",
        is_live=True,
        takes_options=True,
        from_page=_ADDRESS,
    ),
    "rtsps": SourceKind(_open_pipeline, "", "`rtsp://` over TLS", is_live=True, takes_options=True, from_page=_ADDRESS),
    "http": SourceKind(
        _open_pipeline,
        "http://",
        "MJPEG, HLS, stored videos; `https://` for TLS",
        is_live=None,
        takes_options=True,
        from_page=_ADDRESS,
    ),
    "https": SourceKind(_open_pipeline, "", "`http://` over TLS", is_live=None, takes_options=True, from_page=_ADDRESS),
    "gst": SourceKind(
        _open_pipeline,
        "gst://PIPELINE",
        "anything that GStreamer has, such as `gst://aravissrc`",
        is_live=None,
        takes_options=True,
    ),
    "file": SourceKind(
        _open_stored,
        "video, image, folder, glob, list of images (.txt), list of sources (.streams)",
        "every frame of a video, upright, with its own times; every image; a source per line of `NAME.streams`, see "
        "[several cameras](../how-to/several-cameras.md)",
        is_path=True,
        takes_options=True,
    ),
    "replay": SourceKind(
        _open_replay,
        "replay://FILE",
        "a recording: [record and replay](../how-to/recording.md)",
        is_path=True,
        parameters={"source": "NAME", "pace": "0|1"},
    ),
    "rosbag": SourceKind(
        _open_rosbag,
        "rosbag://BAG",
        "images of a ROS 2 bag (folder, `.mcap`, `.db3`) or a ROS 1 `.bag`: [ROS bags](../how-to/rosbags.md); needs "
        "`pip install '.[rosbag]'`",
        is_path=True,
        parameters={"topic": "TOPIC"},
    ),
    "demo": SourceKind(
        _open_street,
        "demo://street?frames=300",
        "the rendered street, with ground truth",
        is_live=True,
        from_page=r"demo://street(?:\?[\x21-\x7e]*)?",
    ),
}
"""Scheme -> what it is. A number is a camera of ``v4l2``, any other name without a scheme is of ``file``."""

PAGE_SOURCES = f"(?:{'|'.join(dict.fromkeys(kind.from_page for kind in SOURCES.values() if kind.from_page))})"
"""What the page may add, as a regular expression."""


def sources_help() -> str:
    """Return the sources that there are, for ``run --help``."""
    return known_kinds(SOURCES.values())


def source_path(uri: str) -> Path | None:
    """Return the path that a source is read from, which may be a glob; None when it is none. Raises UsageError."""
    scheme = _scheme_of(uri)
    if scheme not in SOURCES or not SOURCES[scheme].is_path:
        return None
    return path_from_uri(uri) if scheme == "file" else Path(located(uri, SOURCES[scheme]).place)


def _scheme_of(uri: str) -> str:
    """The key of ``SOURCES``, or a scheme that is none."""
    scheme, separator, _ = uri.partition("://")
    if _CAMERA.fullmatch(uri):
        return "v4l2"
    return scheme if separator and (scheme in SOURCES or not os.path.exists(uri)) else "file"


@dataclass(frozen=True)
class Stream:
    """One source of a run: where it is, what it is called, which frames count; None leaves the policy to the run."""

    uri: str
    name: str = ""
    policy: Policy | None = None


def streams_from_uri(uri: str) -> list[Stream]:
    """Read what a source's URI says: one stream, or those of a ``.streams`` list.

    Such a list has a URI per line, then ``name=front``, ``policy=latest``, ``deadline-ms=200`` as wished, and ``#``
    comments; words with spaces are quoted.

    Raises:
        SourceError: the list cannot be read or is empty. UsageError: a line makes no sense.
    """
    if not uri.lower().endswith(".streams"):
        return [Stream(uri)]
    try:
        lines = text_from(Path(uri).read_bytes()).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{uri} cannot be read ({error})") from error
    streams = [_stream(line, f"{uri}:{number}") for number, line in enumerate(lines, 1) if line.split("#")[0].strip()]
    if not streams:
        raise SourceError(f"{uri} lists no source; write one URI per line")
    names = [stream.name for stream in streams if stream.name]
    if len(set(names)) != len(names):
        raise UsageError(f"{uri}: two streams have the same name; names must differ")
    return streams


def source_from_uri(
    uri: str,
    options: CaptureOptions = CaptureOptions(),
    capture: str = "auto",
    mend: Callable[[str], bool] = lambda kind: False,
) -> FrameSource:
    """Make the source that a URI names.

    Args:
        uri: of a scheme of ``SOURCES``, the number of a camera, or a path.
        options: size, rate, flip and format asked of cameras and streams.
        capture: what reads cameras and video files: ``"gstreamer"``; ``"software"``, GStreamer without decoders and
            converters of the hardware; ``"opencv"``; or ``"auto"``: GStreamer where it is installed, else OpenCV.
        mend: see ``FrameSource.mend``.

    Raises:
        SourceError: nothing is known by that name.
        UsageError: a URI or an option that makes no sense.
    """
    if capture not in CAPTURES:
        raise UsageError(f"`capture` is one of {', '.join(CAPTURES)}, got {capture!r}")
    if capture == "software":
        options, capture = replace(options, software=True), "gstreamer"
    scheme = _scheme_of(uri)
    if scheme not in SOURCES:
        what = redacted(uri) if scheme.isalnum() else _hidden(uri)
        raise SourceError(f"no source for {what}; there are {sources_help()}")
    kind = SOURCES[scheme]
    if not (kind.takes_options or options.asks_nothing):
        raise UsageError(
            f"`size`, `rate`, `flip` and `format` are for cameras, streams and videos, not for {scheme}://"
        )
    return kind.open(located(uri, kind), SourceRequest(options, capture, mend))


def _refuse_unreachable(uri: str) -> None:
    """souphttpsrc does not say why it gets no connection, so that is tried first."""
    try:
        parts = address_parts(uri)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((parts.hostname or "", port), timeout=5):
            return
    except socket.timeout as error:
        raise SourceError(f"{redacted(uri)}: timeout: no answer in 5 s; is the camera on?", "timeout") from error
    except UnicodeError:  # what cannot be written as a host name
        raise SourceError(
            f"{redacted(uri)}: not found: that is no host name; is the address right?", "not found"
        ) from None
    except OSError as error:
        raise SourceError(
            f"{redacted(uri)}: unreachable: {first_line(error)}; is the address right?", "unreachable"
        ) from error


def _hidden(mistyped: str) -> str:
    return f"***@{mistyped.rpartition('@')[2]}" if "@" in mistyped else mistyped


def _file(path: Path, asked: SourceRequest) -> FrameSource:
    from edgeseg.runtime.sources.video import VIDEO_SUFFIXES, GstVideo, OpenCvVideo

    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return _images([path], f"image {path}", asked)
    if suffix == ".txt":
        files = _listed(path)
        return _images(files, f"{len(files)} images listed in {path}", asked)
    if suffix not in VIDEO_SUFFIXES:
        known = ", ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
        convert = f"; take it apart first: ffmpeg -i {path.name} {path.stem}-%04d.png" if suffix == ".gif" else ""
        raise SourceError(
            f"{path} is neither an image nor a video by its suffix ({known}), nor a .txt list of images{convert}"
        )
    return GstVideo(path.resolve(), asked.options) if asked.by_gstreamer() else OpenCvVideo(path)


def _images(files: Sequence[Path], description: str, asked: SourceRequest) -> FrameSource:
    from edgeseg.runtime.sources.stored import ImagesSource

    if not asked.options.asks_nothing:
        raise UsageError("`size`, `rate`, `flip` and `format` are for cameras, streams and videos, not for images")
    return ImagesSource(files, description)


def _listed(path: Path) -> list[Path]:
    """The images of a text file; see ``listed_files``. Raises SourceError."""
    try:
        files = listed_files(path)
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as a list of images ({error})") from error
    if not files:
        raise SourceError(f"{path} lists no image; write one path per line")
    missing = [file for file in files if not os.path.isfile(file)]
    if missing:
        raise SourceError(f"{path}: {len(missing)} of {len(files)} images are not there, the first is {missing[0]}")
    return files


def _stream(line: str, where: str) -> Stream:
    try:
        words = shlex.split(line, comments=True)
        settings = dict(word.split("=", 1) for word in words[1:])
        deadline_ms = float(settings.pop("deadline-ms", 0))
    except ValueError as error:
        raise UsageError(f"{where}: {error}; a line is: URI [name=NAME] [policy=POLICY] [deadline-ms=MS]") from error
    kind, name = settings.pop("policy", "deadline" if deadline_ms else ""), settings.pop("name", "")
    if settings:
        raise UsageError(f"{where}: {', '.join(settings)} is unknown; there are name, policy and deadline-ms")
    if name and not re.fullmatch(r"[\w.-]{1,64}", name):
        raise UsageError(f"{where}: a name is up to 64 letters, digits, dots, dashes; got {name!r}")
    return Stream(words[0], name, Policy(kind, deadline_ms) if kind else None)
