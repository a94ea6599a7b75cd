# ruff: noqa: UP045 -- fields are evaluated, on Python 3.8 too
from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional, Sequence

import pytest

from edgeseg.app.compile_config import CompileConfig
from edgeseg.app.config import RunConfig
from edgeseg.app.config_file import (
    config_from_tree,
    read_config,
    read_values,
    save_config,
    text_of_config,
    tree_of,
    write_config,
)
from edgeseg.app.fields import (
    Config,
    Field,
    absolute,
    config_with,
    fields_of,
    has_secrets,
    option,
    overridden,
    value_of,
)
from edgeseg.app.train_config import TrainConfig
from edgeseg.credentials import has_credentials
from edgeseg.errors import InputError, UsageError


@dataclass(frozen=True)
class Part(Config):
    rate: float = option(0.0, help="Frames per second.", at_least=0)
    flip: str = option("none", help="How.", choices=("none", "rotate-90"))
    files: Sequence[Path] = option((), help="Files.", is_path=True)


@dataclass(frozen=True)
class Whole(Config):
    name: str = option(help="Of the whole.")
    model: Optional[Path] = option(None, help="A bundle.", is_path=True)
    sources: Sequence[str] = option((), help="Where from.", is_secret=has_credentials)
    camera: Optional[int] = option(None, help="Number.", at_least=0, at_most=9, replaces=("sources",))
    token: str = option("", help="Secret.", is_secret=True)
    fast: bool = option(False, help="Whether.")
    place: Path = option(Path("place"), help="Where.", is_path=True)
    hooks: Sequence[str] = option(
        (), help="Called.", flag="--on-hook", is_path=True, is_secret=lambda text: text.startswith("http:")
    )
    part: Part = Part()


FULL = Whole(
    "a\x7f\u2028\"\\\n'é",
    model=Path("m.edgeseg"),
    sources=["rtsp://me:pw@h/a", "x" * 90],
    camera=3,
    token="t",
    fast=True,
    part=Part(rate=2.5, flip="rotate-90", files=[Path("a"), Path("b c")]),
)


@pytest.mark.parametrize("suffix", [".toml", ".json"])
@pytest.mark.parametrize("config", [FULL, Whole("a"), Whole("a", part=Part(rate=1e-9))])
def test_what_is_written_reads_back_equal(tmp_path: Path, suffix: str, config: Whole) -> None:
    path = tmp_path / f"c{suffix}"
    write_config(config, path)
    assert read_config(Whole, path) == config
    assert hash(config) == hash(read_config(Whole, path))


def test_only_what_differs_is_written() -> None:
    assert tree_of(Whole("a")) == {"name": "a"}
    assert json.loads(text_of_config(replace(FULL, name="x"), ".json"))["part"] == {
        "rate": 2.5,
        "flip": "rotate-90",
        "files": ["a", "b c"],
    }


def test_files_are_made_for_people() -> None:
    assert text_of_config(Whole("é", fast=True), ".toml") == 'name = "é"\nfast = true\n'
    assert text_of_config(Whole("a"), ".json") == '{\n "name": "a"\n}\n'
    for letters, lines in ((95, 2), (96, 4)):  # a list of up to 99 characters stays on its line
        assert text_of_config(Whole("a", sources=["x" * letters]), ".toml").count("\n") == lines


