"""Learning from teachers: their maps move with the labels, are kept in files, and pull the student towards them."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import edgeseg.builder.crops as crops_module
import edgeseg.builder.distillation.maps as maps_module
from edgeseg.builder.augmentation import PRESETS, augmentation_from_text
from edgeseg.builder.checkpoint import Checkpoint, save_checkpoint
from edgeseg.builder.data import SeededCrops, at_places
from edgeseg.builder.distillation.loss import channel_divergence, distilled, pixel_divergence
from edgeseg.builder.distillation.maps import StoredMaps, Teaching, teacher_maps
from edgeseg.builder.distillation.options import Distillation, distillation_from_text
from edgeseg.builder.distillation.teacher import Teacher, load_teacher, map_size, teacher_map
from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.builder.recipe import TrainOptions, TrainRecipe
from edgeseg.builder.training import train
from edgeseg.errors import CheckpointError, ForeignFileError, TrainingError, UsageError
from edgeseg.images import InMemory, Sample
from edgeseg.preprocess import normalized
from edgeseg.spec import IGNORE_ID, ModelSpec, Preprocess

SIZE = (64, 96)
CLASSES = ("road", "pole", "sky")
SPEC = ModelSpec(CLASSES, ((0, 0, 0), (1, 1, 1), (2, 2, 2)), SIZE)
CPU = torch.device("cpu")
PLAIN = Distillation(scales=(1.0,), flip=False, stride=1)


def sample(seed: int, size: tuple[int, int] = SIZE) -> Sample:
    """Blocks of classes, void among them, under noise."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice(
        np.array([0, 1, 2, IGNORE_ID], np.uint8), (size[0] // 16, size[1] // 16), p=[0.4, 0.2, 0.3, 0.1]
    )
    label = blocks.repeat(16, 0).repeat(16, 1)
    return Sample(str(seed), rng.integers(0, 256, (*size, 3), dtype=np.uint8), label)


DATA = InMemory([sample(seed) for seed in range(6)], "blocks")


def one_hot(label: np.ndarray) -> np.ndarray:
    """The label as a map Cxhxw float16 of 0 and 1; void is 0 everywhere."""
    return np.stack([label == index for index in range(len(CLASSES))]).astype(np.float16)


def teacher_of(seed: int = 0, classes: tuple[str, ...] = CLASSES, **spec: Any) -> Teacher:
    torch.manual_seed(seed)
    network = network_from_config(NetworkConfig("edge_unet", "mobilenet_v2", len(classes))).eval()
    palette = tuple((index, index, index) for index in range(len(classes)))
    return Teacher(f"teacher{seed}", network, replace(SPEC, classes=classes, palette=palette, **spec))


