"""A forecast for every board and mode, of any kind of model; bad input is one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Sequence

import pytest

from edgeseg.app.estimate import estimate, network_from
from edgeseg.app.estimate_config import EstimateConfig
from edgeseg.device.specifications import ARCHITECTURES, BOARDS, JETSONS
from edgeseg.errors import CompileError, UsageError
from edgeseg.estimate.forecast import Network, fit_of, forecast, mode_named, scaled
from tests.cli.test_cli import edgeseg, refused

onnx = pytest.importorskip("onnx", reason="graphs are read with onnx (the extra `compile`)")


@pytest.fixture(scope="module")
def street() -> Network:
    return network_from(Path("street"), None)


def test_faster_clocks_and_narrower_numbers_take_no_longer(street: Network) -> None:
    for board, jetson in JETSONS.items():
        for precision in ARCHITECTURES[jetson.architecture].dense:
            times = [forecast(street, board, mode, precision) for mode in jetson.modes]
            fastest = times[0].gpu_ms
            assert all(fastest <= one.gpu_ms and one.low_ms < one.gpu_ms < one.high_ms for one in times)
        by_precision = [forecast(street, board, jetson.default, one).gpu_ms for one in ("fp32", "fp16")]
        assert by_precision[0] >= by_precision[1]


def test_no_kernel_is_faster_than_the_peak_allows(street: Network) -> None:
    peak = JETSONS["agx-orin"].peak_tops("MAXN", "fp16")
    assert peak == pytest.approx(42.6, abs=0.1) and BOARDS["agx-orin"].fp16_tflops == peak
    found = forecast(street, "agx-orin", "MAXN", "fp16")
    assert sum(2 * one.kernel.macs for one in found.layers) / 1e9 / found.gpu_ms < peak
    assert sum(one.ms for one in found.layers) < found.gpu_ms


def test_every_architecture_was_fitted_to_rows() -> None:
    for name in ARCHITECTURES:
        fit = fit_of(name)
        assert fit.rows == sum(fit.by_precision.values()) > 0 and fit.band[0] < 1 < fit.band[1]


@pytest.mark.parametrize(
    ("board", "asked", "mode"),
    [
        ("xavier-nx", "MODE_15W_6CORE", "15W"),
        ("xavier-nx", "10w-desktop", "10W_DESKTOP"),
        ("agx-xavier", "MODE_30W_ALL", "30W"),
        ("orin-nano", "maxn_super", "MAXN_SUPER"),
        ("agx-orin", None, "30W"),
        ("nano", "10W", "MAXN"),
        ("orin-nx", "40W", "MAXN_SUPER"),
        ("orin-nano-4gb", "25w", "MAXN_SUPER"),
    ],
)
def test_power_modes_are_called_as_nvpmodel_calls_them(board: str, asked: str | None, mode: str) -> None:
    assert mode_named(JETSONS[board], asked) == mode


@pytest.mark.parametrize(
    "asked", sorted({mode for one in JETSONS.values() for mode in (*one.modes, *one.also)} | {"9W"})
)
def test_a_mode_of_another_board_is_not_taken_for_one(asked: str) -> None:
    """10 W are all that a Nano has, and no mode of an AGX Orin: there they are not its fastest."""
    for jetson in JETSONS.values():
        if asked in jetson.modes:
            assert mode_named(jetson, asked) == asked
        elif asked in jetson.also:
            assert mode_named(jetson, asked) == next(iter(jetson.modes))
        else:
            with pytest.raises(UsageError, match=f"{jetson.name} has no power mode '{asked}'"):
                mode_named(jetson, asked)


def test_four_times_the_pixels_are_four_times_the_products(street: Network) -> None:
    larger = scaled(street, (720, 960))
    assert sum(k.macs for k in larger.kernels) == pytest.approx(4 * sum(k.macs for k in street.kernels), rel=1e-6)
    assert [k.weights for k in larger.kernels] == [k.weights for k in street.kernels]


def test_an_onnx_file_of_others_is_read_at_the_size_that_is_asked_for(tmp_path: Path) -> None:
    helper, types = onnx.helper, onnx.TensorProto
    weight = helper.make_tensor("w", types.FLOAT, [4, 3, 3, 3], [0.5] * 108)
    node = helper.make_node("Conv", ["image", "w"], ["y"], pads=[1, 1, 1, 1])
    values = [helper.make_tensor_value_info(n, types.FLOAT, ["n", c, "h", "w"]) for n, c in (("image", 3), ("y", 4))]
    graph = helper.make_graph([node], "g", values[:1], values[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "net.onnx")
    network = network_from(tmp_path / "net.onnx", "40x20")
    shouted = Path(shutil.copy(tmp_path / "net.onnx", tmp_path / "NET.ONNX"))
    assert network_from(shouted, "40x20").kernels == network.kernels
    assert network.size_hw == (20, 40) and [k.macs for k in network.kernels] == [800 * 4 * 27]
    assert (network.input_bytes, network.output_bytes) == (4 * 3 * 800, 4 * 4 * 800)
    assert "leaves the size of the image open; pass --size" in refused("estimate", "net.onnx", cwd=tmp_path)
    found = estimate(EstimateConfig(model=tmp_path / "net.onnx", size="40x20", device="nano", frame="40x20"))
    assert [one.precision for one in found.forecasts] == ["fp16"] and found.resize_ms == 0


def image_graph(path: Path, nodes: Any, dims: Sequence[Any], kind: int = 1, **model: Any) -> Path:
    """Write a graph from an image ``x`` to ``y`` with a 3x3 convolution's weights ``w``: 3 to 4 channels."""
    helper = onnx.helper
    weight = helper.make_tensor("w", kind, [4, 3, 3, 3], [0.5] * 108)
    values = [helper.make_tensor_value_info(name, kind, of) for name, of in (("x", dims), ("y", None))]
    graph = helper.make_graph(list(nodes), "g", values[:1], values[1:], [weight])
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(f.domain, 1) for f in model.get("functions", ()))]
    onnx.save(helper.make_model(graph, opset_imports=opsets, **model), path)
    return path


