"""Define every error that a user can meet.

EdgesegError                exit 1: the user can fix it
├── InputError              a file or value from the user is wrong
│   ├── SpecError           a model description that does not hold together
│   ├── ImageError          an image or mask that cannot be read or does not fit
│   ├── DatasetError        a folder of images and masks that cannot be used
│   ├── CheckpointError     a training checkpoint that cannot be loaded
│   └── BundleError         a bundle that is truncated, altered or too new
│       └── SignatureError  a bundle that nobody whose key is accepted has signed
├── MissingDependencyError  an optional package is not installed
├── TrainingError           a training run cannot go on: no finite loss, no memory
├── CompileError            a graph cannot be exported, quantized or emitted
├── EngineError             a back end cannot load or run a graph
├── SourceError             no frames: camera, video or folder
├── SinkError               results cannot be written
│   └── ForeignFileError    a result would replace a file that edgeseg did not write
├── DeployError             a board did not take a model, or a step on it failed
├── UsageError              exit 2: the command line does not make sense
└── GateRefused             exit 3: the accuracy gate said no

A message is one line: what happened, what was seen, what to do.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Sequence

__all__ = [
    "BundleError",
    "CheckpointError",
    "CompileError",
    "DatasetError",
    "DeployError",
    "EdgesegError",
    "EngineError",
    "ForeignFileError",
    "GateRefused",
    "ImageError",
    "InputError",
    "MissingDependencyError",
    "SignatureError",
    "SinkError",
    "SourceError",
    "SpecError",
    "TrainingError",
    "UsageError",
    "first_line",
    "missing",
    "require",
    "some",
]


class EdgesegError(Exception):
    """Root of the tree. ``exit_code`` is what the command line returns for it."""

    exit_code = 1


class InputError(EdgesegError):
    """A file or value from the user is wrong."""


class SpecError(InputError):
    """A model description that does not hold together."""


class ImageError(InputError):
    """An image or mask that cannot be read or does not fit its partner."""


class DatasetError(InputError):
    """A folder of images and masks that cannot be used."""


class CheckpointError(InputError):
    """A training checkpoint that cannot be loaded."""


class BundleError(InputError):
    """A bundle that is truncated, altered, from a newer edgeseg, or not a bundle."""


class SignatureError(BundleError):
    """A bundle that nobody whose key is accepted has signed, or that was altered since."""


class MissingDependencyError(EdgesegError):
    """An optional package is not installed."""


class TrainingError(EdgesegError):
    """A training run cannot go on: its numbers are not finite, or memory is short."""


class CompileError(EdgesegError):
    """A graph cannot be exported, quantized or emitted."""


class EngineError(EdgesegError):
    """A back end cannot load or run a graph."""


class SourceError(EdgesegError):
    """Frames do not arrive: the camera, video or folder is missing or broken.

    Attributes:
        kind: ``"auth"``, ``"not found"``, ``"gone"``, ``"busy"``, ``"timeout"``, ``"unreachable"``, ``"codec"``,
            ``"ended"``, ``"stalled"``, ``"missing"`` (a program or plugin), or ``"broken"``.
    """

    def __init__(self, message: str, kind: str = "broken") -> None:
        super().__init__(message)
        self.kind = kind


class SinkError(EdgesegError):
    """Results cannot be written.

    Attributes:
        lost: earlier results that the sink had taken and that are gone with this failure.
    """

    def __init__(self, message: str, lost: int = 0) -> None:
        super().__init__(message)
        self.lost = lost


class ForeignFileError(SinkError):
    """A result would replace a file that edgeseg did not write; trying again does not help."""


class DeployError(EdgesegError):
    """A board did not take a model, or a step on it failed."""


class UsageError(EdgesegError):
    """The command line does not make sense."""

    exit_code = 2


class GateRefused(EdgesegError):
    """The accuracy gate refused a graph."""

    exit_code = 3


_REMEDIES = {
    "cryptography": "pip install 'edgeseg[sign]', or on a Jetson: sudo apt install python3-cryptography",
    "cv2": "on a Jetson or Debian: sudo apt install python3-opencv; elsewhere: pip install 'edgeseg[opencv]'",
}


def first_line(error: BaseException) -> str:
    """Return the first line of a foreign exception's message, or the exception's type when it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def some(items: Sequence[object], most: int = 8, separator: str = ", ") -> str:
    """Return the first items of a message's list, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return separator.join(map(str, items[:most])) + more


def missing(module: str, extra: str, error: ImportError) -> MissingDependencyError:
    """Return the error for a package that does not import; its message says what installs the package."""
    by_pip = f"pip install 'edgeseg[{extra}]'" if extra else "pip install --force-reinstall edgeseg"
    remedy = _REMEDIES.get(module.split(".")[0], by_pip)
    return MissingDependencyError(f"{module} cannot be imported ({first_line(error)}); {remedy}")


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package.

    Args:
        module: dotted name of the module, e.g. ``"onnxsim"``.
        extra: the edgeseg extra that brings it, e.g. ``"compile"``; empty for a base dependency.

    Raises:
        MissingDependencyError: the module is not installed or does not import. The message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing(module, extra, error) from error
