"""What ``edgeseg calibrate select`` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from edgeseg.app.fields import Config, option

__all__ = ["SelectConfig"]


@dataclass(frozen=True)
class SelectConfig(Config):
    """A choice of frames for calibration."""

    camera: Optional[int] = option(None, help="Camera number N of /dev/videoN.")
    source: Optional[str] = option(
        None, help="Camera (0), video file, image, folder, glob, or demo://street?frames=300."
    )
    out: Optional[Path] = option(
        None, help="New or empty folder for the PNG files and selection.json.", short="-o", is_path=True
    )
    count: int = option(300, help="Most frames to choose.")
    min_count: Optional[int] = option(None, help="Fewer usable frames are an error; else the least that compile takes.")
    seconds: float = option(0.0, help="Watch a live source for so long, 0 until Ctrl-C.")
    frames: int = option(0, help="Stop after so many frames seen, 0 for no limit.")
    policy: Optional[str] = option(
        None, help="latest (default for cameras) or every (default for files; the same choice each time)."
    )
    min_distance: Optional[float] = option(None, help="Frames this near to a chosen one are duplicates; else 0.02.")
    min_sharpness: Optional[float] = option(None, help="Share of the median below which a frame is blurred; else 0.35.")
