"""Rows of a user's own sharpen a forecast by lines between boards and over pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeseg.app.calibration_rows import CalibrationRows
from edgeseg.app.estimate import estimate, fitting, network_from
from edgeseg.app.estimate_config import EstimateConfig
from edgeseg.bench.measure import Measurement
from edgeseg.bundle import Bundle
from edgeseg.device.detect import detected_device
from edgeseg.errors import ForeignFileError, UsageError
from edgeseg.estimate.forecast import Forecast, Network, forecast, own_networks, scaled
from edgeseg.estimate.kernels import Kernel
from edgeseg.estimate.measured import MeasuredRow, is_same_network, line, rows_from_text, rows_json, sharpened
from edgeseg.files import text_from
from edgeseg.timing import LatencySummary
from tests.cli.test_cli import refused

onnx = pytest.importorskip("onnx", reason="graphs are read with onnx (the extra `compile`)")
ROOTS = Path(__file__).parents[1] / "device" / "roots"
NX, NANO = ("orin-nx", "MAXN", "fp16"), ("orin-nano", "15W", "fp16")


@pytest.fixture(scope="module")
def street() -> Network:
    return network_from(Path("street"), None)


@pytest.fixture(scope="module")
def others() -> list[Network]:
    """Two networks that are not the street's, at two sizes each."""
    _, first, second, *_ = own_networks()
    return [scaled(one, (side, side)) for one in (first, second) for side in (256, 512)]


def row(network: Network, place: tuple[str, str, str], ms: float) -> MeasuredRow:
    return MeasuredRow(*place, ms, network)


def law_of(network: Network, place: tuple[str, str, str]) -> Forecast:
    return forecast(network, *place)


def test_a_line_has_the_least_relative_errors() -> None:
    assert line([1, 2, 4], [3, 5, 9]) == pytest.approx((1, 2))
    assert line([1, 2, 3], [5, 4, 3])[0] == 0, "slower with less to do is no law"


def test_a_network_is_known_at_any_size_and_from_others(street: Network, others: list[Network]) -> None:
    assert is_same_network(street, scaled(street, (720, 960)))
    assert [is_same_network(street, one) for one in others] == [False] * 4
    assert [is_same_network(others[0], one) for one in others] == [True, True, False, False]


def net(
    tmp_path: Path, size_hw: tuple[int, int] = (64, 96), stride: int = 1, pool: int = 2, act: str = "Relu"
) -> Network:
    """Read a graph of two convolutions, an activation and a pooling, whose products are alike at any stride."""
    helper, types = onnx.helper, onnx.TensorProto
    weight = helper.make_tensor("w", types.FLOAT, [3, 3, 3, 3], [0.5] * 81)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4, strides=[stride] * 2),
        helper.make_node(act, ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[pool] * 2),
        helper.make_node("Conv", ["c", "w"], ["y"], pads=[1] * 4),
    ]
    values = [helper.make_tensor_value_info(n, types.FLOAT, of) for n, of in (("x", [1, 3, *size_hw]), ("y", None))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "net.onnx")
    return network_from(tmp_path / "net.onnx", None)


@pytest.mark.parametrize("other", [{"stride": 2}, {"pool": 4}, {"act": "Sigmoid"}], ids=str)
@pytest.mark.parametrize("size_hw", [(64, 96), (128, 96), (180, 240)], ids=str)
def test_a_network_of_another_stride_is_another_one(
    tmp_path: Path, other: dict[str, Any], size_hw: tuple[int, int]
) -> None:
    first = net(tmp_path)
    assert is_same_network(first, net(tmp_path, size_hw))
    assert not is_same_network(first, net(tmp_path, size_hw, **other))
    now = law_of(first, NX)
    assert sharpened(first, now, [row(net(tmp_path, size_hw, **other), NX, 2.4)]) == now


