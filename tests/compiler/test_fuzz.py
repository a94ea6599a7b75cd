"""Whatever a file holds, reading it ends in a result or in one EdgesegError of one line: never a crash, never a hang.

``EDGESEG_FUZZ_CASES`` sets the cases per kind of input (``make fuzz``: 15,000 each); here it is a sample.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeseg.bundle import read_bundle, write_bundle
from edgeseg.compiler.calibration.tensorrt_cache import cache_from_text, text_from_cache
from edgeseg.compiler.importers.onnx_network import graph_facts, loaded_onnx, network_graph_from_onnx
from edgeseg.compiler.importers.wanted import OwnerFacts
from edgeseg.errors import EdgesegError
from edgeseg.ranges import Ranges
from edgeseg.spec import ModelSpec
from tests.bundle_files import entries_of, packed, small_bundle
from tests.bundle_files import sealed as sealed_anew

CASES = int(os.environ.get("EDGESEG_FUZZ_CASES", "300"))
many = settings(
    max_examples=CASES, deadline=10_000, suppress_health_check=list(HealthCheck), database=None, derandomize=True
)

SPEC = ModelSpec(("road", "car"), ((1, 2, 3), (4, 5, 6)), (32, 40))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([-1, 0, 255, 1e309, "", "..", "graphs/x.onnx"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
INJURIES = ("flip", "cut", "insert", "zero", "repeat")
EDITS = st.lists(st.tuples(st.integers(0, 1 << 30), st.sampled_from(INJURIES), st.binary(max_size=8)), max_size=4)


def expect_only_ours(read: Callable[[], object]) -> None:
    try:
        read()
    except EdgesegError as error:
        assert "\n" not in str(error) and str(error)


def mutated(data: bytes, edits: list[tuple[int, str, bytes]]) -> bytes:
    """The bytes after a few local injuries."""
    for where, how, extra in edits:
        if not data:
            return extra
        at = where % len(data)
        if how == "flip":
            data = data[:at] + bytes([data[at] ^ (1 << where % 8)]) + data[at + 1 :]
        elif how == "cut":
            data = data[:at]
        elif how == "insert":
            data = data[:at] + extra + data[at:]
        elif how == "zero":
            data = data[:at] + bytes(min(8, len(data) - at)) + data[at + 8 :]
        else:
            data = data[:at] + data[at : at + 16] * 2 + data[at + 16 :]
    return data


def edited(tree: Any, edits: list[tuple[int, Any]]) -> Any:
    """The JSON tree with a few of its values replaced, or removed where the new value is None."""
    tree = copy.deepcopy(tree)
    for where, value in edits:
        places = list(_places(tree))
        holder, key = places[where % len(places)]
        if value is None and isinstance(holder, dict):
            del holder[key]
        else:
            holder[key] = value
        if not list(_places(tree)):
            return tree
    return tree


def _places(tree: Any) -> Any:
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(tree[key])


TREE_EDITS = st.lists(st.tuples(st.integers(0, 10_000), JSON), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small but whole bundle."""
    path = tmp_path_factory.mktemp("bundle") / "b.edgeseg"
    write_bundle(small_bundle(SPEC), path)
    return path.read_bytes()


def resealed(entries: dict[str, bytes]) -> bytes:
    """A zip with valid digests, so that the parser behind them is reached."""
    manifest = json.loads(entries["manifest.json"]) if entries.get("manifest.json", b"").startswith(b"{") else None
    if isinstance(manifest, dict):
        others = {name: data for name, data in entries.items() if name != "manifest.json"}
        manifest["sha256"] = {name: hashlib.sha256(data).hexdigest() for name, data in others.items()}
        entries = {**entries, "manifest.json": json.dumps(manifest).encode()}
    return packed(entries.items())


@many
@given(edits=EDITS, seal=st.booleans())
def test_bundles_with_injured_bytes(sealed: bytes, edits: Any, seal: bool) -> None:
    """With ``seal`` the outer digest is made right again, so that the zip reader meets the injury."""
    data = mutated(sealed, edits)
    if seal and len(data) > 64:
        data = sealed_anew(data)
    path = _scratch() / "m.edgeseg"
    path.write_bytes(data)
    expect_only_ours(lambda: read_bundle(path))


@many
@given(edits=TREE_EDITS, entry=st.sampled_from(["manifest.json", "report.json", "ranges.json"]))
def test_bundles_with_valid_digests_and_wrong_content(sealed: bytes, edits: Any, entry: str) -> None:
    entries = entries_of(sealed)
    tree = edited(json.loads(entries[entry]), edits)
    path = _scratch() / "t.edgeseg"
    path.write_bytes(resealed({**entries, entry: json.dumps(tree).encode()}))
    expect_only_ours(lambda: read_bundle(path))


@many
@given(edits=EDITS)
def test_bundles_with_injured_golden_frames(sealed: bytes, edits: Any) -> None:
    entries = entries_of(sealed)
    path = _scratch() / "g.edgeseg"
    path.write_bytes(resealed({**entries, "golden.npz": mutated(entries["golden.npz"], edits)}))
    expect_only_ours(lambda: read_bundle(path))


@many
@given(edits=TREE_EDITS)
def test_specs(edits: Any) -> None:
    expect_only_ours(lambda: ModelSpec.from_json(edited(SPEC.to_json(), edits)))


@many
@given(tree=JSON)
def test_anything_as_spec_and_ranges(tree: Any) -> None:
    expect_only_ours(lambda: ModelSpec.from_json(tree))
    expect_only_ours(lambda: Ranges.from_json(tree))


@many
@given(edits=EDITS)
def test_calibration_caches(edits: Any) -> None:
    text = "TRT-8502-EntropyCalibration2\ninput: 3c010204\n(Unnamed Layer* 3) [C]_output:0: 3c010a14\n"
    injured = mutated(text.encode(), edits).decode("utf-8", errors="replace")
    expect_only_ours(lambda: text_from_cache(cache_from_text(injured)))


@pytest.fixture(scope="module")
def network() -> bytes:
    """A small ONNX network as an exporter writes it."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(4, 3, 3, 3)), "b": rng.normal(size=4), "scales": [1.0, 1.0, 2.0, 2.0]}
    tensors = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()]
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Resize", ["r", "", "scales"], ["mask"], mode="linear"),
    ]
    ends = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"]),
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n", 4, "h", "w"]),
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], tensors)
    made: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return made


@many
@given(edits=EDITS)
def test_onnx_files(network: bytes, edits: Any) -> None:
    """Reading and stating facts happen in this process; what runs native code is fenced off (isolation)."""
    path = _scratch() / "n.onnx"
    path.write_bytes(mutated(network, edits))
    expect_only_ours(lambda: graph_facts(loaded_onnx(path)))


@settings(many, max_examples=max(10, CASES // 500))
@given(edits=EDITS)
def test_onnx_files_to_the_end(network: bytes, edits: Any) -> None:
    path = _scratch() / "e.onnx"
    path.write_bytes(mutated(network, edits))
    expect_only_ours(lambda: network_graph_from_onnx(loaded_onnx(path), OwnerFacts(4, (32, 40))))


def _scratch() -> Path:
    folder = Path("/dev/shm" if os.path.isdir("/dev/shm") else "/tmp") / f"edgeseg-fuzz-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    return folder
