"""Configurations of compile: what they make, what they refuse, and the files that hold them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgeseg.app.compile import compile_bundle, compile_program, product_of
from edgeseg.app.compile_config import AllowedLoss, CompileConfig, EngineBuild, ForeignNetwork
from edgeseg.app.config_file import read_config, write_config
from edgeseg.app.device_engine import flavour_of
from edgeseg.app.shipped import SHIPPED
from edgeseg.bundle import read_bundle
from edgeseg.errors import UsageError
from edgeseg.progress import Progress
from tests.cli.test_cli import edgeseg, refused

STREET = "demo://street?frames=4&size=240x180&step=40"
WHOLE = CompileConfig(
    model=Path("net.onnx"),
    int8=True,
    emit=("int8-cpu-vnni",),
    calibration=("a", STREET),
    evaluation="val",
    out=Path("o.edgeseg"),
    mixed=False,
    float_layers=("x", "y"),
    limits=AllowedLoss(max_drop=0.5),
    onnx=ForeignNetwork(classes="road,car", mean="0.5", channel_order="RGB"),
    engine=EngineBuild(dla=1),
    note="é",
)


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_compilation_in_a_file_reads_back_equal(tmp_path: Path, suffix: str) -> None:
    write_config(WHOLE, tmp_path / f"c{suffix}")
    assert read_config(CompileConfig, tmp_path / f"c{suffix}") == WHOLE


@pytest.mark.parametrize(
    ("config", "given", "said"),
    [
        (CompileConfig(engine=EngineBuild(dla=0), int8=True), (), "`dla` concern a TensorRT engine; add `flavour`"),
        (CompileConfig(engine=EngineBuild(flavour="rtx"), scores=True), (), "`scores` do nothing where an engine"),
        (CompileConfig(engine=EngineBuild(flavour="rtx")), ("batch",), "`batch` do nothing where an engine"),
        (CompileConfig(engine=EngineBuild(flavour="rtx"), model=Path("n.onnx")), (), "without `flavour`"),
        (CompileConfig(backend="torch-tensorrt", note="x"), (), "`note` do nothing with `backend` torch-tensorrt"),
        (CompileConfig(backend="x"), (), "`backend` is bundle or torch-tensorrt, got 'x'"),
        (CompileConfig(model=Path("none.onnx")), (), "none.onnx does not exist"),
        (CompileConfig(model=Path("n.onnx"), require_signature=Path("k")), (), "or `require_signature`"),
    ],
)
def test_what_does_nothing_or_cannot_be_is_refused(config: CompileConfig, given: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        product_of(config, given)
    assert said in str(refusal.value)


def test_what_is_made_follows_from_the_configuration() -> None:
    assert product_of(CompileConfig()) == "bundle"
    assert product_of(CompileConfig(backend="torch-tensorrt", fp16=True)) == "program"
    assert product_of(CompileConfig(engine=EngineBuild(flavour="rtx", dla=0), int8=True)) == "engine"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (CompileConfig(engine=EngineBuild(flavour="x")), "`flavour` is tensorrt or rtx"),
        (CompileConfig(int8=True, fp16=True), "`int8` .*or `fp16`"),
        (CompileConfig(out=Path("x.edgeseg")), "do not pass `out`"),
        (CompileConfig(engine=EngineBuild(build_log=Path("none"))), "`build_log` is a folder that exists"),
    ],
)
def test_an_engine_that_cannot_be_is_refused(config: CompileConfig, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        flavour_of(config)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"calibration": (STREET,)}, "`calibration` is for `int8`"),
        ({"pareto": True}, "`per_tensor` and `calibrator` are for `int8`"),
        ({"board": "x", "int8": True}, "no board 'x'"),
        ({"onnx": ForeignNetwork(mean="0", std="1")}, "`mean`, `std` describe a network of others"),
        ({"size": "96x64"}, "`size` and `scores` need a checkpoint"),
        ({"out": Path("x.pt")}, "`out` must be NAME.edgeseg"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_field(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    config = replace(CompileConfig(out=tmp_path / "o.edgeseg"), **change)
    with pytest.raises(UsageError) as refusal:
        compile_bundle(config)
    assert said in str(refusal.value) and not list(tmp_path.iterdir())


def test_a_program_compiles_without_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    config = CompileConfig(evaluation=STREET, out=tmp_path / "o.edgeseg", note="mine")
    made = compile_bundle(config, Progress(step=lines.append))
    bundle = read_bundle(made.path)
    assert list(bundle.graphs) == ["fp32"] and bundle.provenance["note"] == "mine" and not made.signature_is_lost
    assert lines[0] == f"compile {SHIPPED} (the shipped model) -> {made.path}"
    assert capsys.readouterr().out == "", "only the command line prints"


def test_a_compile_from_a_file_is_that_of_its_options(tmp_path: Path) -> None:
    words = ("compile", SHIPPED, "--eval", STREET, "--note", "mine")
    first = edgeseg(*words, "-o", "a.edgeseg", "--save-config", "c.toml", cwd=tmp_path)
    assert first.returncode == 0 and "wrote c.toml" in first.stdout, first.stderr
    second = edgeseg("compile", "c.toml", "-o", "b.edgeseg", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    one, other = (read_bundle(tmp_path / name) for name in ("a.edgeseg", "b.edgeseg"))
    assert one.provenance == other.provenance and one.graphs == other.graphs
    (tmp_path / "c.toml").write_text("evaluaton = 'x'\n")
    assert "did you mean" in refused("compile", "c.toml", cwd=tmp_path, code=2)
    (tmp_path / "c.toml").write_text("[engine]\nflavour = 'rtx'\n")
    line = refused("compile", "c.toml", "--batch", 1, cwd=tmp_path, code=2)
    assert "--batch do nothing where an engine is built" in line


def test_a_foreign_network_is_described_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(_network().SerializeToString())
    (tmp_path / "c.toml").write_text(
        "model = 'net.onnx'\nout = 'o.edgeseg'\ncalibration = ['x']\n[onnx]\nclasses = 'a,b,c'\nmean = '0'\n"
    )
    assert "--calib is for --int8" in refused("compile", "c.toml", cwd=tmp_path, code=2)
    (tmp_path / "c.toml").write_text("model = 'net.onnx'\nout = 'o.edgeseg'\n[onnx]\nmean = '0'\n")
    line = refused("compile", "c.toml", cwd=tmp_path, code=2)
    assert "does not say everything" in line and "--classes" in line and "--mean" not in line.split("or --spec")[1]


def _network() -> onnx.ModelProto:
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    weight = helper.make_tensor("w", floats, [3, 3, 1, 1], [0.1] * 9)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", floats, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("y", floats, [1, 3, 32, 32])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_choices_are_those_of_the_compiler() -> None:
    pytest.importorskip("onnx")
    from edgeseg.app import compile_config
    from edgeseg.compiler.calibration.calibrators import CALIBRATORS
    from edgeseg.compiler.graph.simplify import SIMPLIFIERS

    assert ("auto", *CALIBRATORS) == compile_config.CALIBRATORS and compile_config.SIMPLIFIERS == SIMPLIFIERS


@pytest.mark.parametrize(("out", "said"), [("data.zip", "must be NAME.pt2"), (None, "net.pt2 exists already")])
def test_a_program_replaces_no_other_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str | None, said: str
) -> None:
    """Programs of PyTorch are ZIP archives, as much else is."""
    monkeypatch.chdir(tmp_path)
    for name in ("data.zip", "net.pt2", "net.safetensors"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 mine")
    target = None if out is None else Path(out)
    config = CompileConfig(model=Path("net.safetensors"), backend="torch-tensorrt", out=target)
    with pytest.raises(UsageError, match=said):
        compile_program(config)
    assert (tmp_path / "data.zip").read_bytes() == (tmp_path / "net.pt2").read_bytes() == b"PK\x03\x04 mine"
