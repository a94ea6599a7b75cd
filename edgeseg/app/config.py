"""Configurations of the commands. Each field says once what the command line, files and the service need of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

from edgeseg.app.fields import Config, option
from edgeseg.app.shipped import absolute_model
from edgeseg.credentials import has_credentials
from edgeseg.engines.select import ENGINES
from edgeseg.runtime.alarms.actions import absolute_action, actions_help, is_secret_action
from edgeseg.runtime.sinks.uri import SINKS, sinks_help
from edgeseg.runtime.sources.uri import SOURCES, sources_help
from edgeseg.uris import absolute_uri

__all__ = [
    "AlarmConfig",
    "ENGINE_NAMES",
    "EngineOptions",
    "MonitoringConfig",
    "PageConfig",
    "REQUIRE_SIGNATURE",
    "RunConfig",
    "SinkConfig",
    "SourceConfig",
]

REQUIRE_SIGNATURE = "EDGESEG_REQUIRE_SIGNATURE"
"""Environment variable that demands signatures of every bundle that a command opens."""
ENGINE_NAMES = ("auto", *ENGINES)

_SOURCES = "Sources and how they are read"
_SINKS = "Sinks and pictures"
_PAGE = "Page, alarms, accuracy in the field"
_ENGINE = "Engine"


def _absolute_source(uri: str) -> str:
    return absolute_uri(uri, SOURCES)


def _absolute_sink(uri: str) -> str:
    return absolute_uri(uri, SINKS)


@dataclass(frozen=True)
class SourceConfig(Config):
    """How sources are read."""

    size: Optional[str] = option(None, help="WIDTHxHEIGHT asked of a camera or stream.", panel=_SOURCES)
    rate: float = option(
        0.0, at_least=0.0, at_most=10_000.0, help="Frames per second asked of a camera.", panel=_SOURCES
    )
    flip: str = option("none", help="none, rotate-90, rotate-180, rotate-270, horizontal or vertical.", panel=_SOURCES)
    format: str = option("", help="Of a V4L2 camera: mjpeg, h264, yuyv, nv12, bgr.", panel=_SOURCES)
    capture: str = option(
        "auto",
        help="What reads cameras and videos: auto, gstreamer, software (GStreamer without the hardware), opencv.",
        panel=_SOURCES,
    )
    rtsp_transport: str = option("tcp", help="tcp or udp.", panel=_SOURCES)
    rtsp_latency_ms: int = option(
        100, at_least=0, at_most=600_000, help="How long a stream may wait for late packets.", panel=_SOURCES
    )
    policy: Optional[str] = option(
        None, help="latest (default for cameras), every (default for files) or deadline.", panel=_SOURCES
    )
    deadline_ms: float = option(
        0.0,
        at_least=0.0,
        at_most=1e6,
        help="No result older than this leaves; implies `policy` deadline.",
        panel=_SOURCES,
    )
    stall_timeout: float = option(
        5.0, at_least=0.5, at_most=1e6, help="Seconds without a frame until a source is opened again.", panel=_SOURCES
    )
    max_restarts: Optional[int] = option(
        None,
        at_least=0,
        help="Attempts in a row to open a source, 0 for no limit; default: 30, but none before its first frame "
        "(`argus_restart`: three).",
        panel=_SOURCES,
    )
    argus_restart: bool = option(
        False,
        help="Restart nvargus-daemon when it holds a CSI camera (sudo; edgeseg service install --argus-restart).",
        panel=_SOURCES,
    )
    batch_window_ms: float = option(
        10.0, at_least=0.0, at_most=1e6, help="How long a batch waits for other sources.", panel=_SOURCES
    )


@dataclass(frozen=True)
class SinkConfig(Config):
    """How results are kept and painted."""

    overwrite: bool = option(
        False,
        help="Let sinks replace files that are there; else videos, recordings and what edgeseg did not write stay.",
        panel=_SINKS,
    )
    visualize: str = option("overlay", help="What pictures show: overlay,mask,contours or some of them.", panel=_SINKS)
    alpha: float = option(0.5, at_least=0.0, at_most=1.0, help="Share of class colour in the overlay.", panel=_SINKS)
    ignore_class: Sequence[str] = option((), help="A class that is not painted; several times.", panel=_SINKS)
    legend: bool = option(False, help="Class names in the picture.", panel=_SINKS)


@dataclass(frozen=True)
class PageConfig(Config):
    """The page that shows a run."""

    preview: Optional[str] = option(None, help="HOST:PORT of the page with the live picture and /metrics.", panel=_PAGE)
    token: str = option(
        "",
        help="For `preview` on other addresses than loopback; better in EDGESEG_TOKEN.",
        is_secret=True,
        variable="EDGESEG_TOKEN",
        panel=_PAGE,
    )
    snapshots: Path = option(Path("snapshots"), is_path=True, help="Where the page's snapshots go.", panel=_PAGE)


@dataclass(frozen=True)
class AlarmConfig(Config):
    """Rules, and what happens when one holds."""

    rules: Sequence[str] = option(
        (), flag="--alarm", help="A rule: 'area(car) > 20% of roi(road) for 5 frames'.", panel=_PAGE
    )
    actions: Sequence[str] = option(
        (),
        flag="--on-alarm",
        help=f"{actions_help()}; several times.",
        is_path=True,
        absolute=absolute_action,
        is_secret=is_secret_action,
        panel=_PAGE,
    )
    rois: Optional[Path] = option(
        None, is_path=True, help="Regions of the rules, as JSON; the page draws them.", panel=_PAGE
    )


@dataclass(frozen=True)
class MonitoringConfig(Config):
    """Accuracy in the field."""

    shadow: int = option(0, at_least=0, help="Compare 1 of N results with the higher precision.", panel=_PAGE)
    drift: int = option(0, at_least=0, help="Measure 1 of N frames against the calibration set.", panel=_PAGE)
    drift_frames: Optional[Path] = option(None, is_path=True, help="Folder for frames that drift.", panel=_PAGE)


@dataclass(frozen=True)
class EngineOptions(Config):
    """What runs the network."""

    graph: Optional[str] = option(
        None, help="Graph of the bundle, e.g. int8-cpu or fp32; for TensorRT: int8-implicit, int8-qdq, fp16 or fp32."
    )
    engine: str = option(
        "auto",
        choices=ENGINE_NAMES,
        address="triton://HOST:PORT/MODEL",
        help="auto: TensorRT on a Jetson, else the fastest CPU engine. rtx: TensorRT-RTX on a GPU. triton: a server's.",
    )
    fallback: bool = option(
        False, help="Where TensorRT or the engine of auto cannot be used, run another on the CPU and say so."
    )
    program: Optional[Path] = option(
        None,
        is_path=True,
        help="With `engine` torch-tensorrt: the .pt2 program that was compiled of the same network.",
    )
    cuda_graph: str = option(
        "auto", choices=("auto", "on", "off"), help="TensorRT: work as one CUDA graph: auto, on, off.", panel=_ENGINE
    )
    memory: str = option(
        "auto",
        choices=("auto", "mapped", "copy"),
        help="TensorRT: how frames reach the GPU: auto, mapped, copy.",
        panel=_ENGINE,
    )
    threads: int = option(0, at_least=0, at_most=1024, help="CPU threads, 0 for all.", panel=_ENGINE)


@dataclass(frozen=True)
class RunConfig(Config):
    """A run: where frames come from, what segments them and where results go."""

    model: Optional[Path] = option(
        None,
        is_path=True,
        is_argument=True,
        absolute=absolute_model,
        help="A bundle, or a name of 'edgeseg models'; else your newest *.edgeseg here, else the shipped one. Or a "
        "configuration (.toml, .json).",
    )
    camera: Optional[int] = option(
        None, at_least=0, help="Camera number N of /dev/videoN.", replaces=("sources",), panel=_SOURCES
    )
    sources: Sequence[str] = option(
        (),
        flag="--source",
        help=f"{sources_help()}. Several times: one batch.",
        is_path=True,
        absolute=_absolute_source,
        is_secret=has_credentials,
        replaces=("camera",),
        panel=_SOURCES,
    )
    source: SourceConfig = SourceConfig()
    sinks: Sequence[str] = option(
        (),
        flag="--sink",
        help=f"{sinks_help()}; may be given several times.",
        is_path=True,
        absolute=_absolute_sink,
        is_secret=has_credentials,
        panel=_SINKS,
    )
    sink: SinkConfig = SinkConfig()
    page: PageConfig = PageConfig()
    alarm: AlarmConfig = AlarmConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    engine: EngineOptions = EngineOptions()
    frames: int = option(0, at_least=0, help="Stop after so many frames, 0 for no limit.")
    require_signature: Optional[Path] = option(
        None,
        is_path=True,
        variable=REQUIRE_SIGNATURE,
        metavar="PUBLIC_KEY",
        help="Open a bundle only if 'edgeseg sign' signed it with the key of this PEM file (or one of several).",
    )
