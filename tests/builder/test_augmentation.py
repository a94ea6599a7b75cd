"""Augmented crops: image and mask stay together, a seed gives a crop, and every preset keeps what it must."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Iterator

import numpy as np
import pytest
import torch

from edgeseg.app.data import absolute_augmentation
from edgeseg.builder.augmentation import PRESETS, Augmentation, augmentation_from_text
from edgeseg.builder.crops import CropMaker, mixed
from edgeseg.builder.data import SeededCrops
from edgeseg.errors import UsageError
from edgeseg.images import InMemory, Sample
from edgeseg.label_planes import planes_from_ids
from edgeseg.spec import IGNORE_ID, ModelSpec, Preprocess

SIZE = (64, 96)
PLAIN = Preprocess((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "BGR")
SPEC = ModelSpec(("road", "pole", "sky"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), SIZE, PLAIN)
LEVELS = np.array([30, 220, 130], np.uint8)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sample(seed: int = 0) -> Sample:
    """A picture whose grey says the class: a sky, a thin pole, a road."""
    label = np.zeros(SIZE, np.uint8)
    label[:24] = 2
    label[10:50, 40 + seed % 9 : 43 + seed % 9] = 1
    return Sample(str(seed), np.repeat(LEVELS[label][..., None], 3, 2), label)


DATA = InMemory([sample(seed) for seed in range(6)], "poles")


def crops_of(augment: Augmentation, count: int = 30, size: int = 64) -> list[tuple[np.ndarray, np.ndarray]]:
    """Crops as (CxC float32 grey of 0-255, CxC int64)."""
    crops = SeededCrops([DATA], SPEC, size, 0, augment)
    found = [crops[number // 6, number % 6] for number in range(count)]
    return [(255 * image.mean(0).numpy(), label.numpy()) for image, label in found]


GEOMETRY = {
    "flips": {"flip": 0.5, "vertical_flip": 0.5},
    "turns": {"quarter_turns": 1.0},
    "rotation": {"rotation": 30.0},
    "elastic": {"elastic": 1.0},
    "scale": {"least_scale": 0.5, "most_scale": 2.0, "log_scale": 1.0},
    "balanced": {"balanced": 1.0},
    "balanced and small": {"balanced": 1.0, "least_scale": 0.4, "most_scale": 0.5},
    "classmix": {"classmix": 1.0, "flip": 0.5},
    "cutmix": {"cutmix": 1.0, "flip": 0.5},
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_the_mask_moves_with_the_picture(name: str) -> None:
    """The grey of a pixel is that of its class, but at edges, where the picture is interpolated."""
    wrong = []
    for grey, label in crops_of(replace(PRESETS["none"], **GEOMETRY[name])):
        expected = np.where(label == IGNORE_ID, grey, LEVELS[np.minimum(label, 2)])
        wrong.append(float((np.abs(grey - expected) > 50).mean()))
        assert label.shape == (64, 64) and set(np.unique(label)) <= {0, 1, 2, IGNORE_ID}
    assert np.mean(wrong) < 0.02 and max(wrong) < 0.08, (np.mean(wrong), max(wrong))


@pytest.mark.parametrize("name", PRESETS)
def test_a_seed_gives_a_crop_in_every_preset(name: str) -> None:
    first, again = (SeededCrops([DATA], SPEC, 64, 3, PRESETS[name]) for _ in range(2))
    other = SeededCrops([DATA], SPEC, 64, 4, PRESETS[name])
    differs = 0
    for number in range(6):
        torch.manual_seed(number)  # what was drawn before does not matter
        image, label = first[2, number]
        assert image.shape == (3, 64, 64) and image.dtype == torch.float32 and label.dtype == torch.int64
        assert float(image.min()) >= 0 and float(image.max()) <= 1
        torch.manual_seed(99 - number)
        assert torch.equal(image, again[2, number][0]) and torch.equal(label, again[2, number][1])
        differs += not torch.equal(image, other[2, number][0])
    assert differs >= 5


LIGHT = {
    "brightness": 0.3, "contrast": 0.3, "gamma": 0.6, "gain": 0.18, "blur": 1.0, "noise": 1.0, "jpeg": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("name", LIGHT)
def test_light_and_camera_change_the_picture_alone(name: str) -> None:
    how = replace(PRESETS["none"], **{name: LIGHT[name]})
    make, plain = CropMaker(how, SIZE, SIZE), CropMaker(PRESETS["none"], SIZE, SIZE)
    one = sample()
    image = torch.from_numpy(one.frame.copy()).permute(2, 0, 1)
    assert one.label is not None
    mask = torch.from_numpy(one.label)
    assert torch.equal(plain(image, mask)[0], image) and torch.equal(plain(image, mask)[1], mask)
    means, changes = [], 0
    for seed in range(8):
        torch.manual_seed(seed)
        changed, same = make(image, mask)
        assert torch.equal(same, mask) and changed.dtype == torch.uint8
        changes += not torch.equal(changed, image)
        means.append(changed.float().mean((1, 2)))
    assert changes >= 6, "a small change rounds to none"
    if name == "gamma":
        assert (
            min(float(one.mean()) for one in means) < float(image.float().mean()) < max(float(m.mean()) for m in means)
        )
    if name == "gain":
        assert max(float(one.max() - one.min()) for one in means) > 10, "channels change by themselves"


def test_rare_classes_are_in_more_crops() -> None:
    label = np.zeros(SIZE, np.uint8)
    label[4:7, 80:83] = 1
    dot = InMemory([Sample("dot", np.zeros((*SIZE, 3), np.uint8), label)], "dot")

    def with_dot(balanced: float) -> int:
        crops = SeededCrops([dot], SPEC, 32, 0, replace(PRESETS["none"], balanced=balanced))
        return sum(bool((crops[epoch, 0][1] == 1).any()) for epoch in range(60))

    assert with_dot(1.0) > 45 > 20 > with_dot(0.0), (with_dot(1.0), with_dot(0.0))


def test_classmix_pastes_half_of_the_classes_and_cutmix_a_rectangle() -> None:
    one = (torch.zeros(3, 40, 40), torch.zeros(40, 40, dtype=torch.int64))
    label = torch.full((40, 40), 5)
    label[:10], label[10:20], label[20:30] = 7, 8, IGNORE_ID
    for seed in range(12):
        torch.manual_seed(seed)
        image, mask = mixed(one, lambda: (torch.ones(3, 40, 40), label), replace(PRESETS["none"], classmix=1.0))
        assert torch.equal(image[0] > 0, mask > 0) and len(set(mask.unique().tolist()) & {5, 7, 8}) == 2
        assert not (mask == IGNORE_ID).any()
        image, mask = mixed(one, lambda: (torch.ones(3, 40, 40), label), replace(PRESETS["none"], cutmix=1.0))
        assert torch.equal(image[0] > 0, mask > 0)
        rows, columns = image[0].amax(1) > 0, image[0].amax(0) > 0
        assert image[0].sum() == rows.sum() * columns.sum() and 0.08 < float(image[0].mean()) < 0.55

    def never() -> tuple[torch.Tensor, torch.Tensor]:
        raise AssertionError("no crop is made in vain")

    assert mixed(one, never, PRESETS["basic"]) is one


def test_void_alone_is_cropped_too() -> None:
    void = InMemory([Sample("v", np.zeros((*SIZE, 3), np.uint8), np.full(SIZE, IGNORE_ID, np.uint8))], "void")
    for name in PRESETS:
        assert (SeededCrops([void], SPEC, 64, 0, PRESETS[name])[0, 0][1] == IGNORE_ID).all()


def test_presets_are_changed_in_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert augmentation_from_text("street") == PRESETS["street"]
    assert augmentation_from_text("street,classmix=0, rotation=5") == replace(
        PRESETS["street"], classmix=0.0, rotation=5.0
    )
    for wrong, said in (
        ("stret", "`augment` is one of none, basic, strong, street"),
        ("street,classmx=1", "is followed by NAME=NUMBER of least_scale"),
        ("street,classmix=x", "is followed by NAME=NUMBER"),
        ("street,classmix=2", "classmix is from 0 to 1"),
        ("street,least_scale=3", "least_scale to most_scale lies within"),
        ("street,least_saturation=2", "least_saturation is not above"),
        ("street,gamma=9", "gamma up to 3"),
        ("albumentations:nowhere.yaml", "nowhere.yaml, which does not exist"),
    ):
        with pytest.raises(UsageError, match=said):
            augmentation_from_text(wrong)
    monkeypatch.chdir(tmp_path)
    assert absolute_augmentation("street,classmix=0") == "street,classmix=0"
    assert absolute_augmentation("albumentations:a.yaml,cutmix=1") == f"albumentations:{tmp_path}/a.yaml,cutmix=1"
    documented = Augmentation.__doc__ or ""
    assert all(field.name in documented for field in fields(Augmentation))


def test_a_pipeline_of_albumentations(tmp_path: Path) -> None:
    albumentations = pytest.importorskip("albumentations", reason="albumentations is not installed")
    path = tmp_path / "mine.yaml"
    albumentations.save(albumentations.Compose([albumentations.HorizontalFlip(p=1.0)]), str(path), data_format="yaml")
    how = augmentation_from_text(f"albumentations:{path}")
    make = CropMaker(how, SIZE, SIZE)
    one = sample()
    assert one.label is not None
    image, mask = make(torch.from_numpy(one.frame.copy()).permute(2, 0, 1), torch.from_numpy(one.label))
    np.testing.assert_array_equal(mask.numpy(), one.label[:, ::-1])
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), one.frame[:, ::-1])
    random = albumentations.Compose([albumentations.RandomCrop(32, 32), albumentations.GaussNoise(p=1.0)])
    albumentations.save(random, str(path), data_format="yaml")
    first, again = (SeededCrops([DATA], SPEC, 64, 0, how) for _ in range(2))
    assert all(torch.equal(first[0, number][0], again[0, number][0]) for number in range(6))
    assert first[0, 0][1].shape == (64, 64), "the crop has the size that training wants"
    albumentations.save(albumentations.Compose([albumentations.Normalize()]), str(path), data_format="yaml")
    with pytest.raises(UsageError, match="leave Normalize and ToTensorV2 out"):
        SeededCrops([DATA], SPEC, 64, 0, how)[0, 0]
    path.write_text("nonsense: [")
    with pytest.raises(UsageError, match="is no pipeline that albumentations loads"):
        CropMaker(how, SIZE, SIZE)


@pytest.mark.parametrize("preset", ["basic", "street", "medical", "industrial"])
def test_planes_of_labels_move_as_a_map_of_ids_does(preset: str) -> None:
    """Of labels that do not overlap, the crop's planes are those of the crop's ids, and the pictures are the same."""
    augment = replace(PRESETS[preset], balanced=0.7, classmix=0.4, cutmix=0.4)
    several = replace(SPEC, mode="multilabel")
    of_ids, of_planes = (SeededCrops([DATA], spec, (64, 96), 3, augment) for spec in (SPEC, several))
    for number in range(24):
        image, ids = of_ids[number // 6, number % 6]
        same, planes = of_planes[number // 6, number % 6]
        assert torch.equal(image, same) and planes.dtype == torch.int64 and planes.shape == (2, 64, 96)
        np.testing.assert_array_equal(planes.numpy(), planes_from_ids(ids.numpy().astype(np.uint8), SPEC))


def test_what_a_pixel_carries_besides_is_pasted_with_it() -> None:
    image, mine = torch.zeros(3, 4, 6), torch.zeros(2, 4, 6, dtype=torch.int64)
    theirs = torch.zeros(2, 4, 6, dtype=torch.int64)
    theirs[0, :2], theirs[1, :, :3], theirs[:, 3] = 1, 1, IGNORE_ID
    torch.manual_seed(0)
    seen = set()
    for _ in range(40):
        picture, label = mixed((image, mine), lambda: (image + 1, theirs), replace(PRESETS["none"], classmix=1.0))
        pasted = picture[0] == 1
        assert torch.equal(label[:, pasted], theirs[:, pasted]) and not label[:, ~pasted].any()
        assert not pasted[3].any(), "void is not pasted"
        seen.add(int(pasted.sum()))
    assert len(seen) > 1
