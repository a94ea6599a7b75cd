"""What ``edgeseg estimate`` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from edgeseg.app.fields import Config, option
from edgeseg.app.shipped import absolute_model
from edgeseg.device.specifications import JETSONS

__all__ = ["EstimateConfig"]


@dataclass(frozen=True)
class EstimateConfig(Config):
    """A forecast of ms per frame on a Jetson that need not be here."""

    model: Optional[Path] = option(
        None,
        help="A bundle, a name of 'edgeseg models', an .onnx file or a checkpoint; else your newest *.edgeseg here, "
        "else the shipped one.",
        is_argument=True,
        is_path=True,
        absolute=absolute_model,
    )
    device: str = option("xavier-nx", choices=tuple(JETSONS), help=f"The board: {', '.join(JETSONS)}.")
    power_mode: Optional[str] = option(
        None, help="As nvpmodel names it, e.g. 15W; else the mode that the board is delivered in."
    )
    precision: str = option(
        "auto", choices=("auto", "int8", "fp16", "fp32"), help="auto: INT8 where the GPU has it, and FP16."
    )
    size: Optional[str] = option(None, help="WIDTHxHEIGHT of an ONNX file that leaves it open, or of a checkpoint.")
    frame: str = option("1280x720", help="WIDTHxHEIGHT of the camera's frames, which the CPU resizes.")
    layers: int = option(8, help="How many kernels the table shows, the slowest first; 0 for none.", at_least=0)
    all_modes: bool = option(False, flag="--all", help="Every Jetson in every power mode.")
    measured: Optional[Path] = option(
        None,
        is_path=True,
        help="Your own rows of any board, which sharpen the forecast: JSON of 'edgeseg bench --calibrate', or CSV with "
        "board, power_mode, precision, ms, model and size.",
    )
    fit_ms: Optional[float] = option(
        None,
        at_least=0.1,
        help="Rank networks, sizes and precisions of the package whose P90 is no longer.",
    )
