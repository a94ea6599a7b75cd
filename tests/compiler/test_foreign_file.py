"""Files that are not ONNX, not whole, or hostile: one CompileError of one line, never anything else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeseg.compiler.importers.onnx_network import graph_facts, loaded_onnx, wanted_from_facts
from edgeseg.compiler.importers.wanted import OwnerFacts
from edgeseg.errors import CompileError, EdgesegError

LOCATION = "weights.data"


def network(weights: int = 5) -> onnx.ModelProto:
    """A network of every kind of constant, with control flow and a function of its own."""
    branch = [
        helper.make_graph(
            [helper.make_node("Relu" if name == "then" else "Neg", ["a"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 5, 32, 32])],
        )
        for name in ("then", "else")
    ]
    double = helper.make_function(
        "own", "Double", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 17)]
    )
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["a"], kernel_shape=[1, 1], strides=[1, 1]),
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["yes"], ["c"], then_branch=branch[0], else_branch=branch[1]),
        helper.make_node("Double", ["c"], ["d"], domain="own"),
        helper.make_node("Softmax", ["d"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", weights, "h", "w"])],
        [
            numpy_helper.from_array(np.ones((weights, 3, 1, 1), np.float32), "w"),
            helper.make_tensor("b", TensorProto.FLOAT, [weights], [0.5] * weights),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=[double], ir_version=8)


def refused(path: Path) -> str:
    with pytest.raises(CompileError) as error:
        loaded_onnx(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(network().SerializeToString())
    assert loaded_onnx(tmp_path / "net.onnx") == network()
    facts = graph_facts(network())
    assert str(facts.inputs[0]) == "'image' float32 ?x3x?x?" and facts.inputs[0].layout == "NCHW"
    assert str(facts.outputs[0]) == "'probabilities' float32 ?x5x?x? (probabilities)"
    assert facts.opset == 17


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello, this is text\n" * 100, "not an ONNX model, or truncated"),
        (bytes(range(256)) * 40, "not an ONNX model, or truncated"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"PK\x03\x04" + bytes(100), "torch.onnx.export"),
        (b"\x00" * 4096, "not an ONNX model, or truncated"),
        (network().SerializeToString()[:300], "not an ONNX model, or truncated"),
        (onnx.ModelProto(ir_version=8, producer_name="x").SerializeToString(), "not an ONNX model"),
    ],
)
def test_files_that_are_not_onnx(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    assert words in refused(tmp_path / "net.onnx")


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "loop.onnx").symlink_to(tmp_path / "loop.onnx")
    assert "does not exist" in refused(tmp_path / "none.onnx")
    assert "is not a file" in refused(tmp_path)
    assert "is not a file" in refused(tmp_path / "pipe.onnx"), "reading it would wait for ever"
    refused(tmp_path / "loop.onnx")


def test_a_file_beyond_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "net.onnx", "wb") as file:
        file.truncate(2**31 + 5)
    assert "has 2.0 GB; ONNX ends at 2 GB" in refused(tmp_path / "net.onnx")


def outside(folder: Path, *, location: str = LOCATION, **entries: Any) -> Path:
    """A network whose weight ``w`` lies in another file."""
    model = network()
    tensor = model.graph.initializer[0]
    (folder / LOCATION).write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "net.onnx"


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    assert loaded_onnx(outside(tmp_path)) == network()
    assert loaded_onnx(outside(tmp_path, offset=0, length=60)) == network()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.onnx").symlink_to(tmp_path / "net.onnx")
    assert loaded_onnx(tmp_path / "elsewhere" / "link.onnx") == network(), "they lie beside the real file"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"location": "none.data"}, "which is missing; copy it beside the model"),
        ({"location": "../weights.data"}, "outside the folder of the model"),
        ({"location": "/etc/passwd"}, "outside the folder of the model"),
        ({"location": ""}, "outside the folder of the model"),
        ({"location": "link.data"}, "outside the folder of the model"),
        ({"location": "a\x00b"}, "'w'"),
        ({"location": "x" * 5000}, "'w'"),
        ({"offset": 8}, "of 60 bytes has 60 at 8"),
        ({"offset": -60}, "at -60"),
        ({"offset": 2**70}, "copy or export both files again"),
        ({"length": 8}, "has 8 at 0"),
        ({"offset": "ten"}, "cannot be read"),
    ],
)
def test_weights_that_cannot_be_read(tmp_path: Path, how: dict[str, Any], words: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / LOCATION).write_bytes(bytes(60))
    (tmp_path / "model" / "link.data").symlink_to(tmp_path / LOCATION)
    assert words in refused(outside(tmp_path / "model", **how))


def test_weights_of_impossible_size_are_not_read(tmp_path: Path) -> None:
    model = onnx.load(outside(tmp_path), load_external_data=False)
    model.graph.initializer[0].dims[0] = 2**40
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    assert "ONNX ends at 2 GB" in refused(tmp_path / "net.onnx")
    with pytest.raises(CompileError, match="lies outside the model; read it with loaded_onnx"):
        graph_facts(onnx.load(outside(tmp_path), load_external_data=False))


def _recursion(model: onnx.ModelProto) -> None:
    model.functions[0].node[0].op_type, model.functions[0].node[0].domain = "Double", "own"


def _unfolding(model: onnx.ModelProto) -> None:
    """Sixty functions that each call the one before twice: 2^60 nodes."""
    for index in range(60):
        inner = f"F{index - 1}" if index else "Double"
        nodes = [helper.make_node(inner, [a], [b], domain="own") for a, b in ("xz", "zy")]
        model.functions.append(helper.make_function("own", f"F{index}", ["x"], ["y"], nodes, [], []))
    model.graph.node[3].op_type = "F59"


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "probabilities"


def _twice(model: onnx.ModelProto) -> None:
    model.graph.node[4].output[0] = "d"


def _dimension(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].dims[0] = 2**60


def _short(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = b"123"


def _strings(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = TensorProto.STRING


def _no_input(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "w"
    del model.graph.input[:]


def _no_nodes(model: onnx.ModelProto) -> None:
    del model.graph.node[:]


def _domain(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.microsoft"


def _future(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 2**40


def _sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().dims.append(2**50)


def _body(model: onnx.ModelProto) -> None:
    model.graph.node[2].attribute[0].g.node[0].input[0] = "nowhere"


def _output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "nowhere"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_recursion, "calls itself"),
        (_unfolding, "unfold to more than 50000 nodes"),
        (_cycle, "Conv '' reads 'probabilities', which nothing before it makes"),
        (_twice, "'d' is made twice"),
        (_dimension, "needs 4611686018427387904 bytes and has 20"),
        (_short, "needs 60 bytes and has 3"),
        (_strings, "is of type STRING, which a float network does not have"),
        (_no_input, "has no input"),
        (_no_nodes, "has 0 nodes"),
        (_domain, "operators that are not ONNX's: 'Conv' of 'com.microsoft'"),
        (_future, "states opset 1099511627776"),
        (_sparse, "has sparse weights"),
        (_body, "'nowhere', which nothing before it makes"),
        (_output, "output 'nowhere' is made by no node"),
    ],
)
def test_graphs_without_sound_structure(tmp_path: Path, damage: Callable[[onnx.ModelProto], None], words: str) -> None:
    model = network()
    damage(model)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    assert words in refused(tmp_path / "net.onnx")


def test_names_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(
        network().SerializeToString().replace(b"probabilities", b"probabilit\xff\xfe\xfd")
    )
    assert "is no text" in refused(tmp_path / "net.onnx")


def test_nesting_beyond_what_protobuf_reads(tmp_path: Path) -> None:
    field = b""
    for _ in range(400):  # GraphProto.node, NodeProto.attribute, AttributeProto.g, each around the one before
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            field = tag + _varint(len(field)) + field
    (tmp_path / "net.onnx").write_bytes(b"\x3a" + _varint(len(field)) + field)
    refused(tmp_path / "net.onnx")


def _varint(value: int) -> bytes:
    return bytes([value & 127 | 128]) + _varint(value >> 7) if value > 127 else bytes([value])


CONTENT = network().SerializeToString()
EDIT = st.tuples(
    st.sampled_from(["replace", "delete", "insert", "repeat"]),
    st.integers(0, len(CONTENT) - 1),
    st.binary(min_size=1, max_size=9),
)


def mutated(edits: list[tuple[str, int, bytes]]) -> bytes:
    content = CONTENT
    for kind, at, data in edits:
        before, after = content[:at], content[at:]
        content = {
            "replace": before + data + after[len(data) :],
            "delete": before + after[len(data) :],
            "insert": before + data + after,
            "repeat": before + after[: 8 * len(data)] + after,
        }[kind]
    return content


FIELD = st.tuples(st.integers(1, 20), st.sampled_from([0, 1, 2, 5]), st.binary(max_size=12))


def protobuf(fields: list[tuple[int, int, bytes]], depth: int) -> bytes:
    """Bytes that are well-formed as protobuf, nested, with any field numbers."""
    content = b""
    for number, wire, data in fields:
        value = {0: _varint(len(data)), 1: data[:8].ljust(8), 2: _varint(len(data)) + data, 5: data[:4].ljust(4)}[wire]
        content += _varint(number << 3 | wire) + value
    for _ in range(depth):
        content = b"\x3a" + _varint(len(content)) + content
    return content


def only_our_errors(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        model = loaded_onnx(path)
        wanted_from_facts(model, OwnerFacts(5, (32, 32)))
    except EdgesegError as error:
        assert "\n" not in str(error)


SETTINGS = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(edits=st.lists(EDIT, min_size=1, max_size=6))
def test_a_damaged_file_raises_only_our_errors(tmp_path: Path, edits: list[tuple[str, int, bytes]]) -> None:
    only_our_errors(tmp_path / "net.onnx", mutated(edits))


@SETTINGS
@given(fields=st.lists(FIELD, max_size=12), depth=st.integers(0, 5), noise=st.binary(max_size=20))
def test_arbitrary_bytes_raise_only_our_errors(
    tmp_path: Path, fields: list[tuple[int, int, bytes]], depth: int, noise: bytes
) -> None:
    only_our_errors(tmp_path / "net.onnx", protobuf(fields, depth) + noise)
    only_our_errors(tmp_path / "net.onnx", noise)
