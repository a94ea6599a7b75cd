"""A real exported program in the engine, on the CPU; with its TensorRT engines where there is a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'edgeseg[train]'")

from edgeseg.compiler.importers.exported_program import exported_program_from_module, tensorrt_program_from_module  # noqa: E402
from edgeseg.engines.base import Engine  # noqa: E402
from edgeseg.engines.torch_tensorrt import TorchTensorRtEngine  # noqa: E402
from edgeseg.errors import EngineError  # noqa: E402
from tests.engine_contract import EngineContract  # noqa: E402
from tests.engines.tensorrt.tiny import tiny_frames, tiny_spec  # noqa: E402

SHAPE = (1, *tiny_spec().size_hw, 3)


def _network() -> Any:
    torch.manual_seed(0)
    layers = (torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU6(), torch.nn.Conv2d(8, 3, 1))
    return torch.nn.Sequential(*layers).eval()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "tiny.pt2"
    torch.export.save(exported_program_from_module(_network(), tiny_spec(), precision="fp32"), str(path))
    return path


class TestOnTheCpu(EngineContract):
    @pytest.fixture
    def engine(self, program: Path) -> Engine:
        return TorchTensorRtEngine(program, SHAPE, device="cpu")

    @pytest.fixture
    def frames(self) -> list[np.ndarray]:
        return [frame[None] for frame in tiny_frames(2)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
class TestOnTheGpu(EngineContract):
    @pytest.fixture
    def engine(self, tmp_path: Path) -> Engine:
        pytest.importorskip("torch_tensorrt", reason="torch-tensorrt is not installed")
        tensorrt_program_from_module(_network(), tiny_spec(), tmp_path / "tiny.pt2", precision="fp16")
        return TorchTensorRtEngine(tmp_path / "tiny.pt2", SHAPE)

    @pytest.fixture
    def frames(self) -> list[np.ndarray]:
        return [frame[None] for frame in tiny_frames(2)]


def test_what_is_no_program_is_refused(tmp_path: Path, program: Path) -> None:
    (tmp_path / "junk.pt2").write_bytes(b"junk")
    with pytest.raises(EngineError, match="cannot load .*junk.pt2: .+") as refused:
        TorchTensorRtEngine(tmp_path / "junk.pt2", SHAPE, device="cpu")
    assert "\n" not in str(refused.value)
    with pytest.raises(EngineError, match="gone.pt2 does not exist; 'edgeseg compile --backend torch-tensorrt'"):
        TorchTensorRtEngine(tmp_path / "gone.pt2", SHAPE, device="cpu")
    with pytest.raises(EngineError, match="the program failed"):
        TorchTensorRtEngine(program, (1, 64, 64, 3), device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="torch sees no CUDA GPU"):
            TorchTensorRtEngine(program, SHAPE)
