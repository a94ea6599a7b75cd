"""Networks of sigmoids from training to the bundle: the same classes everywhere, the field's numbers."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
import torch
import torchmetrics

from edgeseg.app.bench_config import EvalConfig
from edgeseg.app.compile import compile_bundle
from edgeseg.app.compile_config import CompileConfig, ForeignNetwork
from edgeseg.app.config import EngineOptions
from edgeseg.app.evaluate import evaluate
from edgeseg.app.predict import open_predictor, predict
from edgeseg.app.predict_config import PredictConfig
from edgeseg.app.segment import open_engine, segment
from edgeseg.builder.checkpoint import load_checkpoint
from edgeseg.builder.distillation.teacher import load_teacher
from edgeseg.builder.heads import class_ids, count_found, new_counts, probabilities, weights_by_rarity
from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.builder.training import EpochResult, TrainOptions, TrainRecipe, train
from edgeseg.bundle import read_bundle
from edgeseg.engines.base import Engine
from edgeseg.engines.ort import OrtEngine
from edgeseg.errors import CheckpointError, DatasetError, SpecError, UsageError
from edgeseg.images import InMemory, Sample, read_mask, write_png
from edgeseg.labels import LabelCounts
from edgeseg.metrics import ConfusionMatrix
from edgeseg.prediction.predictor import Prediction
from edgeseg.preprocess import normalized
from edgeseg.progress import Progress
from edgeseg.spec import IGNORE_ID, ModelSpec

BINARY = ModelSpec(("ground", "disc"), ((0, 0, 0), (200, 30, 30)), (64, 64), mode="binary")
LABELS = ModelSpec(("background", "disc", "bar"), ((0, 0, 0), (200, 0, 0), (0, 0, 200)), (64, 64), mode="multilabel")
RECIPE = TrainRecipe(epochs=3, batch=4, crop=64, workers=0, loss="ce+dice", augment="basic,balanced=0.5,classmix=0.5")
NETWORK = NetworkConfig("unet", "timm-mobilenetv3_small_minimal_100", 1, decoder_channels=(16, 8, 8, 8, 8))


def drawn(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture with a bright square and a blue bar across it, which may overlap, and their planes; some have none."""
    rng = np.random.default_rng(index)
    frame, planes = rng.integers(0, 80, (64, 64, 3), dtype=np.uint8), np.zeros((2, 64, 64), np.uint8)
    if index % 4:
        top, left, row = rng.integers(0, 40, 3)
        planes[0, top : top + 22, left : left + 22] = 1
        planes[1, row : row + 14] = 1
        frame[planes[0] == 1] += 120
        frame[planes[1] == 1, 0] = 230
    return frame, planes


def data_of(spec: ModelSpec, count: int = 8, first: int = 0) -> InMemory:
    samples = [(f"p{index}", *drawn(index)) for index in range(first, first + count)]
    return InMemory(
        [Sample(name, frame, planes[0] if spec.mode == "binary" else planes) for name, frame, planes in samples],
        "drawn",
    )


def trained(folder: Path, spec: ModelSpec, recipe: TrainRecipe = RECIPE, **how: Any) -> list[EpochResult]:
    results: list[EpochResult] = []
    config = dataclasses.replace(NETWORK, classes=spec.outputs)
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    options = TrainOptions(report=results.append, **how)
    train(network_from_config(config), config, spec, [data_of(spec)], data_of(spec, 4, 20), recipe, folder, options)
    return results


Run = Tuple[Path, List[EpochResult], ModelSpec]


@pytest.fixture(scope="module", params=[BINARY, LABELS], ids=lambda spec: spec.mode)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of three epochs without an interruption."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(request.param.mode)
    return folder, trained(folder, request.param), request.param