# Maps move as labels do.


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("crop", [64, (96, 64)])
def test_a_map_that_is_the_label_is_the_label_after_any_augmentation(name: str, crop: Any) -> None:
    """Over many seeds, turned, bent, padded and pasted into another crop, wherever the map is not between pixels."""
    how = PRESETS[name]
    taught = SeededCrops([DATA], SPEC, crop, 7, how)
    labels = [one.label for one in (DATA[index] for index in range(6))]
    taught.learn_from([[one_hot(label) for label in labels if label is not None]])  # type: ignore[list-item]
    compared, seen = 0, set()
    for number in range(36):
        image, label, found = taught[number // 6, number % 6]
        plain_image, plain_label = SeededCrops([DATA], SPEC, crop, 7, how)[number // 6, number % 6]
        assert torch.equal(image, plain_image) and torch.equal(label, plain_label), "a teacher changes no crop"
        assert found.shape == (3, *label.shape) and found.dtype == torch.float16
        counted = label != IGNORE_ID
        is_sure = counted & (found.amax(0) == 1)
        assert torch.equal(found.argmax(0)[is_sure], label[is_sure])
        # The nearest pixel of the image has at least a quarter of the weight.
        of_label = found.gather(0, label.clamp_max(2)[None])[0]
        assert (of_label[counted] >= 0.2499).all()
        assert is_sure.sum() > 0.6 * counted.sum()
        compared += int(is_sure.sum())
        seen |= set(label[is_sure].tolist())
    assert compared > 36 * 1000 and seen == {0, 1, 2}


STEPS: dict[str, dict[str, float]] = {
    "flip": {"flip": 1.0},
    "vertical flip": {"vertical_flip": 1.0},
    "turns": {"quarter_turns": 1.0},
    "rotation": {"rotation": 40.0},
    "elastic": {"elastic": 1.0},
    "large": {"least_scale": 1.7, "most_scale": 2.2},
    "small and padded": {"least_scale": 0.4, "most_scale": 0.6},
    "balanced and padded": {"balanced": 1.0, "least_scale": 0.4, "most_scale": 0.6},
    "classmix": {"classmix": 1.0, "flip": 0.5},
    "cutmix": {"cutmix": 1.0, "flip": 0.5},
}


@pytest.mark.parametrize("name", STEPS)
def test_each_step_moves_maps_of_a_quarter_of_the_size_with_the_label(name: str) -> None:
    """A map of stride 4 has the block of a pixel but at the edges of blocks."""
    how = replace(PRESETS["none"], **STEPS[name])
    taught = SeededCrops([DATA], SPEC, 64, 1, how)
    maps = [one_hot(DATA[index].label[2::4, 2::4]) for index in range(6)]  # type: ignore[index]
    taught.learn_from([maps])  # type: ignore[list-item]
    right = []
    for number in range(18):
        _, label, found = taught[number // 6, number % 6]
        counted = (label != IGNORE_ID) & (found.amax(0) > 0.9)
        right.append(float((found.argmax(0) == label)[counted].float().mean()))
    assert min(right) > 0.97, right


def test_a_pipeline_of_albumentations_moves_maps_too(tmp_path: Path, monkeypatch: Any) -> None:
    """With a stand-in that mirrors image and mask, as the package gives and takes them."""

    def mirror(image: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        return {"image": image[:, ::-1], "mask": mask[:, ::-1]}

    stand_in = SimpleNamespace(load=lambda path, data_format: mirror)
    monkeypatch.setattr(crops_module, "require", lambda module, extra: stand_in)
    (tmp_path / "mine.yaml").write_text("")
    how = augmentation_from_text(f"albumentations:{tmp_path}/mine.yaml")
    crops = SeededCrops([DATA], SPEC, SIZE, 0, how)
    plain = [crops[0, index] for index in range(6)]
    crops.learn_from([[one_hot(DATA[index].label) for index in range(6)]])  # type: ignore[list-item,arg-type]
    for index, (image, label) in enumerate(plain):
        taught_image, taught_label, found = crops[0, index]
        assert torch.equal(image, taught_image) and torch.equal(label, taught_label)
        assert np.array_equal(label.numpy(), DATA[index].label[:, ::-1])  # type: ignore[index]
        counted = label != IGNORE_ID
        assert torch.equal(found.argmax(0)[counted], label[counted]) and (found.amax(0)[counted] > 0.99).all()


def test_labels_of_another_size_than_the_network_have_maps_at_their_places() -> None:
    large = InMemory([sample(seed, (160, 224)) for seed in range(3)], "large")
    taught = SeededCrops([large], SPEC, 64, 0, PRESETS["none"])
    taught.learn_from([[one_hot(large[index].label) for index in range(3)]])  # type: ignore[list-item,arg-type]
    for index in range(3):
        _, label, found = taught[0, index]
        is_sure = (label != IGNORE_ID) & (found.amax(0) == 1)
        assert torch.equal(found.argmax(0)[is_sure], label[is_sure]) and is_sure.float().mean() > 0.6


def test_a_map_is_read_between_its_values_and_beyond_its_edge() -> None:
    values = np.array([[[0, 4], [8, 12]]], np.float16)
    places = torch.tensor([[[0.0, 0.5, -9.0]], [[0.0, 0.5, 99.0]]])
    assert at_places(values, places, (2, 2)).tolist() == [[[0.0, 6.0, 4.0]]]
    assert at_places(values, torch.tensor([[[1.5]], [[1.5]]]), (4, 4)).tolist() == [[[6.0]]], "any size of the map"


# Losses.

RNG = np.random.default_rng(5)
LOGITS = RNG.normal(0, 2, (2, 3, 9, 7))
MAPS = RNG.normal(0, 2, (2, 3, 9, 7))
LABELS = RNG.integers(0, 3, (2, 9, 7))
LABELS[0, :4] = IGNORE_ID
LABELS[1, 2, 3] = IGNORE_ID


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def pixels_of_numpy(temperature: float) -> float:
    counted = LABELS != IGNORE_ID
    found, wanted = (softmax(np.moveaxis(one, 1, -1)[counted] / temperature) for one in (LOGITS, MAPS))
    return float(temperature**2 * (wanted * np.log(wanted / found)).sum(-1).mean())


def channels_of_numpy(temperature: float) -> float:
    each = []
    for logits, teacher, label in zip(LOGITS, MAPS, LABELS):
        logs = [np.log(softmax(np.moveaxis(one, 0, -1)[label != IGNORE_ID])) for one in (logits, teacher)]
        found, wanted = (softmax(one.T / temperature) for one in logs)
        each.append((wanted * np.log(wanted / found)).sum(-1))
    return float(temperature**2 * np.mean(each))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
def test_both_divergences_are_those_of_numpy(temperature: float) -> None:
    logits, maps, counted = torch.tensor(LOGITS), torch.tensor(MAPS), torch.tensor(LABELS != IGNORE_ID)
    found = pixel_divergence(logits, maps, counted, temperature), channel_divergence(logits, maps, counted, temperature)
    expected = pixels_of_numpy(temperature), channels_of_numpy(temperature)
    assert [float(one) for one in found] == pytest.approx(expected, rel=1e-9) and min(expected) > 0.01
    more = torch.randn(2, 1, 9, 7, dtype=torch.float64)
    assert float(pixel_divergence(logits + more, maps - more, counted, temperature)) == pytest.approx(expected[0])
    assert float(channel_divergence(logits + more, maps - more, counted, temperature)) == pytest.approx(expected[1])


def test_the_sum_has_its_factors_and_void_has_no_gradient() -> None:
    logits = torch.tensor(LOGITS, dtype=torch.float32, requires_grad=True)
    maps, labels = torch.tensor(MAPS, dtype=torch.float16), torch.tensor(LABELS)
    how = Distillation(kl=0.3, temperature=2, channel=1.5, channel_temperature=4, labels=0.7)
    total = distilled(torch.tensor(5.0), logits, labels, maps, how)
    assert total.item() == pytest.approx(0.7 * 5 + 0.3 * pixels_of_numpy(2) + 1.5 * channels_of_numpy(4), rel=2e-3)
    total.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and torch.isfinite(logits.grad).all()
    moved = logits.grad.abs().sum(1)
    assert (moved[labels == IGNORE_ID] == 0).all() and (moved[labels != IGNORE_ID] > 0).all()


def test_an_image_of_nothing_but_void_counts_in_neither() -> None:
    logits, maps = torch.tensor(LOGITS), torch.tensor(MAPS)
    counted = torch.tensor(LABELS != IGNORE_ID)
    counted[0] = False
    for divergence in (pixel_divergence, channel_divergence):
        both, one = divergence(logits, maps, counted, 2.0), divergence(logits[1:], maps[1:], counted[1:], 2.0)
        assert float(both) == pytest.approx(float(one), rel=1e-12)


# What teachers say.


def test_a_map_is_the_mean_over_teachers_scales_and_mirrored_views_each_by_its_own_spec() -> None:
    """The second teacher has its own size, order of classes and preprocessing."""
    other = Preprocess((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "BGR")
    teachers = [teacher_of(0), teacher_of(1, ("sky", "road", "pole"), size_hw=(32, 64), preprocess=other)]
    how = Distillation(scales=(1.0, 1.5), flip=True, stride=4)
    frame = sample(3, (96, 128)).frame
    parts = []
    for teacher, sizes, order in (
        (teachers[0], (SIZE, (96, 144)), (0, 1, 2)),
        (teachers[1], ((32, 64), (48, 96)), (1, 2, 0)),
    ):
        for size in sizes:
            size = tuple(32 * round(side / 32) for side in size)  # type: ignore[assignment]
            view = teacher.spec.preprocess.resized(frame, size)
            for turn in (1, -1):
                image = torch.from_numpy(
                    normalized(np.ascontiguousarray(view[:, ::turn])[None], teacher.spec.preprocess)
                )
                with torch.no_grad():
                    found = teacher.network(image).softmax(1)[:, :, :, :]
                found = found.flip(3) if turn < 0 else found
                parts.append(F.interpolate(found, (16, 24), mode="bilinear", antialias=True)[0, list(order)])
    assert len(parts) == 8
    mean = torch.stack(parts).mean(0)
    stored = teacher_map(teachers, frame, SPEC, how, CPU)
    assert stored.shape == (3, 16, 24) and stored.dtype == np.float16
    np.testing.assert_allclose(np.exp(stored.astype(np.float32)), mean.numpy(), atol=2e-3)


@pytest.mark.parametrize(("activation", "classes"), [(None, 1), ("sigmoid", 1), ("softmax", 2), ("logsoftmax", 2)])
def test_teachers_with_one_output_or_an_activation_give_probabilities(activation: str | None, classes: int) -> None:
    two = replace(SPEC, classes=CLASSES[:2], palette=SPEC.palette[:2])
    torch.manual_seed(0)
    config = NetworkConfig("edge_unet", "mobilenet_v2", classes, activation=activation)
    teacher = Teacher("t", network_from_config(config).eval(), two)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found, raw = teacher.probabilities(image), teacher.network.network(image)
    expected = raw.softmax(1) if classes == 2 else torch.cat((1 - raw.sigmoid(), raw.sigmoid()), 1)
    torch.testing.assert_close(found, expected)


def test_a_student_that_is_its_teacher_begins_without_a_difference() -> None:
    teacher = teacher_of(2)
    taught = SeededCrops([DATA], SPEC, SIZE, 0, PRESETS["none"])
    plain = [teacher_map([teacher], DATA[index].frame, SPEC, PLAIN, CPU) for index in range(6)]
    quarter = [teacher_map([teacher], DATA[index].frame, SPEC, replace(PLAIN, stride=4), CPU) for index in range(6)]
    stranger = teacher_of(3).network
    for maps, most in ((plain, 1e-5), (quarter, 1e-4)):
        taught.learn_from([maps])  # type: ignore[list-item]
        image, label, found = (one[None] for one in taught[0, 4])
        with torch.no_grad():
            logits, others = teacher.network(image), stranger(image)
        counted = label != IGNORE_ID
        assert abs(float(pixel_divergence(logits, found.float(), counted, 2.0))) < most
        assert abs(float(channel_divergence(logits, found.float(), counted, 4.0))) < most
        assert float(pixel_divergence(others, found.float(), counted, 2.0)) > 10 * most


# Loading teachers.


def saved(path: Path, teacher: Teacher) -> Path:
    save_checkpoint(Checkpoint(teacher.network, teacher.network.config, teacher.spec), path)
    return path


def test_a_checkpoint_of_smp_needs_a_spec_and_is_then_a_teacher(tmp_path: Path) -> None:
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    network = smp.Unet("mobilenet_v2", encoder_weights=None, classes=3).eval()
    torch.save(network.state_dict(), tmp_path / "theirs.pt")
    with pytest.raises(
        UsageError, match=r"theirs.pt does not say its classes, size and preprocessing; pass `teacher_spec`"
    ):
        load_teacher(tmp_path / "theirs.pt", SPEC)
    teacher = load_teacher(tmp_path / "theirs.pt", SPEC, SPEC)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(teacher.probabilities(image), network(image).softmax(1))


def test_a_teacher_of_other_classes_is_refused_in_one_line_that_names_both(tmp_path: Path) -> None:
    path = saved(tmp_path / "t.safetensors", teacher_of(0, ("road", "pole", "tree")))
    with pytest.raises(UsageError) as caught:
        load_teacher(path, SPEC)
    assert "knows the classes road, pole, tree, and the network that learns from it road, pole, sky" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)
    assert load_teacher(saved(path, teacher_of(0, ("sky", "road", "pole"))), SPEC), "the order is that of the teacher"


def test_what_is_no_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="gone.safetensors cannot be read as a checkpoint"):
        load_teacher(tmp_path / "gone.safetensors", SPEC)
    network = network_from_config(NetworkConfig("edge_unet", "mobilenet_v2", 3, activation="sigmoid"))
    many = Teacher("t", network, SPEC)
    with pytest.raises(CheckpointError, match="a probability of its own for each of 3 classes"):
        load_teacher(saved(tmp_path / "many.safetensors", many), SPEC)


# Files.


def test_maps_are_made_once_and_again_for_another_teacher_image_or_view(tmp_path: Path, monkeypatch: Any) -> None:
    asked: list[int] = []

    def counted(*args: Any) -> np.ndarray:
        asked.append(1)
        return teacher_map(*args)

    monkeypatch.setattr(maps_module, "teacher_map", counted)

    def made(teachers: list[Teacher], data: InMemory = DATA, how: Distillation = PLAIN) -> list[StoredMaps]:
        asked.clear()
        return teacher_maps(Teaching(teachers, tmp_path), [data], SPEC, how, CPU)

    (first,) = made([teacher_of(0)])
    assert len(asked) == 6 and len(first) == 6
    expected = teacher_map([teacher_of(0)], DATA[2].frame, SPEC, PLAIN, CPU)
    assert isinstance(first[2], np.memmap) and np.array_equal(first[2], expected)
    for same in (PLAIN, replace(PLAIN, kl=3.0, temperature=7.0, channel=1.0, labels=0.1)):
        (again,) = made([teacher_of(0)], how=same)
        assert not asked and np.array_equal(again[2], expected)
    for teachers, data, how in (
        ([teacher_of(1)], DATA, PLAIN),
        ([teacher_of(0), teacher_of(1)], DATA, PLAIN),
        ([teacher_of(0, preprocess=Preprocess(channel_order="BGR"))], DATA, PLAIN),
        ([teacher_of(0)], DATA, replace(PLAIN, flip=True)),
        ([teacher_of(0)], DATA, replace(PLAIN, scales=(1.5,))),
        ([teacher_of(0)], DATA, replace(PLAIN, stride=4)),
    ):
        made(teachers, data, how)
        assert len(asked) == 6, (teachers, how)
    made([teacher_of(0)], InMemory([DATA[0], sample(77), DATA[0]], "one new"))
    assert len(asked) == 1, "an image that is there twice has one map"


@pytest.mark.parametrize("injury", ["cut", "longer", "turned bit", "other key", "empty", "zeros"])
def test_damaged_maps_are_noticed_and_made_again(tmp_path: Path, injury: str) -> None:
    lines: list[str] = []
    teaching = Teaching([teacher_of(0)], tmp_path, lines.append)
    before = [np.array(one) for one in teacher_maps(teaching, [DATA], SPEC, PLAIN, CPU)[0]]  # type: ignore[attr-defined]
    files = sorted(tmp_path.iterdir())
    assert len(files) == 6 and all(path.suffix == ".map" for path in files), "nothing half-written is left"
    data = bytearray(files[1].read_bytes())
    data[300] ^= 4 if injury == "turned bit" else 0
    new = {
        "cut": data[:-7],
        "longer": data + b"x",
        "other key": files[2].read_bytes(),
        "empty": b"",
        "zeros": bytes(999),
    }
    files[1].write_bytes(new.get(injury, data))
    again = teacher_maps(teaching, [DATA], SPEC, PLAIN, CPU)[0]
    assert "teacher maps: 1 files are damaged, and are made again" in lines
    assert all(np.array_equal(one, again[index]) for index, one in enumerate(before))
    lines.clear()
    teacher_maps(teaching, [DATA], SPEC, PLAIN, CPU)
    assert len(lines) == 1 and lines[0].startswith(f"teacher maps: 6 of 6 are in {tmp_path} (3x64x96 float16, 0.2 MB")


def test_a_file_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    teaching = Teaching([teacher_of(0)], tmp_path)
    teacher_maps(teaching, [DATA], SPEC, PLAIN, CPU)
    path = sorted(tmp_path.iterdir())[0]
    path.write_text("my notes")
    with pytest.raises(ForeignFileError, match="is no map of a teacher and would be replaced.*`teacher_maps`"):
        teacher_maps(teaching, [DATA], SPEC, PLAIN, CPU)
    assert path.read_text() == "my notes"


def test_a_full_disk_is_one_line_before_and_while_maps_are_made(tmp_path: Path, monkeypatch: Any) -> None:
    teaching = Teaching([teacher_of(0)], tmp_path)

    def full(path: Path, data: bytes, **how: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(maps_module, "atomic_write", full)
        with pytest.raises(TrainingError, match="the disk is too full for the maps of the teachers in .*make room"):
            teacher_maps(teaching, [DATA], SPEC, PLAIN, CPU)
    with monkeypatch.context() as patched:
        patched.setattr(maps_module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100_000}))
        with pytest.raises(TrainingError, match=r"larger stride in `distill` \(0.2 MB are needed, 0.1 MB are free\)"):
            teacher_maps(teaching, [DATA], SPEC, PLAIN, CPU)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="`teacher_maps` .*file is no folder and cannot be made"):
        teacher_maps(Teaching([teacher_of(0)], tmp_path / "file"), [DATA], SPEC, PLAIN, CPU)


def test_a_map_that_goes_while_it_is_used_is_one_line(tmp_path: Path) -> None:
    (stored,) = teacher_maps(Teaching([teacher_of(0)], tmp_path), [DATA], SPEC, PLAIN, CPU)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(TrainingError, match="is gone or was changed; go on with `resume`"):
        stored[0]


# The text.


def test_the_text_has_every_setting_and_wrong_ones_are_told_what_is_right() -> None:
    assert distillation_from_text("") == Distillation()
    text = "kl=1, temperature=3,channel=2,channel_temperature=1.5,labels=0,scales=0.5:1,flip=0,stride=2,feature=9"
    assert distillation_from_text(text) == Distillation(1.0, 3.0, 2.0, 1.5, 0.0, (0.5, 1.0), False, 2, 9.0)
    assert distillation_from_text("kl=0,feature=1").feature == 1
    for wrong, said in (
        ("temprature=2", "`distill` has no setting 'temprature'; did you mean temperature"),
        ("kl", "kl is a number of at least 0"),
        ("kl=x", "has kl=x; kl is a number"),
        ("kl=1:2", "only scales takes several numbers"),
        ("temperature=0", "temperature is a number from 0.1 to 100"),
        ("kl=nan", "kl is a number"),
        ("scales=1:99", "scales=99; scales is a number from 0.1 to 8"),
        ("scales=", "scales is a number"),
        ("stride=1.5", "stride is a whole number from 1 to 32"),
        ("flip=2", "flip is a whole number from 0 to 1"),
        ("kl=0", "nothing is learned from `teacher`"),
    ):
        with pytest.raises(UsageError, match=said) as caught:
            distillation_from_text(wrong)
        assert "\n" not in str(caught.value)


def test_maps_cover_the_whole_image_at_any_stride() -> None:
    assert map_size(SPEC, 4) == (16, 24) and map_size(SPEC, 7) == (10, 14) and map_size(SPEC, 1) == SIZE


# A training.


def trained(folder: Path, teaching: Teaching | None, distill: str = "", workers: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    config = NetworkConfig("edge_unet", "mobilenet_v2", 3)
    recipe = TrainRecipe(
        epochs=2, batch=2, crop=64, workers=workers, distill=distill, augment="street", learning_rate=1e-3
    )
    folder.mkdir()
    best = train(
        network_from_config(config), config, SPEC, [DATA], DATA, recipe, folder, TrainOptions(teaching=teaching)
    )
    if teaching:
        assert best.training["teachers"] == teaching.described() and best.training["recipe"]["distill"] == distill
        assert teaching.teachers[0].name in (folder / "summary.html").read_text()
    return best.network.state_dict()


def test_a_teacher_changes_what_is_learned_and_chance_does_not(tmp_path: Path) -> None:
    teaching = Teaching([teacher_of(5)], tmp_path / "maps")
    views = "scales=1,flip=0"
    alone = trained(tmp_path / "alone", None)
    first = trained(tmp_path / "first", teaching, views)
    again = trained(tmp_path / "again", teaching, views, workers=1)
    assert all(torch.equal(first[name], again[name]) for name in first), "workers change nothing"
    assert not torch.equal(first["network.head.weight"], alone["network.head.weight"])
    channels = trained(tmp_path / "channels", teaching, f"{views},channel=3")
    assert not torch.equal(first["network.head.weight"], channels["network.head.weight"])
