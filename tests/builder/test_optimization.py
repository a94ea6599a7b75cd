"""Schedules by their values, optimizers by what they do, crops by their epochs."""

from __future__ import annotations

import pytest
import torch

from edgeseg.app.fields import fields_of
from edgeseg.app.train_config import TrainConfig
from edgeseg.builder.losses import LOSSES
from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.builder.optimization import OPTIMIZERS, SCHEDULES, rate_factor
from edgeseg.builder.recipe import CropStage, TrainRecipe, crop_stages
from edgeseg.builder.task import SegmentationTask, loss_weights, parameter_groups
from edgeseg.builder.training import precision_of
from edgeseg.errors import UsageError
from edgeseg.spec import ModelSpec

HALF = 0.5**0.9
VALUES = {
    "poly": [1, 0.75**0.9, HALF, 0.25**0.9, 0],
    "cosine": [1, 0.853553, 0.5, 0.146447, 0],
    "one-cycle": [0.04, 0.9356922, 0.8117637, 0.2831298, 1e-4],
    "step": [1, 1, 1, 0.1, 0.01],
    "constant": [1, 1, 1, 1, 1],
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_has_these_values_at_every_quarter(name: str) -> None:
    found = [rate_factor(name, step, 100) for step in (0, 25, 50, 75, 100)]
    assert found == pytest.approx(VALUES[name], abs=1e-6)


def test_warm_up_rises_in_equal_steps_to_where_the_schedule_begins() -> None:
    found = [rate_factor("poly", step, 14, 4) for step in range(6)]
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 0.9**0.9])
    assert rate_factor("poly", 14, 14, 4) == 0


def test_a_wrong_name_is_told_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"`schedule` has no 'cosin'; did you mean cosine\? there are poly, cosine"):
        rate_factor("cosin", 0, 1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_down_with_a_rate_per_group(name: str) -> None:
    fast, slow = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    groups = [{"params": [fast], "lr": 0.01}, {"params": [slow], "lr": 0.001}]
    optimizer = OPTIMIZERS[name](groups, 0.0)
    (fast + slow).backward()
    optimizer.step()
    assert 1 - fast.item() == pytest.approx(10 * (1 - slow.item()), rel=1e-3) and fast.item() < 1


def test_the_encoder_has_its_share_of_the_rate_or_none() -> None:
    network = network_from_config(NetworkConfig(classes=3))
    rest, encoder = parameter_groups(network, 0.01, 0.25)
    assert (rest["lr"], encoder["lr"]) == (0.01, 0.0025)
    assert len(rest["params"]) + len(encoder["params"]) == len(list(network.parameters()))
    (only,) = parameter_groups(network, 0.01, 0)
    assert only["params"] == [one for one in network.parameters() if one.requires_grad] == rest["params"]


def test_crops_grow_by_their_shares_of_the_epochs() -> None:
    text = "192:300,288:120,480x352:20"
    assert crop_stages(TrainRecipe(epochs=440, growth=text)) == (
        CropStage(192, 192, 300),
        CropStage(288, 288, 420),
        CropStage(352, 480, 440),
    )
    assert [stage.end for stage in crop_stages(TrainRecipe(epochs=44, growth=text))] == [30, 42, 44]
    assert crop_stages(TrainRecipe(epochs=9, growth="64, 96")) == (CropStage(64, 64, 4), CropStage(96, 96, 9))
    assert crop_stages(TrainRecipe(epochs=9, crop=64)) == (CropStage(64, 64, 9),)


@pytest.mark.parametrize("text", ["190:1", "x", "192:0", "192:-1", "192:1,", "0:1", "192x:3", "192:nan"])
def test_growth_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"`growth` is SIZE:SHARE.*multiples of 32"):
        crop_stages(TrainRecipe(growth=text))


def test_weights_of_classes_by_rule_or_number() -> None:
    rare = torch.tensor([0.5, 1.5])
    assert loss_weights("annealed", rare) is rare and loss_weights("constant", rare) is rare
    assert loss_weights("none", rare).tolist() == [1, 1] and loss_weights("1, 2.5", rare).tolist() == [1, 2.5]
    for wrong in ("1,2,3", "0,1", "x", "nan,1", ""):
        with pytest.raises(UsageError, match="`class_weights` is annealed, constant, none or 2 numbers above 0"):
            loss_weights(wrong, rare)


def test_precision_follows_the_device() -> None:
    cpu = torch.device("cpu")
    assert [precision_of(name, cpu) for name in ("auto", "32", "bf16")] == ["32-true", "32-true", "bf16-mixed"]
    with pytest.raises(UsageError, match="a CPU does not train with; pass bf16 or 32"):
        precision_of("fp16", cpu)
    with pytest.raises(UsageError, match=r"has no 'bf6'; did you mean bf16"):
        precision_of("bf6", cpu)


def test_help_names_what_the_tables_have() -> None:
    help_of = {field.name: field.about.help for field in fields_of(TrainConfig)}
    for name, table in (("loss", LOSSES), ("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        assert all(row in help_of[name] for row in table), f"--{name} has another list"


def test_a_compiled_network_keeps_the_names_of_its_weights() -> None:
    """What is compiled is called so in the checkpoint as well; compiling itself waits for the first batch."""
    spec = ModelSpec(("a", "b"), ((0, 0, 0), (9, 9, 9)), (32, 32))
    tasks = [
        SegmentationTask(network_from_config(NetworkConfig(classes=2)), spec, TrainRecipe(compiled=on), torch.ones(2))
        for on in (False, True)
    ]
    assert tasks[0].state_dict().keys() == tasks[1].state_dict().keys()
    assert [task.network._compiled_call_impl is not None for task in tasks] == [False, True]
