"""URI -> source."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from edgeseg.errors import SourceError
from edgeseg.images import IMAGE_SUFFIXES, image_files
from edgeseg.runtime.sources.base import FrameSource
from edgeseg.runtime.sources.camera import CameraSource
from edgeseg.runtime.sources.demo import StreetSource
from edgeseg.runtime.sources.stored import ImagesSource
from edgeseg.runtime.sources.video import VIDEO_SUFFIXES, VideoSource

__all__ = ["source_from_uri"]

_CAMERA = re.compile(r"(?:v4l2://)?(?:/dev/video)?(\d+)")


def source_from_uri(uri: str) -> FrameSource:
    """The source that a URI names.

    Args:
        uri: ``0`` or ``/dev/video0`` or ``v4l2:///dev/video0`` (camera), a video file, an image file, a folder or
            glob of images, or ``demo://street?seed=0&frames=300``.

    Raises:
        SourceError: nothing is known by that name.
        UsageError: a demo URI with a wrong parameter.
    """
    camera = _CAMERA.fullmatch(uri)
    if camera:
        return CameraSource(int(camera.group(1)))
    if uri.startswith("demo://"):
        return StreetSource(uri)
    if "://" in uri and not uri.startswith("file://"):
        scheme = uri.split("://")[0]
        raise SourceError(f"no source for {scheme}://; there are cameras (0), files, folders, globs, demo://street")
    path = Path(uri[len("file://") :] if uri.startswith("file://") else uri)
    if path.is_dir():
        files = image_files(path)
        return ImagesSource(files, f"{len(files)} images in {path}")
    if path.is_file():
        return _file_source(path)
    files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    files = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    if files:
        return ImagesSource(files, f"{len(files)} images matching {path}")
    raise SourceError(f"{path} is no file, folder or glob with images, and no camera number")


def _file_source(path: Path) -> FrameSource:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImagesSource([path], f"image {path}")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoSource(path)
    known = ", ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
    raise SourceError(f"{path} is neither an image nor a video by its suffix ({known})")
