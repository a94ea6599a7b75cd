"""The fake pycuda.driver shows what pycuda shows, and has what edgeseg uses."""

from __future__ import annotations

import ast
import json

import pytest

from tests.fake_cuda import FakeCuda
from tests.pycuda_surface import known, surface
from tests.test_tensorrt_surface import shapes, trees

USERS = (
    "edgeseg/engines/cuda/device.py",
    "edgeseg/engines/tensorrt/engine.py",
    "edgeseg/device/probe.py",
    "benchmarks/gpu.py",
)


def differences(fake: dict[str, str], real: dict[str, str]) -> list[str]:
    """What the fake shows otherwise than the real module; what it leaves out is no difference."""
    found = []
    for name, kind in fake.items():
        theirs = real.get(name)
        if theirs is None:
            agree = name.endswith(".__init__")  # it raises
        elif kind.startswith("enum "):
            numbers = json.loads(theirs[5:]) if theirs.startswith("enum ") else {}
            agree = json.loads(kind[5:]).items() <= numbers.items()
        elif kind.startswith("(") and theirs.startswith("("):
            agree = "..." in kind + theirs or shapes(kind) <= shapes(theirs)
        else:
            agree = kind == theirs
        if not agree:
            found.append(f"{name} is {theirs}, the fake has {kind}")
    return found


def test_the_fake_shows_nothing_that_is_not_there() -> None:
    mine = surface(FakeCuda().driver)
    assert len(mine) > 80
    assert not differences(mine, known())


def test_a_context_is_not_made_by_hand() -> None:
    with pytest.raises(Exception, match="instantiated"):
        FakeCuda().driver.Context()


def test_the_fake_has_what_is_used() -> None:
    used = {node.attr for _, tree in trees(USERS) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {"pagelocked_empty", "retain_primary_context", "time_till", "DEVICEMAP"} <= used
    mine = surface(FakeCuda().driver)
    classes = {name for name, kind in mine.items() if kind == "class"}
    missing = {
        name: kind
        for name, kind in known().items()
        if name.rpartition(".")[2] in used and name.rpartition(".")[0] in classes | {""} and name not in mine
    }
    assert not missing


def test_calls_fit_the_signatures() -> None:
    """A call is judged where everything of that name refuses it."""
    signatures: dict[str, list[str]] = {}
    for name, kind in known().items():
        if kind.startswith("("):
            signatures.setdefault(name.rpartition(".")[2], []).append(kind)
    judged, wrong = 0, []
    for user, tree in trees(USERS[:1]):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            known_as = signatures.get(node.func.attr, [])
            keywords, given = {keyword.arg for keyword in node.keywords}, len(node.args)
            judged += bool(known_as)
            taken = [shape for text in known_as for shape in shapes(text)]
            if known_as and not any(set(s[given:]) == keywords and given <= len(s) for s in taken):
                wrong.append(f"{user}:{node.lineno} {node.func.attr}: it takes {known_as}")
    assert judged > 10
    assert not wrong