def test_a_run_learns_and_its_numbers_are_those_of_torchmetrics(run: Run) -> None:
    folder, results, spec = run
    assert results[-1].loss < results[0].loss
    best = load_checkpoint(folder / "last.safetensors")
    assert best.spec == spec and best.config.classes == spec.outputs
    network = best.network.to(memory_format=torch.channels_last)
    found, labels = [], []
    for _, frame, label in (data_of(spec, 4, 20)[index] for index in range(4)):
        assert label is not None
        image = torch.from_numpy(normalized(frame[None], spec.preprocess))
        with torch.inference_mode():  # in the layout of a training: in another one a pixel on the edge may fall over
            found.append(network(image.contiguous(memory_format=torch.channels_last))[0] > 0)
        labels.append(torch.from_numpy(np.atleast_3d(label) if label.ndim == 3 else label[None]))
    predictions, truth = torch.stack(found).long(), torch.stack(labels).long()
    of_task = {"num_labels": spec.outputs, "average": "none"} if spec.outputs > 1 else {}
    kind = "multilabel" if spec.outputs > 1 else "binary"
    iou = np.atleast_1d(torchmetrics.JaccardIndex(kind, **of_task)(predictions, truth).numpy())
    dice = np.atleast_1d(torchmetrics.F1Score(kind, **of_task)(predictions, truth).numpy())
    last = results[-1]
    assert [last.iou[name] for name in spec.classes[1:]] == pytest.approx(iou.tolist(), abs=1e-6)
    if spec.outputs > 1:
        assert last.miou == pytest.approx(float(iou.mean()), abs=1e-6)
        assert last.dice == pytest.approx(float(dice.mean()), abs=1e-6)
        assert list(last.iou) == ["disc", "bar"]
    else:
        without = torchmetrics.JaccardIndex("binary")(1 - predictions, 1 - truth)
        assert last.iou["ground"] == pytest.approx(float(without), abs=1e-6)
    page = (folder / "summary.html").read_text()
    assert f"<td>{spec.mode}</td>" in page and "disc" in page


def test_an_interrupted_run_goes_on_as_if_nothing_had_been(tmp_path: Path, run: Run) -> None:
    folder, whole, spec = run

    class Stop(Exception):
        pass

    def stop(result: EpochResult) -> None:
        if result.epoch == 2:
            raise Stop

    config = dataclasses.replace(NETWORK, classes=spec.outputs)
    torch.manual_seed(0)
    with pytest.raises(Stop):
        train(
            network_from_config(config), config, spec, [data_of(spec)], data_of(spec, 4, 20), RECIPE, tmp_path,
            TrainOptions(report=stop),
        )  # fmt: skip
    other = dataclasses.replace(spec, threshold=0.4)
    with pytest.raises(CheckpointError, match=r"threshold was 0.5 and is 0.4"):
        trained(tmp_path, other, resume=True)
    resumed = trained(tmp_path, spec, resume=True)
    assert resumed[-1].loss == whole[-1].loss
    ours, theirs = (load_checkpoint(one / "last.safetensors") for one in (tmp_path, folder))
    for name, value in theirs.network.state_dict().items():
        assert torch.equal(ours.network.state_dict()[name], value), name


def test_weights_say_how_rare_the_pixels_of_a_label_are() -> None:
    counts = LabelCounts(1, np.array([500, 100, 600]), 0, 0, pixels=1000)
    for weight, share in zip(weights_by_rarity(counts, LABELS).tolist(), (0.1, 0.6)):
        assert weight == pytest.approx(np.log(1.02 + 1 - share) / np.log(1.02 + share), rel=1e-6)
    nothing = weights_by_rarity(LabelCounts(1, np.array([1000, 0]), 0, 0, pixels=1000), BINARY)
    assert torch.isfinite(nothing).all()


@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.9])
@pytest.mark.parametrize("mode", ["binary", "multilabel"])
def test_probabilities_and_classes_follow_from_logits(mode: str, threshold: float) -> None:
    spec = dataclasses.replace(BINARY if mode == "binary" else LABELS, threshold=threshold)
    logits = torch.randn(2, spec.outputs, 8, 8, generator=torch.Generator().manual_seed(1)) * 3
    each = torch.sigmoid(logits)
    scores = probabilities(logits, spec)
    torch.testing.assert_close(scores[:, 1:], each)
    torch.testing.assert_close(scores[:, 0], 1 - each.max(1).values)
    expected = torch.where(each.max(1).values > threshold, each.argmax(1) + 1, 0)
    assert torch.equal(class_ids(logits, spec).long(), expected)
    counts = new_counts(spec)
    label = (each[0] > threshold).to(torch.uint8).numpy()
    count_found(counts, logits[0], label if mode == "multilabel" else label[0], spec)
    assert counts.miou() == 1.0


