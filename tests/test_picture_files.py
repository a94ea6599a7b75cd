"""Folders, patterns and lists of pictures as people have them: which files, in which order, under which names."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.errors import DatasetError, SourceError
from edgeseg.files import path_from_uri
from edgeseg.images import FolderDataset, write_png
from edgeseg.picture_files import image_files, listed_files, pictures_in, pictures_matching, result_names
from edgeseg.runtime.sources import source_from_uri
from tests.runtime.test_sources import frames_of

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
PICTURE = np.full((4, 6, 3), 7, np.uint8)


def touched(folder: Path, *names: str) -> Path:
    """A folder with empty files of these names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


@given(
    numbers=st.lists(st.integers(0, 10**30), min_size=2, max_size=12, unique=True),
    before=st.sampled_from(["", "frame_", "IMG ", "a-1 x", "2024-01-02T"]),
    behind=st.sampled_from(["", "_left", " (copy)"]),
    seed=st.integers(0, 99),
)
def test_pictures_come_in_the_order_of_their_numbers(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], before: str, behind: str, seed: int
) -> None:
    wanted = [f"{before}{number}{behind}.png" for number in sorted(numbers)]
    made = random.Random(seed).sample(wanted, len(wanted))
    folder = touched(tmp_path_factory.mktemp("f"), *made)
    assert [path.name for path in image_files(folder)] == wanted
    assert [path.name for path in pictures_matching(folder / "*.png").files] == wanted


