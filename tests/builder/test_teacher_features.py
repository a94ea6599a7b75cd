"""Learning what teachers' encoders see: which features, where they are kept, how they move, what they pull."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import edgeseg
from edgeseg.builder.augmentation import PRESETS
from edgeseg.builder.data import SeededCrops
from edgeseg.builder.distillation.features import FeatureHints, channels_of, teacher_features
from edgeseg.builder.distillation.maps import Teaching, stored_features, teacher_maps
from edgeseg.builder.distillation.teacher import Teacher
from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.builder.recipe import TrainOptions, TrainRecipe
from edgeseg.builder.training import train
from edgeseg.errors import UsageError
from edgeseg.images import InMemory, Sample
from edgeseg.preprocess import normalized
from edgeseg.spec import IGNORE_ID
from tests.builder.test_distillation import CPU, DATA, PLAIN, SIZE, SPEC, teacher_of


def features_of(teacher: Teacher, image: Tensor) -> Tensor:
    """What the encoder of edge_unet + MobileNetV2 gives at stride 16, of length 1."""
    with torch.no_grad():
        return F.normalize(teacher.network.network.encoder(image)[2], dim=1)  # type: ignore[operator]


def image_of(index: int) -> Tensor:
    return torch.from_numpy(normalized(DATA[index].frame[None], SPEC.preprocess))


def test_the_features_are_those_of_the_encoder_at_stride_16_one_teacher_after_the_other() -> None:
    teachers = [teacher_of(0), teacher_of(1)]
    found = teacher_features(teachers, DATA[3].frame, SPEC, CPU)
    assert found.dtype == np.float16 and found.shape == (192, 4, 6)
    expected = torch.cat([features_of(one, image_of(3))[0] for one in teachers])
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3)
    lengths = np.linalg.norm(found.astype(np.float32).reshape(2, 96, 4, 6), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=5e-3)


def test_a_teacher_of_another_size_gives_features_of_the_students_size_without_its_padding() -> None:
    """72x104 is padded to 96x128: 5x7 places of 6x8 see the image."""
    teacher = teacher_of(0, size_hw=(72, 104))
    found = teacher_features([teacher], DATA[0].frame, SPEC, CPU)
    view = teacher.spec.preprocess.resized(DATA[0].frame, (72, 104))[None]
    padded = F.pad(torch.from_numpy(normalized(view, teacher.spec.preprocess)), (0, 24, 0, 24))
    with torch.no_grad():
        inside = teacher.network.network.encoder(padded)[2][:, :, :5, :7]  # type: ignore[operator]
    expected = F.normalize(F.interpolate(inside, (4, 6), mode="bilinear"), dim=1)[0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3)


@pytest.mark.parametrize(
    ("architecture", "encoder", "channels"),
    [("unet", "resnet18", 256), ("fpn", "mobilenet_v2", 96), ("deeplabv3plus", "resnet18", 512)],
)
def test_networks_of_smp_have_features_too(architecture: str, encoder: str, channels: int) -> None:
    """DeepLabV3+ keeps stride 16 to the end of its encoder: the deepest are taken."""
    network = edgeseg.build(architecture, encoder, 3, weights=None).train()
    assert channels_of(network, "x") == channels
    assert network.training and not [one for one in network.modules() if one._forward_hooks], "nothing is left behind"


def test_an_encoder_without_stride_16_is_one_line() -> None:
    shallow = edgeseg.build("unet", "resnet18", 3, weights=None, depth=3)
    with pytest.raises(UsageError, match="^the encoder of the network has no features at stride 16, so `distill`.*=0$"):
        FeatureHints(shallow, [8])
    with pytest.raises(UsageError, match="^the teacher t has no encoder, so `distill` has to have feature=0$"):
        teacher_features([Teacher("t", bare(), SPEC)], DATA[0].frame, SPEC, CPU)


def bare() -> edgeseg.builder.networks.PaddedNetwork:  # type: ignore[name-defined]
    from edgeseg.builder.networks import PaddedNetwork

    return PaddedNetwork(nn.Conv2d(3, 3, 1), NetworkConfig("edge_unet", "mobilenet_v2", 3))


# The distance.


def test_the_distance_is_one_minus_the_cosine_where_half_of_the_pixels_have_a_label() -> None:
    student = teacher_of(4).network
    hints = FeatureHints(student, [5, 7])
    images = torch.cat((image_of(0), image_of(1)))
    student(images)
    wanted = torch.randn(2, 12, 4, 6).half()
    labels = torch.zeros(2, *SIZE, dtype=torch.long)
    labels[0, :16, :9] = IGNORE_ID  # more than half of one place
    labels[1, :16, :8] = IGNORE_ID  # half of one
    with torch.no_grad():
        own = student.network.encoder(images)[2]  # type: ignore[operator]
        first, second = (layer(own) for layer in hints.to_teacher)
    cosines = np.stack(
        [
            (found * part).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(part, axis=1)
            for found, part in ((first.numpy(), wanted[:, :5].numpy()), (second.numpy(), wanted[:, 5:].numpy()))
        ]
    )
    distances = (1 - cosines).mean(0)
    expected = np.delete(distances.reshape(-1), 0).mean()
    assert hints(wanted, labels).item() == pytest.approx(float(expected), rel=1e-3)
    assert hints(wanted, torch.full_like(labels, IGNORE_ID)).item() == 0, "nothing but void has no distance"


def test_a_student_learns_to_see_what_its_teacher_sees() -> None:
    teacher, student = teacher_of(0), teacher_of(1).network.train()
    hints = FeatureHints(student, [96])
    wanted = torch.cat([torch.from_numpy(teacher_features([teacher], DATA[i].frame, SPEC, CPU))[None] for i in (0, 1)])
    images, labels = torch.cat((image_of(0), image_of(1))), torch.zeros(2, *SIZE, dtype=torch.long)
    optimizer = torch.optim.Adam([*hints.parameters(), *student.network.encoder.parameters()], 3e-3)  # type: ignore[union-attr]
    distances = []
    for _ in range(12):
        student(images)
        distance = hints(wanted, labels)
        optimizer.zero_grad()
        distance.backward()
        optimizer.step()
        distances.append(distance.item())
    assert distances[-1] < 0.5 * distances[0], distances


# Files and crops.


def test_features_are_kept_beside_maps_and_made_once(tmp_path: Path) -> None:
    lines: list[str] = []
    teaching = Teaching([teacher_of(0)], tmp_path, lines.append)
    teacher_maps(teaching, [DATA], SPEC, PLAIN, CPU)
    (found,) = stored_features(teaching, [DATA], SPEC, CPU)
    assert np.array_equal(found[2], teacher_features([teacher_of(0)], DATA[2].frame, SPEC, CPU))
    assert lines[-1].startswith(f"teacher features: 0 of 6 are in {tmp_path} (96x4x6 float16, 0.0 MB")
    stored_features(teaching, [DATA], SPEC, CPU)
    assert lines[-1].startswith("teacher features: 6 of 6") and len(list(tmp_path.iterdir())) == 12


@pytest.mark.parametrize("name", PRESETS)
def test_features_move_with_the_labels_under_any_augmentation(name: str) -> None:
    """What is known of a place is its class: where a place holds one class, the moved features have that class."""
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 3, (2, 3), dtype=np.uint8).repeat(32, 0).repeat(32, 1) for _ in range(6)]
    halves = [Sample(str(index), DATA[index].frame, label) for index, label in enumerate(labels)]
    crops = SeededCrops([InMemory(halves, "blocks")], SPEC, 64, 3, PRESETS[name])
    one_hot = [np.stack([label == index for index in range(3)]).astype(np.float16) for label in labels]
    coarse = [one[:, 8::16, 8::16] for one in one_hot]
    crops.learn_from([one_hot], [coarse])  # type: ignore[list-item]
    right = []
    for number in range(24):
        image, label, found, features = crops[number // 6, number % 6]
        assert features.shape == (3, 4, 4) and features.dtype == torch.float16 and found.shape[1:] == label.shape
        middle = label[8::16, 8::16]
        sure = (middle != IGNORE_ID) & (features.amax(0) > 0.8)
        right.extend((features.argmax(0) == middle)[sure].tolist())
    assert len(right) > 60 and np.mean(right) > 0.93, (len(right), np.mean(right))


# A training.


def trained(folder: Path, teaching: Teaching, distill: str, **more: object) -> edgeseg.builder.checkpoint.Checkpoint:  # type: ignore[name-defined]
    torch.manual_seed(0)
    config = NetworkConfig("edge_unet", "mobilenet_v2", 3)
    recipe = replace(TrainRecipe(epochs=2, batch=2, crop=64, workers=0, distill=distill), **more)  # type: ignore[arg-type]
    folder.mkdir(exist_ok=True)
    options = TrainOptions(teaching=teaching, resume=(folder / "resume.safetensors").exists())
    return train(network_from_config(config), config, SPEC, [DATA], DATA, recipe, folder, options)


def test_features_change_what_is_learned_and_a_resumed_run_is_the_whole_run(tmp_path: Path) -> None:
    teaching = Teaching([teacher_of(5), teacher_of(6)], tmp_path / "maps")
    views = "scales=1,flip=0"
    plain = trained(tmp_path / "plain", teaching, views).network.state_dict()
    whole = trained(tmp_path / "whole", teaching, f"{views},feature=2").network.state_dict()
    assert list(whole) == list(plain), "the checkpoint has no layer more"
    assert not torch.equal(whole["network.head.weight"], plain["network.head.weight"])

    class Stopped(Exception):
        pass

    def stop(line: str) -> None:
        if "epoch 2/2  step 2" in line:
            raise Stopped

    torch.manual_seed(0)
    config = NetworkConfig("edge_unet", "mobilenet_v2", 3)
    recipe = TrainRecipe(epochs=2, batch=2, crop=64, workers=0, distill=f"{views},feature=2")
    folder = tmp_path / "stopped"
    folder.mkdir()
    with pytest.raises(Stopped):
        options = TrainOptions(teaching=teaching, on_step=stop)
        train(network_from_config(config), config, SPEC, [DATA], DATA, recipe, folder, options)
    resumed = trained(folder, teaching, f"{views},feature=2").network.state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("field", ["qat", "compiled"])
def test_features_with_int8_arithmetic_or_a_compiled_network_are_refused(tmp_path: Path, field: str) -> None:
    with pytest.raises(UsageError, match=f"`distill` has feature, which is not learned with `{field}`"):
        trained(tmp_path / "run", Teaching([teacher_of(5)], tmp_path / "maps"), "feature=1", **{field: True})