def test_masks_without_any_object_are_refused_and_single_empty_ones_are_not(tmp_path: Path) -> None:
    frame = np.zeros((64, 64, 3), np.uint8)
    for value, held in ((0, "ground"), (1, "disc")):
        data = InMemory(
            [Sample(str(index), frame + index, np.full((64, 64), value, np.uint8)) for index in range(4)], "x"
        )
        config = dataclasses.replace(NETWORK, classes=1)
        with pytest.raises(DatasetError, match=f"hold only 1 of the 2 classes .*{held}"):
            train(network_from_config(config), config, BINARY, [data], data, RECIPE, tmp_path)
    assert drawn(0)[1].any() == False and drawn(1)[1].any()  # noqa: E712 - the data of these tests has both


def test_networks_of_sigmoids_have_no_teachers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="teachers teach networks of mode multiclass, and this one is binary"):
        load_teacher(tmp_path / "any.safetensors", BINARY)


def test_a_batch_of_nothing_but_void_is_left_out(tmp_path: Path) -> None:
    frame, planes = drawn(1)
    void = np.full_like(planes[0], IGNORE_ID)
    samples = [Sample(str(index), frame, planes[0] if index < 2 else void) for index in range(8)]
    config = dataclasses.replace(NETWORK, classes=1)
    recipe = dataclasses.replace(RECIPE, epochs=1, batch=2, augment="none")
    results: list[EpochResult] = []
    train(
        network_from_config(config), config, BINARY, [InMemory(samples, "x")], data_of(BINARY, 4, 20), recipe, tmp_path,
        TrainOptions(report=results.append),
    )  # fmt: skip
    assert np.isfinite(results[0].loss)


def test_a_spec_of_sigmoids_travels_and_a_wrong_one_is_told() -> None:
    for spec in (BINARY, dataclasses.replace(LABELS, threshold=0.3)):
        assert ModelSpec.from_json(spec.to_json()) == spec
    plain = dataclasses.replace(BINARY, mode="multiclass")
    assert "mode" not in plain.to_json() and plain.outputs == 2 and BINARY.outputs == 1
    three = (("a", "b", "c"), ((0, 0, 0),) * 3, (64, 64))
    with pytest.raises(SpecError, match="mode binary has two classes.* got 3"):
        ModelSpec(*three, mode="binary")
    with pytest.raises(SpecError, match="list it in front: background,disc"):
        ModelSpec(("disc",), ((0, 0, 0),), (64, 64), mode="binary")
    with pytest.raises(SpecError, match="mode is one of multiclass, binary, multilabel, got 'softmax'"):
        ModelSpec(*three, mode="softmax")
    with pytest.raises(SpecError, match="a threshold is for mode binary and multilabel, got 0.3"):
        ModelSpec(*three, threshold=0.3)
    with pytest.raises(SpecError, match="between 0 and 1, got 1"):
        ModelSpec(*three, mode="multilabel", threshold=1.0)


