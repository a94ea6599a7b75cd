from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Callable

import pytest
import torch

from edgeseg.app.shipped import SHIPPED
from edgeseg.builder.checkpoint import Checkpoint, SafetensorsIO, load_checkpoint, load_weights, save_checkpoint
from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.errors import CheckpointError
from edgeseg.spec import ModelSpec


@pytest.fixture
def path(spec: ModelSpec, tmp_path: Path) -> Path:
    config = NetworkConfig(classes=3)
    target = tmp_path / "best.safetensors"
    save_checkpoint(Checkpoint(network_from_config(config), config, spec, {"val_miou": 0.5}), target)
    return target


def test_round_trip(path: Path, spec: ModelSpec) -> None:
    loaded = load_checkpoint(path)
    assert (loaded.spec, loaded.config, loaded.training) == (spec, NetworkConfig(classes=3), {"val_miou": 0.5})
    other = network_from_config(loaded.config)
    load_weights(other, path)
    for name, value in loaded.network.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_truncated_foreign_and_missing_files(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    for length in (0, 7, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "none.safetensors")
    import safetensors.torch

    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="no edgeseg header"):
        load_checkpoint(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda header: "[" * 200_000, "malformed header"),
        (lambda header: "[]", "malformed header"),
        (lambda header: json.dumps({**header, "schema": "1"}), "malformed header"),
        (lambda header: json.dumps({**header, "schema": 9}), "has schema 9"),
        (lambda header: json.dumps({**header, "network": []}), "malformed header"),
        (lambda header: json.dumps({**header, "network": {**header["network"], "classes": 1e400}}), "malformed header"),
        (
            lambda header: json.dumps({**header, "network": {**header["network"], "classes": 4}}),
            "4 classes and names 3",
        ),
        (lambda header: json.dumps({**header, "spec": 3}), "malformed header"),
        (lambda header: json.dumps({**header, "training": [1]}), "malformed header"),
    ],
)
def test_a_header_of_another_kind_is_one_line(path: Path, edit: Callable[[dict[str, Any]], str], said: str) -> None:
    import safetensors.torch

    with safetensors.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["edgeseg"])
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, {"edgeseg": edit(header)})
    with pytest.raises(CheckpointError, match=said) as refused:
        load_checkpoint(path)
    assert "\n" not in str(refused.value)


def test_weights_of_another_network_are_refused(path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"does not fit the network: it is of 3 classes and this is of 4 .*`keep` body"
    ):
        load_weights(network_from_config(NetworkConfig(classes=4)), path)


def test_resume_state_is_no_checkpoint_and_says_so(tmp_path: Path) -> None:
    SafetensorsIO().save_checkpoint({"epoch": 1, "x": torch.zeros(1)}, tmp_path / "resume.safetensors")
    with pytest.raises(CheckpointError, match=r"the network is in best\.safetensors"):
        load_checkpoint(tmp_path / "resume.safetensors")


def test_training_state_round_trip_without_pickle(tmp_path: Path) -> None:
    state = {
        "epoch": 3,
        "nested": {0: {"step": torch.tensor(5), "betas": (0.9, 0.999)}, 1: [None, True, "x", 1.5]},
        "weights": torch.randn(3, 4).to(memory_format=torch.contiguous_format),
    }
    path = tmp_path / "resume.safetensors"
    SafetensorsIO().save_checkpoint(state, path)
    loaded = SafetensorsIO().load_checkpoint(path)
    assert torch.equal(loaded["weights"], state["weights"])  # type: ignore[arg-type]
    assert loaded["nested"][0]["betas"] == (0.9, 0.999) and loaded["nested"][1] == [None, True, "x", 1.5]
    assert int(loaded["nested"][0]["step"]) == 5 and loaded["epoch"] == 3
    assert b"\x80\x04" not in path.read_bytes()[:64] and b"PK" not in path.read_bytes()[:4]
    with pytest.raises(CheckpointError, match="holds a object"):
        SafetensorsIO().save_checkpoint({"x": object()}, path)


def _foreign(folder: Path) -> dict[str, tuple[Path, str]]:
    """What people have after training elsewhere, written by the real libraries -> what it is."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3))
    torch.save(network.state_dict(), folder / "state.pth")
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, folder / "lightning.ckpt")
    torch.save(network.state_dict(), folder / "old.pth", _use_new_zipfile_serialization=False)
    torch.save(network, folder / "whole.pth")
    torch.save([1, 2, 3], folder / "list.pth")
    torch.jit.save(torch.jit.trace(network, torch.zeros(1, 3, 8, 8)), str(folder / "script.pt"))
    torch.onnx.export(network, (torch.zeros(1, 3, 8, 8),), str(folder / "net.onnx"), dynamo=False)
    (folder / "hf").mkdir()
    (folder / "keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (folder / "notes.txt").write_text("not weights at all\n")
    (folder / "half.pth").write_bytes((folder / "state.pth").read_bytes()[:200])
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        archive.writestr("photo.jpg", b"")
    other = "is no checkpoint of 'edgeseg train'|has no weights for the encoder efficientnet_lite0"
    return {
        "state.pth": (folder / "state.pth", other),
        "lightning.ckpt": (folder / "lightning.ckpt", other),
        "old.pth": (folder / "old.pth", other),
        "whole.pth": (folder / "whole.pth", r"more than weights \(torch.nn.modules.container.Sequential\)"),
        "list.pth": (folder / "list.pth", "holds no tensors by name"),
        "script.pt": (folder / "script.pt", "a TorchScript program"),
        "net.onnx": (folder / "net.onnx", "an ONNX file"),
        "hf": (folder / "hf", "is a folder"),
        "keras.h5": (folder / "keras.h5", "an HDF5 file of Keras"),
        "bundle": (SHIPPED, "a bundle of 'edgeseg compile'"),
        "notes.txt": (folder / "notes.txt", "it is no safetensors file"),
        "half.pth": (folder / "half.pth", "truncated zip"),
        "photos.zip": (folder / "photos.zip", "a zip, and none of PyTorch"),
    }


@pytest.mark.filterwarnings("ignore")
def test_what_was_trained_elsewhere_is_named_for_what_it_is(tmp_path: Path) -> None:
    network = network_from_config(NetworkConfig())
    for path, said in _foreign(tmp_path).values():
        for load in (load_checkpoint, lambda path: load_weights(network, path)):
            with pytest.raises(CheckpointError, match=said) as caught:
                load(path)
            assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_a_misfit_is_counted_and_not_dumped(path: Path) -> None:
    with pytest.raises(CheckpointError, match="[0-9]+ of the network's [0-9]+ tensors are in the file; ") as caught:
        load_weights(network_from_config(NetworkConfig("edge_unet", "mobilenet_v2", 3)), path)
    assert len(str(caught.value)) - len(str(path)) < 430  # of 350 names


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(path: Path, spec: ModelSpec, tmp_path: Path, value: float) -> None:
    loaded = load_checkpoint(path)
    next(loaded.network.parameters()).data.view(-1)[0] = value
    save_checkpoint(loaded, tmp_path / "nan.safetensors")
    with pytest.raises(CheckpointError, match=r"not finite .1 tensors, first .*smaller `learning_rate`"):
        load_checkpoint(tmp_path / "nan.safetensors")
