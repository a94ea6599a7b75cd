"""What lies in archives and on disks that nobody thought of: each is left out by name, counted, or one line."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import pytest

import edgeseg.app.archive as driver
import edgeseg.app.archive_worker as worker
from edgeseg.app.archive import archive, archive_state
from edgeseg.app.archive_config import ArchiveConfig
from edgeseg.app.archive_worker import Job
from edgeseg.app.shipped import SHIPPED
from edgeseg.archive import reading, shards
from edgeseg.archive.listing import origins_of
from edgeseg.archive.places import LocalPlace, place_at
from edgeseg.archive.plan import PLAN, Task, Wish, make_plan, read_plan
from edgeseg.archive.reading import Reader
from edgeseg.errors import EdgesegError, EngineError, InputError, SourceError, UsageError
from edgeseg.files import file_sha256
from edgeseg.images import read_image, write_png
from edgeseg.runtime.frame import Frame, Segmentation
from edgeseg.runtime.gst.pipelines import CaptureOptions
from edgeseg.runtime.sources.stored import ImagesSource
from tests.archive.conftest import asked, results_in
from tests.bundle_files import SPEC

WISH = Wish("0" * 64, "street.edgeseg", "", "png", 3)


def files(*names: str) -> Callable[[], None]:
    def make() -> None:
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(b"x")

    return make


def links(**targets: str) -> Callable[[], None]:
    def make() -> None:
        files("in/a.png", "other/b.png")()
        for name, target in targets.items():
            Path("in", name.replace("_", ".")).symlink_to(target)

    return make


def pipe() -> None:
    files("in/a.png")()
    os.mkfifo("in/pipe.png")


@pytest.mark.parametrize(
    ("make", "sources", "found", "left_out"),
    [
        (files("2024/a.png"), ["2024"], ["a.png"], {}),
        (files("demo/a.png"), ["demo"], ["a.png"], {}),
        (files("rosbag/a.png"), ["rosbag"], ["a.png"], {}),
        (files("p[1]/a.png", "p[1]/b.jpg"), ["p[1]/*.png"], ["a.png"], {}),
        (files("p[1]/a.png"), ["p[1]"], ["a.png"], {}),
        (files("p[1].png"), ["p[1].png"], ["p[1].png"], {}),
        (files("in/a b%20#?.png", "in/\n.png"), ["in"], ["\n.png", "a b%20#?.png"], {}),
        (links(l_png="l.png"), ["in"], ["a.png"], {"broken link": 1}),
        (links(l_png="l.png"), ["in/*.png"], ["a.png"], {"broken link": 1}),
        (links(l_png="nowhere"), ["in"], ["a.png"], {"broken link": 1}),
        (links(l_png="nowhere"), ["in/*"], ["a.png"], {"broken link": 1}),
        (links(l="../other"), ["in"], ["a.png"], {"linked folder": 1}),
        (links(l="../other"), ["in/*"], ["a.png"], {"folder": 1}),
        (links(l="../in"), ["in/**"], ["a.png"], {}),
        (pipe, ["in"], ["a.png"], {"device or pipe": 1}),
        (pipe, ["in/*.png"], ["a.png"], {"device or pipe": 1}),
        (files("in/a.png", "in/lost+found/b.png"), ["in"], ["a.png"], {"hidden": 1}),
        (
            files("in/a.png", "in/out/plan.json", "in/out/tasks-1.jsonl", "in/out/masks/a.png"),
            ["in"],
            ["a.png"],
            {"folder with results": 1},
        ),
        (
            files("in/a.png", "in/b.png", "c.png"),
            ["in/a.png", "in/b.png", "c.png"],
            ["c.png", "in/a.png", "in/b.png"],
            {},
        ),
    ],
)
def test_what_is_listed(
    make: Callable[[], None],
    sources: list[str],
    found: list[str],
    left_out: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    make()
    (origin,) = origins_of(sources)
    assert [one.file.path for one in origin.found()] == found
    assert origin.left_out == left_out


@pytest.mark.parametrize("source", ["in/**", "in"])
def test_pictures_of_a_stem_are_told_apart_though_another_folder_stands_between_them(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files("in/x.jpg", "in/x.m/1.png", "in/x.png", "in/x.png0")()
    (origin,) = origins_of([source])
    assert {one.file.path for one in origin.found() if one.whole} == {"x.jpg", "x.png"}


@pytest.mark.parametrize(
    ("source", "said"),
    [("", "a variable that is not set"), ("0", "no stored file"), ("demo://street", "no stored file")],
)
def test_what_is_no_archive(source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        origins_of([source])


def items_of(folder: Path, **more: Any) -> list[reading.Item]:
    place = LocalPlace(str(folder))
    (origin,) = origins_of([str(folder)])
    entries = tuple((one.file, one.whole) for one in origin.found())
    for name in more.pop("gone", ()):
        (folder / name).unlink()
    return list(Reader(place, "", CaptureOptions()).items(Task(0, 0, entries, False), **more))


def test_a_folder_that_is_called_as_a_mask_is_not_in_its_way(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png/x.jpg", "b.PNG/c.png/y.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    names = [item.name for item in items_of(tmp_path)]
    assert names == ["a", "a%2Epng/x", "b%2EPNG/c%2Epng/y"]


def test_a_disk_that_is_not_mounted_is_no_archive_of_vanished_files(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_png(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    assert [item.skipped for item in items_of(tmp_path, gone=["a.png"])] == ["it is not there any more", ""]
    with pytest.raises(SourceError, match="is not there or empty on .*; mount it there"):
        items_of(tmp_path, gone=["b.png"])


# Frames that kill


def kills(job: Job, task: Task) -> Iterator[Any]:
    """The work of a process whose decoder crashes at pictures that are called so."""

    def opened(self: ImagesSource) -> None:
        if "poison" in self.description:
            os.kill(os.getpid(), signal.SIGSEGV)
        really(self)

    really, reading.ImagesSource.open = ImagesSource.open, opened  # type: ignore[method-assign]
    yield from worker.work_on(job, task)


def dies_at_once(job: Job, task: Task) -> Iterator[Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield


def test_a_picture_that_crashes_its_decoder_is_counted_and_its_neighbours_are_done(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("0", "1 poison", "2"):
        write_png(tmp_path / "in" / f"{name}.png", read_image(stored / "0.png"))
    monkeypatch.setattr(driver, "work_on", dies_at_once)
    with pytest.raises(EdgesegError, match="processes die before they have a picture"):
        archive(asked(tmp_path / "in", tmp_path / "out", "png", workers=1))
    monkeypatch.setattr(driver, "work_on", kills)
    done = archive(ArchiveConfig(output=str(tmp_path / "out"), workers=1, verify="100%"))
    state = archive_state(str(tmp_path / "out"))
    assert not done.lost and (done.compared, done.different) == (2, ())
    assert state.is_done and (state.segmented, state.failed) == (2, 1)
    assert [(name, why) for name, _, why in state.failures] == [("1 poison", "3 processes died of it (signal 11)")]
    assert set(results_in(tmp_path / "out")) == {"masks/0.png", "masks/2.png"}


@pytest.mark.parametrize("error", [EngineError("no memory"), MemoryError("no memory"), RuntimeError("no memory")])
@pytest.mark.parametrize("is_well", [True, False])
def test_a_frame_that_the_engine_does_not_take_has_failed_if_it_takes_others(
    error: Exception, is_well: bool, tmp_path: Path
) -> None:
    for name, height in (("0.png", 4), ("1.png", 5), ("2.png", 4)):
        write_png(tmp_path / name, np.zeros((height, 4, 3), np.uint8))

    def segmented(frame: Frame) -> Segmentation:
        if frame.image.shape[0] == 5 or (not is_well and frame.image.shape[0] > 5):
            raise error
        return Segmentation(frame, np.zeros(frame.image.shape[:2], np.uint8), {}, 2, None, "stretch")

    place = place_at(str(tmp_path / "out"))
    plan = make_plan(place, origins_of([str(tmp_path)]), WISH, SHIPPED, print)
    readers = (Reader(LocalPlace(str(tmp_path)), "", CaptureOptions()),)
    held = shards.Archive(place, plan, readers, SPEC, segmented, "here")
    (task,) = plan.all_tasks(place)
    if is_well:
        (record,) = shards.work_off(held, task, {})
        assert (record.segmented, record.failed) == (2, 1) and "no memory" in record.failures[0][2]
    else:
        with pytest.raises(type(error), match="no memory"):
            list(shards.work_off(held, task, {}))


# Plans that are cut, or that somebody wrote by hand


def variants(text: bytes) -> Iterator[bytes]:
    """Cut and wrong forms of a JSON object in a line or a file."""
    for end in range(0, len(text) - 1, max(1, len(text) // 25)):
        yield text[:end]
    held = json.loads(text)
    for name in held:
        for value in (None, [], {}, -1, 10**30, "x", [[]], [{}], [[1, 2]], True, {"a": None}):
            yield json.dumps({**held, name: value}).encode()
    yield from (b"[]", b"1", b'"x"', b"null", b"{}", b"\xff\xfe", b"\0" * 99)


def test_a_damaged_plan_is_one_line(tmp_path: Path) -> None:
    files_in = tmp_path / "in"
    files_in.mkdir()
    for name in ("a.png", "b.mp4"):
        (files_in / name).write_bytes(b"x")
    place = place_at(str(tmp_path / "out"))
    plan = make_plan(place, origins_of([str(files_in)]), WISH, SHIPPED, print)
    head, lines = place.read(PLAN), place.read(plan.lines)
    for damaged in variants(head):
        place.write(PLAN, damaged, durable=False)
        try:
            other = read_plan(place)
        except InputError as error:
            assert "\n" not in str(error)
            continue
        assert other is not None and other.wish.shard_frames > 0, damaged
    place.write(PLAN, head)
    first, second, _ = lines.split(b"\n")
    for damaged in (*variants(first), first.replace(b'"task":0', b'"task":1'), first.replace(b"png", b"jpg")):
        place.write(plan.lines, damaged + b"\n" + second + b"\n", durable=False)
        if damaged + b"\n" + second + b"\n" == lines:
            continue
        with pytest.raises(InputError, match="name another `output`"):
            list(plan.all_tasks(place))


def test_the_plan_of_another_process_that_was_faster_is_taken(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look at the place and the second another process makes its plan and begins."""
    config = asked(stored / "sub", tmp_path / "out", "png", workers=1)
    asked_before: list[int] = []

    def slow(place: Any) -> Any:
        if not asked_before:
            asked_before.append(1)
            wish = replace(WISH, model_sha256=file_sha256(SHIPPED), shard_frames=config.shard_frames or 0)
            make_plan(place, origins_of(config.sources), wish, SHIPPED, print)
            return None
        return read_plan(place)

    monkeypatch.setattr(driver, "read_plan", slow)
    assert archive(config).state.is_done


