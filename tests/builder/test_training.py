from __future__ import annotations

import csv
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.builder.checkpoint import SafetensorsIO, load_checkpoint
from edgeseg.builder.data import EpochOrder, SeededCrops, TrainingCrops, class_weights
from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.builder.run_folder import RUN_FILES
from edgeseg.builder.task import averaging
from edgeseg.builder.training import EpochResult, TrainingPlan, TrainOptions, TrainRecipe, train
from edgeseg.demo import CLASSES, PALETTE
from edgeseg.demo.street import StreetDataset
from edgeseg.errors import CheckpointError, DatasetError, ImageError, TrainingError, UsageError
from edgeseg.images import FolderDataset, InMemory, Joined, Sample, write_png
from edgeseg.labels import label_counts
from edgeseg.preprocess import normalized
from edgeseg.spec import IGNORE_ID, ModelSpec

SPEC = ModelSpec(CLASSES, PALETTE, (64, 96), ignore_id=11)
DATA = StreetDataset("demo://street?frames=8&step=60&size=96x64")
RECIPE = TrainRecipe(epochs=3, batch=2, crop=32, workers=0)
RESUME = TrainOptions(resume=True)


class PullThePlug(Exception):
    """The power goes after so many epochs."""


def _train(
    folder: Path, recipe: TrainRecipe, *, resume: bool = False, stop_after: int = 99, **how: Any
) -> list[EpochResult]:
    results: list[EpochResult] = []

    def report(result: EpochResult) -> None:
        results.append(result)
        if len(results) == stop_after:
            raise PullThePlug

    config = NetworkConfig()
    torch.manual_seed(0)
    network = network_from_config(config)
    folder.mkdir(exist_ok=True)
    best = train(network, config, SPEC, [DATA], DATA, recipe, folder, TrainOptions(resume=resume, report=report, **how))
    assert best.spec == SPEC and best.training["val_miou"] >= max((r.miou for r in results), default=0)
    return results


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "last.safetensors").network.state_dict()


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[EpochResult]]:
    """A run of three epochs without an interruption."""
    folder = tmp_path_factory.mktemp("straight")
    torch.set_num_threads(1)
    return folder, _train(folder, RECIPE)


def test_validates_the_first_the_last_and_every_nth_epoch(
    tmp_path: Path, straight: tuple[Path, list[EpochResult]]
) -> None:
    seldom = dataclasses.replace(RECIPE, epochs=4, validate_every=3)
    # Nothing is told of the second epoch, so the plug is pulled in the third, which is repeated.
    with pytest.raises(PullThePlug):
        _train(tmp_path, seldom, stop_after=2)
    results = _train(tmp_path, seldom, resume=True)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "3", "4"]
    assert [result.epoch for result in results] == [3, 4]
    short = dataclasses.replace(RECIPE, validate_every=2)
    assert [result.epoch for result in _train(tmp_path / "short", short)] == [1, 2, 3]
    mine, theirs = _weights(straight[0]), _weights(tmp_path / "short")
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name


def test_saves_logs_and_resumes_the_very_run_that_was_interrupted(
    tmp_path: Path, straight: tuple[Path, list[EpochResult]]
) -> None:
    with pytest.raises(PullThePlug):
        _train(tmp_path, RECIPE, stop_after=2)
    plans: list[TrainingPlan] = []
    # Other workers and steps shown change nothing.
    lines: list[str] = []
    resumed = _train(
        tmp_path, dataclasses.replace(RECIPE, workers=1), resume=True, on_start=plans.append, on_step=lines.append
    )
    assert [result.epoch for result in resumed] == [2, 3], "the epoch whose state was not stored yet comes again"
    assert (plans[0].first_epoch, plans[0].epochs, plans[0].steps, plans[0].images) == (2, 3, 4, 8)
    assert lines[0].startswith("epoch 2/3  step 1/4  loss ") and lines[-1] == ""
    names = {"best.safetensors", "last.safetensors", "resume.safetensors", *RUN_FILES}
    assert names == {path.name for path in tmp_path.iterdir()} - {"tensorboard"}
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"], "each epoch once"
    assert float(rows[-1]["iou road"]) == pytest.approx(resumed[-1].iou["road"], abs=1e-5)
    folder, results = straight
    assert [result.loss for result in resumed] == pytest.approx([result.loss for result in results[1:]], rel=1e-5)
    torch.testing.assert_close(_weights(tmp_path), _weights(folder), rtol=1e-3, atol=1e-5)


