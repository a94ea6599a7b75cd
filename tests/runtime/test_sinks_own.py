"""No sink destroys what a run of edgeseg did not write."""

from __future__ import annotations

import json
import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeseg.errors import ForeignFileError, SinkError, UsageError
from edgeseg.images import IMAGE_SUFFIXES, read_mask
from edgeseg.runtime.recording.file import Recording
from edgeseg.runtime.sinks import sink_from_uri
from edgeseg.runtime.sinks.clash import refuse_overwriting
from edgeseg.runtime.sinks.uri import SINKS
from edgeseg.runtime.sources.uri import Stream
from edgeseg.spec import ModelSpec
from tests.runtime.results import blocks, context, segmentation

RESULT = segmentation(blocks(1), 3)


def png(value: int = 7) -> bytes:
    return cv2.imencode(".png", np.full((64, 96), value, np.uint8))[1].tobytes()


FOREIGN = {
    "table": b"time,price\n1,2\n3,4",
    "whole table": b"source,frame\n1,2\n",
    "notes": b"hello world, my only notes",
    "picture": png(),
    "settings": b'{"camera": "front", "calibration": [1, 2, 3]}',
    "pretty settings": b'{\n "a": 1,\n "b": 2\n}',
    "somebody's frame": b'{"frame": 1, "boxes": []}',
    "somebody's log": b'{"level": "info", "frame": 3}\n{"level": "info", "frame": 4}\n',
    "somebody's log, cut": b'{"level": "info", "frame": 3}\n{"level": "in',
    "ground truth": b'{"info": {}, "images": [{"id": 1}], "annotations": [], "categories": []}',
    "ground truth that begins as ours": b'{"categories": [{"id": 0, "name": "road"}], "images": [], "annotations": []}',
    "a video": b"\0\0\0\x18ftypmp42 my film",
    "UTF-16": '{"frame": 1}\n'.encode("utf-16"),
    "deep": b"[" * 100_000,
    "long": b"x" * 3_000_000,
}
FILES = tuple(f"{scheme}://{{}}/f" for scheme, kind in SINKS.items() if scheme and kind.is_path)
"""Every row of the table that takes a file."""
TARGETS = (*FILES, "coco://{}/f.json", "{}/f.mp4", "{}/f.mkv", "{}/f.avi")


def name_of(sink: str) -> str:
    return Path(sink.rpartition("/")[2]).name


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("sink", TARGETS)
@pytest.mark.parametrize("what", FOREIGN)
def test_every_sink_leaves_every_file_of_others_as_it_was(
    spec: ModelSpec, tmp_path: Path, sink: str, what: str
) -> None:
    (tmp_path / name_of(sink)).write_bytes(FOREIGN[what])
    before = tree(tmp_path)
    with pytest.raises(ForeignFileError, match="`overwrite`"):
        sink_from_uri(sink.format(tmp_path), context(spec, fps=10))
    assert tree(tmp_path) == before


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(min_size=1, max_size=300) | st.text(min_size=1, max_size=99).map(str.encode))
def test_lines_of_whatever_it_is_are_never_cut(spec: ModelSpec, tmp_path: Path, content: bytes) -> None:
    """A log may refuse a file, or go on below what is there; never is there less than before."""
    for kind in ("jsonl", "csv"):
        path = tmp_path / kind
        path.write_bytes(content)
        try:
            sink_from_uri(f"{kind}://{path}", context(spec)).close()
        except ForeignFileError:
            assert path.read_bytes() == content
        else:
            assert path.read_bytes().startswith(content.rstrip(b"\0"))


@pytest.mark.parametrize("begun", ["jsonl", "csv"])
@pytest.mark.parametrize("tail", [b"my own remark", b"# a comment"])
def test_a_remark_below_our_lines_is_not_cut_from_json_lines(
    spec: ModelSpec, tmp_path: Path, begun: str, tail: bytes
) -> None:
    path, uri = tmp_path / "o", f"{begun}://{tmp_path}/o"
    with sink_from_uri(uri, context(spec)) as sink:
        sink.write(RESULT)
    ours = path.read_bytes()
    path.write_bytes(ours + tail)
    if begun == "jsonl":
        with pytest.raises(ForeignFileError):
            sink_from_uri(uri, context(spec))
        assert path.read_bytes() == ours + tail
    else:  # half a row may be anything
        sink_from_uri(uri, context(spec)).close()
        assert path.read_bytes() == ours


@pytest.mark.parametrize("sink", [target for target in TARGETS if not target.startswith("rosbag")])  # never replaces
def test_overwrite_is_for_those_who_mean_it(spec: ModelSpec, tmp_path: Path, sink: str) -> None:
    path = tmp_path / name_of(sink)
    path.write_bytes(b"old, and not ours")
    with sink_from_uri(sink.format(tmp_path), context(spec, fps=10, overwrite=True)) as opened:
        opened.write(RESULT)
    assert path.stat().st_size > 20 and not path.read_bytes().startswith(b"old")
    assert not [name for name in tree(tmp_path) if "partial" in name or name.endswith((".tmp", "-wal"))]


