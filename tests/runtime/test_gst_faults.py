"""What GStreamer and NVIDIA's plugins print -> the error, without GStreamer."""

from __future__ import annotations

import threading
from typing import Callable

import pytest

from edgeseg.errors import SourceError
from edgeseg.metrics import ConfusionMatrix
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.gst.faults import end_fault, source_fault
from edgeseg.runtime.loop.feed import Feed, Supervision
from edgeseg.runtime.policy import Policy
from edgeseg.runtime.sources import FrameSource
from edgeseg.runtime.state import RunState, SourceState

PLACE = "/dvs/git/dirty/git-master_linux/multimedia/nvgstreamer/gst-nvarguscamera/gstnvarguscamerasrc.cpp"
SCANNED = (
    "(Argus) Error FileOperationFailed: Connecting to nvargus-daemon failed: No such file or directory (in "
    "src/rpc/socket/client/SocketClientDispatch.cpp, function openSocketConnection(), line 205)\n"
    "sh: 1: lsmod: not found\nsh: 1: modprobe: not found\n"
    "(gst-plugin-scanner:57): GStreamer-WARNING **: 12:50:55.340: Failed to load plugin "
    "'/usr/lib/aarch64-linux-gnu/gstreamer-1.0/libgstnvarguscamerasrc.so': busy\n"
)


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("execute:521 No cameras available", "not found", "ribbon cable"),  # the line differs from release to release
        ("execute:792 No cameras available", "not found", "ribbon cable"),
        ("execute:659 Invalid camera device specified 3 specified, 1 max index", "not found", "csi://3; .*csi://1"),
        ("execute:656 Failed to create CaptureSession", "busy", "gives no session"),
        ("execute:551 Failed to create CameraProvider", "busy", "does not answer"),
        ("execute:801 Invalid sensor mode 9 selected 5 present", "broken", "says: Invalid sensor mode 9"),
    ],
)
@pytest.mark.parametrize("before", ["", SCANNED])
@pytest.mark.parametrize("behind", ["", "(Argus) Error EndOfFile: Unexpected error in reading socket (in x.cpp)\n"])
def test_the_line_of_nvidia_s_source_decides(line: str, kind: str, words: str, before: str, behind: str) -> None:
    printed = f"{before}Error generated. {PLACE}, {line}\n{behind}"
    for fault in (
        end_fault("csi://0", printed, csi=True),
        end_fault("gst://x", printed),
        source_fault("csi://0", {"domain": "", "code": 1, "text": "Internal data stream error.", "debug": ""}, printed),
    ):
        assert fault.kind == kind
        with pytest.raises(SourceError, match=words):
            raise fault


@pytest.mark.parametrize(
    ("domain", "code", "kind"),  # numbers of gsterror.h
    [
        ("gst-resource-error-quark", 3, "not found"),
        ("gst-resource-error-quark", 4, "busy"),  # BUSY
        ("gst-resource-error-quark", 15, "auth"),
        ("gst-stream-error-quark", 5, "codec"),
        ("gst-stream-error-quark", 6, "codec"),
        ("gst-stream-error-quark", 7, "broken"),  # DECODE
        ("gst-core-error-quark", 12, "codec"),
    ],
)
def test_numbers_of_gstreamer_s_errors(domain: str, code: int, kind: str) -> None:
    assert source_fault("x", {"domain": domain, "code": code, "text": "?", "debug": ""}).kind == kind


@pytest.mark.parametrize("behind", ["execute:812 Failed to stop", "threadExecute:694 ", "execute:812 "])
def test_a_line_behind_the_reason_hides_it_not(behind: str) -> None:
    lines = [f"Error generated. {PLACE}, {line}\n" for line in ("execute:751 No cameras available", behind)]
    for delivered in (False, True):
        assert end_fault("csi://0", "".join(lines), csi=True, delivered=delivered).kind == "not found"
    assert "says: Failed to stop" in str(
        end_fault("csi://0", f"Error generated. {PLACE}, execute:812 Failed to stop\n" + lines[0][:-22], csi=True)
    )


