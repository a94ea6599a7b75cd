"""edgeseg: semantic segmentation from training to an NVIDIA Jetson. See README.md for the commands."""

from edgeseg.bundle import Bundle, read_bundle, write_bundle
from edgeseg.errors import EdgesegError
from edgeseg.metrics import ConfusionMatrix
from edgeseg.spec import ModelSpec, Preprocess

__all__ = [
    "Bundle",
    "ConfusionMatrix",
    "EdgesegError",
    "ModelSpec",
    "Preprocess",
    "__version__",
    "read_bundle",
    "write_bundle",
]
__version__ = "0.1.0"