def test_functions_of_an_exporter_are_counted_by_what_they_do(tmp_path: Path) -> None:
    helper = onnx.helper
    body = [helper.make_node("Conv", ["a", "b"], ["c"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["c"], ["d"])]
    function = helper.make_function("theirs", "ConvRelu", ["a", "b"], ["d"], body, [helper.make_opsetid("", 17)])
    call = helper.make_node("ConvRelu", ["x", "w"], ["y"], domain="theirs")
    path = image_graph(tmp_path / "net.onnx", [call], [1, 3, 20, 40], functions=[function])
    assert [k.macs for k in network_from(path, None).kernels] == [800 * 4 * 27]


@pytest.mark.parametrize("side", [-1, 0, "n"])
@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16"])
def test_open_sides_and_half_floats_are_read(tmp_path: Path, side: Any, kind: str) -> None:
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    number = onnx.TensorProto.DataType.Value(kind)
    path = image_graph(tmp_path / "net.onnx", [node], [side, 3, side, side], number)
    with pytest.raises(CompileError, match="leaves the size of the image open"):
        network_from(path, None)
    network = network_from(path, "40x20")
    width = 2 if kind == "FLOAT16" else 4
    assert (network.input_bytes, network.output_bytes) == (width * 3 * 800, width * 4 * 800)


@pytest.mark.parametrize(
    ("kind", "limits"),
    [("RLIMIT_AS", (4 << 30, 4 << 30)), ("RLIMIT_CPU", (120, 120)), ("RLIMIT_CPU", (60, 120))],
)
def test_lower_limits_of_the_shell_stay(tmp_path: Path, kind: str, limits: tuple[int, int]) -> None:
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    image_graph(tmp_path / "net.onnx", [node], [1, 3, 20, 40])
    code = (
        "import resource, sys; from pathlib import Path; from edgeseg.app.estimate import network_from;"
        f"resource.setrlimit(resource.{kind}, {limits});"
        "print(len(network_from(Path(sys.argv[1]), None).kernels))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "net.onnx")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_a_graph_of_more_products_than_fit_a_number_is_one_line(tmp_path: Path) -> None:
    make = onnx.helper.make_node
    nodes = [
        make("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2]),
        make("Concat", ["x"] * 4, ["a"], axis=1),
        make("Concat", ["t"] * 4, ["b"], axis=1),
        make("MatMul", ["a", "b"], ["y"]),
    ]
    path = image_graph(tmp_path / "net.onnx", nodes, [1, 3, "h", "w"])
    with pytest.raises(CompileError, match="too large to be forecast"):
        network_from(path, "99999x99999")


def test_the_command_says_what_it_assumed(tmp_path: Path) -> None:
    done = edgeseg("estimate", "street", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "10W_DESKTOP is assumed" in done.stdout and "no measurement of this device was used" in done.stdout
    done = edgeseg("estimate", "street", "--all", "--precision", "fp16", "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert facts["measured_on_device"] is False
    assert len(facts["forecasts"]) == sum(len(jetson.modes) for jetson in JETSONS.values())


def test_rows_of_a_table_sharpen_the_command(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("board,power_mode,precision,ms,model\norin-nano,15W,fp16,6.5,street\nnano,MAXN,fp16,21,street\n")
    words = ("estimate", "street", "--device", "orin-nx", "--power-mode", "MAXN", "--measured", table)
    done = edgeseg(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "measured: this network measured on Jetson Orin Nano 8GB, 15W, FP16, and the published law" in done.stdout
    table.write_text(table.read_text().replace("street", "gone.onnx"))
    assert "gone.onnx does not exist" in refused(*words, cwd=tmp_path)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (EstimateConfig(power_mode="25W"), "Xavier NX 8GB has no power mode '25W'; `power_mode` is one of 20W, 15W"),
        (EstimateConfig(device="nano", precision="int8"), "no int8 kernels for the GPU of Jetson Nano"),
        (EstimateConfig(all_modes=True, power_mode="15W"), "is every board in every power mode; leave `device`"),
        (EstimateConfig(all_modes=True, device="nano"), "is every board in every power mode; leave `device`"),
        (EstimateConfig(frame="wide"), "a size is WIDTHxHEIGHT"),
        (EstimateConfig(frame="0x720"), "a size is WIDTHxHEIGHT"),
    ],
)
def test_what_a_board_has_not_is_refused(config: EstimateConfig, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        estimate(config)


@pytest.mark.parametrize(
    ("operator", "dims", "said"),
    [
        ("Identity", [1, 3, 8, 8], "computes nothing"),
        ("Relu", [4, 3, 8, 8], "takes 4 images at a time"),
        ("Relu", [1, 8], "one input, an image of four axes; it has 'x' of 2 axes"),
        ("Einsum", [1, 3, 8, 8], "the work of Einsum is not known here"),
    ],
)
def test_what_cannot_be_counted_is_refused(tmp_path: Path, operator: str, dims: list[int], said: str) -> None:
    """A forecast that left work out would be too low."""
    pytest.importorskip("onnxslim", reason="onnxslim is not installed: pip install 'edgeseg[compile]'")
    helper, types = onnx.helper, onnx.TensorProto
    how = {"equation": "nchw->nchw"} if operator == "Einsum" else {}
    node = helper.make_node(operator, ["x"], ["y"], **how)
    values = [helper.make_tensor_value_info(name, types.FLOAT, dims) for name in "xy"]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "net.onnx")
    with pytest.raises(CompileError, match=said):
        network_from(tmp_path / "net.onnx", None)


def test_broken_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(b"\x08\x07\x12")
    assert "cut.onnx" in refused("estimate", "cut.onnx", cwd=tmp_path)
    assert "does not exist" in refused("estimate", "none.onnx", cwd=tmp_path)
