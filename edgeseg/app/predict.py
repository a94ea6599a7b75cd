"""Predict stored pictures as well as the network can: several views of each, tile by tile, steady over time."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Sequence

from edgeseg.app.config import EngineOptions
from edgeseg.app.engines import FactoryFrom, engine_name, on_jetson, opened_engine, quiet_factory
from edgeseg.app.models import bundle_or_default, chosen_path
from edgeseg.app.predict_config import PredictConfig
from edgeseg.app.predict_files import ClassMaskFiles, PredictionFiles, ProbabilityFiles
from edgeseg.app.shipped import model_path
from edgeseg.bundle import Bundle, GraphEntry, read_bundle
from edgeseg.errors import ImageError, UsageError, require, some
from edgeseg.prediction.network import EngineNetwork, ScoringNetwork
from edgeseg.prediction.predictor import PredictOptions, Predictor
from edgeseg.progress import Progress
from edgeseg.recipes import FP32
from edgeseg.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np

    from edgeseg.runtime.frame import Frame
    from edgeseg.runtime.sinks.base import FrameSink
    from edgeseg.runtime.sources.base import FrameSource
    from edgeseg.runtime.sources.uri import Stream

__all__ = ["Predicted", "open_predictor", "predict"]


@dataclass(frozen=True)
class Predicted:
    """What came of a prediction.

    Attributes:
        model: its name, with the reason why it was taken.
        engine: what ran it.
        pictures: how many.
        seconds: for all of them, reading and writing included.
        outputs: where the results are, for people.
    """

    model: str
    engine: str
    pictures: int
    seconds: float
    outputs: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "model": self.model,
            "engine": self.engine,
            "pictures": self.pictures,
            "seconds": self.seconds,
            "outputs": list(self.outputs),
        }


def open_predictor(
    model: Bundle | str | Path | None = None,
    options: PredictOptions = PredictOptions(),
    engine: str | EngineOptions = "auto",
    *,
    on_note: Callable[[str], None] = lambda line: None,
) -> Predictor:
    """Open a predictor: the same numbers as ``edgeseg predict``.

    Args:
        model: a bundle, or the path of one or of a checkpoint; None is the shipped model.
        options: how pictures are looked at.
        engine: as of ``open_engine``. On the CPU the graph fp32 runs, where no graph is named.
        on_note: takes a line for people at a time, while an engine is chosen, built and tested.

    Raises:
        EdgesegError: the model cannot be read, or the engine cannot be opened or gives no probabilities.
    """
    chosen = engine if isinstance(engine, EngineOptions) else EngineOptions(engine=engine)
    if isinstance(model, Bundle):
        network = _of_bundle(model, "model.edgeseg", chosen, on_note, quiet_factory)
    elif model is not None and _is_checkpoint(Path(model)):
        network = _of_checkpoint(Path(model))
    else:
        path = model_path(model)
        network = _of_bundle(read_bundle(path), path.name, chosen, on_note, quiet_factory)
    return Predictor(network, options)


def predict(
    config: PredictConfig, progress: Progress = Progress(), *, factory_from: FactoryFrom = quiet_factory
) -> Predicted:
    """Predict pictures and write what was asked for.

    Args:
        config: of the prediction.
        progress: takes a line per step, and counts rows of a picture that is covered with windows.
        factory_from: gives the factory of TensorRT engines.

    Raises:
        UsageError: it does not say what to predict, or where to write it.
        EdgesegError: the model, the engine, a picture or an output cannot be used.
    """
    from edgeseg.runtime.sinks.clash import refuse_overwriting

    began = time.perf_counter()
    streams = _streams(config)
    if config.output is None and config.probabilities is None and config.class_masks is None:
        raise UsageError("say where results go: `output` FOLDER for masks, `class_masks` or `probabilities` FOLDER")
    network, name = _network(config, progress, factory_from)
    if network.spec.mode == "multilabel" and config.output is not None and config.class_masks is None:
        progress.step(
            "the model finds several labels per pixel, and a map has one: that is the most probable; pass "
            "`class_masks` FOLDER for a mask of each label"
        )
    options = PredictOptions(tuple(config.scales), config.flip, config.tiles, config.overlap, config.smooth)
    with ExitStack() as open_things:
        predictor = open_things.enter_context(Predictor(network, options))
        sources = _sources(streams)
        read = [chosen_path(config.model), config.require_signature]
        sinks = [config.output] if config.output else []
        files = _files(config, predictor.spec, len(sources) > 1)
        others = [(one.option, (), one.folders([name for name, _ in sources])) for one in files]
        refuse_overwriting(streams, sinks, [path for path in read if path is not None], others=others)
        sink = open_things.enter_context(_sink(config, predictor, sources)) if config.output else None
        work = _Work(predictor, sink, files, progress)
        for source in sources:
            work.through(*source)
    written = (sink and sink.description, config.probabilities, config.class_masks)
    outputs = tuple(str(one) for one in written if one)
    work.refuse_unread(outputs)
    return Predicted(name, network.description, work.pictures, time.perf_counter() - began, outputs)


class _Work:
    """Predict the pictures of sources and write what is wanted of each."""

    def __init__(
        self,
        predictor: Predictor,
        sink: FrameSink | None,
        files: Sequence[PredictionFiles],
        progress: Progress,
    ) -> None:
        self._predictor, self._sink, self._files, self._progress = predictor, sink, files, progress
        self.pictures = 0
        self._unread: list[ImageError] = []

    def through(self, name: str, source: FrameSource) -> None:
        """Predict every picture of a source; those that cannot be read are left for the end. Raises EdgesegError."""
        from edgeseg.runtime.sources.base import EndOfStream
        from edgeseg.runtime.sources.stored import ImagesSource

        self._predictor.forget()
        if isinstance(source, ImagesSource) and source.renamed:
            self._progress.step(f"files share names, so the results of {some(source.renamed)}")
        with source:
            while True:
                try:
                    frame = source.read()
                except EndOfStream:
                    return
                except ImageError as error:
                    self._unread.append(error)
                    continue
                if frame is not None:
                    self._one(replace(frame, source=name))

    def refuse_unread(self, outputs: Sequence[str]) -> None:
        """Raise ImageError naming all pictures that could not be read; nothing where there is none."""
        if self._unread and not self.pictures:
            raise self._unread[0] if len(self._unread) == 1 else ImageError(some(self._unread, separator="; "))
        if self._unread:
            raise ImageError(
                f"{len(self._unread)} of {len(self._unread) + self.pictures} pictures could not be read, and the "
                f"results of the others are in {', '.join(outputs)}: {some(self._unread, separator='; ')}"
            )

    def _one(self, frame: Frame) -> None:
        from edgeseg.runtime.frame import Segmentation

        began = time.perf_counter_ns()
        height, width = frame.image.shape[:2]
        class_count = len(self._predictor.spec.classes)

        def take(top: int, band: np.ndarray) -> None:
            for kept in takers:
                kept(top, band)
            self._progress.count(f"rows of {frame.name}", top + band.shape[1], height)

        with ExitStack() as open_files:
            takers = [open_files.enter_context(one.file(frame, (class_count, height, width))) for one in self._files]
            classes = self._predictor.predict_bands(frame.image, take)
        laps_ms = {"infer": (time.perf_counter_ns() - began) / 1e6}
        if self._sink is not None:
            self._sink.write(Segmentation(frame, classes, laps_ms, class_count))
        self.pictures += 1


def _files(config: PredictConfig, spec: ModelSpec, by_source: bool) -> list[PredictionFiles]:
    files: list[PredictionFiles] = []
    if config.probabilities is not None:
        files.append(ProbabilityFiles(config.probabilities, by_source, config.overwrite))
    if config.class_masks is not None:
        files.append(ClassMaskFiles(config.class_masks, spec, by_source, config.overwrite))
    return files


def _streams(config: PredictConfig) -> list[Stream]:
    from edgeseg.runtime.sources.uri import streams_from_uri

    if not config.pictures:
        raise UsageError("say what to predict: `pictures` FILE, FOLDER or VIDEO")
    return [stream for uri in config.pictures for stream in streams_from_uri(uri)]


def _sources(streams: Sequence[Stream]) -> list[tuple[str, FrameSource]]:
    """Make the sources. Raises UsageError: one is live."""
    from edgeseg.runtime.gst.pipelines import CaptureOptions
    from edgeseg.runtime.sinks.clash import source_names
    from edgeseg.runtime.sources.uri import source_from_uri

    options = CaptureOptions(jetson=on_jetson())
    made = [(name, source_from_uri(stream.uri, options)) for name, stream in zip(source_names(streams), streams)]
    for stream, (_, source) in zip(streams, made):
        if source.is_live and not stream.uri.startswith("demo://"):  # which is rendered when it is asked for
            raise UsageError(f"{source.description} is live and has no end; 'edgeseg run' streams it")
    return made


def _sink(config: PredictConfig, predictor: Predictor, sources: Sequence[tuple[str, FrameSource]]) -> FrameSink:
    from edgeseg.metrics import ConfusionMatrix
    from edgeseg.runtime.drawing.overlay import Painter
    from edgeseg.runtime.sinks.uri import SinkContext, sink_from_uri
    from edgeseg.runtime.state import RunState, SourceState

    state = RunState(ConfusionMatrix(len(predictor.spec.classes), predictor.spec.ignore_id))
    for name, source in sources:
        state.sources[name] = SourceState(name, source.description, announced_fps=source.fps, is_live=False)
    painter = Painter(predictor.spec, visualize=tuple(config.visualize.split(",")))
    context = SinkContext(
        predictor.spec, painter, state, predictor.description, by_source=len(sources) > 1, overwrite=config.overwrite
    )
    return sink_from_uri(str(config.output), context)


def _network(config: PredictConfig, progress: Progress, factory_from: FactoryFrom) -> tuple[ScoringNetwork, str]:
    """Return the network and its name, with the reason why it was taken."""
    if config.model is not None and _is_checkpoint(config.model):
        if config.require_signature is not None:
            raise UsageError(f"a signature is required, and {config.model.name} is no bundle: it has none")
        return _of_checkpoint(config.model), str(config.model)
    bundle, name = bundle_or_default(config.model, config.require_signature)
    options = EngineOptions(graph=config.graph, engine=config.engine, threads=config.threads)
    return _of_bundle(bundle, name, options, progress.step, factory_from), name


def _is_checkpoint(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors"


def _of_checkpoint(path: Path) -> ScoringNetwork:
    require("torch", "train")
    from edgeseg.builder.checkpoint import load_checkpoint
    from edgeseg.builder.scoring import CheckpointNetwork

    return CheckpointNetwork(load_checkpoint(path), path.name)


def _of_bundle(
    bundle: Bundle, name: str, options: EngineOptions, tell: Callable[[str], None], factory_from: FactoryFrom
) -> ScoringNetwork:
    from edgeseg.engines.select import ENGINES

    chosen, scored = engine_name(options.engine), bundle
    if chosen is None or ENGINES[chosen].open is not None:
        graph = options.graph or FP32
        scored, options = _with_scores(bundle, graph), replace(options, graph=graph)
    engine = opened_engine(scored, name, options, tell=tell, factory_from=factory_from, tuned=bundle)
    try:
        return EngineNetwork(engine, bundle.spec)
    except BaseException:
        engine.close()
        raise


def _with_scores(bundle: Bundle, graph: str) -> Bundle:
    """Return the bundle with a graph that gives scores; one that it does not have is left to the engine to refuse."""
    from edgeseg.compiler.graph.scored import scored_onnx

    entry = bundle.graphs.get(graph)
    if entry is None or entry.target == "tensorrt":
        return bundle
    scored = scored_onnx(entry.onnx, graph, len(bundle.spec.classes), sigmoids=bundle.spec.has_sigmoids)
    return replace(bundle, graphs={**bundle.graphs, graph: GraphEntry(scored, entry.recipe)})