def test_a_line_that_another_thread_cut_short_leaves_it_to_argus() -> None:
    printed = f"Error generated. {PLACE}, execute:805 \n(Argus) Error Timeout: (propagating)\n"
    assert end_fault("csi://0", printed, csi=True).kind == "busy"


def test_a_rate_that_the_sensor_has_not() -> None:
    printed = "ARGUS_ERROR: Error generated. x.cpp, execute: 900 Frame Rate specified is greater than supported\n"
    fault = source_fault("csi://0", {"domain": "", "code": 1, "text": "x", "debug": "nvarguscamerasrc"}, printed)
    assert "`rate`" in str(fault) and fault.kind == "broken"


@pytest.mark.parametrize(
    "text", ["Could not read from resource.", "Failed to connect. (Generic error)", "Unauthorized"]
)
def test_what_libraries_print_in_passing_changes_nothing(text: str) -> None:
    failure = {"domain": "", "code": 0, "text": text, "debug": ""}
    assert str(source_fault("rtsp://h/x", failure, SCANNED)) == str(source_fault("rtsp://h/x", failure))
    assert str(end_fault("rtsp://h/x", SCANNED)) == str(end_fault("rtsp://h/x", ""))


def test_what_argus_printed_at_the_start_is_no_reason_for_an_end_after_frames() -> None:
    assert end_fault("csi://0", SCANNED, csi=True).kind == "busy"
    assert end_fault("csi://0", SCANNED, csi=True, delivered=True).kind == "ended"


class Wedged(FrameSource):
    """A camera that does not open."""

    is_live, description = True, "wedged"

    def __init__(self, mend: Callable[[str], bool]) -> None:
        self.opened = 0
        self.asked: list[str] = []
        self._mend = mend

    def open(self) -> None:
        self.opened += 1
        raise SourceError("held", "busy")

    def read(self) -> Frame | None:
        raise AssertionError("not open")

    def close(self) -> None:
        pass

    def mend(self, kind: str) -> bool:
        self.asked.append(kind)
        return self._mend(kind)


@pytest.mark.parametrize(
    ("limit", "mends", "opened", "asked"), [(None, False, 1, 1), (None, True, 4, 3), (2, True, 3, 2), (5, False, 6, 3)]
)
def test_a_source_that_was_mended_is_tried_again(limit: int | None, mends: bool, opened: int, asked: int) -> None:
    source, mine = Wedged(lambda kind: mends), SourceState("0", "wedged")
    state = RunState(ConfusionMatrix(2, 255))
    supervision = Supervision(max_restarts=limit, first_wait_s=0.001, longest_wait_s=0.001)
    feed = Feed(source, state, mine, Policy("latest", 0), supervision, threading.Condition())
    feed.start()
    feed._thread.join(30)
    assert feed.finished and mine.status == "failed" and mine.error == "held"
    assert (source.opened, source.asked) == (opened, ["busy"] * asked)


@pytest.mark.parametrize("element", ["nvvidconv", "nvv4l2decoder", "x264enc"])
def test_an_element_that_is_not_there_is_named(element: str) -> None:
    fault = source_fault("x", {"domain": "", "code": 0, "text": f'no element "{element}"', "debug": ""})
    assert fault.kind == ("missing" if element.startswith("nv") else "codec") and element in str(fault)
    assert ("`capture` software" in str(fault)) == element.startswith("nv")


@pytest.mark.parametrize(("text", "kind"), [("Unauthorized", "auth"), ("Something else", "broken")])
def test_an_error_is_its_kind_its_text_and_what_to_do(text: str, kind: str) -> None:
    said = str(source_fault("rtsp://h/x", {"domain": "", "code": 0, "text": text, "debug": ""}))
    assert said.startswith(f"rtsp://h/x: {kind}: {text}") and said.count(";") == (kind != "broken")
