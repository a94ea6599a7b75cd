"""What a newcomer meets: which model is taken, what goes on, where results are, and errors that stand alone."""

from __future__ import annotations

import errno
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Callable

import numpy as np
import pytest

from edgeseg.app.models import bundle_or_default, chosen_path, model_stem, without_reason
from edgeseg.app.shipped import SHIPPED
from edgeseg.bundle import Bundle, read_bundle, write_bundle
from edgeseg.cli import main
from edgeseg.cli.progress import shown_progress
from edgeseg.demo import StreetScene
from edgeseg.errors import BundleError
from edgeseg.images import write_png
from tests.cli.test_cli import STREET, edgeseg, refused
from tests.engines.tensorrt.tiny import tiny_bundle


@pytest.mark.parametrize("name", [None, "there/é\udc80.bin", b"bytes\xff"])
def test_whatever_the_system_refuses_is_one_line(
    name: str | bytes | None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in sorted(set(errno.errorcode) - {errno.EPIPE, errno.ESHUTDOWN}):  # nobody is there to be told of these
        error = OSError(number, os.strerror(number), *([name] if name is not None else []))

        def failing(error: OSError = error) -> None:
            raise error

        monkeypatch.setattr(main, "app", failing)
        with pytest.raises(SystemExit) as left:
            main._main()
        said = capfd.readouterr().err
        assert left.value.code == 1 and said.startswith("edgeseg: ") and said.count("\n") == 1 and len(said) > 20
        if name is not None:
            assert ("bytes\\xff" if isinstance(name, bytes) else "there/") in said


@pytest.mark.parametrize(
    "error", [OSError("only text"), OSError(), TimeoutError(), OSError(errno.EXDEV, "no", "a", None, "b")]
)
def test_errors_of_the_system_without_a_number(
    error: OSError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> None:
        raise error

    monkeypatch.setattr(main, "app", failing)
    with pytest.raises(SystemExit):
        main._main()
    said = capsys.readouterr().err
    assert said.startswith("edgeseg: ") and said.count("\n") == 1
    assert "a -> b" in said or error.filename2 is None


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("--version",), ("--help",), ("run", "--help"), ("inspect",), ("inspect", "--json")])
def test_a_full_disk_behind_the_output(tmp_path: Path, words: tuple[str, ...], unbuffered: str) -> None:
    command, environment = [sys.executable, "-m", "edgeseg", *words], {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr.startswith("edgeseg: no space left on the disk")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def own() -> Bundle:
    """A bundle of the user's, small: other weights than the shipped model's."""
    return tiny_bundle(provenance={"checkpoint_sha256": "0" * 64})


def put(folder: Path, name: str, bundle: Bundle, age: int) -> None:
    write_bundle(bundle, folder / name)
    os.utime(folder / name, (1e9 - age, 1e9 - age))


def test_the_users_bundle_comes_before_a_newer_demo(
    tmp_path: Path, own: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bundle_or_default(None, None)[1] == "street.edgeseg (the shipped model)" and chosen_path() == SHIPPED
    put(tmp_path, "street.edgeseg", read_bundle(SHIPPED), 0)
    named = "street.edgeseg (the only bundle in this folder, the shipped model compiled again)"
    assert bundle_or_default(None, None)[1] == named
    put(tmp_path, "mine (1).edgeseg", own, 100)
    named = "mine (1).edgeseg (the newest bundle that is not the shipped model in this folder)"
    assert bundle_or_default(None, None)[1] == named and chosen_path() == tmp_path / "mine (1).edgeseg"
    put(tmp_path, "newer.edgeseg", own, -100)
    assert bundle_or_default(None, None)[1] == "newer.edgeseg (the newest of 3 bundles in this folder)"
    poor = replace(own, report=replace(own.report, network_is_poor="it scores mIoU 5.00"))
    put(tmp_path, "poor.edgeseg", poor, -200)
    assert bundle_or_default(None, None)[1].endswith(
        "(the newest of 4 bundles in this folder, a poor network: it scores mIoU 5.00)"
    )
    (tmp_path / "cut.edgeseg").write_bytes(SHIPPED.read_bytes()[:5000])
    with pytest.raises(BundleError, match="cut.edgeseg is truncated.*no model was named"):
        bundle_or_default(None, None)


@pytest.mark.parametrize("name", ["a", "a (1)", "a (the b)", "a.edgeseg (1)", "(x)", "ä b"])
def test_a_name_goes_back_to_its_file(tmp_path: Path, name: str, own: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Explicit names stay whole; of chosen ones the reason goes."""
    monkeypatch.chdir(tmp_path)
    put(tmp_path, f"{name}.edgeseg", own, 0)
    for path in (None, Path(f"{name}.edgeseg")):
        said = bundle_or_default(path, None)[1]
        assert (without_reason(said), model_stem(said)) == (f"{name}.edgeseg", name)


def test_every_command_that_chooses_a_bundle_says_which_and_why(tmp_path: Path, own: Bundle) -> None:
    street = read_bundle(SHIPPED)
    put(tmp_path, "mine.edgeseg", replace(street, provenance={**street.provenance, **own.provenance}), 100)
    put(tmp_path, "street.edgeseg", street, 0)
    why = "mine.edgeseg (the newest bundle that is not the shipped model in this folder)"
    for words in (
        ("run", "--source", STREET, "--frames", 1),
        ("eval", "--data", "demo://street?frames=1"),
        ("bench", "--no-torch", "--seconds", 0.1, "--warmup", 0, "--source", "demo://street?frames=1"),
        ("inspect",),
        ("verify",),
        ("calibrate", "export", "-o", "x.cache"),
    ):
        done = edgeseg(*words, cwd=tmp_path)
        assert done.returncode == 0 and why in done.stdout.replace("\n", " "), (words, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "make, name, words",
    [
        (lambda path: write_png(path, StreetScene(0, (60, 80)).render(0)[0]), "photo.png", "`source`"),
        (lambda path: path.write_bytes(b"x"), "drive.MP4", "`source`"),
        (lambda path: path.mkdir(), "folder", "`source`"),
        (lambda path: None, "rtsp://camera/1", "`source`"),
        (lambda path: None, "demo://street", "`source`"),
        (lambda path: None, "0", "`camera` 0"),
        (lambda path: path.write_bytes(b"x"), "best.safetensors", "edgeseg compile best.safetensors"),
        (lambda path: path.write_bytes(b"x"), "net.onnx", "edgeseg compile net.onnx"),
        (lambda path: path.write_bytes(b"x"), "state.pth", "edgeseg compile state.pth"),
    ],
)
def test_what_stands_where_a_bundle_belongs_is_told_where_it_belongs(
    tmp_path: Path, make: Callable[[Path], None], name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path(name))
    with pytest.raises(BundleError, match=re.escape(words)):
        bundle_or_default(Path(name), None)


def test_a_single_picture_says_where_its_result_went(tmp_path: Path) -> None:
    write_png(tmp_path / "photo.png", StreetScene(0, (180, 240)).render(0)[0])
    done = edgeseg("run", "--source", "photo.png", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("no result was kept"), done.stdout
    assert "--sink out " in done.stdout.splitlines()[-1]
    done = edgeseg("run", "--source", "photo.png", "--sink", "out", cwd=tmp_path)
    assert "no result was kept" not in done.stdout and (tmp_path / "out/overlays/photo.png").is_file()
    for kept in (("--sink", "null://"), ("--alarm", "area(car) > 1%"), ("--json",)):
        assert "no result was kept" not in edgeseg("run", "--source", "photo.png", *kept, cwd=tmp_path).stdout


@pytest.mark.parametrize("words", [("--camera", 97), ("--source", "junk.mp4"), ("--source", "cut.png")])
def test_a_source_that_never_opens_leaves_its_error_alone(tmp_path: Path, words: tuple[object, ...]) -> None:
    (tmp_path / "junk.mp4").write_bytes(b"junk" * 100)
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    refused("run", *words, cwd=tmp_path)
    assert edgeseg("run", *words, cwd=tmp_path).stdout == ""


def test_bench_says_what_it_does_before_it_does_it(tmp_path: Path) -> None:
    words = ("--seconds", 0.2, "--warmup", 0.1, "--engine", "onnxruntime")
    said = edgeseg("bench", "--no-torch", *words, cwd=tmp_path).stdout
    places = [
        said.index(text) for text in ("opened int8-cpu", "opened fp32", "timing 2 contenders", "about 1 s", "ms/frame")
    ]
    assert places == sorted(places)
    done = edgeseg("bench", "--no-torch", *words, "--json", cwd=tmp_path)
    assert "timing 2 contenders" in done.stderr and done.stdout.startswith("{")


def test_without_a_terminal_long_steps_say_how_far_they_are() -> None:
    now, lines = [0.0], []
    with shown_progress(lines.append, clock=lambda: now[0]) as count:
        for done in range(1, 31):
            now[0] += 1
            count("judging fp32", done, 30)
        for done in range(1, 3):
            now[0] += 0.1
            count("judging int8", done, 2)
    assert lines == ["judging fp32: 3 of 30", "judging fp32: 13 of 30", "judging fp32: 23 of 30"]


FINISHED = """
from edgeseg.cli.progress import shown_progress
with shown_progress(print) as count:
    for phase in range(9):
        for done in (0, 1, 2):
            count(f"phase {phase}", done, 2)
    import time
    count("last", 0, 2)
    time.sleep(0.5)
"""


def test_on_a_terminal_finished_bars_go() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, "-c", FINISHED], stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # the end of a pseudo-terminal
                break
            if not more:
                break
            shown += more
    os.close(ours)
    assert process.returncode == 0 and b"last" in shown
    ups = [len(re.findall(rb"\x1b\[1A", run)) for run in re.findall(rb"(?:\x1b\[1A\x1b\[2K)+", shown)]
    assert max(ups, default=0) <= 1, shown


def test_a_class_that_is_predicted_but_nowhere_labelled_is_told_apart(tmp_path: Path) -> None:
    """A stray pixel of it takes a share from the mean; compile leaves such classes out, so both numbers are said."""
    labels = np.zeros((20, 30), np.uint8)
    labels[10:] = 1
    found = labels.copy()
    found[0, 0] = 7
    for folder, mask in (("labels", labels), ("found", found)):
        (tmp_path / folder).mkdir()
        write_png(tmp_path / folder / "a.png", mask)
    said = edgeseg("eval", "--masks", "found", "--labels", "labels", cwd=tmp_path).stdout
    both = (299 / 300 + 1) / 2
    assert f"mIoU {100 * both * 2 / 3:.2f}," in said
    assert "in the mean as 0: fence" in said and f"mIoU is {100 * both:.2f}" in said
    write_png(tmp_path / "found" / "a.png", labels)
    assert "nowhere labelled" not in edgeseg("eval", "--masks", "found", "--labels", "labels", cwd=tmp_path).stdout
