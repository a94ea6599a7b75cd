"""The fake TensorRT shows what TensorRT shows: nothing else, and nothing that edgeseg uses is missing."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.fake_cuda import FakeCuda
from tests.fake_tensorrt import fake_tensorrt
from tests.tensorrt_surface import surface, surface_of, versions

OWN = {
    "build_needs_mib": "a knob of the fake",
    "fake": "its state",
    "inspector_form": "a knob of the fake",
    "live": "its counts of living objects",
    "replay": "a knob of the fake",
    "rewritten": "a knob of the fake",
    "strict_cache_header": "a knob of the fake",
    "uint8_io": "a knob of the fake",
    "worst_int8": "a knob of the fake",
    **{
        f"IHostMemory.{name}": "raises what the real one, which has none, raises; before Python 3.12 a buffer has them"
        for name in ("__bool__", "__getitem__", "__len__")
    },
}
"""What the fake has beyond TensorRT, with the reason."""

USERS = ("edgeseg/engines/tensorrt", "edgeseg/device/probe.py", "benchmarks/gpu.py")
ROOT = Path(__file__).parents[1]


def shown(version: str) -> dict[str, Any]:
    cuda = FakeCuda()
    cuda.init_error = 100
    return surface(fake_tensorrt(version, cuda))


def shapes(signature: str) -> set[tuple[str, ...]]:
    """The sets of parameters that a signature takes, in order: those with a default may be left out."""
    taken: set[tuple[str, ...]] = set()
    for overload in signature.split(" | "):
        names = [name for name in overload.strip("()").split(", ") if name]
        for chosen in product(*([True, False] if name.endswith("=") else [True] for name in names)):
            taken.add(tuple(name.rstrip("=") for name, kept in zip(names, chosen) if kept))
    return taken


def agree(mine: str, theirs: str) -> bool:
    """The same kind; a function of the fake may take fewer overloads, but no call that the real one refuses."""
    if mine.startswith("(") and theirs.startswith("("):
        return shapes(mine) <= shapes(theirs)
    return mine == theirs


def differences(fake: dict[str, Any], real: dict[str, Any]) -> list[str]:
    """What the fake shows otherwise than the real module; what it leaves out is no difference."""
    found = []
    for name, kind in fake["names"].items():
        theirs = real["names"].get(name)
        if theirs is None and name not in OWN and not name.endswith(".__init__"):
            found.append(f"{name} does not exist")
        elif theirs is not None and not agree(kind, theirs):
            found.append(f"{name} is {theirs}, the fake has {kind}")
    for name, members in fake["enums"].items():
        if members != real["enums"].get(name):
            found.append(f"{name} is {real['enums'].get(name)}, the fake has {members}")
    for probe, answer in fake["answers"].items():
        theirs = real["answers"].get(probe, answer)
        if answer != theirs:
            found.append(f"{probe} gives {theirs}, the fake gives {answer}")
    return found


@pytest.mark.parametrize("version", versions())
def test_the_fake_shows_nothing_that_is_not_there(version: str) -> None:
    assert not differences(shown(version), surface_of(version))
