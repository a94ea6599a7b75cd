"""A checkpoint predicts what PyTorch gives, and what its bundle gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeseg.app.predict import open_predictor, predict
from edgeseg.app.predict_config import PredictConfig
from edgeseg.builder.checkpoint import Checkpoint, save_checkpoint
from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.compiler.graph.fold import folded_onnx
from edgeseg.compiler.graph.scored import scored_onnx
from edgeseg.compiler.importers.torch_export import onnx_from_module
from edgeseg.engines.ort import OrtEngine
from edgeseg.errors import UsageError
from edgeseg.prediction.network import EngineNetwork
from edgeseg.prediction.predictor import Predictor
from edgeseg.preprocess import normalized
from edgeseg.spec import ModelSpec


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    spec = ModelSpec(("road", "car", "sky"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)), (64, 96))
    config = NetworkConfig("edge_unet", "mobilenet_v2", 3)
    return Checkpoint(network_from_config(config).eval(), config, spec)


def test_a_checkpoint_predicts_what_pytorch_and_its_graph_give(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(checkpoint, tmp_path / "c.safetensors")
    frame = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    with open_predictor(tmp_path / "c.safetensors") as predictor:
        found = predictor.predict(frame, probabilities=True).probabilities
    with torch.inference_mode():
        plain = checkpoint.network(torch.from_numpy(normalized(frame[None], checkpoint.spec.preprocess)))
    assert found is not None
    np.testing.assert_allclose(found, plain.softmax(1)[0].numpy(), atol=1e-6)
    folded = folded_onnx(onnx_from_module(checkpoint.network, (64, 96)), checkpoint.spec)
    engine = OrtEngine(scored_onnx(folded.SerializeToString(), "fp32", 3))
    with Predictor(EngineNetwork(engine, checkpoint.spec)) as compiled:
        np.testing.assert_allclose(compiled.predict(frame, probabilities=True).probabilities, found, atol=1e-5)


def test_a_checkpoint_has_no_signature(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(checkpoint, tmp_path / "c.safetensors")
    config = PredictConfig(
        pictures=("demo://street?frames=1",),
        output=str(tmp_path / "out"),
        model=tmp_path / "c.safetensors",
        require_signature=tmp_path / "key.pem",
    )
    with pytest.raises(UsageError, match="a signature is required"):
        predict(config)
