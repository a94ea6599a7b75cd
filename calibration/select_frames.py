"""Choose calibration frames: ``python calibration/select_frames.py SOURCE FOLDER [--count N] [--seconds S]``.

The same as ``edgeseg calibrate select``, from a clone that is not installed: numpy and OpenCV are enough, as on a
Jetson fresh from JetPack. SOURCE is a camera (0), a video, a folder or glob of images, or demo://street.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from edgeseg.errors import EdgesegError
from edgeseg.runtime.sources import source_from_uri
from edgeseg.selection.choice import SelectionOptions, selected_frames
from edgeseg.selection.chooser import FrameChooser


def show(chooser: FrameChooser) -> None:
    """A line every hundred frames."""
    if chooser.seen % 100 == 0:
        print(f"frame {chooser.seen}, kept {len(chooser.kept())}", flush=True)


def main() -> None:
    """Select, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="camera number, video, folder, glob or demo://street")
    parser.add_argument("folder", type=Path, help="new or empty folder to fill")
    parser.add_argument("--count", type=int, default=300, help="most frames to choose")
    parser.add_argument("--min-count", type=int, default=16, help="fewer are an error; compile takes 16 or more")
    parser.add_argument("--seconds", type=float, default=0.0, help="watch a camera for so long, 0 until Ctrl-C")
    parser.add_argument("--frames", type=int, default=0, help="stop after so many, 0 for no limit")
    given = parser.parse_args()
    options = SelectionOptions(count=given.count, min_count=given.min_count, seconds=given.seconds, frames=given.frames)
    try:
        selection = selected_frames(source_from_uri(given.source), given.folder, options, report=show)
    except EdgesegError as error:
        print(f"select_frames: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from error
    print(f"{selection.ended}: {len(selection.chosen)} of {selection.seen} frames of {selection.source}")
    print(f"not chosen: {selection.rejected}")
    print(f"spread {selection.spread:.4f}, evenly spaced {selection.uniform_spread:.4f}; see {given.folder}")


if __name__ == "__main__":
    main()
