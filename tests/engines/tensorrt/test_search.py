"""The search over ways to write the graph goes on after anything but a lack of memory, also when the process dies."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable

import pytest

from edgeseg.engines.tensorrt import worker
from edgeseg.engines.tensorrt.build import BuildRequest, OutOfMemory, Trials, built_plan
from edgeseg.engines.tensorrt.variants import VARIANTS, GraphVariant
from edgeseg.engines.tensorrt.worker import built_plan_in_child
from edgeseg.errors import EngineError
from edgeseg.ranges import Ranges
from tests import HANG_S
from tests.engines.tensorrt.rig import VERSIONS, Rig
from tests.engines.tensorrt.tiny import tiny_bundle, tiny_onnx

SHIMS = Path(__file__).resolve().parents[2] / "shims"
QDQ = tiny_onnx(qdq=True)
BUNDLE = tiny_bundle()
AMAX = {name: high for name, (_, high) in (BUNDLE.ranges or Ranges({})).tensors.items()}

REFUSALS = (
    # NVIDIA/TensorRT 3220
    "2: [weightConvertors.cpp::combineInOutScale::369] Error Code 2: Internal Error (Assertion "
    "p.quantizations.isOutputSet(0) failed. )",
    # 2535
    "2: [optimizer.cpp::filterQDQFormats::4422] Error Code 2: Internal Error (Assertion "
    "!n->candidateRequirements.empty() failed. All of the candidates were removed, which points to the node being "
    "incorrectly marked as an int8 node.)",
    # 1574, 2664, 3006, 4446, 4600, 1337
    "2: [graphOptimizer.cpp::sameExprValues::587] Error Code 2: Internal Error (Assertion lhs.expr failed.)",
    "2: [pointWiseV2Builder.cpp::toExpr::325] Error Code 2: Internal Error (Assertion outScales.size() == 1 failed. )",
    "2: [shuffleBuilder.cpp::writeGlob::154] Error Code 2: Internal Error (Assertion outputScalesLen >= "
    "quantizations.outputs[0].scale.count() failed. )",
    "2: [weightConvertors.cpp::quantizeBiasCommon::337] Error Code 2: Internal Error (Assertion getter(i) != 0 "
    "failed. )",
    "2: [optimizer.cpp::match::959] Error Code 2: Internal Error (Assertion !n23->cost.empty() failed. Node: )",
    # 2616, 4797
    "operation.cpp:3390: DCHECK(opnd->is_data()) failed.",
    "IBuilder::buildSerializedNetwork: Error Code 2: Internal Error (Assertion item.second != nullptr failed.)",
    # 1768, 3640, jkjung-avt/tensorrt_demos 603, 4258
    "10: [optimizer.cpp::computeCosts::3869] Error Code 10: Internal Error (Could not find any implementation for node "
    "conv1.weight + QuantizeLinear_7_quantize_scale_node + Conv_9 + PWN(LeakyRelu_10).)",
    "10: Could not find any implementation for node 002_convolutional.",
    "10: [optimizer.cpp::computeCosts::3728] Error Code 10: Internal Error (Could not find any implementation for node "
    "Conv_0 due to insufficient workspace. See verbose log for requested sizes.)",
    "IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any implementation for node "
    "{ForeignNode[/1/Constant_36_output_0.../1/Slice_4]}.)",
    "Internal error: could not find any implementation for node /memory_attention/layers.0/MatMul",
    # 1973
    "4: [network.cpp::validate::2635] Error Code 4: Internal Error (DataType does not match TensorFormats.)",
)
REFUSALS += tuple(
    f"{code}: [builder.cpp::buildSerializedNetwork::751] Error Code {code}: {kind} (conv1: what went wrong)"
    for code, kind in enumerate(
        (
            "Success",
            "Cuda Runtime",
            "Internal Error",
            "API Usage Error",
            "Internal Error",
            "Cublas",
            "Serialization",
            "Internal Error",
            "Cudnn",
            "Skipped",
            "Internal Error",
            "Unsupported State",
        )
    )
)
"""Errors of builds that another way of writing the graph may not have, with the issues where users met them."""

AFTERMATH = (
    "2: [builder.cpp::buildSerializedNetwork::751] Error Code 2: Internal Error (Assertion engine != nullptr failed. )"
)

SKIPPED = (
    # ultralytics/ultralytics 14751, 22271; NVIDIA/TensorRT-LLM 493; marcoslucianops/DeepStream-Yolo 366
    "Tactic Device request: 538MB Available: 166MB. Device memory is insufficient to use tactic.",
    "Skipping tactic 3 due to insuficient memory on requested size of 538 detected for tactic 4.\n"
    "Try decreasing the workspace size with IBuilderConfig::setMaxWorkspaceSize().",
    "UNSUPPORTED_STATE: Skipping tactic 33 due to insufficient memory on requested size of 629145600 detected for "
    "tactic 0xa5a46bfbd719d757.",
    "Skipping tactic 0x0000000000000000 due to exception [tunable_graph.cpp:create:117] autotuning: User allocator "
    "error allocating 15485030400-byte buffer",
)
"""Said of single tactics, mostly as warnings; torch2trt 706 has the first one as an error."""

SCARCE = (
    "Requested amount of GPU memory (4294967296 bytes) could not be allocated. There may not be enough free memory."
)

EXHAUSTED = (
    # NVIDIA/TensorRT 4258, 840, 477; DeepStream-Yolo 366
    "1: [defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)",
    "../rtSafe/safeRuntime.cpp (25) - Cuda Error in allocate: 2 (out of memory)",
    "2: [virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (no further information)",
    "IBuilder::buildSerializedNetwork: Error Code 2: OutOfMemory (Requested size was 15485030400 bytes.)",
    # how CUDA's own libraries and Linux say it
    "1: [reformat.cpp::executeCutensor::332] Error Code 1: Cuda Driver (CUDA_ERROR_OUT_OF_MEMORY)",
    "8: [cudnnConvolution.cpp::execute::205] Error Code 8: Cudnn (CUDNN_STATUS_ALLOC_FAILED)",
    "1: [resizingAllocator.cpp::allocate::62] Error Code 1: Cuda Runtime (cudaErrorMemoryAllocation)",
    "[Errno 12] Cannot allocate memory",
    "tacticOptimizer.cpp (1523) - OutOfMemory Error in nvinfer1::builder::LeafCNode::computeCosts: 0",
    "std::bad_alloc",
)


class Script:
    """A rig whose builds fail as told: a list of ``(errors, warnings)`` or exceptions, then they succeed."""

    def __init__(self, folder: Path, steps: list[Any], version: str = "8.5.2.2") -> None:
        self.rig = Rig(version, folder)
        self.builds = 0
        build, logger = self.rig.module.Builder.build_serialized_network, self.rig.module.ILogger

        def scripted(builder: Any, network: Any, config: Any) -> Any:
            self.builds += 1
            if self.builds > len(steps):
                return build(builder, network, config)
            step = steps[self.builds - 1]
            if isinstance(step, BaseException):
                raise step
            errors, warnings = step
            for severity, lines in ((logger.WARNING, warnings), (logger.ERROR, errors)):
                for line in lines:
                    builder.logger.log(severity, line)
            return None

        self.rig.module.Builder.build_serialized_network = scripted

    def build(self, precision: str = "int8-qdq", **more: Any) -> Any:
        onnx = QDQ if precision == "int8-qdq" else BUNDLE.graphs["fp32"].onnx
        amax = AMAX if precision == "int8-implicit" else {}
        return built_plan(self.rig.api, onnx, BuildRequest(precision, amax=amax), **more)


def _order(version: str) -> list[GraphVariant]:
    """As it has to be: before TensorRT 10 float weights with pairs first."""
    order = [GraphVariant(pairs, ports) for ports in (False, True) for pairs in (False, True)]
    old = version.startswith("8")
    return sorted(order, key=lambda variant: (variant.float_ports, variant.weights_as_pairs is not old))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("position", range(4))
def test_every_way_to_write_the_graph_is_tried_in_order(version: str, position: int, tmp_path: Path) -> None:
    script = Script(tmp_path, [([REFUSALS[0], AFTERMATH], [])] * position, version)
    built = script.build()
    assert built.variant == _order(version)[position] and script.builds == position + 1
    assert built.precisions.convolutions == {"INT8": 2}
    assert set(VARIANTS) == set(_order(version))


@pytest.mark.parametrize("warnings", [(), SKIPPED[:1], SKIPPED[1:2], (*SKIPPED, SCARCE)], ids=["", "one", "two", "all"])
@pytest.mark.parametrize("error", REFUSALS)
def test_whatever_an_error_names_another_way_is_tried(error: str, warnings: tuple[str, ...], tmp_path: Path) -> None:
    for position, aftermath in itertools.product(range(1, 4), ([], [AFTERMATH])):
        script = Script(tmp_path / f"{position}{len(aftermath)}", [([error, *aftermath], warnings)] * position)
        assert script.build().variant == _order("8")[position]
        assert script.builds == position + 1


@pytest.mark.parametrize("precision", ["int8-qdq", "int8-implicit", "fp16", "fp32"])
@pytest.mark.parametrize("error", REFUSALS[:2])
def test_what_differs_in_nothing_is_built_once(error: str, precision: str, tmp_path: Path) -> None:
    script = Script(tmp_path, [([error], [])] * 9)
    with pytest.raises(EngineError, match="TensorRT 8.5.2.2 refuses the graph: "):
        script.build(precision)
    assert script.builds == (4 if precision == "int8-qdq" else 2), "only weights in INT8 can be written as pairs"
    again = Script(tmp_path / "again", [([error], [])])
    assert again.build("fp32").variant == GraphVariant(float_ports=True)


def test_tactics_that_were_skipped_at_severity_error_are_no_lack_of_memory(tmp_path: Path) -> None:
    script = Script(tmp_path, [([*SKIPPED, REFUSALS[0]], []), ([REFUSALS[9], *SKIPPED], [])])
    assert script.build().variant == _order("8")[2]


@pytest.mark.parametrize("others", [(), (AFTERMATH,), (REFUSALS[0],), (REFUSALS[9], AFTERMATH), (REFUSALS[13],)])
@pytest.mark.parametrize("error", EXHAUSTED)
def test_errors_that_speak_of_memory_end_the_search_at_once(
    error: str, others: tuple[str, ...], tmp_path: Path
) -> None:
    for position, before in itertools.product(range(4), (True, False)):
        errors = [error, *others] if before else [*others, error]
        steps = [([REFUSALS[0]], [])] * position + [(errors, [SCARCE])]
        script = Script(tmp_path / f"{position}{before}", steps)
        with pytest.raises(OutOfMemory, match="ran out of memory while building .*--workspace-mib") as refused:
            script.build()
        assert script.builds == position + 1 and "\n" not in str(refused.value)


@pytest.mark.parametrize("lines", [SKIPPED[:1], SKIPPED, (SCARCE,)])
@pytest.mark.parametrize("as_errors", [True, False])
def test_where_nothing_else_is_said_skipped_tactics_are_a_lack_of_memory(
    lines: tuple[str, ...], as_errors: bool, tmp_path: Path
) -> None:
    script = Script(tmp_path, [(lines, []) if as_errors else ([], lines)])
    with pytest.raises(OutOfMemory):
        script.build()


def test_a_build_that_says_nothing_is_a_refusal(tmp_path: Path) -> None:
    assert Script(tmp_path, [([], [])] * 3).build().variant == _order("8")[3]
    with pytest.raises(EngineError, match="refuses the graph: it gives no reason .weights with Q/DQ pairs, uint8"):
        Script(tmp_path / "all", [([], [])] * 4).build()


@pytest.mark.parametrize(
    "error",
    [
        TypeError("pybind11::init(): factory function returned nullptr"),
        RuntimeError("unknown internal error"),
        ValueError("vector::_M_range_check"),
        AttributeError("'NoneType' object has no attribute 'serialize'"),
        IndexError("_Map_base::at"),
        SystemError("returned a result with an exception set"),
        OSError("libcudnn.so.8: cannot open shared object file"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_of_the_bindings_are_refusals(error: Exception, tmp_path: Path) -> None:
    script = Script(tmp_path, [error, error])
    assert script.build().variant == _order("8")[2]
    with pytest.raises(EngineError, match=f"refuses the graph: {type(error).__name__}: ") as refused:
        Script(tmp_path / "all", [error] * 4).build()
    assert not isinstance(refused.value, OutOfMemory) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "error", [MemoryError("std::bad_alloc"), MemoryError(), RuntimeError("CUDA error: out of memory")]
)
def test_exceptions_that_speak_of_memory_end_the_search(error: Exception, tmp_path: Path) -> None:
    script = Script(tmp_path, [([REFUSALS[0]], []), error])
    with pytest.raises(OutOfMemory, match="--workspace-mib"):
        script.build()
    assert script.builds == 2


def test_when_all_fail_every_reason_is_said_once_on_one_line(tmp_path: Path) -> None:
    one, two = REFUSALS[0], REFUSALS[9]
    script = Script(tmp_path, [([one], []), ([two], SKIPPED), ([one], []), TypeError("a\nb")])
    with pytest.raises(EngineError) as refused:
        script.build()
    said = str(refused.value)
    assert said.startswith("TensorRT 8.5.2.2 refuses the graph: ") and "\n" not in said
    for reason in (one[:100], two[:100], "TypeError: a"):
        assert said.count(reason) == 1
    for variant in VARIANTS:
        assert said.count(variant.describe()) == 1
    assert said.count("it skipped tactics for lack of memory") == 1


def test_what_the_parser_refuses_is_written_in_another_way(tmp_path: Path) -> None:
    rig = Rig("8.5.2.2", tmp_path, uint8_io=False)
    built = built_plan(rig.api, QDQ, BuildRequest("int8-qdq"))
    assert built.variant == GraphVariant(weights_as_pairs=True, float_ports=True)
    rig.module.OnnxParser.parse = lambda parser, model: False
    with pytest.raises(EngineError, match="refuses the graph: it gives no reason"):
        built_plan(rig.api, QDQ, BuildRequest("int8-qdq"))


@pytest.mark.parametrize(
    "call",
    ["Builder.create_network", "Builder.create_builder_config", "OnnxParser.parse", "Runtime.deserialize_cuda_engine"],
)
def test_whatever_gives_nothing_is_a_refusal(call: str, tmp_path: Path) -> None:
    rig, (owner, name) = Rig("10.3.0.30", tmp_path), call.split(".")
    cls, nothing = getattr(rig.module, owner), iter([True, True])
    real = getattr(cls, name)
    setattr(cls, name, lambda *words: None if next(nothing, False) else real(*words))
    assert built_plan(rig.api, QDQ, BuildRequest("int8-qdq")).variant == _order("10")[2]


def test_a_request_that_cannot_be_met_is_not_searched_for(tmp_path: Path) -> None:
    script = Script(tmp_path, [])
    for request, said in (
        (BuildRequest("int8-qdq", optimization_level=3), "has no optimization levels"),
        (BuildRequest("int8-qdq", dla_core=1), "there is no DLA core 1"),
        (BuildRequest("int8-qdq", min_int8_share=1.5), "made only 100 %"),
    ):
        with pytest.raises(EngineError, match=said) as refused:
            built_plan(script.rig.api, QDQ, request)
        assert "refuses the graph" not in str(refused.value)
    assert script.builds == 1


# processes that die


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Build in processes of their own, on the fake; each build goes as told."""
    monkeypatch.syspath_prepend(str(SHIMS))

    def build(*steps: str, version: str = "8.5.2.2", **more: Any) -> Any:
        monkeypatch.setenv("EDGESEG_FAKE_TENSORRT", version)
        monkeypatch.setenv("EDGESEG_FAKE_BUILDER", f"builds:{','.join(steps)}")
        return built_plan_in_child("tensorrt", QDQ, BuildRequest("int8-qdq"), **more)

    return build


