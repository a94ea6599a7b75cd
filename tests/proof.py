"""What the program does, kept as text, so that moving code can be shown to be only that.

    python -m tests.proof record BEFORE     # a new folder; minutes
    ... move code ...
    python -m tests.proof record AFTER
    python -m tests.proof compare BEFORE AFTER     # prints the differences; exit 1 if there are any

Every step is a command of the program in a process of its own. Kept are its exit code, what it prints, and of every
bundle that it writes the members: JSON as text, graphs and arrays by their SHA-256. Times, rates, process numbers and
temporary paths differ from run to run, and are replaced by ``#``.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import hashlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any, Callable, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
STREET = str(ROOT / "edgeseg/models/street.edgeseg")

_VARYING_KEY = re.compile(
    r"(^|_)(ms|ns|s|us|fps|at|age|time|times|seconds|rate|load|mib|mb|gib|pid|rss|threads|cpu|hostname|uptime|waited|spread)($|_)",
    re.IGNORECASE,
)
_VARYING_TEXT = (
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)?"), "#"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "#"),
    (re.compile(r"[\d,]*\.?\d+(?=\s*(ms|s|fps|min|h|GB|MB|MiB|GiB|frames/s|%\s+CPU)\b)"), "#"),
    (re.compile(r"((?:ms/frame|fps|p50|p90|p95|p99|max|mean|median)\W+)[\d.,]+"), r"\1#"),
    (re.compile(r"(│ [a-z0-9]+)(?: +│ +[\d.]+)+ │"), r"\1 │ #"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:#"),
    (re.compile(r"[━╸╺─]+"), "-"),
    (re.compile(r"[ \t]+"), " "),
)


class Step(NamedTuple):
    """A command of the program.

    Attributes:
        name: of the file that keeps it.
        arguments: what follows ``edgeseg``.
        shows: files that it writes, to be kept too.
        environment: variables on top of those of this process.
    """

    name: str
    arguments: tuple[str, ...]
    shows: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


def steps() -> list[Step]:
    """The fixed list; later ones use what earlier ones wrote."""
    demo = "demo://street?frames=6&step=40&seed=3&size=320x240"
    every = ("run", STREET, "--policy", "every")  # a busy machine drops no frame
    sixteen = demo.replace("frames=6", "frames=16")
    foreign = (
        "foreign.onnx",
        "--classes",
        "classes.txt",
        "--mean",
        "0.5,0.4,0.3",
        "--std",
        "0.2,0.3,0.4",
        "--channel-order",
        "RGB",
    )
    roots = sorted(path for path in (ROOT / "tests/device/roots").iterdir() if path.is_dir())
    unit = ("--dry-run", "--user", "root", "--")
    return [
        Step("run-demo", (*every, "--source", demo, "--sink", "pictures", "--json"), ("pictures",)),
        Step("run-demo-text", (*every, "--source", demo, "--sink", "null://")),
        Step("run-video-out", (*every, "--source", demo, "--sink", "out.mp4", "--json")),
        Step("run-video", ("run", STREET, "--source", "motion.avi", "--sink", "jsonl://out.jsonl"), ("out.jsonl",)),
        Step("run-folder", ("run", STREET, "--source", "images", "--sink", "csv://out.csv", "--json"), ("out.csv",)),
        Step("run-coco", ("run", STREET, "--source", "images", "--sink", "coco://coco.json"), ("coco.json",)),
        Step("run-record", (*every, "--source", demo, "--sink", "record://kept", "--json")),
        Step("run-replay", ("run", STREET, "--source", "replay://kept", "--sink", "csv://again.csv"), ("again.csv",)),
        Step(
            "run-alarm",
            (*every, "--source", demo, "--alarm", "area(road) > 1%", "--on-alarm", "jsonl:alarms", "--json"),
            ("alarms",),
        ),
        Step("run-no-camera", ("run", STREET, "--camera", "77")),
        Step("run-no-file", ("run", STREET, "--source", "missing.mp4")),
        Step("run-no-sink", (*every, "--source", demo, "--sink", "ftp://x/y")),
        Step("run-bad-sink-option", (*every, "--source", demo, "--sink", "coco://a.json?format=zip")),
        Step("run-unknown-sink-option", (*every, "--source", demo, "--sink", "coco://a.json?x=1")),
        Step("run-bad-alarm", (*every, "--source", demo, "--alarm", "area(lake) > 1%")),
        Step("run-bad-option", ("run", STREET, "--rtsp-transport", "pigeon", "--source", demo)),
        Step("run-pipeline", ("run", STREET, "--source", "rtsp://u:p@10.0.0.1/live", "--show-pipeline")),
        Step("eval", ("eval", STREET, "--data", demo, "--json")),
        Step("eval-text", ("eval", STREET, "--data", demo)),
        Step("eval-fp32", ("eval", STREET, "--data", demo, "--graph", "fp32", "--json")),
        Step("eval-empty", ("eval", STREET, "--data", "empty")),
        Step("bench", ("bench", STREET, "--seconds", "0.2", "--warmup", "0", "--no-torch", "--json")),
        Step("verify", ("verify", STREET)),
        Step("verify-truncated", ("verify", "truncated.edgeseg")),
        Step("inspect", ("inspect", STREET)),
        Step("inspect-json", ("inspect", STREET, "--json")),
        Step(
            "compile-street", ("compile", STREET, "--int8", "--calib", sixteen, "--eval", demo, "-o", "street.edgeseg")
        ),
        Step("inspect-street", ("inspect", "street.edgeseg", "--json"), ("street.edgeseg",)),
        Step(
            "compile-foreign",
            ("compile", *foreign, "--int8", "--no-gate", "--calib", "images", "-o", "foreign.edgeseg"),
        ),
        Step("inspect-foreign", ("inspect", "foreign.edgeseg", "--json"), ("foreign.edgeseg",)),
        Step("compile-no-classes", ("compile", "foreign.onnx", "--int8", "--calib", "images", "-o", "x.edgeseg")),
        Step("compile-no-network", ("compile", "classes.txt", "--int8", "--calib", "images", "-o", "x.edgeseg")),
        Step(
            "compile-rtx",
            ("compile", STREET, "--flavour", "rtx", "--compute-capability", "SM86", "-o", "street.engine"),
        ),
        Step("engines", ("engines", "list")),
        Step("calibrate", ("calibrate", "select", "--source", "images", "--count", "16", "-o", "chosen")),
        *(Step(f"doctor-{root.name}", ("doctor", "--root", str(root), "--json")) for root in roots),
        *(Step(f"doctor-{root.name}-text", ("doctor", "--root", str(root))) for root in roots),
        Step("service", ("service", "install", *unit, STREET, "--camera", "0", "--sink", "null://")),
        Step(
            "service-secret",
            ("service", "install", *unit, STREET, "--source", "rtsp://user:pass@10.0.0.1/live", "--frames", "10"),
        ),
        Step("service-bad", ("service", "install", *unit, STREET, "--camera", "front")),
        *(Step(f"help-{name}", (name, "--help")) for name in ("train", "compile", "run", "eval", "bench", "service")),
    ]


def record(folder: Path) -> None:
    """Run every step and keep what it did.

    Args:
        folder: does not exist yet.
    """
    folder.mkdir()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary, "proof")  # bundles name the folders of their images
        work.mkdir()
        _make_inputs(work)
        for step in steps():
            print(step.name, flush=True)
            (folder / f"{step.name}.txt").write_text(_done(step, work))
        print("page", flush=True)
        (folder / "page.txt").write_text(_page(work))


_PASSING = re.compile(r"^ *(\S.* \d+ of \d+|frame \d+ # ms/frame.*|\.?\S*\.dropped\.\w+: number)\n", re.MULTILINE)
"""Lines that show that a long step goes on, and causes of drops: a slow machine has more of them."""


def compare(before: Path, after: Path) -> int:
    """Print what differs.

    Returns:
        How many steps differ.
    """
    names = sorted({path.name for folder in (before, after) for path in folder.glob("*.txt")})
    differing = 0
    for name in names:
        texts = [
            _PASSING.sub("", (folder / name).read_text()) if (folder / name).exists() else ""
            for folder in (before, after)
        ]
        if texts[0] != texts[1]:
            differing += 1
            lines = [text.splitlines() for text in texts]
            print("\n".join(difflib.unified_diff(*lines, f"before/{name}", f"after/{name}", n=1, lineterm="")))
    print(f"{len(names)} steps, {differing} differ")
    return differing


def _make_inputs(work: Path) -> None:
    import cv2
    import numpy as np

    rng = np.random.default_rng(5)
    (work / "images").mkdir()
    (work / "empty").mkdir()
    # A video whose pictures do not depend on an encoder's threads.
    video = cv2.VideoWriter(str(work / "motion.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 240))
    for number in range(20):
        small = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        image = cv2.resize(small, (320, 240))
        cv2.imwrite(str(work / f"images/{number:02d}.png"), image)
        video.write(image)
    video.release()
    (work / "classes.txt").write_text("floor\nwall\nthing\n")
    (work / "truncated.edgeseg").write_bytes(Path(STREET).read_bytes()[:100_000])
    _write_foreign_graph(work / "foreign.onnx")


def _write_foreign_graph(path: Path) -> None:
    """A network that is not ours: strided convolutions with batch norm, a skip, an enlargement, raw logits."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(11)
    weights: list[Any] = []

    def tensor(name: str, *shape: int) -> str:
        values = rng.normal(0, (2 / max(1, np.prod(shape[1:]))) ** 0.5, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    def constant(name: str, values: Any) -> str:
        weights.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def norm(name: str, channels: int) -> list[str]:
        one = np.ones(channels)
        return [constant(f"{name}.{part}", one * value) for part, value in zip("gbmv", (1.1, 0.1, 0.05, 0.9))]

    nodes = [
        helper.make_node("Conv", ["image", tensor("w1", 8, 3, 3, 3)], ["c1"], strides=[2, 2], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c1", *norm("n1", 8)], ["b1"]),
        helper.make_node("Relu", ["b1"], ["r1"]),
        helper.make_node("Conv", ["r1", tensor("w2", 8, 1, 3, 3)], ["c2"], pads=[1] * 4, group=8),
        helper.make_node("Conv", ["c2", tensor("w3", 8, 8, 1, 1)], ["c3"]),
        helper.make_node("Add", ["c3", "r1"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["r2"]),
        helper.make_node("Conv", ["r2", tensor("w4", 3, 8, 1, 1)], ["c4"]),
        helper.make_node("Resize", ["c4", "", constant("scales", [1, 1, 2, 2])], ["logits"], mode="linear"),
    ]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 96, 128])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3, 96, 128])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _environment(work: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EDGESEG_", "COLUMNS"))}
    home = {"HOME": str(work), "XDG_CACHE_HOME": str(work / "cache"), "COLUMNS": "110", "NO_COLOR": "1"}
    return {**kept, **home, "PYTHONPATH": str(ROOT)}


def _done(step: Step, work: Path) -> str:
    command = [sys.executable, "-m", "edgeseg", *step.arguments]
    environment = {**_environment(work), **dict(step.environment)}
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=1800)
    replaced = _replacer(work)
    parts = [f"$ edgeseg {' '.join(step.arguments)}", f"exit {done.returncode}", _scrubbed(done.stdout), "--- stderr"]
    parts.append(_scrubbed(done.stderr))
    for name in step.shows:
        path = work / name
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        parts += [f"--- {file.relative_to(work)}\n{_content(file)}" for file in inside if file.is_file()]
    return replaced("\n".join(parts)) + "\n"


