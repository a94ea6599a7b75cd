"""Plans: what is found, in what order, and how it becomes tasks."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest

from edgeseg.app.shipped import SHIPPED
from edgeseg.archive.listing import Found, Origin, origins_of
from edgeseg.archive.places import LocalPlace, Stored, place_at
from edgeseg.archive.plan import Task, Wish, make_plan, read_plan
from edgeseg.archive.reading import Reader
from edgeseg.errors import InputError, SourceError
from edgeseg.runtime.gst.pipelines import CaptureOptions

WISH = Wish("0" * 64, "street.edgeseg", "", "png", 3)


def found_in(*sources: Path | str) -> list[str]:
    return [one.file.path for origin in origins_of([str(source) for source in sources]) for one in origin.found()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/2.jpg", "b/10.png", "a/1.TIF", "z.mp4", ".hidden/1.png", "b/Thumbs.db", "c.gif", "b/.x.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "in")
    return tmp_path / "in"


def test_a_folder_is_listed_at_any_depth_and_says_what_it_leaves_out(folder: Path) -> None:
    (origin,) = origins_of([str(folder)])
    assert [one.file.path for one in origin.found()] == ["z.mp4", "a/1.TIF", "b/10.png", "b/2.jpg"]
    assert origin.left_out == {".gif": 1, "hidden": 3, "linked folder": 1}


def test_globs_files_and_lists(folder: Path) -> None:
    assert found_in(folder / "b" / "*.jpg") == ["2.jpg"]
    assert found_in(folder / "**" / "*.jpg", folder / "z.mp4") == ["b/2.jpg", "z.mp4"]
    (folder / "list.txt").write_text("b/2.jpg\na/1.TIF\nb/2.jpg\n")
    assert found_in(folder / "list.txt") == ["a/1.TIF", "b/2.jpg"]
    (folder / "list.txt").write_text("b/none.jpg\n")
    with pytest.raises(SourceError, match=r"none.jpg is not there"):
        found_in(folder / "list.txt")
    with pytest.raises(SourceError, match="neither an image nor a video"):
        found_in(folder / "c.gif")


def test_pictures_that_share_a_stem_are_called_by_their_whole_names(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/1.png", "a/2.png", "b/1.jpg", "b/1.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (origin,) = origins_of([str(tmp_path)])
    whole = {one.file.path for one in origin.found() if one.whole}
    assert whole == {"a/1.jpg", "a/1.png", "a/2.png"}


class Many(Origin):
    """Files that need no disk."""

    count = 0

    def found(self) -> Iterator[Found]:
        for index in range(self.count):
            yield Found(Stored(f"{index}.png", index, 7), False, False)


def test_a_plan_is_read_as_it_was_made_and_is_made_once(tmp_path: Path, folder: Path) -> None:
    place = place_at(str(tmp_path / "out"))
    plan = make_plan(place, origins_of([str(folder)]), WISH, SHIPPED, print)
    assert (plan.tasks, plan.pictures, plan.videos, plan.bytes) == (2, 3, 1, 4)
    tasks = list(plan.all_tasks(place))
    assert [task.is_video for task in tasks] == [True, False] and [len(task.files) for task in tasks] == [1, 3]
    assert all(Task.from_line(task.line()) == task for task in tasks)
    (folder / "new.png").write_bytes(b"x")
    assert make_plan(place, origins_of([str(folder)]), WISH, SHIPPED, print) == plan == read_plan(place)
    (tmp_path / "out" / plan.lines).write_bytes(tasks[0].line())
    with pytest.raises(InputError, match="has 1 of 2 tasks"):
        list(plan.all_tasks(place))


def test_names_of_any_bytes_are_planned(tmp_path: Path) -> None:
    name = b"caf\xe9 \n.png"
    (tmp_path / "in").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name)).write_bytes(b"x")
    place = place_at(str(tmp_path / "out"))
    plan = make_plan(place, origins_of([str(tmp_path / "in")]), WISH, SHIPPED, print)
    assert [os.fsencode(file.path) for task in plan.all_tasks(place) for file, _ in task.files] == [name]


def test_tasks_are_made_one_by_one(tmp_path: Path) -> None:
    place = place_at(str(tmp_path / "out"))
    origin = Many("many", str(tmp_path))
    origin.count = 10
    plan = make_plan(place, [origin], WISH, SHIPPED, print)
    assert [len(task.files) for task in plan.all_tasks(place)] == [3, 3, 3, 1]


class Odd(LocalPlace):
    """A place whose files a decoder does not take as any decoder should."""

    @contextmanager
    def file(self, path: str) -> Iterator[Path]:
        class Unreadable(type(Path())):  # type: ignore[misc]
            def read_bytes(self) -> bytes:
                raise RuntimeError("of a decoder\nwith lines")

        yield Unreadable(self.place, path) if path == "b/10.png" else Path(self.place, path)


def test_what_no_decoder_should_do_is_one_frame_that_failed(folder: Path) -> None:
    place = Odd(str(folder))
    files = tuple((file, False) for files in LocalPlace(str(folder)).walk() for file in files if "b/" in file.path)
    items = list(Reader(place, "", CaptureOptions()).items(Task(0, 0, files, False)))
    why = {item.name: item.error for item in items}
    assert why["b/10"] == "RuntimeError: of a decoder" and "cannot be decoded" in why["b/2"]


@pytest.mark.parametrize("text", [b"[]", b"{", b'{"edgeseg_archive": 2}', b'{"edgeseg_archive": 1, "sources": 3}'])
def test_a_plan_that_is_none_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "plan.json").write_bytes(text)
    with pytest.raises(InputError, match=r"plan.json"):
        read_plan(place_at(str(tmp_path)))