def on_disk(folder: Path, spec: ModelSpec) -> str:
    """Lay pictures out with a folder of masks per class, and return their name."""
    for index in range(20, 36):
        frame, planes = drawn(index)
        for kind, mask in (("images", frame), *zip([f"masks/{name}" for name in spec.classes[1:]], planes * 255)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write_png(folder / kind / f"{index}.png", mask)
    return f"class-folders://{folder}"


def test_checkpoint_bundle_and_engines_give_the_same_classes(tmp_path: Path, run: Run) -> None:
    checkpoint, spec = run[0] / "best.safetensors", run[2]
    data, path = on_disk(tmp_path / "data", spec), tmp_path / "m.edgeseg"
    graphs = ("int8-tensorrt", "int8-cpu")
    lines: list[str] = []
    made = compile_bundle(
        CompileConfig(checkpoint, emit=graphs, calibration=(data,), evaluation=data, out=path, gate=False, cache=False),
        Progress(step=lines.append),
    )
    bundle = read_bundle(path)
    assert bundle.spec == spec and set(bundle.graphs) == {"fp32", *graphs}
    level = "one channel became two" if spec.mode == "binary" else "2 sigmoids: class 0 where none is above 0.5"
    assert any(level in line for line in lines)
    assert any("shows one of a pixel's labels" in note for note in made.compilation.notes) == (
        spec.mode == "multilabel"
    )
    with open_predictor(checkpoint) as one, open_predictor(bundle) as other:
        found = [one.predict(drawn(index)[0], probabilities=True) for index in range(20, 36)]
        for index, ours in enumerate(found, 20):
            theirs = other.predict(drawn(index)[0], probabilities=True)
            assert ours.probabilities is not None and theirs.probabilities is not None
            np.testing.assert_allclose(theirs.probabilities, ours.probabilities, atol=1e-4)
            near = np.abs(ours.probabilities[1:] - 0.5).min(0) < 1e-3  # rounding may decide
            assert (theirs.classes == ours.classes)[~near].all()
    for name, least in (("fp32", 0.999), *((graph, 0.9) for graph in graphs)):
        with OrtEngine(bundle.graphs[name].onnx, float_qdq="tensorrt" in name) as engine:
            assert share_of(engine, found) > least, name
    for kind in ("onnxruntime", *(["openvino"] if find_spec("openvino") else [])):
        with open_engine(bundle, EngineOptions(engine=kind, graph="fp32")) as engine:
            assert share_of(engine, found) > 0.999, kind
    evaluation = evaluate(EvalConfig(path, data, graph="fp32"))
    assert ("the shown one" in evaluation.what) == (spec.mode == "multilabel")
    judged = evaluation.confusion
    again = ConfusionMatrix(len(spec.classes))
    for index, ours in enumerate(found, 20):
        planes = drawn(index)[1]
        again.update(ours.classes, planes if spec.mode == "multilabel" else planes[0])
    np.testing.assert_allclose(judged.counts, again.counts, atol=20)


def share_of(engine: Engine, found: list[Prediction]) -> float:
    """Share of the pixels that an engine gives the class that the checkpoint gave them."""
    same = [segment(engine, drawn(index)[0]).classes == ours.classes for index, ours in enumerate(found, 20)]
    return float(np.mean(same))


def test_the_threshold_is_changed_without_a_training(tmp_path: Path, run: Run) -> None:
    checkpoint, data, path = run[0] / "best.safetensors", on_disk(tmp_path / "data", run[2]), tmp_path / "m.edgeseg"
    with pytest.raises(SpecError, match="between 0 and 1"):
        compile_bundle(CompileConfig(checkpoint, onnx=ForeignNetwork(threshold=1.0), evaluation=data, out=path))
    strict = ForeignNetwork(threshold=0.9)
    compile_bundle(CompileConfig(checkpoint, onnx=strict, scores=True, evaluation=data, out=path))
    frame = drawn(21)[0]
    with open_predictor(checkpoint) as plain, open_predictor(path) as other, open_engine(read_bundle(path)) as engine:
        assert other.spec == dataclasses.replace(plain.spec, threshold=0.9) == engine.spec
        found, usual = (one.predict(frame, probabilities=True) for one in (other, plain))
        assert found.probabilities is not None and usual.probabilities is not None
        np.testing.assert_allclose(found.probabilities, usual.probabilities, atol=1e-4)
        assert (segment(engine, frame).classes == found.classes).mean() > 0.999
        assert (found.classes > 0).sum() <= (usual.classes > 0).sum()


def test_a_mask_for_each_label_holds_what_the_map_hides(tmp_path: Path, run: Run) -> None:
    checkpoint, spec = run[0] / "best.safetensors", run[2]
    write_png(tmp_path / "p.png", drawn(21)[0])
    heard: list[str] = []
    usual = {"pictures": (str(tmp_path / "p.png"),), "model": checkpoint, "output": str(tmp_path / "out")}
    predict(PredictConfig(**usual), Progress(step=heard.append))
    assert any("pass `class_masks` FOLDER" in line for line in heard) == (spec.mode == "multilabel")
    predict(PredictConfig(**{**usual, "output": None}, class_masks=tmp_path / "c", probabilities=tmp_path / "q"))
    scores = np.load(tmp_path / "q" / "p.npy")
    names = spec.classes[1:] if spec.mode == "multilabel" else spec.classes
    assert {path.name for path in (tmp_path / "c").iterdir()} == set(names) and len(scores) == len(spec.classes)
    masks = np.stack([read_mask(tmp_path / "c" / name / "p.png") for name in names])
    clear = np.abs(scores - 0.5).min(0) > 1e-3
    np.testing.assert_array_equal(masks[:, clear] == 255, (scores[-len(names) :] > 0.5)[:, clear])
    shown = read_mask(tmp_path / "out" / "masks" / "p.png")
    assert ((shown > 0) == (masks[-spec.outputs :] == 255).any(0)).all()