def _page(work: Path) -> str:
    """The JSON of every readable address of the page of a run that has seen its frames."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    source = "demo://street?frames=0&seed=3&size=320x240&fps=20"
    command = [sys.executable, "-m", "edgeseg", "run", STREET, "--source", source, "--preview", address]
    with subprocess.Popen(command, cwd=work, env=_environment(work), stdout=subprocess.PIPE, text=True) as running:
        try:
            _await_frames(address)
            parts = [f"--- {path}\n{_answer(address, path)}" for path in _PAGE]
        finally:
            running.terminate()
            running.wait(30)
    return _replacer(work)("\n".join(parts)) + "\n"


_PAGE = ("/healthz", "/api/state", "/api/sources", "/api/events", "/api/rois/none", "/openapi.json", "/nothing")


def _await_frames(address: str) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://{address}/api/state", timeout=5) as answer:
                if len(json.loads(answer.read())["recent_ms"]) > 5:  # every stage was timed
                    return
        except OSError:  # not there yet
            pass
        time.sleep(0.1)
    raise SystemExit("the page shows no frame after two minutes")


def _answer(address: str, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as answer:
            text = answer.read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"
    return text if path == "/openapi.json" else "200 " + "\n".join(_shape(json.loads(text)))


def _shape(value: Any, at: str = "") -> list[str]:
    """Every key of a JSON value with the type of what it holds: numbers and pictures of a live run differ."""
    if isinstance(value, dict):
        return [line for key, inside in sorted(value.items()) for line in _shape(inside, f"{at}.{key}")]
    if isinstance(value, list):
        return sorted({line for inside in value for line in _shape(inside, f"{at}[]")}) or [f"{at}[]"]
    return [f"{at}: {'number' if isinstance(value, (int, float)) else type(value).__name__}"]


def _content(path: Path) -> str:
    data = path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return "\n".join(f"{name}: {_member(name, archive.read(name))}" for name in sorted(archive.namelist()))
    return _member(path.name, data)


def _member(name: str, data: bytes) -> str:
    if name.endswith(".csv"):
        return _table_without_times(data.decode())
    if name.endswith((".json", ".jsonl")) or data[:1] == b"{":
        return _scrubbed(data.decode())
    return hashlib.sha256(data).hexdigest() if not name.endswith(".html") else "page"


def _scrubbed(text: str) -> str:
    """What is the same in every run; JSON documents and lines by their keys."""
    for parse in (lambda: [json.loads(text)], lambda: [json.loads(line) for line in text.splitlines()]):
        try:
            values: list[Any] = parse()  # type: ignore[no-untyped-call]
        except ValueError:
            continue
        return "\n".join(json.dumps(_without_times(value), indent=1, sort_keys=True) for value in values)
    for pattern, by in _VARYING_TEXT:
        text = pattern.sub(by, text)
    return text


def _table_without_times(text: str) -> str:
    header, *rows = csv.reader(io.StringIO(text))
    varies = [bool(_VARYING_KEY.search(name)) for name in header]
    kept = [["#" if by else value for value, by in zip(row, varies)] for row in rows]
    return "\n".join(",".join(row) for row in [header, *kept])


def _without_times(value: Any, varies: bool = False) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(inside, varies or bool(_VARYING_KEY.search(key))) for key, inside in value.items()}
    if isinstance(value, list):
        return [_without_times(inside, varies) for inside in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "#" if varies else value
    return _scrubbed(value) if isinstance(value, str) and not varies else ("#" if isinstance(value, str) else value)


def _replacer(work: Path) -> Callable[[str], str]:
    names = {str(work.resolve()): "WORK", str(work): "WORK", str(ROOT): "ROOT", sys.prefix: "VENV"}

    def replaced(text: str) -> str:
        for name, by in sorted(names.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(name, by)
        return text

    return replaced


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["record", "compare"])
    parser.add_argument("folders", nargs="+", type=Path)
    given = parser.parse_args()
    if given.do == "record":
        record(given.folders[0])
    else:
        sys.exit(1 if compare(*given.folders) else 0)


if __name__ == "__main__":
    main()