# Storages that refuse


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The address of a storage in memory that refuses what is called so."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'edgeseg[s3]'")
    from fsspec.implementations.memory import MemoryFileSystem

    class Refusing(MemoryFileSystem):  # type: ignore[misc, unused-ignore]
        protocol, store, pseudo_dirs, cachable = "refusing", {}, [""], False

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/" + path.replace("refusing://", "").strip("/")

        def ls(self, path: str, detail: bool = True, **more: Any) -> Any:
            if "noaccess" in path:
                raise PermissionError("Access Denied")
            found = super().ls(path, detail, **more)
            return found + [{"name": path, "size": 0, "type": "file"}] if detail else found  # a folder's marker

        def info(self, path: str, **more: Any) -> Any:
            if "denied" in path:
                raise PermissionError("Access Denied")
            return super().info(path, **more)

        def get_file(self, path: str, local: str, **more: Any) -> None:
            if "gone" in path:
                raise FileNotFoundError(path)
            super().get_file(path, local, **more)

    fsspec.register_implementation("refusing", Refusing, clobber=True)
    filesystem = Refusing()
    with (Path(__file__).parents[2] / "jetson/preview.png").open("rb") as file:
        picture = file.read()
    for name in ("a.png", "sub/b.png", "sub/denied.png", "sub/gone.png"):
        filesystem.pipe_file(f"/photos/{name}", picture)
    return filesystem


