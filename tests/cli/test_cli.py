"""The commands as people type them, in a process of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import cv2
import numpy as np
import pytest

from edgeseg import __version__
from edgeseg.app.engines import cpu_pick
from edgeseg.app.segment import load
from edgeseg.app.shipped import SHIPPED
from edgeseg.cli.main import COMMANDS, command_line
from edgeseg.images import image_files, read_mask, write_png
from tests import HANG_S
from tests.commands import run_command

STREET = "demo://street?frames=6&size=240x180&step=15"


def edgeseg(*arguments: object, cwd: Path, **how: Any) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return run_command([*map(str, arguments)], cwd, environment, **how)


def refused(*arguments: object, cwd: Path, code: int = 1) -> str:
    """The one line that a command prints when it refuses."""
    done = edgeseg(*arguments, cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("edgeseg: "), done.stderr
    return lines[0]


def test_version_and_help(tmp_path: Path) -> None:
    assert edgeseg("--version", cwd=tmp_path).stdout == f"edgeseg {__version__}\n"
    text = edgeseg("--help", cwd=tmp_path).stdout
    for command in ("train", "compile", "run", "eval", "bench", "calibrate", "inspect", "doctor"):
        assert command in text
        page = edgeseg(command, "--help", cwd=tmp_path)
        assert page.returncode == 0 and "Example: edgeseg" in page.stdout


def test_the_overview_says_of_each_command_what_its_own_help_begins_with() -> None:
    own = {name: " ".join(one.help.split("\n\n")[0].split()) for name, one in command_line().commands.items()}
    assert own == {name: line for name, (_, _, line) in COMMANDS.items()}


@pytest.mark.parametrize("words", ["--version", "--help", "service --help", "rnu"])
def test_only_the_command_asked_for_is_imported(words: str) -> None:
    code = f"import sys; from edgeseg.cli.main import app; app({words.split()!r}, standalone_mode=False)"
    code = f"import atexit, sys; atexit.register(lambda: print('loaded', *sys.modules)); {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = done.stdout.rsplit("loaded", 1)[1].split()
    others = {f"edgeseg.cli.{module}" for name, (module, _, _) in COMMANDS.items() if name not in words.split()}
    assert "edgeseg.cli.main" in loaded and not others & set(loaded)


def test_run_on_the_rendered_street_writes_what_eval_confirms(tmp_path: Path) -> None:
    done = edgeseg(
        "run", "--source", STREET, "--policy", "every", "--sink", "out", "--sink", "o.mp4", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["frames"], summary["dropped"], summary["ended"]) == (6, 0, "end of stream")
    assert summary["ms"]["infer"]["count"] == 6 and summary["ms"]["infer"]["p99_ms"] > 0
    assert summary["miou"] > 0.5
    capture = cv2.VideoCapture(str(tmp_path / "o.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    evaluated = edgeseg("eval", "--data", STREET, "--json", cwd=tmp_path)
    assert json.loads(evaluated.stdout)["miou"] == pytest.approx(summary["miou"], abs=1e-9)
    assert len(image_files(tmp_path / "out" / "masks")) == 6


def test_a_replay_says_how_much_is_as_it_was_recorded(tmp_path: Path) -> None:
    recorded = edgeseg("run", "--source", STREET, "--policy", "every", "--sink", "record://r.edgerec", cwd=tmp_path)
    assert recorded.returncode == 0 and "replay" not in recorded.stdout, recorded.stderr
    again = edgeseg("run", "--source", "replay://r.edgerec", cwd=tmp_path)
    assert "replay: 100.00 % of pixels have the class that was recorded" in again.stdout, again.stderr


def test_plain_output_has_the_stage_table_and_live_miou(tmp_path: Path) -> None:
    done = edgeseg("run", "--source", STREET, "--sink", "null://", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in ("the shipped model", "int8-cpu", "p99 ms", "infer", "preprocess", "live mIoU", "dropped"):
        assert text in done.stdout


def test_masks_of_a_folder_against_an_independent_count(tmp_path: Path) -> None:
    from edgeseg.demo.street import StreetDataset

    (tmp_path / "val").mkdir()
    (tmp_path / "valannot").mkdir()
    for sample in (StreetDataset(STREET)[index] for index in range(6)):
        write_png(tmp_path / "val" / f"{sample.name}.png", sample.frame)
        assert sample.label is not None
        write_png(tmp_path / "valannot" / f"{sample.name}.png", sample.label)
    assert edgeseg("run", "--source", "val", "--sink", "out", cwd=tmp_path).returncode == 0
    by_eval = json.loads(edgeseg("eval", "--data", "val", "--json", cwd=tmp_path).stdout)
    by_masks = json.loads(edgeseg("eval", "--masks", "out", "--labels", "valannot", "--json", cwd=tmp_path).stdout)
    independent = _independent_miou(tmp_path / "out" / "masks", tmp_path / "valannot")
    assert by_eval["miou"] == pytest.approx(independent, abs=1e-6)
    assert by_masks["miou"] == pytest.approx(independent, abs=1e-6)


def _independent_miou(masks: Path, labels: Path) -> float:
    """Written without the package's metrics: per class, over all images, intersection and union by sets of pixels."""
    inter, union = np.zeros(11), np.zeros(11)
    for path in sorted(labels.iterdir()):
        truth, found = read_mask(path), read_mask(masks / path.name)
        for c in range(11):
            inter[c] += np.sum((truth == c) & (found == c))
            union[c] += np.sum(((truth == c) | (found == c)) & (truth < 11))
    return float(np.mean([i / u for i, u in zip(inter, union) if u]))