@pytest.mark.parametrize("sink", ["jsonl://{}/f", "csv://{}/f", "coco://{}/f.json", "{}/f"])
def test_what_a_former_run_wrote_is_gone_on_with(spec: ModelSpec, tmp_path: Path, sink: str) -> None:
    for _ in range(2):
        with sink_from_uri(sink.format(tmp_path), context(spec, fps=10)) as opened:
            opened.write(RESULT)
    if "coco" in sink:
        assert len(json.loads((tmp_path / "f.json").read_text())["images"]) == 2


@pytest.mark.parametrize("kind", ["a pipe", "a folder"])
@pytest.mark.parametrize("sink", ["coco://{}/f.json", "record://{}/f", "{}/f.mp4", "{}/f.avi"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_file_is_not_replaced(
    spec: ModelSpec, tmp_path: Path, sink: str, kind: str, overwrite: bool
) -> None:
    path = tmp_path / name_of(sink)
    os.mkfifo(path) if kind == "a pipe" else path.mkdir()
    mode = path.stat().st_mode
    if kind == "a folder" and sink.startswith("{}"):
        return  # such a sink is a folder of masks
    with pytest.raises(SinkError, match="is not a file"):
        sink_from_uri(sink.format(tmp_path), context(spec, fps=10, overwrite=overwrite))
    assert path.stat().st_mode == mode


@pytest.mark.parametrize("part", ["masks", "overlays", "masks/door"])
@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_masks_are_not_put_among_pictures_of_others(spec: ModelSpec, tmp_path: Path, part: str, suffix: str) -> None:
    (tmp_path / part).mkdir(parents=True)
    (tmp_path / part / f"x{suffix}").write_bytes(cv2.imencode(suffix, np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    before = tree(tmp_path)
    with pytest.raises(ForeignFileError, match="did not write"):
        sink_from_uri(str(tmp_path), context(spec))
    assert tree(tmp_path) == before


def test_a_mask_that_somebody_corrected_is_kept(spec: ModelSpec, tmp_path: Path) -> None:
    """Also when that happens while the run goes on."""
    path = tmp_path / "masks" / "000003.png"
    with sink_from_uri(str(tmp_path), context(spec)) as sink:
        sink.write(RESULT)
        sink.write(RESULT)
        corrected = read_mask(path)
        corrected[:] = 2
        cv2.imwrite(str(path), corrected)
        before = path.read_bytes()
        with pytest.raises(ForeignFileError, match="`overwrite`"):
            sink.write(RESULT)
    with pytest.raises(ForeignFileError, match="did not write"):
        sink_from_uri(str(tmp_path), context(spec))
    assert path.read_bytes() == before
    with sink_from_uri(str(tmp_path), context(spec, overwrite=True)) as sink:
        sink.write(RESULT)
    np.testing.assert_array_equal(read_mask(path), RESULT.classes)


def test_a_coco_document_that_somebody_edited_is_kept(spec: ModelSpec, tmp_path: Path) -> None:
    uri, path = f"coco://{tmp_path}/f.json", tmp_path / "f.json"
    with sink_from_uri(uri, context(spec)) as sink:
        sink.write(RESULT)
    document = json.loads(path.read_text())
    document["annotations"][0]["category_id"] = 2
    path.write_text(json.dumps(document))
    before = tree(tmp_path)
    with pytest.raises(ForeignFileError, match="edited since"):
        sink_from_uri(uri, context(spec))
    assert tree(tmp_path) == before


def test_a_coco_document_that_appears_during_the_run_is_kept(spec: ModelSpec, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    for earlier in (False, True):
        sink = sink_from_uri(f"coco://{path}", context(spec))
        sink.write(RESULT)
        path.write_bytes(b"mine")
        with pytest.raises(ForeignFileError, match="everything is in"):
            sink.close()
        assert path.read_bytes() == b"mine", earlier
        path.unlink()
        with sink_from_uri(f"coco://{path}", context(spec)):
            pass
        assert json.loads(path.read_text())["images"]


def test_a_killed_run_does_not_make_its_own_coco_document_foreign(spec: ModelSpec, tmp_path: Path) -> None:
    uri = f"coco://{tmp_path}/f.json"
    with sink_from_uri(uri, context(spec)) as sink:
        sink.write(RESULT)
    killed = sink_from_uri(uri, context(spec))
    killed.write(RESULT)
    killed._lines.close()  # type: ignore[attr-defined]  # as its end does; the lines are ahead of the document
    with sink_from_uri(uri, context(spec)) as sink:
        sink.write(RESULT)
    assert len(json.loads((tmp_path / "f.json").read_text())["images"]) == 3


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
def test_a_recording_does_not_take_what_is_beside_it_for_its_own(spec: ModelSpec, tmp_path: Path, ending: str) -> None:
    (tmp_path / f"f{ending}").write_bytes(b"of another database")
    before = tree(tmp_path)
    with pytest.raises(ForeignFileError, match=f"f{ending} exists"):
        sink_from_uri(f"record://{tmp_path}/f", context(spec))
    assert tree(tmp_path) == before


def test_a_recording_that_was_moved_away_is_not_begun_in_another_database(spec: ModelSpec, tmp_path: Path) -> None:
    path = tmp_path / "f"
    sink = sink_from_uri(f"record://{path}", context(spec))
    sink.write(RESULT)
    path.rename(tmp_path / "moved")
    sink._forget()  # type: ignore[attr-defined]  # as after a failure
    with pytest.raises(SinkError, match="cannot be written"):
        sink.write(segmentation(blocks(1), 4))
    assert not path.exists()
    sqlite3.connect(tmp_path / "moved").close()


# Videos


@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_two_runs_on_one_video_do_not_meet(spec: ModelSpec, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"o.{suffix}"
    first = sink_from_uri(str(path), context(spec, fps=10))
    with pytest.raises(SinkError, match="is being written by another run"):
        sink_from_uri(str(path), context(spec, fps=10))
    live = sink_from_uri(str(path), context(spec))  # a camera's run that is started again goes on in a part
    for sink, frames in ((first, 3), (live, 2)):
        for index in range(frames):
            frame = replace(RESULT.frame, index=index, captured_ns=index * 10**8)
            sink.write(replace(RESULT, frame=frame))
    assert "o-2" in live.description and "is taken" in live.remark
    live.close()
    first.close()
    assert {name: frames_in(tmp_path / name) for name in tree(tmp_path)} == {path.name: 3, f"o-2.{suffix}": 2}


def test_a_name_that_is_taken_during_the_run_is_not_replaced(spec: ModelSpec, tmp_path: Path) -> None:
    with sink_from_uri(str(tmp_path / "o.avi"), context(spec, fps=10)) as sink:
        sink.write(RESULT)
        (tmp_path / "o.avi").write_bytes(b"mine")
    assert (tmp_path / "o.avi").read_bytes() == b"mine"
    assert frames_in(tmp_path / "o-2.avi") == 1 and "o-2.avi" in sink.remark


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["0", "2", "2-2", "3", "a", "a-2"]), min_size=2, max_size=6, unique=True))
def test_parts_and_sources_never_share_a_file(
    spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    """A part of one source's video may be called as another source is."""
    folder = tmp_path_factory.mktemp("parts")
    sizes = ((64, 96), (32, 48))
    with sink_from_uri(str(folder / "o.avi"), context(spec)) as sink:
        for size in sizes:
            for index, name in enumerate(names):
                sink.write(segmentation(blocks(index, size), 0, name))
    assert len(tree(folder)) == len(names) * len(sizes)
    assert all(frames_in(folder / name) == 1 for name in tree(folder))


def test_a_video_that_fails_before_its_first_picture_leaves_nothing(spec: ModelSpec, tmp_path: Path) -> None:
    for suffix in ("mp4", "avi"):
        sink = sink_from_uri(str(tmp_path / f"o.{suffix}"), context(spec))
        sink.discard()
        sink.close()
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_an_encoder_that_writes_nothing_leaves_no_parts(spec: ModelSpec, tmp_path: Path, suffix: str) -> None:
    """A disk that is full for the encoder: its process may not make files any longer."""
    import resource

    from edgeseg.runtime.gst.process import gstreamer_python
    from edgeseg.runtime.sinks.video import VideoSink

    if gstreamer_python() is None:
        pytest.skip("GStreamer is not installed")
    sink = VideoSink(tmp_path / f"o.{suffix}", context(spec).painter)
    parts, failures = set(), 0
    for index in range(400):
        frame = replace(RESULT.frame, index=index, captured_ns=index * 10**7)
        try:
            sink.write(replace(RESULT, frame=frame))
            output = sink._writer
            assert output is not None
            resource.prlimit(output._process.pid, resource.RLIMIT_FSIZE, (0, 0))  # type: ignore[attr-defined]
        except (SinkError, ProcessLookupError):
            failures += 1
        parts |= {path.name for path in tmp_path.iterdir()}
        if failures >= 3:
            break
    assert failures >= 3
    sink.discard()
    assert tree(tmp_path) == {} and parts == {f"o.partial.{suffix}"}


def frames_in(path: Path) -> int:
    video, count = cv2.VideoCapture(str(path)), 0
    while video.read()[0]:
        count += 1
    return count


# The source


def spellings(folder: Path, name: str) -> dict[str, str]:
    """The same file by other names; the file has just been made."""
    path = folder / name
    os.symlink(path, folder / "link")
    os.link(path, folder / f"hard{path.suffix}")
    os.symlink(folder, folder / "here")
    (folder / "list.txt").write_text(f"# images\n{name}\n")
    return {
        "plain": str(path),
        "relative": os.path.relpath(path),
        "dots": f"{folder}/../{folder.name}/{name}",
        "folder link": f"{folder}/here/{name}",
        "URL": f"file://{quote(str(path))}",
        "URL, all escaped": "file://" + "".join(f"%{byte:02x}" for byte in os.fsencode(path)),
        "URL, not escaped": f"file://{path}",
        "link": str(folder / "link"),
        "hard link": str(folder / f"hard{path.suffix}"),
        "pipeline": f'gst://filesrc location="{path}" ! decodebin',
        "pipeline with a URL": f"gst://uridecodebin uri=file://{quote(str(path))}",
    }


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stem=st.text(
        st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters='/"\\%*?['), min_size=1, max_size=20
    )
)
def test_the_source_is_known_by_any_name(tmp_path_factory: pytest.TempPathFactory, stem: str) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("names")
    name = f"v {stem}.mp4"
    (folder / name).write_bytes(b"film")
    for spelling, uri in spellings(folder, name).items():
        for target in (folder / name, folder / "hard.mp4", folder / "here" / name):
            with pytest.raises(UsageError, match="is the source itself"):
                refuse_overwriting([Stream(uri)], [str(target)])
                pytest.fail(f"{spelling}: {uri!r} -> {target}")
    refuse_overwriting([Stream(str(folder / name))], [str(folder / "other.mp4"), f"jsonl://{folder}/o"])


@pytest.mark.parametrize("kind", ["folder", "glob", "list", "one", "link to it", "link in another folder"])
def test_pictures_are_not_put_into_the_folder_they_come_from(tmp_path: Path, kind: str) -> None:
    images = tmp_path / "out" / "overlays"
    images.mkdir(parents=True)
    (images / "a.png").write_bytes(png())
    (tmp_path / "list.txt").write_text("out/overlays/a.png\n")
    os.symlink(images, tmp_path / "linked")
    (tmp_path / "elsewhere").mkdir()
    os.symlink(images / "a.png", tmp_path / "elsewhere" / "a.png")
    source = {
        "folder": images,
        "glob": images / "*.png",
        "list": tmp_path / "list.txt",
        "one": images / "a.png",
        "link to it": tmp_path / "linked",
        "link in another folder": tmp_path / "elsewhere",
    }[kind]
    with pytest.raises(UsageError, match="among the images of the source"):
        refuse_overwriting([Stream(str(source))], [str(tmp_path / "out")])
    refuse_overwriting([Stream(str(source))], [str(tmp_path / "new")])


def test_videos_of_several_sources_are_compared_by_the_names_they_will_have(tmp_path: Path) -> None:
    for name in ("o-0.mp4", "o-door.mp4", "o.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    both = [Stream(str(tmp_path / "o-0.mp4")), Stream("demo://street", "door")]
    with pytest.raises(UsageError, match="source itself"):
        refuse_overwriting(both, [str(tmp_path / "o.mp4")])
    refuse_overwriting([Stream(str(tmp_path / "o.mp4")), both[1]], [str(tmp_path / "o.mp4")])
    with pytest.raises(UsageError, match="given twice"):
        refuse_overwriting(both, ["mqtt://me:secret@h/t"] * 2)


NAMES = (b"bad\xff", b"esc\x1b]0;x\x07", b"new\nline", b"a\\b", "\u202eright".encode(), b"'", b"...")


@pytest.mark.parametrize("sink", [*FILES, "{}/f"])
@pytest.mark.parametrize("name", NAMES)
def test_every_sink_takes_frames_of_any_name(spec: ModelSpec, tmp_path: Path, sink: str, name: bytes) -> None:
    if sink.startswith("rosbag"):
        pytest.importorskip("rosbags", reason="the package rosbags is not installed (Python 3.10 or newer)")
    of = context(spec, fps=10)
    of.state.sources[""].description = f"images in {os.fsdecode(name)}"
    with sink_from_uri(sink.format(tmp_path), of) as opened:
        opened.write(replace(RESULT, frame=replace(RESULT.frame, name=os.fsdecode(name))))
    if sink.startswith("record"):
        with Recording(tmp_path / "f") as recording:
            assert recording.frame(recording.order[0]).index == 3
    if sink.startswith("csv"):
        assert len((tmp_path / "f").read_bytes().splitlines()) == 2