def test_saving_replaces_what_is_empty_or_was_saved_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    assert save_config(Whole("a"), path) == f"wrote {path}"
    assert "only you can read it (mode 600)" in save_config(replace(FULL, name="b"), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and read_config(Whole, path).name == "b"
    path.write_text("")
    save_config(Whole("c"), path)
    assert read_config(Whole, path) == Whole("c")
    for foreign in ("not = 'ours'", "name = 3", "{"):
        path.write_text(foreign)
        with pytest.raises(UsageError, match="exists and is not as edgeseg wrote it"):
            save_config(Whole("d"), path)
        assert path.read_text() == foreign
    (tmp_path / "d.toml").mkdir()
    with pytest.raises(UsageError, match="is not a file and is not replaced"):
        save_config(Whole("d"), tmp_path / "d.toml")


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_has_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "c.toml"
    write_config(Whole("a"), path, mode=mode)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nam = 'a'", "there is no field 'nam'; did you mean 'name'?"),
        ("name = 'a'\nrate = 1", "there is no field 'rate'; did you mean 'part.rate'?"),
        ("name = 'a'\nzzzzz = 1", "there is no field 'zzzzz'; there are name, model, "),
        ("name = 'a'\npart = 3", "'part' is a table of fields, [part]"),
        ("name = 1", "'name' is a text, got 1"),
        ("fast = true", "`name` is missing; it is a text: Of the whole."),
        ("name = 'a'\nfast = 1", "'fast' is true or false, got 1"),
        ("name = 'a'\ncamera = 1.5", "'camera' is a whole number from 0 to 9, got 1.5"),
        ("name = 'a'\ncamera = true", "'camera' is a whole number from 0 to 9, got True"),
        ("name = 'a'\ncamera = 10", "'camera' is a whole number from 0 to 9, got 10"),
        ("name = 'a'\nsources = 'x'", "'sources' is a list, of each item: a text, got 'x'"),
        ("name = 'a'\nsources = [3]", "'sources' is a list, of each item: a text, got 3"),
        ("name = 'a'\nsources = [['rtsp://a:pw@h']]", "of each item: a text, got ***"),
        ("name = 'a'\ntoken = 12345", "'token' is a text, got ***"),
        ("name = 'a'\n[part]\nrate = -1", "'part.rate' is a number of at least 0, got -1"),
        ("name = 'a'\n[part]\nrate = nan", "'part.rate' is a number of at least 0, got nan"),
        ("name = 'a'\n[part]\nflip = 'up'", "'part.flip' is one of none, rotate-90, got 'up'"),
        ("name = 'a'\n[part]\nrate = inf", "'part.rate' is a number of at least 0, got inf"),
        (f"name = 'a'\n[part]\nrate = {'9' * 400}", "'part.rate' is a number of at least 0, got 999"),
        ("name = 'a'\n[part.rate]\nx = 1", "'part.rate' is a number of at least 0, got {'x': 1}"),
        ("name = 'a'\n[[part]]\nrate = 1", "'part' is a table of fields, [part]"),
        ("name = 'a'\n'part.rate' = 1", "there is no field 'part.rate'; 'rate' stands in the table 'part'"),
        ("name = 'a'\n'on-hook' = []", "there is no field 'on-hook'; did you mean 'hooks'?"),
        ("name = 'a'\nhooks = 'http://h/pw'", "'hooks' is a list, of each item: a text, got ***"),
        ("name = 'a'\nhooks = [{a = ['http://h/pw']}]", "a text, got ***"),
        ("name = 'a'\nhooks = 3", "'hooks' is a list, of each item: a text, got 3"),
        ('name = "a\\u0000"', "'name' holds a NUL or half a character"),
        ("name = 'a'\nmodel = ''", "'model' is empty"),
        ("name = 'a'\nmodel = '~/a'", "'model' is '~/a', and only shells know the folder ~; write it out"),
        ("name = 'a'\nhooks = ['file:~/a']", "'hooks' is 'file:~/a', and only shells"),
        ("name = 'a'\nhooks = ['jsonl://~/a']", "'hooks' is 'jsonl://~/a', and only shells"),
        ("name = 'a'\nname = 'b'", "is no TOML: "),
        ("name = ", "is no TOML: "),
    ],
)
def test_a_wrong_file_is_one_line_that_names_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_config(Whole, path)
    said = str(caught.value)
    assert message in said and str(path) in said and "\n" not in said and "pw" not in said


@pytest.mark.parametrize(
    "text", ["[]", "{", "3", "[" * 100_000, '{"name": "a", "name": "b"}', '{"a": 1' + "0" * 5000 + "}"]
)
def test_json_that_is_no_configuration(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="wrong.json is"):
        read_config(Whole, path)


def test_json_that_says_something_twice_is_told_what(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"name": "a", "part": {"rate": 1, "flip": "none", "flip": "rotate-90"}}')
    with pytest.raises(UsageError, match="c.json is no JSON: 'flip' is given twice"):
        read_config(Whole, tmp_path / "c.json")


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    for path, data in ((tmp_path / "gone.toml", None), (tmp_path / "bytes.toml", b"\xff"), (tmp_path, None)):
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(InputError, match="cannot be read as a configuration"):
            read_config(Whole, path)
    with pytest.raises(InputError, match="cannot be written"):
        write_config(FULL, tmp_path / "none/c.toml")
    with pytest.raises(UsageError, match="ends in .toml or .json"):
        write_config(FULL, tmp_path / "c.yaml")
    with pytest.raises(UsageError, match="`name` is no UTF-8"):
        text_of_config(Whole("\udc80"), ".toml")
    assert config_from_tree(Whole, json.loads(text_of_config(Whole("\udc80"), ".json")), "x").name == "\udc80"


@pytest.mark.parametrize(
    "values", [{"rate": -1}, {"rate": float("nan")}, {"flip": "up"}, {"rate": "1"}, {"rate": True}, {"files": "a"}]
)
def test_python_is_told_the_field(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"`{next(iter(values))}` is "):
        Part(**values)


def test_bounds_are_allowed() -> None:
    assert Part(rate=0).rate == 0 and [Whole("a", camera=number).camera for number in (0, 9, None)] == [0, 9, None]
    with pytest.raises(UsageError, match="`camera` is a whole number from 0 to 9, got -1"):
        Whole("a", camera=-1)


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbfname = 'a'\r\n", "name = 'a'".encode("utf-16")], ids=["UTF-8", "UTF-16"]
)
def test_files_of_windows_are_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "c.TOML"
    path.write_bytes(data)
    assert read_config(Whole, path) == Whole("a")
    (tmp_path / "c.json").write_bytes(b'\xef\xbb\xbf{"name": "a"}')
    assert read_config(Whole, tmp_path / "c.json") == Whole("a")


