"""Choose frames for calibration, and export what calibration found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Callable

from edgeseg.app.calibrate_config import SelectConfig
from edgeseg.app.models import bundle_or_default
from edgeseg.app.targets import is_calibration_cache, refuse_foreign
from edgeseg.errors import UsageError
from edgeseg.files import atomic_write
from edgeseg.progress import Progress

if TYPE_CHECKING:
    from edgeseg.selection.choice import Selection
    from edgeseg.selection.chooser import FrameChooser

__all__ = ["export_cache", "select_frames"]


def select_frames(
    config: SelectConfig,
    progress: Progress = Progress(),
    *,
    report: Callable[[FrameChooser], None] = lambda chooser: None,
) -> Selection:
    """Watch a source and leave frames that are sharp, well exposed and differ in a folder; Ctrl-C ends that early.

    Args:
        config: of the choice.
        progress: takes a line where the watch has no end of its own.
        report: called after each frame with the state so far.

    Raises:
        UsageError: the source or the folder is missing, or a value cannot be used.
        EdgesegError: the source or the folder cannot be used, or too few frames can.
    """
    if (config.camera is None) == (config.source is None):
        raise UsageError(
            "say where frames come from: `camera` 0, or `source` FILE|FOLDER|demo://street (just one of them)"
        )
    if config.out is None:
        raise UsageError("say where the frames go: `out` FOLDER, a new or empty one")
    if config.policy not in (None, "latest", "every"):
        raise UsageError(f"`policy` is latest or every, got {config.policy!r}")
    from edgeseg.compiler.calibration.collect import MINIMUM_FRAMES
    from edgeseg.runtime.sources import source_from_uri
    from edgeseg.selection.choice import SelectionOptions, selected_frames
    from edgeseg.selection.chooser import MIN_DISTANCE, MIN_SHARPNESS

    source = source_from_uri(str(config.camera) if config.camera is not None else str(config.source))
    if source.is_live and not (config.seconds or config.frames):
        progress.step(
            "watching until the source ends or Ctrl-C, which keeps what was chosen; `seconds` or `frames` set a limit"
        )
    options = SelectionOptions(
        count=config.count,
        min_count=MINIMUM_FRAMES if config.min_count is None else config.min_count,
        latest=None if config.policy is None else config.policy == "latest",
        seconds=config.seconds,
        frames=config.frames,
        min_distance=MIN_DISTANCE if config.min_distance is None else config.min_distance,
        min_sharpness=MIN_SHARPNESS if config.min_sharpness is None else config.min_sharpness,
    )
    return selected_frames(source, config.out, options, report=report)


def export_cache(model: Path | None, tensorrt: str, out: Path | None, require_signature: Path | None = None) -> str:
    """Write the ranges of a bundle as TensorRT's INT8 calibration cache, and return a line that says so.

    Args:
        model: the bundle; None takes that of ``bundle_or_default``.
        tensorrt: version that will read it, such as ``"8.5.2"``.
        out: the file to write.
        require_signature: keys one of which must have signed the bundle; None demands nothing.

    Raises:
        UsageError: the bundle has no ranges, or the file cannot be written there.
        EdgesegError: the bundle cannot be read, or that TensorRT has no calibration cache.
    """
    if out is None or not out.parent.is_dir():
        raise UsageError(f"pass `out` FILE in an existing folder, got {out}")
    refuse_foreign(out, "calibration cache", is_calibration_cache)
    from edgeseg.compiler.calibration.tensorrt_cache import cache_from_ranges, text_from_cache

    bundle, name = bundle_or_default(model, require_signature)
    if bundle.ranges is None:
        raise UsageError(f"{name} holds no ranges: it was compiled without INT8")
    cache = cache_from_ranges(bundle.ranges, tensorrt)
    atomic_write(out, text_from_cache(cache).encode())
    return f"{name}: {len(cache.scales)} scales for TensorRT {tensorrt} (header {cache.version_code}): {out}"
