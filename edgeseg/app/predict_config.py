"""What ``edgeseg predict`` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

from edgeseg.app.fields import Config, option
from edgeseg.app.model_fields import engine_field, signature_field
from edgeseg.app.shipped import absolute_model

__all__ = ["PredictConfig"]

_VIEWS = "How a picture is looked at"


@dataclass(frozen=True)
class PredictConfig(Config):
    """A prediction of stored pictures: as good as the network can, not as fast."""

    pictures: Sequence[str] = option(
        (), is_argument=True, is_path=True, help="Pictures, folders, videos; demo://street?frames=N."
    )
    model: Optional[Path] = option(
        None,
        short="-m",
        is_path=True,
        absolute=absolute_model,
        help="A bundle, a name of 'edgeseg models' or a checkpoint; else your newest *.edgeseg here, else the shipped "
        "one.",
    )
    output: Optional[str] = option(
        None,
        short="-o",
        is_path=True,
        help="Folder for masks/ and overlays/, or a video, jsonl://FILE and the other sinks of 'edgeseg run'.",
    )
    probabilities: Optional[Path] = option(
        None, is_path=True, help="Folder for NAME.npy: the probability of every class, CxHxW float16."
    )
    class_masks: Optional[Path] = option(
        None,
        is_path=True,
        help="Folder for CLASS/NAME.png: a mask of 0 and 255 for each class, or for each of several labels.",
    )
    scales: Sequence[float] = option(
        (1.0,),
        flag="--scale",
        at_least=0.25,
        at_most=4.0,
        help="Average over views of this size, in sizes of the network; several times.",
        panel=_VIEWS,
    )
    flip: bool = option(False, help="Average over mirrored views, too.", panel=_VIEWS)
    tiles: bool = option(
        False, help="Cover the picture with windows at its own resolution instead of resizing it.", panel=_VIEWS
    )
    overlap: float = option(
        0.25, at_least=0.0, at_most=0.75, help="Share that neighbouring windows have in common.", panel=_VIEWS
    )
    smooth: float = option(
        0.0,
        at_least=0.0,
        at_most=0.99,
        help="For a video: share of the former picture's probabilities in each one's.",
        panel=_VIEWS,
    )
    visualize: str = option("overlay", help="Some of overlay,mask,contours.")
    overwrite: bool = option(False, help="Replace files that edgeseg did not write, too.")
    graph: Optional[str] = option(None, help="Graph of the bundle; on the CPU else fp32, the most exact.")
    engine: str = engine_field()
    threads: int = option(0, help="CPU threads, 0 for all.", at_least=0, at_most=1024)
    require_signature: Optional[Path] = signature_field()