def test_a_folder_that_cannot_be_listed_is_not_left_out(storage: Any) -> None:
    (origin,) = origins_of(["refusing://photos"])
    assert [one.file.path for one in origin.found()] == ["a.png", "sub/b.png", "sub/denied.png", "sub/gone.png"]
    assert not origin.left_out
    storage.pipe_file("/photos/noaccess/c.png", b"x")
    with pytest.raises(SourceError, match="photos cannot be listed: Access Denied"):
        list(origin.found())


def test_a_file_that_a_storage_refuses_has_failed_if_the_storage_gives_others(storage: Any) -> None:
    place = place_at("refusing://photos")
    (origin,) = origins_of(["refusing://photos"])
    task = Task(0, 0, tuple((one.file, one.whole) for one in origin.found()), False)
    items = {item.name: item for item in Reader(place, "", CaptureOptions()).items(task)}
    assert {name for name, item in items.items() if item.frame is not None} == {"a", "sub/b"}
    assert (items["sub/denied"].error, items["sub/gone"].skipped) == ("Access Denied", "it is not there any more")
    for name in list(storage.store):
        storage.rm_file(name)
    with pytest.raises(SourceError, match="mount it there"):
        list(Reader(place, "", CaptureOptions()).items(task))


def test_a_file_is_made_once_where_the_storage_knows_no_such_mode(storage: Any) -> None:
    def overwritten(path: str, value: bytes, **more: Any) -> None:
        really(path, value)

    place = place_at("refusing://photos")
    assert place.create("new", b"1") and not place.create("new", b"2")
    really, storage.pipe_file = storage.pipe_file, overwritten
    old = place_at("refusing://photos")
    assert old.create("old", b"1") and not old.create("old", b"2")
    assert [place.read(name) for name in ("new", "old")] == [b"1", b"1"]


def test_a_folder_of_a_web_server_is_an_archive(tmp_path: Path) -> None:
    """Its list has names and no sizes, and its names are quoted."""
    pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'edgeseg[s3]'")
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'edgeseg[s3]'")
    import functools
    import http.server
    import threading

    for name in ("a b#.png", "sub/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_png(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (origin,) = origins_of([f"http://127.0.0.1:{server.server_port}"])
        task = Task(0, 0, tuple((one.file, one.whole) for one in origin.found()), False)
        items = list(Reader(place_at(origin.base), "", CaptureOptions()).items(task))
        server.shutdown()
    assert [(item.name, item.frame is not None) for item in items] == [("a%20b%23", True), ("sub/c", True)]