def test_the_same_seed_gives_the_same_run_and_it_learns(
    tmp_path: Path, straight: tuple[Path, list[EpochResult]]
) -> None:
    _, results = straight
    again = _train(tmp_path, RECIPE)
    assert [result.loss for result in again] == pytest.approx([result.loss for result in results], rel=1e-5)
    assert results[-1].loss < results[0].loss


def test_a_finished_run_goes_on_for_more_epochs(tmp_path: Path, straight: tuple[Path, list[EpochResult]]) -> None:
    shutil.copytree(straight[0], tmp_path / "run")
    plans: list[TrainingPlan] = []
    assert _train(tmp_path / "run", RECIPE, resume=True, on_start=plans.append) == []
    assert plans[0].first_epoch > plans[0].epochs, "nothing is left"
    before = _weights(tmp_path / "run")["network.encoder.conv_stem.weight"]
    more = _train(tmp_path / "run", dataclasses.replace(RECIPE, epochs=4), resume=True)
    assert [result.epoch for result in more] == [4]
    after = _weights(tmp_path / "run")["network.encoder.conv_stem.weight"]
    assert not torch.equal(before, after), "the learning rate is that of a longer run, and not the zero at the end"
    with pytest.raises(CheckpointError, match="has 4 epochs behind it; pass `epochs` of at least that, not 3"):
        _train(tmp_path / "run", RECIPE, resume=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning_rate": 1e-4}, "learning_rate was 0.002 and is 0.0001; resume"),
        ({"seed": 5}, "seed was 0 and is 5; resume"),
        ({"batch": 4, "crop": 64}, "batch was 2 and is 4; crop was 32 and is 64; resume"),
    ],
)
def test_another_run_is_not_resumed_and_only_what_differs_is_named(
    straight: tuple[Path, list[EpochResult]], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(CheckpointError, match=f"is of another run: {said}"):
        _train(straight[0], dataclasses.replace(RECIPE, **change), resume=True)


def test_a_run_of_other_classes_in_the_same_number_is_not_resumed(straight: tuple[Path, list[EpochResult]]) -> None:
    swapped = dataclasses.replace(SPEC, classes=(CLASSES[1], CLASSES[0], *CLASSES[2:]))
    config = NetworkConfig()
    with pytest.raises(
        CheckpointError, match=r"is of another run: classes was \['sky', .* and is \['building', 'sky', "
    ):
        train(network_from_config(config), config, swapped, [DATA], DATA, RECIPE, straight[0], RESUME)


def test_a_run_of_another_network_is_not_resumed(straight: tuple[Path, list[EpochResult]]) -> None:
    config = NetworkConfig("unet", "mobilenet_v2")
    said = "is of another run: encoder was efficientnet_lite0 and is mobilenet_v2; network was edge_unet and is unet; r"
    with pytest.raises(CheckpointError, match=said):
        train(network_from_config(config), config, SPEC, [DATA], DATA, RECIPE, straight[0], RESUME)


@given(st.integers(1, 40), st.integers(0, 9), st.integers(0, 9), st.integers(0, 5))
def test_order_and_augmentation_follow_from_seed_epoch_and_image(count: int, one: int, two: int, seed: int) -> None:
    first, second = EpochOrder(count, seed), EpochOrder(count, seed)
    first.set_epoch(one)
    second.set_epoch(two)
    assert sorted(first) == [(one, index) for index in range(count)]
    assert list(first) == list(first)
    if one == two:
        assert list(first) == list(second)
    elif count > 20:
        assert [index for _, index in first] != [index for _, index in second]


def test_crops_differ_by_epoch_and_image_but_not_by_what_was_drawn_before() -> None:
    crops = SeededCrops([DATA], SPEC, 32, 0)
    image, mask = crops[3, 1]
    torch.rand(7)
    again, mask_again = crops[3, 1]
    assert torch.equal(image, again) and torch.equal(mask, mask_again)
    assert not torch.equal(image, crops[4, 1][0]) and not torch.equal(image, SeededCrops([DATA], SPEC, 32, 1)[3, 1][0])


def test_the_average_follows_at_first_and_is_slow_later() -> None:
    """A weight that steps from 0 to 1: the rising decay has it sooner than the fixed one, and both end alike."""
    kept, fixed = [torch.zeros(1)], 0.0
    average = averaging(0.99)
    for step in range(1, 31):
        average(kept, [torch.ones(1)], torch.tensor(step))
        fixed = 0.99 * fixed + 0.01
        assert kept[0].item() > fixed
    assert kept[0].item() > 0.99 > 0.3 > fixed
    late = [torch.zeros(1)]
    average(late, [torch.ones(1)], 5000)
    assert late[0].item() == pytest.approx(0.01)


def test_a_run_ends_without_a_better_miou_and_stays_ended_until_it_is_told_otherwise(tmp_path: Path) -> None:
    """With hardly any learning mIoU goes up and down."""
    recipe = dataclasses.replace(RECIPE, epochs=9, patience=1, learning_rate=1e-12)
    results = _train(tmp_path, recipe)
    assert len(results) < 9
    assert [result.is_best for result in results] == [True] * (len(results) - 1) + [False]
    assert _train(tmp_path, recipe, resume=True) == []
    more = _train(tmp_path, dataclasses.replace(recipe, epochs=len(results) + 1, patience=0), resume=True)
    assert [result.epoch for result in more] == [len(results) + 1]


def test_half_precision_is_nearly_full_precision_and_batches_are_added_up(tmp_path: Path) -> None:
    losses = []
    for precision in ("32", "bf16"):
        how = {"epochs": 1, "precision": precision, "accumulate": 3, "clip": 5.0, "loss": "ce+0.5*dice"}
        (result,) = _train(tmp_path / precision, dataclasses.replace(RECIPE, **how))  # type: ignore[arg-type]
        losses.append(result.loss)
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.02)
    state = SafetensorsIO().load_checkpoint(tmp_path / "bf16" / "resume.safetensors")
    assert state["global_step"] == 2, "two steps of four batches"
    assert int(state["state_dict"]["averaged.n_averaged"]) == 2, "the average follows steps, not batches"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss": "dise"}, "did you mean dice"),
        ({"optimizer": "adam"}, "did you mean adamw"),
        ({"schedule": "cosin"}, "did you mean cosine"),
        ({"class_weights": "1,2"}, "or 11 numbers above 0"),
        ({"precision": "16"}, "there are 32, bf16, fp16"),
        ({"growth": "33:1"}, "multiples of 32"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_before_any_image_is_read(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    class Unread(InMemory):
        def __getitem__(self, index: int) -> Sample:
            raise AssertionError("an image was read")

    config = NetworkConfig()
    data = Unread([DATA[0]] * 4, "unread")
    with pytest.raises(UsageError, match=said):
        train(network_from_config(config), config, SPEC, [data], data, dataclasses.replace(RECIPE, **change), tmp_path)


@pytest.mark.parametrize("rate", [1e8, 1e30])
def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, rate: float) -> None:
    with pytest.raises(
        TrainingError, match=r"(the loss is (nan|inf)|no longer finite).*smaller `learning_rate` .it was 1e\+"
    ):
        _train(tmp_path, dataclasses.replace(RECIPE, learning_rate=rate))
    assert not (tmp_path / "best.safetensors").exists()


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        _train(tmp_path, RECIPE, resume=True)


def _of_0_and_255() -> InMemory:
    mask = np.zeros((64, 96), np.uint8)
    mask[:40] = 255
    return InMemory([Sample("x", np.zeros((64, 96, 3), np.uint8), mask)] * 8, "binary")


@pytest.mark.parametrize("where", ["training", "validation"])
def test_masks_of_0_and_255_are_refused_in_both_sets(tmp_path: Path, where: str) -> None:
    config = NetworkConfig()
    training, validation = (_of_0_and_255(), DATA) if where == "training" else (DATA, _of_0_and_255())
    with pytest.raises(DatasetError, match=f"{where} masks hold only 1 of the 11 classes.*0 and 255 must be converted"):
        train(network_from_config(config), config, SPEC, [training], validation, RECIPE, tmp_path)
    assert not list(tmp_path.iterdir()), "nothing was trained"


def test_odd_labels_are_remarked_before_the_first_step(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    remarks: list[str] = []

    def stop(plan: TrainingPlan) -> None:
        remarks.extend(plan.remarks)
        raise Stop

    config = NetworkConfig()
    mixed = Joined([DATA, _of_0_and_255()])
    with pytest.raises(Stop):
        train(network_from_config(config), config, SPEC, [DATA], mixed, RECIPE, tmp_path, TrainOptions(on_start=stop))
    remarks = [remark for remark in remarks if "training images too" not in remark]
    assert any("8 of 16 validation masks hold one class and 255" in remark for remark in remarks)
    assert all("no training mask holds" in remark or "training masks' pixels" in remark for remark in remarks[:-1])


@pytest.mark.parametrize("shared", [0, 1, 3])
def test_images_to_learn_and_to_judge_on_are_told_apart(tmp_path: Path, shared: int) -> None:
    """By their pixels, whatever they are called and wherever they are."""

    class Stop(Exception):
        pass

    remarks: list[str] = []

    def stop(plan: TrainingPlan) -> None:
        remarks.extend(plan.remarks)
        raise Stop

    others = StreetDataset("demo://street?seed=77&frames=4&step=50&size=104x72")
    renamed = [Sample(f"copy of {index}", *DATA[index][1:]) for index in range(shared)]
    validation = Joined([others, InMemory(renamed, "copies")])
    config = NetworkConfig()
    with pytest.raises(Stop):
        train(
            network_from_config(config), config, SPEC, [DATA], validation, RECIPE, tmp_path, TrainOptions(on_start=stop)
        )
    said = [remark for remark in remarks if "are training images too" in remark]
    assert [remark[: len("3 of 7")] for remark in said] == ([f"{shared} of {4 + shared}"] if shared else [])


@pytest.mark.parametrize("where", ["train", "val"])
def test_a_bad_mask_is_found_before_the_first_step_wherever_it_is(tmp_path: Path, where: str) -> None:
    """At place 201 of 203: a look at some of the masks would not see it."""
    spec = ModelSpec(("ground", "disc"), ((0, 0, 0), (255, 0, 0)), (32, 32))
    for name, count in (("train", 203), ("val", 203)):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}annot").mkdir()
        for index in range(count):
            write_png(tmp_path / name / f"{index:03}.png", np.zeros((8, 8, 3), np.uint8))
            write_png(tmp_path / f"{name}annot" / f"{index:03}.png", np.array([[0, 1] * 4] * 8, np.uint8))
    write_png(tmp_path / f"{where}annot" / "201.png", np.zeros((4, 4), np.uint8))
    data = [FolderDataset(tmp_path / name, spec=spec, need_labels=True) for name in ("train", "val")]
    config = NetworkConfig(classes=2)
    with pytest.raises(ImageError, match=r"201\.png is 4x4 but its image is 8x8"):
        train(network_from_config(config), config, spec, data[:1], data[1], RECIPE, tmp_path / "out")


def test_a_bad_image_in_a_worker_is_one_line(tmp_path: Path) -> None:
    class Rotten(InMemory):
        def __getitem__(self, index: int) -> Sample:
            if torch.utils.data.get_worker_info() is not None:
                raise ImageError("7.png is truncated (20 bytes); copy it again")
            return super().__getitem__(index)

    config = NetworkConfig()
    data = Rotten([DATA[i] for i in range(8)], "rotten")
    recipe = dataclasses.replace(RECIPE, workers=1)
    with pytest.raises(ImageError) as caught:
        train(network_from_config(config), config, SPEC, [data], DATA, recipe, tmp_path)
    assert str(caught.value) == "7.png is truncated (20 bytes); copy it again"


def test_too_few_images_are_refused(tmp_path: Path, spec: ModelSpec) -> None:
    few = InMemory([DATA[0]], "one")
    with pytest.raises(DatasetError, match="1 training images are fewer than one batch of 2; training needs two"):
        config = NetworkConfig()
        train(network_from_config(config), config, SPEC, [few], DATA, RECIPE, tmp_path)


def test_crops_keep_image_and_mask_together() -> None:
    """An image whose colour is its label must still be one after any augmentation."""
    label = np.zeros((96, 128), np.uint8)
    label[:, 64:] = 1
    label[40:60, 20:30] = 11
    frame = np.repeat(np.where(label == 1, 220, 30).astype(np.uint8)[..., None], 3, axis=2)
    crops = TrainingCrops(InMemory([Sample("x", frame, label)], "x"), SPEC, 64)
    torch.manual_seed(0)
    seen = set()
    for _ in range(20):
        image, mask = crops[0]
        assert image.shape == (3, 64, 64) and image.dtype == torch.float32
        assert mask.shape == (64, 64) and mask.dtype == torch.int64
        seen |= set(mask.unique().tolist())
        counted = (mask == 0) | (mask == 1)
        bright = image.mean(0) > normalized(np.full((1, 1, 1, 3), 125, np.uint8), SPEC.preprocess).mean()
        assert (bright[counted] == (mask[counted] == 1)).float().mean() > 0.93
    assert seen == {0, 1, IGNORE_ID}, "void is ignored, and nothing else appears"


def test_rare_classes_weigh_more() -> None:
    weights = class_weights(label_counts(DATA, SPEC).classes)
    assert weights.shape == (11,) and weights.mean() == pytest.approx(1.0, abs=1e-5)
    assert weights[CLASSES.index("pedestrian")] > 1.5 * weights[CLASSES.index("road")]