@pytest.mark.parametrize(
    "steps",
    [
        ("SIGSEGV", "ok"),
        ("SIGABRT", "SIGSEGV", "ok"),
        ("error", "SIGBUS", "ok"),
        ("SIGFPE", "error", "SIGILL", "ok"),
        ("exit1", "error", "exit0", "ok"),
        ("error+SIGSEGV", "late"),
    ],
    ids="-".join,
)
def test_a_crash_costs_only_the_variant_that_it_happened_over(
    steps: tuple[str, ...], apart: Callable[..., Any]
) -> None:
    seen: list[str] = []
    built = apart(*steps, on_progress=lambda phase, done, total: seen.append(phase))
    assert built.variant == _order("8")[len(steps) - 1] and built.plan
    assert apart(*steps, version="10.3.0.30").variant == _order("10")[len(steps) - 1]


def test_every_variant_gets_a_process_of_its_own(apart: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA that has failed once fails for the rest of its process."""
    seen, popen = [], subprocess.Popen

    def spied(*words: Any, **more: Any) -> Any:
        seen.append(popen(*words, **more))
        return seen[-1]

    monkeypatch.setattr("edgeseg.engines.tensorrt.worker.subprocess.Popen", spied)
    assert apart("error", "error", "SIGSEGV", "ok").variant == _order("8")[3]
    assert [process.returncode for process in seen] == [0, 0, -11, 0]


def test_when_every_process_dies_one_line_names_each_reason_once(apart: Callable[..., Any]) -> None:
    with pytest.raises(EngineError) as refused:
        apart("SIGSEGV", "error", "error+SIGABRT", "SIGSEGV")
    said = str(refused.value)
    assert said.startswith(
        "TensorRT 8.5.2.2 refuses the graph: the TensorRT builder broke down (signal 11); its last words"
    )
    assert "\n" not in said and not isinstance(refused.value, OutOfMemory)
    assert said.count("signal 11") == 1 and "broke down (signal 6); its last words: 2: [weightConvertors.cpp" in said
    for variant in VARIANTS:
        assert said.count(variant.describe()) == 1


@pytest.mark.parametrize(
    ("steps", "error", "said"),
    [
        (("SIGKILL",), OutOfMemory, "was killed, most likely for lack of memory; close other programs"),
        (("SIGSEGV", "SIGKILL"), OutOfMemory, "was killed"),
        (("nvmap+SIGSEGV",), OutOfMemory, "ran out of memory .NvMapMemAllocInternalTagged"),
        (("error", "oom+SIGABRT"), OutOfMemory, "ran out of memory .1: .defaultAllocator"),
        (("SIGSEGV", "oom+error"), OutOfMemory, "ran out of memory while building"),
        (("SIGTERM",), EngineError, "was stopped by signal 15; compile again"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_a_lack_of_memory_or_a_stop_ends_it_at_once(
    steps: tuple[str, ...], error: type[EngineError], said: str, apart: Callable[..., Any]
) -> None:
    with pytest.raises(EngineError, match=said) as refused:
        apart(*steps)  # one step more would be an IndexError of the script
    assert type(refused.value) is error and "\n" not in str(refused.value)


def test_the_time_for_a_build_is_for_all_its_processes(
    apart: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGESEG_FAKE_BUILDER", "sleep")
    with pytest.raises(EngineError, match="did not end within 3 s and was stopped"):
        built_plan_in_child("tensorrt", QDQ, BuildRequest("int8-qdq"), timeout_s=3)


def _worker(folder: Path) -> subprocess.CompletedProcess[str]:
    """The script that builds, in a folder as ``built_plan_in_child`` lays it out."""
    folder.joinpath("graph.onnx").write_bytes(QDQ)
    folder.joinpath("timing.cache").write_bytes(b"")
    job = {"flavour": "tensorrt", "request": asdict(BuildRequest("int8-qdq")), "trials": Trials().to_json()}
    folder.joinpath("request.json").write_text(json.dumps(job))
    paths = os.pathsep.join(map(str, (SHIMS, SHIMS.parents[1])))
    command = [sys.executable, "-m", "edgeseg.engines.tensorrt.worker", str(folder)]
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=HANG_S
    )


def test_a_log_that_cannot_be_written_costs_no_build(tmp_path: Path) -> None:
    (tmp_path / "tensorrt.log").mkdir()
    (tmp_path / "inspector.json").symlink_to("/dev/full")
    done = _worker(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "variant" in json.loads((tmp_path / "result.json").read_text()) and (tmp_path / "plan").stat().st_size


def test_a_full_disk_is_said_at_once_and_not_searched_around(tmp_path: Path) -> None:
    (tmp_path / "plan").symlink_to("/dev/full")
    done = _worker(tmp_path)
    assert done.returncode == 1 and not (tmp_path / "result.json").exists()
    end = worker._End(done.returncode, tuple(done.stderr.strip().splitlines()[-50:]), None)
    with pytest.raises(EngineError, match="no space left on the disk of .*TMPDIR") as refused:
        worker._trouble(end)
    assert "\n" not in str(refused.value) and not isinstance(refused.value, OutOfMemory)
