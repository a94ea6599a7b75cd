"""What ``edgeseg compile`` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

from edgeseg.app.data import absolute_data
from edgeseg.app.fields import Config, option
from edgeseg.app.model_fields import signature_field
from edgeseg.app.shipped import absolute_model
from edgeseg.device.specifications import BOARDS

__all__ = ["AllowedLoss", "CompileConfig", "EngineBuild", "ForeignNetwork"]

CALIBRATORS = ("auto", "minmax", "moving-average", "percentile", "entropy", "mse")
SIMPLIFIERS = ("onnxsim", "onnxslim", "none")
"""Both as the compiler knows them, which is not imported for a line of help."""
_ENGINE = "TensorRT engine, on the device"


@dataclass(frozen=True)
class AllowedLoss(Config):
    """What the gate allows a graph to lose against FP32, in points and in percent."""

    max_drop: float = option(1.0, at_least=0, at_most=100, help="Gate: allowed loss of mIoU in points.")
    max_class_drop: float = option(
        3.0, at_least=0, at_most=100, help="Gate: allowed loss of any class's IoU in points."
    )
    min_agreement: float = option(
        95.0, at_least=0, at_most=100, help="Gate: least share of pixels that agree with FP32, in %."
    )
    min_boundary_agreement: float = option(
        80.0, at_least=0, at_most=100, help="Gate: the same within two pixels of class boundaries, in %."
    )


@dataclass(frozen=True)
class ForeignNetwork(Config):
    """What only the user knows about an ONNX file of another exporter, or a checkpoint of another trainer."""

    spec: Optional[Path] = option(
        None, help="Network of others: its spec as JSON, instead of these flags:", is_path=True
    )
    classes: Optional[str] = option(None, help="Network of others: 'camvid' or a file of class names.")
    ignore: Optional[int] = option(
        None, at_least=0, at_most=255, help="Network of others: mask value that is no class."
    )
    mean: Optional[str] = option(None, help="Network of others: mean per channel, of 0-1 (or of 0-255).")
    std: Optional[str] = option(None, help="Network of others: standard deviation per channel.")
    channel_order: Optional[str] = option(None, help="Network of others: RGB or BGR.")
    layout: Optional[str] = option(None, help="ONNX file: NCHW or NHWC, where it cannot be told.")
    output: Optional[str] = option(None, help="ONNX file: which of several outputs.")
    background: Optional[str] = option(
        None, help="Network of sigmoids: the class where all are low, or 'none' where the largest wins."
    )
    network: Optional[str] = option(None, help="Checkpoint of others, where its weights do not tell: unet, fpn, ...")
    encoder: Optional[str] = option(None, help="Checkpoint of others, where its weights do not tell: tu-NAME, ...")
    threshold: Optional[float] = option(
        None, at_least=0, at_most=1, help="Network of sigmoids: probability above which one says yes (0.5)."
    )


@dataclass(frozen=True)
class EngineBuild(Config):
    """How the TensorRT engine of a bundle is built on the device."""

    flavour: Optional[str] = option(
        None, help="Build a TensorRT engine of a bundle here: tensorrt (default on a Jetson) or rtx.", panel=_ENGINE
    )
    int8_mode: str = option("auto", help="auto, implicit (frozen ranges) or qdq.", panel=_ENGINE)
    dla: Optional[int] = option(
        None, help="Number of the DLA core to run on; the GPU takes what it cannot.", at_least=0, panel=_ENGINE
    )
    workspace_mib: Optional[int] = option(None, help="Most scratch memory of a layer.", at_least=1, panel=_ENGINE)
    opt_level: Optional[int] = option(
        None, help="TensorRT's optimization level (8.6 and later).", at_least=0, at_most=5, panel=_ENGINE
    )
    allow_partial_int8: bool = option(
        False, help="Accept it with less than half its convolutions in INT8.", panel=_ENGINE
    )
    compute_capability: Optional[str] = option(
        None, help="With `flavour` rtx: for another GPU, like SM86, into a file.", panel=_ENGINE
    )
    rebuild: bool = option(False, help="Build although the cache has it.", panel=_ENGINE)
    build_log: Optional[Path] = option(
        None, help="Existing folder for what TensorRT says and what its inspector shows.", is_path=True, panel=_ENGINE
    )


@dataclass(frozen=True)
class CompileConfig(Config):
    """A compilation: of a checkpoint, an ONNX file or a bundle into a bundle, or of a bundle into an engine."""

    model: Optional[Path] = option(
        None,
        help="Checkpoint of 'edgeseg train' or of segmentation-models-pytorch, .onnx file, bundle or a name of "
        "'edgeseg models'; else the shipped model. Or a configuration (.toml, .json).",
        is_argument=True,
        is_path=True,
        absolute=absolute_model,
    )
    int8: bool = option(False, help="Emit the INT8 graphs (TensorRT Q/DQ, CPU Q/DQ, dynamic).")
    fp16: bool = option(False, help="Emit FP16 graphs for strongly typed TensorRT (10 and 11); with `int8` mixed.")
    emit: Tuple[str, ...] = option((), help="A graph by name, e.g. int8-cpu-vnni; may be given several times.")
    calibration: Tuple[str, ...] = option(
        (),
        help="Folder of calibration images (or demo://...); may be given several times.",
        flag="--calib",
        is_path=True,
        absolute=absolute_data,
    )
    evaluation: Optional[str] = option(
        None,
        help="Folder of images and masks on which every graph is judged.",
        flag="--eval",
        is_path=True,
        absolute=absolute_data,
    )
    golden: Optional[str] = option(
        None,
        help="Where the bundle's self-test frames come from; else the evaluation images.",
        is_path=True,
        absolute=absolute_data,
    )
    out: Optional[Path] = option(None, help="The bundle to write, NAME.edgeseg.", short="-o", is_path=True)
    size: Optional[str] = option(None, help="Another input size than the checkpoint's, WIDTHxHEIGHT.")
    batch: int = option(1, help="Frames per inference, for several cameras.", at_least=1, at_most=64)
    scores: bool = option(False, help="Output class probabilities too.")
    argmax_first: bool = option(False, help="Class map before the last enlargement: faster, if the gate allows.")
    calibrator: str = option(
        "auto", choices=CALIBRATORS, help="auto, minmax, moving-average, percentile, entropy or mse."
    )
    per_tensor: bool = option(
        False, help="INT8 with one weight scale per layer, not one per output channel; see 'edgeseg train --qat'."
    )
    equalize: bool = option(False, help="Cross-layer equalisation before calibration.")
    float_layers: Tuple[str, ...] = option(
        (), help="Keep this layer in float (its output tensor); may be repeated.", flag="--float-layer"
    )
    mixed: bool = option(True, help="Put sensitive layers back to float where the gate refuses.")
    sensitivity: bool = option(False, help="Rank layers by what their INT8 costs.")
    pareto: bool = option(False, help="Table of accuracy, size and latency over mixes of INT8 and float.")
    budget_ms: Optional[float] = option(
        None, at_least=0, help="Most accurate mix within this time (CPU measured; board: lower bound)."
    )
    board: Optional[str] = option(None, help=f"Bound latency on: {', '.join(BOARDS)}.")
    limits: AllowedLoss = AllowedLoss()
    gate: bool = option(
        True, help="Refuse graphs that lose too much; without it they are stored, and the bundle is stamped."
    )
    simplifier: str = option("onnxsim", choices=SIMPLIFIERS, help="onnxsim, onnxslim or none.")
    float16: bool = option(False, help="Store FP32 weights as float16, for a smaller file.")
    onnx: ForeignNetwork = ForeignNetwork()
    check_tensorrt: Tuple[str, ...] = option(
        (), help="Build TensorRT's graphs with TensorRT-RTX for SM75, SM86, SM89, SM120; may be repeated."
    )
    backend: str = option("bundle", help="bundle, or torch-tensorrt: a .pt2 program for PyTorch on this machine's GPU.")
    cache: bool = option(True, help="Go on where an interrupted compile stopped.")
    engine: EngineBuild = EngineBuild()
    note: str = option("", help="Stored in the bundle, e.g. the licence of the data.")
    require_signature: Optional[Path] = signature_field()
