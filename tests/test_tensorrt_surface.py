"""The fake TensorRT shows what TensorRT shows: nothing else, and nothing that edgeseg uses is missing."""

from __future__ import annotations

import ast
import re
from itertools import product
from pathlib import Path
from typing import Any, Iterator, Sequence

import pytest

import edgeseg
import tests.fake_tensorrt as fake
from tests.fake_cuda import FakeCuda
from tests.fake_tensorrt import fake_tensorrt
from tests.tensorrt_surface import surface, surface_of, versions

OWN = {
    "live": "counts of living objects, for tests",
    "rewritten": "a knob of the fake: what the inspector answers",
    **{
        f"IHostMemory.{name}": "raises what the real one, which has none, raises; before Python 3.12 a buffer has them"
        for name in ("__bool__", "__getitem__", "__len__")
    },
}
"""What the fake has beyond TensorRT, with the reason."""

USERS = ("edgeseg/engines/tensorrt", "edgeseg/device/probe.py", "benchmarks/gpu.py")
CLONE, INSTALLED = Path(__file__).parents[1], Path(edgeseg.__file__).parents[1]


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


def test_every_part_of_the_fake_exists_somewhere() -> None:
    """A misspelt one would be in no version, and so would never be seen."""
    names = set().union(*(surface_of(version)["names"] for version in versions()))
    for cls in fake.CLASSES:
        mine = {f"{cls.__name__}.{name}" for name in vars(cls) if not name.startswith("_")}
        assert mine <= names, sorted(mine - names)


def test_the_exceptions_are_still_some() -> None:
    assert set(OWN) <= set().union(*(shown(version)["names"] for version in versions()))
    memory = fake_tensorrt("10.3.0", FakeCuda()).fake.host_memory(b"plan")
    assert memory.nbytes == 4 and bytes(memoryview(memory)) == bytes(memory) == b"plan" and bool(memory)
    for call in (len, iter, lambda plan: plan[0]):
        with pytest.raises(TypeError):
            call(memory)


# --- what edgeseg uses ------------------------------------------------------------------------------------------------

LATER = {"IProgressMonitor": "asked for with hasattr", "IProgressMonitor.__init__": "asked for with hasattr"}
"""What edgeseg names although some version lacks it, with the reason."""
LATER_CALLS = {"create_execution_context": "with a strategy where there are strategies, asked for with getattr"}
"""Methods that edgeseg calls in a newer form too, with the reason."""
NAMESAKES = {"update": "of dictionaries"}
"""What is not TensorRT's although a class of TensorRT has a member of that name."""


def trees(users: Sequence[str]) -> Iterator[tuple[str, ast.Module]]:
    """(name, syntax tree) of files and of those in folders; benchmarks/ is beside tests/ only in a whole clone."""
    for user in users:
        above = INSTALLED if user.startswith("edgeseg/") else CLONE
        path = above / user
        if path.exists() or above == INSTALLED:
            for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
                yield str(file.relative_to(above)), ast.parse(file.read_text())


def dotted(node: ast.AST) -> str:
    """``a.b.c``; empty for anything else than names with dots between them."""
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return owner and f"{owner}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def chains() -> dict[str, set[str]]:
    """``Owner.NAME`` for each ``api.trt.Owner.NAME`` -> the files; of ``api.trt.Owner`` the owner alone."""
    found: dict[str, set[str]] = {}
    for file, tree in trees(USERS):
        for node in ast.walk(tree):
            text = dotted(node)
            match = re.fullmatch(r"(?:(?:self\.)?_?api\.trt|self\.trt|trt|module)\.(\w+(?:\.\w+)?)", text)
            if match:
                found.setdefault(match[1], set()).add(file)
    return found


def attributes() -> set[str]:
    """Every name behind a dot, and every one that getattr and hasattr are asked for."""
    found: set[str] = set()
    for _, tree in trees(USERS):
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Call) and dotted(node.func) in ("getattr", "hasattr"):
                found.update(str(part.value) for part in node.args[1:2] if isinstance(part, ast.Constant))
    return found


def calls() -> Iterator[tuple[str, str, int, set[str]]]:
    """(file and line, method, number of positional arguments, keywords) of every call of something behind a dot."""
    for file, tree in trees(USERS):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if not any(isinstance(part, ast.Starred) for part in node.args):
                keywords = {keyword.arg for keyword in node.keywords if keyword.arg}
                yield f"{file}:{node.lineno}", node.func.attr, len(node.args), keywords


def members(version: str) -> dict[str, dict[str, str]]:
    """Name of a member -> {its class: its kind}."""
    found: dict[str, dict[str, str]] = {}
    for name, kind in surface_of(version)["names"].items():
        owner, _, member = name.rpartition(".")
        found.setdefault(member, {})[owner] = kind
    return found


@pytest.mark.parametrize("version", versions())
def test_what_is_named_exists(version: str) -> None:
    real = surface_of(version)
    known = set(real["names"]) | {f"{name}.{member}" for name in real["enums"] for member in real["enums"][name]}
    named = chains()
    assert len(named) > 30 and "BuilderFlag.GPU_FALLBACK" in named
    missing = {chain: files for chain, files in named.items() if chain not in known and chain not in LATER}
    assert not missing


@pytest.mark.parametrize("version", versions())
def test_the_fake_has_what_is_used(version: str) -> None:
    used, names = attributes(), shown(version)["names"]
    assert {"execute_async_v3", "set_dynamic_range", "progress_monitor"} <= used
    classes = {cls.__name__ for cls in fake.CLASSES}
    missing = {
        f"{owner}.{member}": kind
        for member, owners in members(version).items()
        for owner, kind in owners.items()
        if member in used - set(NAMESAKES) and owner in classes and f"{owner}.{member}" not in names
    }
    assert not missing


@pytest.mark.parametrize("version", versions())
def test_calls_fit_the_signatures(version: str) -> None:
    """A call is judged where all classes that have a method of that name refuse it."""
    table = members(version)
    judged, wrong = 0, []
    for where, method, given, keywords in calls():
        signatures = [kind for kind in table.get(method, {}).values() if kind.startswith("(")]
        if not signatures or method in NAMESAKES:
            continue
        judged += 1
        fitting = [s for text in signatures for s in shapes(text) if set(s[given:]) == keywords and given <= len(s)]
        if not fitting and method not in LATER_CALLS:
            wrong.append(f"{where} {method}: {given} arguments and {sorted(keywords)}; it takes {signatures}")
    assert judged > 20
    assert not wrong
