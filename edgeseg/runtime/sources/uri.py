"""URI -> source."""

from __future__ import annotations

import os
import re
import shlex
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Sequence

from edgeseg.credentials import address_parts, redacted
from edgeseg.errors import SourceError, UsageError, first_line
from edgeseg.files import path_from_uri, text_from, text_of
from edgeseg.picture_files import IMAGE_SUFFIXES, image_files, listed_files, pictures_in, pictures_matching
from edgeseg.runtime.gst.pipelines import CaptureOptions, pipeline_from_uri
from edgeseg.runtime.gst.process import gstreamer_python
from edgeseg.runtime.policy import Policy
from edgeseg.runtime.sources.base import FrameSource
from edgeseg.runtime.sources.camera import CameraSource, refuse_missing_camera
from edgeseg.runtime.sources.demo import StreetSource
from edgeseg.runtime.sources.gstreamer import GstSource
from edgeseg.runtime.sources.stored import ImagesSource
from edgeseg.runtime.sources.video import VIDEO_SUFFIXES, GstVideo, OpenCvVideo

__all__ = ["CAPTURES", "Stream", "source_from_uri", "streams_from_uri"]

CAPTURES = ("auto", "gstreamer", "software", "opencv")
_CAMERA = re.compile(r"(?:v4l2://)?(?:/dev/video)?(\d+)")
_NETWORK = ("rtsp", "rtsps", "http", "https", "csi", "gst")


@dataclass(frozen=True)
class Stream:
    """One source of a run: where it is, what it is called, which frames count; None leaves the policy to the run."""

    uri: str
    name: str = ""
    policy: Policy | None = None


def streams_from_uri(uri: str) -> list[Stream]:
    """What ``--source`` says: one stream, or those of a ``.streams`` list.

    Such a list has a URI per line, then ``name=front``, ``policy=latest``, ``deadline-ms=200`` as wished, and ``#``
    comments; words with spaces are quoted.

    Raises:
        SourceError: the list cannot be read or is empty. UsageError: a line makes no sense.
    """
    if not uri.endswith(".streams"):
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
    """The source that a URI names.

    Args:
        uri: ``0`` or ``/dev/video0`` or ``v4l2:///dev/video0`` (camera), ``csi://0``, ``rtsp://``, ``http://`` (MJPEG,
            HLS or a video), ``gst://PIPELINE``, a video file, an image file, a folder or glob of images, a list of
            images (``.txt``), ``demo://street?seed=0&frames=300``, or ``replay://FILE``.
        options: size, rate, flip and format asked of cameras and streams.
        capture: what reads cameras and video files: ``"gstreamer"``; ``"software"``, GStreamer without decoders and
            converters of the hardware; ``"opencv"``; or ``"auto"``: GStreamer where it is installed, else OpenCV.
        mend: see ``FrameSource.mend``.

    Raises:
        SourceError: nothing is known by that name.
        UsageError: a URI or an option that makes no sense.
    """
    if capture not in CAPTURES:
        raise UsageError(f"--capture is one of {', '.join(CAPTURES)}, got {capture!r}")
    if capture == "software":
        options, capture = replace(options, software=True), "gstreamer"
    camera = _CAMERA.fullmatch(uri)
    if camera:
        return _camera(int(camera.group(1)), options, capture)
    scheme, separator, rest = uri.partition("://")
    if scheme in _NETWORK and separator:
        if capture == "opencv":
            raise UsageError(f"{scheme}:// is read through GStreamer only; leave --capture out")
        check = (lambda: _refuse_unreachable(uri)) if scheme.startswith("http") else (lambda: None)
        return GstSource(pipeline_from_uri(uri, options), uri, check=check, mend=mend)
    if not options.asks_nothing and scheme in ("demo", "replay"):
        raise UsageError(
            f"--size, --rate, --flip and --format are for cameras, streams and videos, not for {scheme}://"
        )
    if scheme == "demo" and separator:
        return StreetSource(uri)
    if scheme == "replay" and separator:
        from edgeseg.runtime.recording.replay import replay_from_uri  # it needs sources.base, which is of this package

        return replay_from_uri(uri)
    if separator and scheme != "file" and not os.path.exists(uri):
        what = redacted(uri) if scheme.isalnum() else _hidden(uri)
        raise SourceError(
            f"no source for {what}; there are cameras (0), csi://0, rtsp://, http://, gst://, files, folders, globs, "
            "demo://street, replay://FILE"
        )
    return _stored(path_from_uri(uri), options, capture)


def _camera(number: int, options: CaptureOptions, capture: str) -> FrameSource:
    if capture == "gstreamer" or (capture == "auto" and gstreamer_python()):
        uri = f"v4l2:///dev/video{number}"
        return GstSource(pipeline_from_uri(uri, options), uri, check=lambda: refuse_missing_camera(number))
    if not options.asks_nothing:
        raise UsageError("--size, --rate, --flip and --format need GStreamer; see edgeseg doctor")
    return CameraSource(number)


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


def _stored(path: Path, options: CaptureOptions, capture: str) -> FrameSource:
    if path.is_dir():
        files = image_files(path)
        return _images(files, f"{len(files)} images in {text_of(path)}{pictures_in(path).left_out()}", options)
    if path.is_file():
        return _file(path, options, capture)
    found = pictures_matching(path)
    if found.files:
        return _images(found.files, f"{len(found.files)} images matching {text_of(path)}{found.left_out()}", options)
    # Not a file that is there: it may be an address that was mistyped, with its password.
    hint = "; a camera in the network is rtsp://USER:PASSWORD@HOST/PATH" if "@" in str(path) else ""
    what = f"{_hidden(str(path))} is no file, folder or glob with images, and no camera number"
    raise SourceError(what + hint, "not found")


def _hidden(mistyped: str) -> str:
    return f"***@{mistyped.rpartition('@')[2]}" if "@" in mistyped else mistyped


def _file(path: Path, options: CaptureOptions, capture: str) -> FrameSource:
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return _images([path], f"image {path}", options)
    if suffix == ".txt":
        files = _listed(path)
        return _images(files, f"{len(files)} images listed in {path}", options)
    if suffix not in VIDEO_SUFFIXES:
        known = ", ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
        convert = f"; take it apart first: ffmpeg -i {path.name} {path.stem}-%04d.png" if suffix == ".gif" else ""
        raise SourceError(
            f"{path} is neither an image nor a video by its suffix ({known}), nor a .txt list of images{convert}"
        )
    if capture == "gstreamer" or (capture == "auto" and gstreamer_python()):
        return GstVideo(path.resolve(), options)
    if not options.asks_nothing:
        raise UsageError("--size, --rate, --flip and --format need GStreamer; see edgeseg doctor")
    return OpenCvVideo(path)


def _images(files: Sequence[Path], description: str, options: CaptureOptions) -> FrameSource:
    if not options.asks_nothing:
        raise UsageError("--size, --rate, --flip and --format are for cameras, streams and videos, not for images")
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
