"""Checkpoints that plain code of segmentation-models-pytorch wrote: recognised, loaded, equal, compiled, refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file

import edgeseg
from edgeseg.builder.foreign import foreign_network
from edgeseg.compiler.graph.run import run_onnx
from edgeseg.errors import CheckpointError
from edgeseg.images import InMemory, Sample
from edgeseg.preprocess import normalized
from edgeseg.spec import ModelSpec, Preprocess
from tests.cli.test_cli import edgeseg as command
from tests.cli.test_cli import refused

pytestmark = pytest.mark.filterwarnings("ignore")
SIZE = (64, 96)
HALF = Preprocess((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "BGR")
FACTS = ("--size", "96x64", "--mean", "0.5", "--std", "0.25", "--channel-order", "BGR", "--classes", "a,b,c")


@dataclass(frozen=True)
class Case:
    """A network of smp, and how its checkpoint is written."""

    model: str
    encoder: str
    how: str
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        return int(self.arguments.get("in_channels", 3))


CASES = (
    Case("Unet", "resnet18", "parallel.pth"),
    Case("UnetPlusPlus", "mobilenet_v2", "lightning.ckpt", {"in_channels": 1}),
    Case("FPN", "efficientnet-b0", "folder"),
    Case("DeepLabV3Plus", "timm-tf_efficientnet_lite0", "loop.pt"),
    Case("PSPNet", "se_resnet50", "folder", {"aux_params": {"classes": 2}, "activation": "softmax2d"}),
    Case("UPerNet", "timm-efficientnet-b0", "weights.safetensors"),
)


def network_of(case: Case) -> Any:
    """The network with statistics of BatchNorm that are not those of a new one."""
    torch.manual_seed(0)
    arguments = {"classes": 3, **case.arguments}
    network = getattr(smp, case.model)(case.encoder, encoder_weights=None, **arguments).train()
    with torch.no_grad():
        network(torch.randn(2, case.channels, 64, 64))
    return network.eval()


def written(network: Any, how: str, folder: Path) -> Path:
    """Write a checkpoint as people do. Returns its path."""
    path, weights = folder / how, network.state_dict()
    optimizer = torch.optim.AdamW(network.parameters())
    if how == "folder":
        network.save_pretrained(path)
    elif how == "parallel.pth":
        torch.save(torch.nn.DataParallel(network).state_dict(), path)
    elif how == "loop.pt":
        best = {"score": np.float64(0.5), "file": path}
        torch.save({"model_state_dict": weights, "optimizer": optimizer.state_dict(), "best": best}, path)
    elif how == "lightning.ckpt":
        stored = {f"model.{name}": value for name, value in weights.items()} | {"loss.weight": torch.ones(3)}
        states = {"optimizer_states": [optimizer.state_dict()], "hyper_parameters": {"lr": 1e-3}, "epoch": 3}
        torch.save({"state_dict": stored, **states}, path)
    else:
        save_file(weights, path)
    return path


def logits_of(network: Any, image: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        given = network(image)
    first: torch.Tensor = given[0] if isinstance(given, tuple) else given
    return first


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.model}-{case.encoder}-{case.how}")
def test_a_checkpoint_of_smp_is_recognised_predicts_the_same_and_compiles(case: Case, tmp_path: Path) -> None:
    network = network_of(case)
    loaded = foreign_network(written(network, case.how, tmp_path))
    assert (loaded.config.architecture, loaded.config.encoder) == (case.model.lower(), case.encoder)
    assert loaded.config.classes == 3 and loaded.config.in_channels == case.channels and not loaded.training
    image = torch.randn(2, case.channels, *SIZE)
    assert float((logits_of(loaded, image) - logits_of(network, image)).abs().max()) < 1e-5

    spec = ModelSpec(("a", "b", "c"), ((0, 0, 0), (9, 9, 9), (99, 99, 99)), SIZE, HALF)
    frame = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    label = np.arange(SIZE[0] * SIZE[1], dtype=np.uint8).reshape(SIZE) % 3
    made = edgeseg.compile_model(
        loaded,
        spec,
        evaluation=InMemory([Sample("0", frame, label)], "a frame"),
        options=edgeseg.CompileOptions(graphs=()),
    )
    import onnx

    graph = onnx.load_model_from_string(made.bundle.graphs["fp32"].onnx)
    seen = torch.from_numpy(normalized(frame[None], HALF))
    if case.channels == 1:
        seen = (seen * torch.tensor([0.114, 0.587, 0.299]).view(1, 3, 1, 1)).sum(1, keepdim=True)  # B, G, R
    expected = logits_of(network, seen).argmax(1).numpy()
    assert (np.asarray(run_onnx(graph, {"frame": frame[None]})[0]) == expected).mean() > 0.999


@pytest.mark.parametrize("case", [CASES[0], CASES[2]], ids=lambda case: case.how)
def test_the_command_line_compiles_a_checkpoint_of_smp(case: Case, tmp_path: Path) -> None:
    path = written(network_of(case), case.how, tmp_path)
    from edgeseg.images import write_png

    for name in ("val", "valannot"):
        (tmp_path / name).mkdir()
    write_png(tmp_path / "val" / "0.png", np.zeros((*SIZE, 3), np.uint8))
    write_png(tmp_path / "valannot" / "0.png", np.arange(64 * 96, dtype=np.uint8).reshape(SIZE) % 3)
    done = command("compile", path, *FACTS, "--eval", "val", "-o", "made.edgeseg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"is {case.model.lower()} + {case.encoder} of segmentation-models-pytorch, 3 classes" in done.stdout
    bundle = edgeseg.load(tmp_path / "made.edgeseg")
    assert bundle.spec.classes == ("a", "b", "c") and bundle.spec.preprocess == HALF
    assert bundle.provenance["network"]["architecture"] == case.model.lower()


def test_the_command_line_says_all_that_a_checkpoint_does_not(tmp_path: Path) -> None:
    path = written(network_of(CASES[0]), "parallel.pth", tmp_path)
    line = refused("compile", path, cwd=tmp_path, code=2)
    for flag in ("--size WIDTHxHEIGHT", "--classes FILE (the network gives 3", "--mean", "--std", "--channel-order"):
        assert flag in line
    assert "--layout" in refused("compile", path, "--layout", "NCHW", *FACTS, cwd=tmp_path, code=2)


def test_four_channels_never_come_from_a_camera(tmp_path: Path) -> None:
    path = written(network_of(Case("Unet", "mobilenet_v2", "", {"in_channels": 4})), "four.safetensors", tmp_path)
    network = foreign_network(path)
    assert network.config.in_channels == 4
    spec = ModelSpec(("a", "b", "c"), ((0, 0, 0),) * 3, SIZE)
    data = InMemory([Sample("0", np.zeros((*SIZE, 3), np.uint8), np.arange(6144).reshape(SIZE) % 3)], "a frame")
    with pytest.raises(edgeseg.CompileError, match="has 4 channels; a camera gives 3"):
        edgeseg.compile_model(network, spec, evaluation=data)


def test_sizes_that_smp_takes_unpadded_are_not_padded(tmp_path: Path) -> None:
    """Its U-Net runs at any size. Padding would move what it predicts at borders."""
    network = network_of(CASES[0])
    loaded = foreign_network(written(network, "parallel.pth", tmp_path))
    image = torch.randn(1, 3, 72, 104)
    assert float((logits_of(loaded, image) - logits_of(network, image)).abs().max()) < 1e-5


@pytest.mark.parametrize(
    "arguments",
    [
        {"encoder_depth": 4, "decoder_channels": (64, 48, 32, 16)},
        {"decoder_attention_type": "scse", "decoder_channels": (64, 64, 32, 32, 16)},
    ],
    ids=lambda value: "-".join(value),
)
@pytest.mark.parametrize("how", ["parallel.pth", "folder"])
def test_depth_channels_and_attention_are_told_by_shapes_or_the_folder(
    arguments: dict[str, Any], how: str, tmp_path: Path
) -> None:
    network = network_of(Case("Unet", "resnet18", how, arguments))
    loaded = foreign_network(written(network, how, tmp_path))
    image = torch.randn(1, 3, 64, 64)
    assert float((logits_of(loaded, image) - logits_of(network, image)).abs().max()) < 1e-5


def test_an_encoder_of_timm_has_to_be_named(tmp_path: Path) -> None:
    path = written(network_of(Case("Unet", "tu-mobilenetv3_small_050", "")), "timm.safetensors", tmp_path)
    with pytest.raises(CheckpointError, match="encoder that cannot be told by its tensors .*pass `encoder`"):
        foreign_network(path)
    assert foreign_network(path, encoder="tu-mobilenetv3_small_050").config.classes == 3
    with pytest.raises(CheckpointError, match="looks like unet with resnet18, but is not"):
        foreign_network(path, encoder="resnet18")


def test_what_is_no_network_of_smp_is_one_line(tmp_path: Path) -> None:
    torch.save(torch.nn.Conv2d(3, 2, 3).state_dict(), tmp_path / "conv.pth")
    strange = {
        "encoder.conv1.weight": torch.zeros(1),
        "decoder.mine": torch.zeros(1),
        "segmentation_head.x": torch.ones(1),
    }
    torch.save(strange, tmp_path / "strange.pth")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    save_file({"x": torch.zeros(1)}, tmp_path / "bert" / "model.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    said = {
        "conv.pth": "is no network of segmentation-models-pytorch",
        "strange.pth": "has a decoder of no network of segmentation-models-pytorch",
        "bert": "config.json that is not of segmentation-models-pytorch",
        "empty": "holds none of model.safetensors",
    }
    for name, message in said.items():
        with pytest.raises(CheckpointError, match=message) as caught:
            foreign_network(tmp_path / name)
        assert "\n" not in str(caught.value)
