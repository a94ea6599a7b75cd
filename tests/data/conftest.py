"""Pictures and masks to lay out in the ways that people have."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import cv2
import numpy as np
import pytest

from edgeseg.spec import ModelSpec

SIZE_HW = (48, 64)
SPEC = ModelSpec(("background", "disc", "box"), ((0, 0, 0), (255, 0, 0), (0, 0, 255)), SIZE_HW)


@pytest.fixture
def spec() -> ModelSpec:
    """Background, a red disc, a blue box."""
    return SPEC


def sample(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture (48x64x3 uint8 BGR) and its mask (48x64 uint8): a disc of class 1 and a box of class 2."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(SIZE_HW, np.uint8)
    x, y = (int(one) for one in rng.integers(12, 36, 2))
    cv2.circle(mask, (x, y), 9, 1, -1)
    mask[38:46, 40:60] = 2
    image = rng.integers(40, 110, (*SIZE_HW, 3), dtype=np.uint8)
    image[mask == 1] = (40, 200, 230)
    image[mask == 2] = (200, 60, 60)
    return image, mask


def write(path: Path, picture: np.ndarray) -> Path:
    """Write a picture in the format of the path's suffix, in small letters or capitals."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix.lower(), picture)[1].tobytes())
    return path


def turned(path: Path, orientation: int) -> None:
    """Give a JPEG an EXIF orientation, in place of the one it has."""
    data = path.read_bytes()
    if data[2:4] == b"\xff\xe1":
        data = data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]
    tag = b"MM\0*\0\0\0\x08\0\1" + b"\x01\x12\0\3\0\0\0\1" + bytes((0, orientation, 0, 0)) + bytes(4)
    block = b"Exif\0\0" + tag
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:])


@pytest.fixture
def laid_out(tmp_path: Path) -> Callable[..., list[np.ndarray]]:
    """Write samples under given names, and return their masks."""

    def lay(image: str, mask: str, count: int = 4, encode: Callable[[np.ndarray], np.ndarray] = lambda m: m) -> list:
        masks = []
        for index in range(count):
            picture, ids = sample(index)
            write(tmp_path / image.format(index), picture)
            write(tmp_path / mask.format(index), encode(ids))
            masks.append(ids)
        return masks

    return lay
