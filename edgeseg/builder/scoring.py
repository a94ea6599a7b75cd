"""A trained network as what predictions ask: probabilities for a picture."""

from __future__ import annotations

import numpy as np
import torch

from edgeseg.builder.checkpoint import Checkpoint
from edgeseg.builder.heads import probabilities
from edgeseg.preprocess import normalized

__all__ = ["CheckpointNetwork"]


class CheckpointNetwork:
    """The network of a checkpoint, run by PyTorch on the CPU.

    Args:
        checkpoint: of ``load_checkpoint``.
        name: of its file, for people.
    """

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        self.spec, self._network = checkpoint.spec, checkpoint.network.eval()
        self.description = f"PyTorch {torch.__version__} on the CPU, {name}"

    def probabilities(self, frame: np.ndarray) -> np.ndarray:
        """Return CxHxW float32 for a frame HxWx3 uint8 BGR of ``spec.size_hw``."""
        with torch.inference_mode():
            logits = self._network(torch.from_numpy(normalized(frame[None], self.spec.preprocess)))
            found: np.ndarray = probabilities(logits, self.spec)[0].numpy()
        return found

    def close(self) -> None:
        """Free nothing: the network goes with its last reference."""
