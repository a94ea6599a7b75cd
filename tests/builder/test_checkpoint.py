from __future__ import annotations

from pathlib import Path

import pytest
import torch

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


def test_weights_of_another_network_are_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not fit the network: size mismatch"):
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