def test_measured_is_said_of_this_board_mode_and_precision_alone(street: Network) -> None:
    rows = [row(street, NX, 4.0)]
    for place in (NX, NANO, ("orin-nx", "MAXN", "int8"), ("orin-nx", "10W", "fp16"), ("tx2", "MAXN", "fp32")):
        found = sharpened(street, law_of(street, place), rows)
        assert found.basis and found.is_measured == (place == NX)


def width(found: Forecast) -> float:
    return found.high_ms / found.low_ms


def test_a_band_is_as_wide_as_its_rows_allow(street: Network) -> None:
    """One size carries no other one as well as two do, two that are nearly one do not, and none carries far."""
    now = law_of(street, NX)

    def by(*rows: tuple[tuple[int, int], float]) -> Forecast:
        return sharpened(street, now, [row(scaled(street, size_hw), NX, ms) for size_hw, ms in rows])

    exact, two = by(((360, 480), 2.4)), by(((240, 320), 1.4), ((720, 960), 6.0))
    one, far = by(((300, 400), 2.0)), by(((90, 120), 0.5))
    near = by(((240, 320), 2.4), ((240, 328), 2.6))
    assert width(exact) == pytest.approx(width(two)) and width(two) < width(one) < width(far)
    assert width(near) >= 0.999 * width(one) and near.gpu_ms == pytest.approx(
        2.6 * now.gpu_ms / law_of(scaled(street, (240, 328)), NX).gpu_ms
    )
    falling = by(((240, 320), 6.0), ((720, 960), 2.0))
    assert "fall with the size" in falling.basis and width(falling) >= 0.999 * width(one)
    against = by(((360, 480), 2.0), ((360, 480), 200.0))
    assert "contradict each other: 2 to 200 ms" in against.basis
    assert against.low_ms <= 2.0 and against.high_ms >= 200.0


def test_sizes_of_one_network_are_no_two_networks(street: Network, others: list[Network]) -> None:
    rows = [row(street, NX, 4.0)]
    for at, side in enumerate((128, 256, 512), 1):
        one = scaled(others[0], (side, side))
        rows += [row(one, NX, float(at)), row(one, NANO, 9.0 * at)]
    assert "measured on both boards" not in sharpened(street, law_of(street, NANO), rows).basis


def test_what_was_measured_here_is_taken(street: Network) -> None:
    now = law_of(street, NX)
    exact = sharpened(street, now, [row(street, NX, 3.25)])
    assert exact.gpu_ms == 3.25 and "this network measured on Jetson Orin NX 16GB, MAXN, FP16" in exact.basis
    rows = [row(scaled(street, size), NX, 1 + 8 * size[0] * size[1] / 1e6) for size in ((240, 320), (720, 960))]
    assert sharpened(street, now, rows).gpu_ms == pytest.approx(1 + 8 * 360 * 480 / 1e6)
    assert exact.high_ms / exact.low_ms < now.high_ms / now.low_ms


def test_two_networks_on_both_boards_give_the_line_between_them(street: Network, others: list[Network]) -> None:
    rows = [row(street, NX, 4.0)]
    for at, network in enumerate(others, 1):
        rows += [row(network, NX, float(at)), row(network, NANO, 0.5 + 1.4 * at)]
    found = sharpened(street, law_of(street, NANO), rows)
    assert found.gpu_ms == pytest.approx(0.5 + 1.4 * 4) and "4 times measured on both boards" in found.basis


def test_a_relative_is_known_from_published_rows(street: Network) -> None:
    """FP16 of Orin NX and Orin Nano: no other time than that of the network on one of them is needed."""
    now = law_of(street, NANO)
    found = sharpened(street, now, [row(street, NX, 4.0)])
    assert found.gpu_ms == pytest.approx(-0.2984 + 1.52352 * 4, rel=1e-3) and "published law" in found.basis
    assert found.high_ms / found.low_ms < now.high_ms / now.low_ms
    slower = sharpened(street, law_of(street, ("orin-nano", "7W", "fp16")), [row(street, NX, 4.0)])
    assert slower.gpu_ms > found.gpu_ms


