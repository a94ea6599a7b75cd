"""Class lists as people write them: the ids must be those that were meant, or the list is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.app.data import spec_from
from edgeseg.errors import EdgesegError, UsageError

NAMES = ("ground", "traffic light", "C# part", "Fußgänger")
RIGHT = {
    "plain": "{n}\n",
    "CRLF": "{n}\r\n",
    "indented, with comments": "  {n}  # what {i} is\n\n",
    "id blank name": "{i} {n}\n",
    "id colon name": "{i}: {n}\n",
    "id comma name": "{i},{n}\n",
    "id dot name": "{i}. {n}\n",
    "id in brackets": "({i}) {n}\n",
    "id bar name": "{i} | {n}\n",
    "id dash name": "{i} - {n}\n",
    "name blank id": "{n} {i}\n",
    "name comma id": "{n},{i}\n",
    "name equals id": "{n} = {i}\n",
    "colour": "{n} {i} 20 30\n",
    "tabs": "{n}\t{i}\t20\t30\n",
    "csv with colours": "{n},{i},20,30\n",
    "id and colour": "{i}: {n} {i} 20 30\n",
}
WRONG = {
    "yaml map": "names:\n" + "".join(f"  {i}: {n}\n" for i, n in enumerate(NAMES)),
    "yaml list": "".join(f"- {n}\n" for n in NAMES),
    "json": '["ground", "disc"]\n',
    "csv header": "name,r,g,b\nground,0,0,0\ndisc,9,9,9\n",
    "one line of csv": "ground,disc\n",
    "semicolons": "ground;disc\ncar;sky\n",
    "CVAT labelmap": "# label:color_rgb:parts:actions\nground:0,0,0::\ndisc:255,0,0::\n",
    "labelme labels": "__ignore__\n_background_\ndisc\n",
    "ids from 1": "1 ground\n2 disc\n",
    "an id left out": "0: ground\n2: disc\n",
    "ids in another order": "1: disc\n0: ground\n",
    "void among the ids": "0 ground\n1 disc\n255 void\n",
    "ini": "[classes]\n0=ground\n1=disc\n",
    "xml": "<class>ground</class>\n<class>disc</class>\n",
    "ids from 1 behind the names": "ground 1\ndisc 2\n",
    "ids behind the names in another order": "disc,1\nground,0\n",
    "ids with dots in another order": "1. disc\n0. ground\n",
    "ids in brackets from 1": "(1) ground\n(2) disc\n",
    "a heading": "class\nground\ndisc\n",
    "a heading of two words": "Class Name\nground\ndisc\n",
    "a comment of another language": "// ids\nground\ndisc\n",
    "a list with stars": "* ground\n* disc\n",
    "a table": "| 0 | ground |\n| 1 | disc |\n",
    "terminal escapes": "ground\n\x1b[31mdisc\n",
    "empty": "\n# nothing\n",
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")


@given(form=st.sampled_from(sorted(RIGHT)), encoding=st.sampled_from(ENCODINGS), newline=st.booleans())
def test_every_form_gives_the_same_classes(
    tmp_path_factory: pytest.TempPathFactory, form: str, encoding: str, newline: bool
) -> None:
    text = "".join(RIGHT[form].format(i=i, n=n) for i, n in enumerate(NAMES))
    path = tmp_path_factory.mktemp("c") / "classes.txt"
    path.write_bytes((text if newline else text.rstrip()).encode(encoding))
    spec = spec_from(str(path), "96x64", None)
    assert spec.classes == NAMES
    if "20" in RIGHT[form]:
        assert spec.palette == tuple((i, 20, 30) for i in range(4))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("form", sorted(WRONG))
def test_other_forms_are_refused_with_the_line(tmp_path: Path, form: str, encoding: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(WRONG[form].encode(encoding))
    with pytest.raises(UsageError, match=r"no class|belongs"):
        spec_from(str(path), "96x64", None)


def test_names_may_begin_with_a_number_where_not_all_lines_do(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("2 wheeler\ncar\n")
    assert spec_from(str(tmp_path / "c.txt"), "96x64", None).classes == ("2 wheeler", "car")


def test_names_on_the_command_line() -> None:
    assert spec_from("road,car, sky", "96x64", None).classes == ("road", "car", "sky")
    with pytest.raises(EdgesegError, match="must differ"):
        spec_from("road,road", "96x64", None)
    with pytest.raises(UsageError, match="has an empty name"):
        spec_from("road,,sky", "96x64", None)
    with pytest.raises(UsageError, match=r"names as in road,car,sky, or a text file"):
        spec_from("road", "96x64", None)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_bytes(b"gr\xfcn\nrot\n")
    with pytest.raises(UsageError, match="cannot be read"):
        spec_from(str(tmp_path / "c.txt"), "96x64", None)


@pytest.mark.parametrize("names", [("lane 1", "lane 2"), ("car", "2 wheeler"), ("floor 1", "roof"), ("label", "t 3.5")])
def test_numbers_in_names_are_no_ids(tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "classes.txt").write_text("\n".join(("ground", *names)))
    assert spec_from(str(tmp_path / "classes.txt"), "96x64", None).classes == ("ground", *names)


@pytest.mark.parametrize("letter", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_no_name_is_split_at_a_letter_that_ends_no_line(letter: str, tmp_path: Path) -> None:
    """One name would become two, and shift every id behind it."""
    (tmp_path / "c.txt").write_text(f"ground\ndi{letter}sc\nbox\n", encoding="utf-8")
    with pytest.raises(UsageError, match="line 2: .* is no class name"):
        spec_from(str(tmp_path / "c.txt"), "96x64", None)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_every_system(ends: str, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_bytes(f"ground{ends}disc{ends}{ends}box".encode())
    assert spec_from(str(tmp_path / "c.txt"), "96x64", None).classes == ("ground", "disc", "box")