def test_the_newest_bundle_of_the_folder_is_preferred_and_named(tmp_path: Path) -> None:
    (tmp_path / "mine.edgeseg").write_bytes(SHIPPED.read_bytes())
    done = edgeseg("inspect", cwd=tmp_path)
    assert done.returncode == 0 and "mine.edgeseg (the only bundle in this folder, the shipped" in done.stdout
    assert "complete and unaltered" in done.stdout


def test_doctor_and_inspect_for_machines(tmp_path: Path) -> None:
    report = json.loads(edgeseg("doctor", "--json", cwd=tmp_path).stdout)
    assert report["problems"] == [] and "onnxruntime" in report["facts"] and report["device"]["cores"] >= 1
    bundle = json.loads(edgeseg("inspect", "--json", cwd=tmp_path).stdout)
    assert {"fp32", "int8-cpu", "int8-tensorrt"} <= set(bundle["graphs"]) and bundle["golden_frames"] >= 4
    assert "research" in bundle["provenance"]["note"]


def test_bench_for_machines(tmp_path: Path) -> None:
    done = edgeseg("bench", "--no-torch", "--seconds", 0.5, "--warmup", 0.1, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    contenders = json.loads(done.stdout)["contenders"]
    assert {"int8-cpu", "fp32"} <= {item["name"] for item in contenders}
    unasked = cpu_pick(load()).choice
    assert (contenders[0]["engine"], contenders[0]["graph"]) == (unasked.engine, unasked.graph), "what a run takes"
    for item in contenders:
        assert item["ms_per_frame"]["p99_ms"] >= item["ms_per_frame"]["p50_ms"] > 0
        assert set(item["stages_ms"]) == {"preprocess", "infer", "postprocess"}


def test_refusals_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.edgeseg").write_bytes(SHIPPED.read_bytes()[:5000])
    (tmp_path / "junk.mp4").write_bytes(b"junk" * 100)
    model = SHIPPED
    assert "truncated or altered" in refused("run", "cut.edgeseg", "--source", STREET, cwd=tmp_path)
    assert "cannot be read" in refused("inspect", "none.edgeseg", cwd=tmp_path)
    assert "holds no images" in refused("run", model, "--source", "empty", cwd=tmp_path)
    assert "cannot be opened as a video" in refused("run", model, "--source", "junk.mp4", cwd=tmp_path)
    assert "no camera /dev/video97" in refused("run", model, "--camera", 97, cwd=tmp_path)
    assert "is for TensorRT" in refused("run", model, "--source", STREET, "--graph", "int8-tensorrt", cwd=tmp_path)
    assert "needs a desktop" in refused("run", model, "--source", STREET, "--sink", "display://", cwd=tmp_path)
    assert "say where frames come from" in refused("run", model, cwd=tmp_path, code=2)
    assert "is the source itself" in refused(
        "run", model, "--source", "junk.mp4", "--sink", "junk.mp4", cwd=tmp_path, code=2
    )
    assert "cannot be read" in refused("run", "none.edgeseg", cwd=tmp_path)
    assert "say what to evaluate" in refused("eval", model, cwd=tmp_path, code=2)
    assert "have no mask" in refused("eval", model, "--data", _one_image(tmp_path), cwd=tmp_path)
    assert edgeseg("run", "--no-such-option", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("written", ["--sink jsonl://", "--sink record://", "--on-alarm jsonl:"])
@pytest.mark.parametrize("what", ["m.edgeseg", "p.png", "all.streams", "rois.json", "named model"])
def test_a_run_overwrites_nothing_that_it_reads(tmp_path: Path, written: str, what: str) -> None:
    (tmp_path / "m.edgeseg").write_bytes(SHIPPED.read_bytes())
    cv2.imwrite(str(tmp_path / "p.png"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "all.streams").write_text("p.png\n")
    (tmp_path / "rois.json").write_text('{"version": 1, "rois": []}')
    words = ["--source", "all.streams" if what == "all.streams" else "p.png", "--alarm", "area(sky) >= 0%"]
    words += ["--rois", "rois.json"] if what == "rois.json" else []
    words += ["m.edgeseg"] if what == "named model" else []
    target = tmp_path / (what if what != "named model" else "m.edgeseg")
    before = target.read_bytes()
    option, scheme = written.split()
    assert "would be overwritten" in refused(
        "run", *words, "--overwrite", option, f"{scheme}{target.name}", cwd=tmp_path, code=2
    )
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    "first, second",
    [
        ("--sink x.mp4", "--sink jsonl://x.mp4"),
        ("--sink jsonl://x.jsonl", "--sink coco://x.json"),
        ("--sink csv://a/../x", "--on-alarm jsonl:x"),
        ("--sink x.partial.mp4", "--sink x.mp4"),
    ],
)
def test_two_outputs_do_not_write_one_file(tmp_path: Path, first: str, second: str) -> None:
    """With --overwrite one replaced what the other had written."""
    (tmp_path / "a").mkdir()
    words = [*first.split(), *second.split(), "--alarm", "area(sky) >= 0%", "--overwrite"]
    said = refused("run", SHIPPED, "--source", STREET, *words, cwd=tmp_path, code=2)
    assert f"{first} and {second} write one file" in said
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_outputs_of_one_stem_are_not_one_file(tmp_path: Path) -> None:
    kinds = ("jsonl://o.jsonl", "record://o.edgerec", "csv://o.csv", "o.mp4", "o")
    sinks = [word for kind in kinds for word in ("--sink", kind)]
    done = edgeseg("run", SHIPPED, "--source", STREET, *sinks, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"o.jsonl", "o.edgerec", "o.csv", "o.mp4", "o"} <= {path.name for path in tmp_path.iterdir()}


def test_a_sink_without_a_name_does_not_fill_the_working_folder(tmp_path: Path) -> None:
    assert "--sink is empty" in refused("run", SHIPPED, "--source", STREET, "--sink", "", cwd=tmp_path, code=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [".", ".."])
def test_a_source_is_not_called_like_a_folder_above_its_results(tmp_path: Path, name: str) -> None:
    (tmp_path / "two.streams").write_text(f"{STREET} name={name}\n{STREET} name=other\n")
    said = refused("run", SHIPPED, "--source", "two.streams", "--sink", "out", cwd=tmp_path, code=2)
    assert f"cannot be called '{name}'" in said and not (tmp_path / "out").exists()


def test_snapshots_of_alarms_are_not_put_among_the_source_s_pictures(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "p.png"), np.zeros((48, 64, 3), np.uint8))
    words = ("--source", "pictures", "--alarm", "area(sky) >= 0%", "--on-alarm", "snapshot:pictures")
    assert "among the images of the source" in refused("run", *words, cwd=tmp_path, code=2)
    assert len(list((tmp_path / "pictures").iterdir())) == 1


def _one_image(folder: Path) -> Path:
    images = folder / "lonely"
    images.mkdir()
    write_png(images / "a.png", np.zeros((60, 80, 3), np.uint8))
    return images


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run on the endless street that has shown its first frame."""
    command = [sys.executable, "-m", "edgeseg", "run", "--source", "demo://street?size=160x120", "--sink", "o.avi"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("frame "):
            assert process.poll() is None
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_an_endless_run_with_its_summary(
    endless: subprocess.Popen[str], tmp_path: Path, number: int
) -> None:
    endless.send_signal(number)
    asked = time.monotonic()
    out, err = endless.communicate(timeout=20)
    assert time.monotonic() - asked < 10
    assert endless.returncode == 0 and "interrupted" in out and "p99 ms" in out, out + err
    assert [path.name for path in tmp_path.iterdir()] == ["o.avi"], "the video is whole"
    assert cv2.VideoCapture(str(tmp_path / "o.avi")).read()[0]


def test_kill_leaves_no_half_video_under_the_name(endless: subprocess.Popen[str], tmp_path: Path) -> None:
    endless.kill()
    endless.communicate()
    assert not (tmp_path / "o.avi").exists()


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    command = f"{sys.executable} -m edgeseg run --source '{STREET}' --sink null:// | head -n 1"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=HANG_S)
    assert "Traceback" not in done.stderr and "model:" in done.stdout


def test_a_user_without_a_home_is_told_so(tmp_path: Path) -> None:
    """``docker run --user 4242`` without HOME: nobody in /etc/passwd."""
    script = (
        "import pwd\n"
        "def nobody(number):\n    raise KeyError(number)\n"
        "pwd.getpwuid = nobody\n"
        "from edgeseg.cli.main import main\n"
        "main()\n"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME")}
    for words in (["engines", "list"], ["engines", "prune"]):
        command = [sys.executable, "-c", script, *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=HANG_S)
        assert done.returncode == 1 and "set HOME or XDG_CACHE_HOME" in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(("before", "ends"), [("SIG_DFL", True), ("SIG_IGN", False)], ids=["ssh", "nohup"])
def test_the_end_of_a_connection_ends_a_command_in_good_order(before: str, ends: bool, tmp_path: Path) -> None:
    script = (
        "import os, signal, tempfile\n"
        "from edgeseg.cli.signals import stop_on_signals\n"
        f"signal.signal(signal.SIGHUP, signal.{before})\n"
        "try:\n"
        "    with stop_on_signals(), tempfile.TemporaryDirectory(dir='.'):\n"
        "        os.kill(os.getpid(), signal.SIGHUP)\n"
        "        print('went on')\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
        f"assert signal.getsignal(signal.SIGHUP) == signal.{before}\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ("interrupted" if ends else "went on") and not list(tmp_path.iterdir())
