"""Arrays on memory that is used again: no allocation per frame, and nobody has to say when he is done with one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["Recycler"]


class _Lease:
    """Owns a block while arrays refer to it. Views of an array keep its lease alive; the last one gives it back."""

    __slots__ = ("__array_interface__", "_block", "_free")

    def __init__(self, block: np.ndarray, shape: tuple[int, ...], free: list[np.ndarray]) -> None:
        self._block, self._free = block, free
        self.__array_interface__: dict[str, Any] = {**block.__array_interface__, "shape": shape}

    def __del__(self) -> None:
        self._free.append(self._block)


class Recycler:
    """Hands out uint8 arrays; the memory of one that nobody refers to any more is handed out again.

    Threads may take and drop arrays freely. It grows to as many blocks as were ever in use at once.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[np.ndarray]] = {}
        self.blocks = 0

    def take(self, *shape: int) -> np.ndarray:
        """Return a C-contiguous uint8 array of this shape with undefined content."""
        size = math.prod(shape)
        free = self._free.setdefault(size, [])
        try:
            block = free.pop()
        except IndexError:
            block = np.empty(size, np.uint8)
            self.blocks += 1
        return np.asarray(_Lease(block, shape, free))