def test_another_precision_scales_the_law_and_other_networks_do_not(street: Network, others: list[Network]) -> None:
    int8 = ("xavier-nx", "15W", "int8")
    now = law_of(street, int8)
    by_ratio = sharpened(street, now, [row(street, NX, 2 * law_of(street, NX).gpu_ms)])
    assert by_ratio.gpu_ms == pytest.approx(2 * now.gpu_ms)
    assert sharpened(street, now, [row(one, int8, 9.0) for one in others]) == now


def test_rows_survive_a_file(street: Network, tmp_path: Path) -> None:
    rows = [row(street, NX, 3.25)]
    path = tmp_path / "rows.json"
    path.write_text(rows_json(rows))
    assert rows_from_text(path.read_text(), "rows.json", lambda model, size: street) == rows
    asked = {"device": "orin-nx", "power_mode": "MAXN", "precision": "fp16"}
    found = estimate(EstimateConfig(**asked, measured=path, model=Path("street")))  # type: ignore[arg-type]
    assert found.forecasts[0].gpu_ms == 3.25 and found.to_json()["measured_on_device"] is True
    table = tmp_path / "rows.csv"
    table.write_text("board,power_mode,precision,ms,model,size\norin-nx,MODE_MAXN,FP16,3.25,street,\n")
    assert rows_from_text(table.read_text(), "rows.csv", lambda model, size: street) == rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("board,ms\nnano,1\n", "has no column power_mode, precision, model"),
        (
            "board,power_mode,precision,ms,model\nmoon,15W,int8,1,a\n",
            "row 1 of r names the board 'moon'; there are nano",
        ),
        ("board,power_mode,precision,ms,model\nnano,15W,fp16,1,a\n", "Nano 4GB has no power mode '15W'"),
        ("board,power_mode,precision,ms,model\nnano,5W,fp12,1,a\n", "precision 'fp12'"),
        ("board,power_mode,precision,ms,model\nnano,5W,fp16,-1,a\n", "'-1' ms"),
        ("board,power_mode,precision,ms,model\nnano,5W,fp16,nan,a\n", "'nan' ms"),
        ("board,power_mode,precision,ms,model\nnano,5W,fp16,fast,a\n", "row 1 of r has 'fast' ms"),
        (
            "board,power_mode,precision,ms,model\nnano,5W,int8,1,a\n",
            "row 1 of r has the precision 'int8'; of Jetson Nano",
        ),
        ("board,power_mode,precision,ms,model\n\nnano,5W,fp16,1\n", "row 1 of r has no model"),
        ("board,power_mode,precision,ms,model\nnano,5W,fp16,,a\n", "row 1 of r has no ms"),
        (
            "board,power_mode,precision,ms,model\nnano,5W,fp16,4,2,a\n",
            "row 1 of r has 6 cells for 5 columns; numbers have",
        ),
        ("board,ms,power_mode,precision,ms,model\n", "two columns of one name"),
        ('board,power_mode,precision,ms,model\nnano,5W,fp16,"4,2",a\n', "'4,2' ms"),
        ("board;power_mode;precision;ms;model\nnano;5W;fp16;1.234,5;a\n", "'1.234.5' ms"),
        ('{"schema": 2, "rows": []}', "has rows of schema 2, this edgeseg reads 1"),
        ("board,power_mode,precision,ms,model\nnano\n", "r"),
        ('{"rows": 3}', "is no file of measured rows"),
        ('{"rows": [{}]}', "is no file of measured rows: KeyError"),
        ("{", "is no file of measured rows"),
        ("", "has no column"),
    ],
)
def test_wrong_rows_are_named(street: Network, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        rows_from_text(text, "r", lambda model, size: street)


TINY = Network("tiny", (8, 8), (Kernel("a", "convolution", ("Conv",), 64, 8, 8, 8),), 192, 64)
COLUMNS = ("board", "power_mode", "precision", "ms", "model", "size")


@given(
    columns=st.permutations(COLUMNS),
    between=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n"]),
    space=st.sampled_from(["", " "]),
    is_loud=st.booleans(),
    blanks=st.lists(st.sampled_from(["", "{0}", "{0}{0}{0}{0}{0}"]), max_size=3),
    ms=st.integers(1, 10**6),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_a_table_is_read_as_programs_write_it(
    columns: list[str],
    between: str,
    end: str,
    space: str,
    is_loud: bool,
    blanks: list[str],
    ms: int,
    encoding: str,
) -> None:
    """Semicolons and decimal commas as some languages have them, marks of the encoding, rows without a cell."""
    number = f"{ms / 1000:.3f}"
    cells = {"board": "orin-nx", "power_mode": "MODE_MAXN", "precision": "FP16", "model": "ü.onnx", "size": "40x20"}
    cells["ms"] = number if between == "," else number.replace(".", ",")
    head = [column.upper() if is_loud else column for column in columns]
    lines = [head, [cells[column] for column in columns]]
    written = [(space + between).join(line) for line in lines] + [blank.format(between) for blank in blanks]
    text = text_from((end.join(written) + end).encode(encoding))
    asked = []

    def read(model: str, size: str | None) -> Network:
        asked.append((model, size))
        return TINY

    assert rows_from_text(text, "rows.csv", read) == [MeasuredRow(*NX, ms / 1000, TINY)]
    assert asked == [("ü.onnx", "40x20")]


@given(text=st.text('board,;\n{}[]":0179.eE-', max_size=60), head=st.booleans())
@example(text="orin-nx,MAXN,fp16,1e999,a,", head=True)
@example(text='{"schema": 1, "rows": [{"board": "nano", "precision": "fp16", "ms": 1' + "0" * 400 + "}]}", head=False)
def test_any_other_text_is_one_line(text: str, head: bool) -> None:
    try:
        rows_from_text(f"{','.join(COLUMNS)}\n{text}" if head else text, "r", lambda model, size: TINY)
    except UsageError as error:
        assert "\n" not in str(error)


def test_what_was_measured_is_shared_by_the_layers(street: Network) -> None:
    now = law_of(street, NX)
    found = sharpened(street, now, [row(street, NX, now.gpu_ms / 3)])
    assert sum(one.ms for one in found.layers) == pytest.approx(sum(one.ms for one in now.layers) / 3)
    assert sum(one.ms for one in found.layers) < found.gpu_ms


def test_what_helps_is_forecast_of_the_time_that_was_measured(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("board,power_mode,precision,ms,model\norin-nx,MAXN,fp16,0.5,street\n")
    asked: dict[str, object] = {"device": "orin-nx", "power_mode": "MAXN", "precision": "fp16", "model": Path("street")}
    plain = estimate(EstimateConfig(**asked))  # type: ignore[arg-type]
    found = estimate(EstimateConfig(**asked, measured=tmp_path / "rows.csv"))  # type: ignore[arg-type]
    assert found.forecasts[0].gpu_ms == 0.5 and all(one.saves_ms < 0.5 for one in found.helps)
    assert [one.what for one in found.helps] == [one.what for one in plain.helps]


def test_times_that_were_measured_twice_count_once(street: Network, others: list[Network]) -> None:
    rows = [row(street, NX, ms) for ms in (4.0, 400.0, 4.0)]
    for at, network in enumerate(others, 1):
        rows += [row(network, NX, float(at)), row(network, NANO, 0.5 + 1.4 * at), row(network, NANO, 0.5 + 1.4 * at)]
    found = sharpened(street, law_of(street, NANO), [*rows, row(others[0], NANO, 99.0)])
    assert found.gpu_ms == pytest.approx(0.5 + 1.4 * 4)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kernels", []),
        ("size_hw", [float("inf"), 5]),
        ("input_bytes", float("inf")),
        ("kernels", 3),
        ("size_hw", [0, 5]),
        ("size_hw", "ab"),
        ("input_bytes", None),
        ("kernels", [{}]),
    ],
)
def test_a_network_in_a_file_is_looked_at(street: Network, key: str, value: object) -> None:
    facts = json.loads(rows_json([row(street, NX, 3.0)]))
    facts["rows"][0]["network"][key] = value
    with pytest.raises(UsageError, match="is no file of measured rows"):
        rows_from_text(json.dumps(facts), "r", lambda model, size: street)
    facts = json.loads(rows_json([row(street, NX, 3.0)]))
    facts["rows"][0]["network"]["kernels"][5]["macs"] = -1
    with pytest.raises(UsageError, match="-1 is no count"):
        rows_from_text(json.dumps(facts), "r", lambda model, size: street)


def test_networks_of_the_package_are_ranked_by_a_time() -> None:
    found = fitting(EstimateConfig(device="orin-nano", power_mode="MAXN_SUPER", fit_ms=8.0))
    work = [sum(kernel.macs for kernel in one.network.kernels) for one in found]
    assert len(found) > 10 and work == sorted(work, reverse=True) and all(one.forecast.high_ms <= 8 for one in found)
    assert len(fitting(EstimateConfig(device="orin-nano", power_mode="7W", fit_ms=8.0))) < len(found)
    with pytest.raises(UsageError, match="leave the model out"):
        fitting(EstimateConfig(model=Path("street"), fit_ms=8.0))


def summary(ms: float) -> LatencySummary:
    return LatencySummary.of(np.full(5, int(ms * 1e6)))


def test_a_board_writes_rows_and_adds_to_them(shipped: Bundle, tmp_path: Path) -> None:
    device, path = detected_device(ROOTS / "orin-nx-jp6.2"), tmp_path / "rows.json"
    laps = {"infer": summary(4.0), "compute": summary(3.0)}
    times = []
    for graph, engine in (("int8-qdq", "tensorrt"), ("fp16", "tensorrt"), ("fp32", "onnxruntime")):
        facts = {"model": "street", "graph": graph, "engine": engine}
        times.append((shipped, Measurement(graph, summary(5.0), laps, [5.0], 0.0, facts=facts)))
    assert "2 rows were added" in CalibrationRows(path, device, ["tensorrt"]).add(times)
    said = CalibrationRows(path, device, ["tensorrt"]).add(times[:1])
    assert "1 rows were added" in said and said.endswith("holds 3")
    one, other = (CalibrationRows(tmp_path / "both.json", device, ["tensorrt"]) for _ in range(2))
    one.add(times)
    assert other.add(times).endswith("holds 4"), "rows that another measurement added meanwhile stay"
    rows = rows_from_text(path.read_text(), "rows.json", lambda model, size: pytest.fail("a file was read"))
    found = [(one.board, one.mode, one.precision, one.ms) for one in rows]
    assert found == [("orin-nx", "MAXN_SUPER", precision, 3.0) for precision in ("int8", "fp16", "int8")]


def test_rows_are_written_of_jetsons_alone_and_over_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    with pytest.raises(UsageError, match="writes rows of TensorRT on a Jetson; this is"):
        CalibrationRows(path, detected_device(ROOTS / "laptop"), ["onnxruntime"])
    path.write_text("mine")
    with pytest.raises(ForeignFileError, match="is not replaced"):
        CalibrationRows(path, detected_device(ROOTS / "orin-nx-jp6.2"), ["tensorrt"])
    assert path.read_text() == "mine"
    assert "on a Jetson; this is" in refused("bench", "--no-torch", "--calibrate", "rows2.json", cwd=tmp_path, code=2)