@given(st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=8, unique=True))
def test_names_of_any_bytes_have_an_order(tmp_path_factory: pytest.TempPathFactory, names: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("f")
    names = [name for name in names if not set(name) & set(b"/\0") and not name.startswith(b".")]
    for name in names:
        Path(os.fsdecode(os.fsencode(folder) + b"/x" + name + b".jpg")).write_bytes(b"")
    assert len(pictures_in(folder).files) == len(names)


def test_folders_are_sorted_before_their_files_and_case_does_not_count(tmp_path: Path) -> None:
    touched(tmp_path, "cam10/1.png", "cam2/10.png", "cam2/9.png", "cam2/B1.png", "cam2/a2.png", "cam2/007.png")
    found = pictures_matching(tmp_path / "**" / "*.png").files
    assert ["/".join(path.parts[-2:]) for path in found] == [
        *("cam2/007.png", "cam2/9.png", "cam2/10.png", "cam2/a2.png", "cam2/B1.png", "cam10/1.png")
    ]


def test_what_systems_and_people_leave_beside_pictures_is_left_out_and_said(tmp_path: Path) -> None:
    write_png(tmp_path / "2.png", PICTURE)
    write_png(tmp_path / "10.png", PICTURE)
    touched(
        tmp_path, "._2.png", ".DS_Store", "Thumbs.db", "desktop.ini", "@eaDir/2.png", "__MACOSX/._2.png", "notes.txt"
    )
    touched(tmp_path, "a.heic", "b.HEIC", "loop.gif")
    (tmp_path / "album.png").mkdir()
    source = source_from_uri(str(tmp_path))
    said = "(6 hidden files, 1 .gif file, 2 .heic files, 1 .png file left out)"
    assert source.description == f"2 images in {tmp_path} {said}"
    assert [frame.name for frame in frames_of(source)] == ["2", "10"]
    assert FolderDataset(tmp_path).description.endswith(said) and len(FolderDataset(tmp_path)) == 2
    deep = source_from_uri(str(tmp_path / "**" / "*.png"))
    assert [frame.name for frame in frames_of(deep)] == ["2", "10"] and "left out" in deep.description
    (tmp_path / "2.png").unlink()
    (tmp_path / "10.png").unlink()
    with pytest.raises(DatasetError, match=r"holds no images .*\(6 hidden files, 1 \.gif"):
        source_from_uri(str(tmp_path))


@pytest.mark.parametrize("name", ["a[1]", "50%", "12:30:00", "what?", "all*", "{x}", "[ab]", "c:", "%20", "a#b", "~"])
def test_what_is_there_under_the_literal_name_goes_first(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    for number in (1, 2, 10):
        touched(folder)
        folder.mkdir(exist_ok=True)
        write_png(folder / f"{name}{number}.png", PICTURE)
    for decoy in ("a1", "allof", "what1", "a", "b", " "):  # what the signs would mean
        (tmp_path / decoy).mkdir(exist_ok=True)
        write_png(tmp_path / decoy / "decoy.png", PICTURE)
    wanted = [f"{name}{number}" for number in (1, 2, 10)]
    for uri in (str(folder), f"{folder}/*.png", f"file://{folder}"):
        assert [frame.name for frame in frames_of(source_from_uri(uri))] == wanted, uri
    for uri in (f"{folder}/{name}2.png", f"file://{folder}/{name}2.png"):
        assert [frame.name for frame in frames_of(source_from_uri(uri))] == [f"{name}2"], uri
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert [frame.name for frame in frames_of(source_from_uri(f"{name}/*.png"))] == wanted
        if name.endswith(":"):
            assert [frame.name for frame in frames_of(source_from_uri(f"{name}//{name}1.png"))] == [f"{name}1"]


def test_an_escaped_address_of_a_file_is_unescaped(tmp_path: Path) -> None:
    write_png(tmp_path / "my holiday.png", PICTURE)
    assert path_from_uri(f"file://{tmp_path}/my%20holiday.png") == tmp_path / "my holiday.png"
    write_png(tmp_path / "my%20holiday.png", PICTURE)
    assert path_from_uri(f"file://{tmp_path}/my%20holiday.png").name == "my%20holiday.png"


LINES = st.lists(NAMES.map(lambda name: f"x{name.replace(chr(10), '_').replace(chr(13), '_')}y.png"), max_size=6)


@given(
    names=LINES,
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n"]),
    between=st.sampled_from(["", "# a comment", "   ", "\t"]),
    around=st.sampled_from(["", " ", '"', "'"]),
)
def test_lists_in_every_form(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], encoding: str, end: str, between: str, around: str
) -> None:
    folder = tmp_path_factory.mktemp("l")
    touched(folder, *names)
    lines = [line for name in names for line in (between, f"{around}{name}{around}")]
    (folder / "list.txt").write_bytes(end.join([*lines, ""]).encode(encoding))
    assert listed_files(folder / "list.txt") == [folder / name for name in names]


def test_lists_quote_the_shortest_names(tmp_path: Path) -> None:
    touched(tmp_path, "a")
    (tmp_path / "list.txt").write_text("\"a\"\n'a'\n\"a'\n''\n")
    assert [path.name for path in listed_files(tmp_path / "list.txt")] == ["a", "a", "\"a'", "''"]


def test_lists_name_files_of_any_bytes_and_ones_that_look_like_comments(tmp_path: Path) -> None:
    for name in (b"Stra\xdfe.png", b"#1.png", b" 2.png", b'"3".png'):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"")
    (tmp_path / "list.txt").write_bytes(b'Stra\xdfe.png\n#1.png\n# not there\n 2.png\n"3".png\n')
    assert [os.fsencode(path.name) for path in listed_files(tmp_path / "list.txt")] == [
        *(b"Stra\xdfe.png", b"#1.png", b" 2.png", b'"3".png')
    ]
    (tmp_path / "list.txt").write_bytes(b"\xff\xfea")
    with pytest.raises(SourceError, match="cannot be read as a list"):
        source_from_uri(str(tmp_path / "list.txt"))
    (tmp_path / "list.txt").write_text("x" * 300 + ".png\n")
    with pytest.raises(SourceError, match="1 of 1 images are not there"):
        source_from_uri(str(tmp_path / "list.txt"))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b/a", "a/b", "cam1", "cam2"]),
            st.sampled_from(["f0", "F0", "f0.png", "f0-1", "f0-2", "a_f0", "cam1_f0", "x" * 240]),
            st.sampled_from([".png", ".jpg", ".JPG", ".tif"]),
        ),
        max_size=14,
    )
)
def test_no_two_files_share_a_result(parts: list[tuple[str, str, str]]) -> None:
    files = [Path(folder, stem + suffix) for folder, stem, suffix in parts]
    names = result_names(files)
    assert len({name.casefold() for name in names}) == len(files)
    assert all(len(f"{name}.png") < 255 and "/" not in name for name in names)
    stems = [path.stem.casefold() for path in files]
    for path, name in zip(files, names):
        assert stems.count(path.stem.casefold()) > 1 or name == path.stem, "a name of its own is kept"


def test_names_that_files_share_say_what_tells_them_apart() -> None:
    assert result_names([Path("f0.png"), Path("f0.jpg"), Path("f1.jpg")]) == ["f0.png", "f0.jpg", "f1"]
    assert result_names([Path("d/cam1/f0.png"), Path("d/cam2/f0.png")]) == ["cam1_f0", "cam2_f0"]
    assert result_names([Path("f0.png"), Path("f0.png")]) == ["f0.png", "f0.png-2"]
    assert result_names([Path("a.jpg"), Path("a.png"), Path("A.png")]) == ["a.jpg", "a.png", "A.png-2"]