def test_a_file_without_an_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    (tmp_path / "large.toml").write_text("# " + "a" * (1 << 20))
    for name, why in (("pipe", "it is no file"), ("zero", "it is no file"), ("large", "it is larger than 1 MiB")):
        with pytest.raises(InputError, match=why):
            read_config(Whole, tmp_path / f"{name}.toml")


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_only_what_was_saved_and_not_edited_is_replaced(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"c{suffix}"
    path.touch()
    for config, mode in ((replace(FULL, name="x"), 0o600), (Whole("b"), 0o644)):
        before = os.umask(0o022)
        try:
            said = save_config(config, path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == mode and ("secrets" in said) == (mode == 0o600)
        assert read_config(Whole, path) == config
    edited = f"{path.read_text()}\n"
    for text in (edited, "# mine\n" if suffix == ".toml" else "{}", "nothing of ours"):
        path.write_text(text)
        with pytest.raises(UsageError, match="is not replaced"):
            save_config(Whole("c"), path)
        assert path.read_text() == text
    os.mkfifo(tmp_path / f"pipe{suffix}")
    with pytest.raises(UsageError, match="is not a file and is not replaced"):
        save_config(Whole("c"), tmp_path / f"pipe{suffix}")
    assert sorted(one.name for one in tmp_path.iterdir()) == [path.name, f"pipe{suffix}"], "and nothing is left behind"


def test_a_file_need_not_be_whole_for_a_command(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("camera = 2\n[part]\nrate = 3\n")
    assert read_values(Whole, path) == {"camera": 2, "rate": 3.0}
    with pytest.raises(UsageError, match="c.toml: `name` is missing"):
        read_config(Whole, path)


def test_values_take_the_type_of_their_field() -> None:
    assert Whole("a", model="m").model == Path("m")  # type: ignore[arg-type]
    part = Part(rate=2, files=["a"])  # type: ignore[list-item]
    assert isinstance(part.rate, float) and part.files == (Path("a"),)


def test_one_field_replaces_another_when_it_is_given() -> None:
    base = {"name": "a", "sources": ["demo://street"]}
    assert overridden(Whole, base, {"camera": 1}) == {"name": "a", "camera": 1}
    assert overridden(Whole, base, {"camera": 1, "sources": ["b"]}) == {"name": "a", "camera": 1, "sources": ["b"]}
    assert config_with(Whole, overridden(Whole, base, {"rate": 3.0})) == Whole(
        "a", sources=["demo://street"], part=Part(rate=3.0)
    )


def test_secrets_and_paths_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_secrets(FULL) and has_secrets(Whole("a", token="x"))
    assert has_secrets(Whole("a", sources=["rtsp://me:pw@h/a"]))
    assert not has_secrets(Whole("rtsp://me:pw@h/a", sources=["demo://street"]))
    monkeypatch.chdir(tmp_path)
    moved = absolute(FULL)
    assert moved.model == tmp_path / "m.edgeseg" and moved.part.files == (tmp_path / "a", tmp_path / "b c")
    assert (moved.name, moved.sources) == (FULL.name, FULL.sources) and absolute(Whole("a")) == Whole("a")
    assert absolute(Whole("a"), ["place"]).place == tmp_path / "place", "given, though as the default"


def test_fields_are_listed_with_those_of_parts() -> None:
    fields = fields_of(Whole)
    assert [field.key for field in fields][-3:] == ["part.rate", "part.flip", "part.files"]
    assert {field.name: field.flag for field in fields}["rate"] == "--rate"


def _other(field: Field) -> Any:
    """A value of a field that is not its default."""
    about = field.about
    if about.choices:
        value: Any = next(one for one in about.choices if one != field.default)
    elif field.kind is bool:
        value = not field.default
    elif field.kind in (int, float):
        least = 0 if about.at_least is None else about.at_least
        value = field.kind(least + 1 if about.at_most is None else min(least + 1, about.at_most))
        value = value if value != field.default else field.kind(least)
    else:
        value = field.kind("rtsp://me:p'w\"@h/\u00e9\u2028 #\\" if field.kind is str else "a b/\u00e9#'\"")
    return (value, value) if field.is_many else value


@pytest.mark.parametrize("suffix", [".toml", ".json"])
@pytest.mark.parametrize("kind", [RunConfig, CompileConfig, TrainConfig])
def test_every_field_of_every_command_is_saved_and_read_as_it_was(
    kind: type[Config], suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"all{suffix}"
    config = config_with(kind, {field.name: _other(field) for field in fields_of(kind)})
    assert all(value_of(config, field) != field.default for field in fields_of(kind))
    save_config(config, path)
    assert read_config(kind, path) == config
    if has_secrets(config):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
