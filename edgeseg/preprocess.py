"""Turn camera frames into network input, as training, calibration, evaluation and runtime take it.

The compiled graph starts at the resized uint8 BGR frame (``ModelSpec.resized``); normalisation is inside it.
``normalized`` is the same arithmetic in numpy, for training, and for the proof that the graph does the same.
"""

from __future__ import annotations

import hashlib

import numpy as np

from edgeseg.images import Dataset
from edgeseg.spec import ModelSpec, Preprocess

__all__ = ["NetworkFrames", "normalized"]


class NetworkFrames:
    """The frames of a data set as a network takes them, resized when they are asked for.

    Attributes:
        description: of the data set.
    """

    def __init__(self, data: Dataset, spec: ModelSpec) -> None:
        self._data, self._spec = data, spec
        self.description = data.description

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return a frame at network size: HxWx3 uint8 BGR, contiguous. Raises ImageError: it cannot be used."""
        return np.ascontiguousarray(self._spec.resized(self._data[index].frame))

    def evenly_spread(self, count: int) -> list[np.ndarray]:
        """Return at most ``count`` frames, evenly spread, the first and the last included."""
        places = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(int))
        return [self[int(place)] for place in places]

    def sha256(self) -> str:
        """Digest of the frames, in order."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            digest.update(self[index].tobytes())
        return digest.hexdigest()


def normalized(frames: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """Normalise frames of the network's size into the network's float input.

    Args:
        frames: NxHxWx3 uint8, BGR.
        preprocess: channel order, mean and std.

    Returns:
        Nx3xHxW float32, contiguous.
    """
    ordered = frames[..., ::-1] if preprocess.channel_order == "RGB" else frames
    scale, offset = preprocess.scale_and_offset()
    scaled = (ordered.astype(np.float32) - offset) / scale
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
