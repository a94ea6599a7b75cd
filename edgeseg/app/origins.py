"""Read what a compilation starts from: a checkpoint, a bundle, or an ONNX file of another exporter."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeseg.app.compile_config import CompileConfig, ForeignNetwork
from edgeseg.app.data import size_hw_from, spec_from, triple_from
from edgeseg.bundle import Bundle, read_bundle
from edgeseg.errors import CompileError, SpecError, UsageError, require
from edgeseg.files import file_sha256
from edgeseg.images import Dataset, InMemory, Sample
from edgeseg.ranges import Ranges
from edgeseg.recipes import FP32, Fp32
from edgeseg.signature import PublicKeys
from edgeseg.spec import ModelSpec, Preprocess, of_byte_scale

if TYPE_CHECKING:
    from edgeseg.builder.checkpoint import Checkpoint
    from edgeseg.compiler.importers.onnx_network import GraphFacts
    from edgeseg.compiler.options import NetworkOptions
    from edgeseg.progress import Progress

__all__ = ["Origin", "brings_ranges", "origin_from", "ranges_of_graph", "spec_from_file"]


@dataclass(frozen=True)
class Origin:
    """What a model brings to a compilation."""

    graph: Any
    spec: ModelSpec
    provenance: dict[str, Any]
    ranges: Ranges | None = None
    golden: Dataset | None = None
    float16_weights: bool = False
    notes: tuple[str, ...] = ()
    is_signed: bool = False


def origin_from(path: Path, config: CompileConfig, progress: Progress, *, accepted: PublicKeys | None = None) -> Origin:
    """Return the folded FP32 graph of a file and all that is known with it.

    Args:
        path: a checkpoint, an ``.onnx`` file or a bundle.
        config: size, simplifier, scores, and what the user knows of an ONNX file.
        progress: takes a line per step.
        accepted: keys one of which must have signed a bundle; None demands nothing.

    Raises:
        EdgesegError: it cannot be read, or the configuration does not fit it.
    """
    if path.suffix.lower() == ".onnx":
        return _from_onnx(path, config, progress)
    if path.suffix.lower() != ".edgeseg" and _is_of_others(path):
        return _from_foreign_checkpoint(path, config, progress)
    described = _described(config.onnx)
    if path.suffix.lower() != ".edgeseg":
        described = [name for name in described if name != "`threshold`"]  # a network of sigmoids takes another one
    if described:
        raise UsageError(
            f"{', '.join(described)} describe a network of others; {path.name} carries its own description"
        )
    if path.suffix.lower() == ".edgeseg":
        return _from_bundle(path, config, accepted)
    return _from_checkpoint(path, config, progress)


def _described(foreign: ForeignNetwork) -> list[str]:
    """Return the names of the fields that are set, in backticks."""
    return [f"`{name}`" for name, value in asdict(foreign).items() if value is not None]


def _is_of_others(path: Path) -> bool:
    require("torch", "train")
    from edgeseg.builder.checkpoint import is_own_checkpoint

    return not is_own_checkpoint(path)


def _from_foreign_checkpoint(path: Path, config: CompileConfig, progress: Progress) -> Origin:
    """Of a checkpoint that code of segmentation-models-pytorch wrote."""
    from edgeseg import __version__
    from edgeseg.builder.foreign import foreign_network
    from edgeseg.compiler.steps.float_graph import float_graph_from_module

    foreign = config.onnx
    idle = [f"`{name}`" for name in ("layout", "output") if getattr(foreign, name) is not None]
    if idle:
        raise UsageError(f"{', '.join(idle)} describe an ONNX file, and {path.name} is none; leave them out")
    network = foreign_network(path, foreign.network, foreign.encoder)
    shape = network.config
    progress.step(
        f"{path.name} is {shape.architecture} + {shape.encoder} of segmentation-models-pytorch, {shape.classes} "
        f"{'classes' if shape.classes > 1 else 'class'}, {shape.in_channels} channels"
    )
    missing = [] if config.size else ["`size` WIDTHxHEIGHT"]
    missing += [] if foreign.classes else [f"`classes` FILE (the network gives {shape.classes} channels)"]
    if foreign.mean is None or foreign.std is None:
        missing.append(
            "`mean` R,G,B and `std` R,G,B (how its training scaled images; smp's own preprocessing of ImageNet is "
            "0.485,0.456,0.406 and 0.229,0.224,0.225)"
        )
    missing += [] if foreign.channel_order or shape.in_channels == 1 else ["`channel_order` RGB or BGR"]
    spec, remarks = _spec_of_others(config, size_hw_from(config.size) if config.size else None, missing, path)
    graph = float_graph_from_module(network, spec, _network_options(config), progress)
    provenance = {
        "edgeseg": __version__,
        "network": shape.to_json(),
        "checkpoint": path.name,
        "simplifier": config.simplifier,
        **({"checkpoint_sha256": file_sha256(path)} if path.is_file() else {}),
    }
    return Origin(graph=graph, spec=spec, provenance=provenance, notes=tuple(remarks))


def _from_bundle(path: Path, config: CompileConfig, accepted: PublicKeys | None) -> Origin:
    from edgeseg.compiler.steps.float_graph import float_graph_from_bundle

    if config.size is not None or config.scores:
        raise UsageError("`size` and `scores` need a checkpoint or an ONNX file: a bundle's graphs are fixed")
    bundle = read_bundle(path, accepted=accepted)
    return Origin(
        graph=float_graph_from_bundle(bundle),
        spec=bundle.spec,
        provenance=dict(bundle.provenance),
        ranges=bundle.ranges,
        golden=_golden_samples(bundle),
        float16_weights=bundle.graphs[FP32].recipe == Fp32("float16"),
        is_signed=bool(bundle.signatures),
    )


def _from_checkpoint(path: Path, config: CompileConfig, progress: Progress) -> Origin:
    require("torch", "train")
    from edgeseg import __version__
    from edgeseg.builder.checkpoint import load_checkpoint
    from edgeseg.compiler.options import NetworkOptions
    from edgeseg.compiler.steps.float_graph import float_graph_from_module

    checkpoint = load_checkpoint(path)
    spec = checkpoint.spec if config.size is None else replace(checkpoint.spec, size_hw=size_hw_from(config.size))
    if config.onnx.threshold is not None:
        spec = replace(spec, threshold=config.onnx.threshold)
    options = replace(_network_options(config), threshold=NetworkOptions.threshold)
    graph = float_graph_from_module(checkpoint.network, spec, options, progress)
    return Origin(
        graph=graph,
        spec=spec,
        ranges=ranges_of_graph(checkpoint.ranges, graph),
        notes=_notes_on_rounding(checkpoint, config),
        provenance={
            "edgeseg": __version__,
            "network": checkpoint.config.to_json(),
            "training": dict(checkpoint.training),
            "checkpoint_sha256": file_sha256(path),
            "simplifier": config.simplifier,
        },
    )


def _notes_on_rounding(checkpoint: Checkpoint, config: CompileConfig) -> tuple[str, ...]:
    """Tell where a network was fine-tuned for other weight scales than it is compiled with."""
    per_tensor = bool(checkpoint.training.get("recipe", {}).get("per_tensor", False))
    if checkpoint.ranges is None or not config.int8 or per_tensor == config.per_tensor:
        return ()
    trained, compiled = ("tensor", "channel") if per_tensor else ("channel", "tensor")
    return (f"the network was fine-tuned with one weight scale per {trained}, and is compiled with one per {compiled}",)


def brings_ranges(path: Path) -> bool:
    """Return whether a file may bring ranges of INT8: a bundle, or a checkpoint that was fine-tuned with some."""
    if path.suffix.lower() != ".safetensors":
        return path.suffix.lower() == ".edgeseg"
    require("torch", "train")
    from edgeseg.builder.checkpoint import has_ranges

    return has_ranges(path)


def ranges_of_graph(ranges: Ranges | None, graph: Any) -> Ranges | None:
    """Return a checkpoint's ranges as those of its graph, which a network's weights and names of tensors make.

    None where a tensor has no range, which is then asked for: the graph is of another simplifier or torch.
    """
    from edgeseg.compiler.graph.fold import SCORES
    from edgeseg.compiler.graph.tensors import float_activations, graph_sha256

    if ranges is None or not set(float_activations(graph)) <= {*ranges.tensors, SCORES}:
        return None
    return replace(ranges, graph_sha256=graph_sha256(graph))


def _from_onnx(path: Path, config: CompileConfig, progress: Progress) -> Origin:
    from edgeseg import __version__
    from edgeseg.compiler.importers.onnx_network import graph_facts, loaded_onnx
    from edgeseg.compiler.steps.float_graph import float_graph_from_onnx

    model = loaded_onnx(path)
    facts = graph_facts(model)
    if len(facts.inputs) != 1:
        raise CompileError(f"{path.name} has {len(facts.inputs)} inputs; a segmentation network has one, the image")
    spec, remarks = _foreign_spec(config, facts, path)
    for remark in remarks:
        progress.step(remark)
    graph, lines = float_graph_from_onnx(model, spec, _network_options(config), progress)
    return Origin(
        graph=graph,
        spec=spec,
        provenance={
            "edgeseg": __version__,
            "onnx": path.name,
            "onnx_sha256": file_sha256(path),
            "producer": facts.producer,
            "simplifier": config.simplifier,
            "changes": [*remarks, *lines],
        },
        notes=tuple(remarks),
    )


def _network_options(config: CompileConfig) -> NetworkOptions:
    from edgeseg.compiler.options import NetworkOptions

    foreign = config.onnx
    return NetworkOptions(
        simplifier=config.simplifier,
        scores=config.scores,
        background=foreign.background,
        threshold=0.5 if foreign.threshold is None else foreign.threshold,
        layout=foreign.layout,
        output=foreign.output,
    )


def _foreign_spec(config: CompileConfig, facts: GraphFacts, path: Path) -> tuple[ModelSpec, list[str]]:
    """The spec of an ONNX file, and what was taken from other numbers than were passed.

    It comes from ``spec``, or from the other fields; one error names everything that is missing.
    """
    from edgeseg.compiler.importers.onnx_network import missing_facts, stated_size_hw

    foreign = config.onnx
    size_hw = size_hw_from(config.size) if config.size else stated_size_hw(facts, foreign.layout)
    missing = missing_facts(
        facts,
        class_count=None if foreign.classes is None else 0,
        size_hw=size_hw,
        layout=foreign.layout,
        output=foreign.output,
        normalisation=foreign.mean is not None and foreign.std is not None,
        channel_order=foreign.channel_order is not None,
    )
    return _spec_of_others(config, size_hw, missing, path)


def _spec_of_others(
    config: CompileConfig, size_hw: tuple[int, int] | None, missing: list[str], path: Path
) -> tuple[ModelSpec, list[str]]:
    """The spec of a network of others, and what was taken from other numbers than were passed."""
    foreign = config.onnx
    if foreign.spec is not None:
        kept = ("`spec`", "`layout`", "`output`", "`background`", "`threshold`", "`network`", "`encoder`")
        repeated = [name for name in _described(foreign) if name not in kept]
        repeated += ["`size`"] if config.size else []
        if repeated:
            raise UsageError(f"`spec` says it already; leave out {', '.join(repeated)}")
        return spec_from_file(foreign.spec, "spec"), []
    if missing or size_hw is None:
        what = "the ONNX file" if path.suffix.lower() == ".onnx" else path.name
        raise UsageError(
            f"{what} does not say everything; pass {'; '.join(missing)} (or `spec` FILE.json, a spec as "
            "'edgeseg inspect --json' prints it)"
        )
    spec = spec_from(str(foreign.classes), f"{size_hw[1]}x{size_hw[0]}", foreign.ignore, background=foreign.background)
    preprocess, remarks = _preprocess(foreign)
    return replace(spec, preprocess=preprocess), remarks


def _preprocess(foreign: ForeignNetwork) -> tuple[Preprocess, list[str]]:
    """From ``mean``, ``std`` and ``channel_order``; those of 0-255 are divided by 255, and a line says so."""
    mean = triple_from(foreign.mean or "0,0,0", "`mean`")
    std = triple_from(foreign.std or ",".join(3 * [repr(1 / 255)]), "`std`")
    order = foreign.channel_order or "RGB"
    if not of_byte_scale(mean, std):
        return Preprocess(mean, std, order), []
    taken = Preprocess.from_byte_scale(mean, std, order)
    shown = (",".join(f"{value:.4g}" for value in values) for values in (taken.mean, taken.std))
    return taken, ["mean and std are of pixels of 0-255; of 0-1 they are mean {} and std {}".format(*shown)]


def spec_from_file(path: Path, field: str) -> ModelSpec:
    """Read a spec as 'edgeseg inspect --json' prints it.

    Args:
        path: of the JSON file.
        field: that named it, for messages.

    Raises:
        UsageError, SpecError: it cannot be read, or is no spec.
    """
    try:
        data = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"`{field}` {path} cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise SpecError(f"`{field}` {path} holds a {type(data).__name__}, not an object")
    return ModelSpec.from_json(data.get("spec", data))


def _golden_samples(bundle: Bundle) -> Dataset | None:
    if bundle.golden is None:
        return None
    pairs = zip(bundle.golden.frames, bundle.golden.labels)
    samples = [Sample(f"golden{index}", frame, label) for index, (frame, label) in enumerate(pairs)]
    return InMemory(samples, f"{len(samples)} golden frames of the bundle")
