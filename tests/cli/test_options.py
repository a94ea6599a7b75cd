# ruff: noqa: UP045 -- fields are evaluated, on Python 3.8 too
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence

import pytest
import typer
from typer.testing import CliRunner

from edgeseg.app.bench_config import BenchConfig
from edgeseg.app.compile_config import CompileConfig
from edgeseg.app.config import RunConfig
from edgeseg.app.fields import Config, fields_of, option
from edgeseg.app.train_config import TrainConfig
from edgeseg.cli.console import Commands, JsonFlag, say
from edgeseg.cli.main import command_line
from edgeseg.cli.options import command, given_in
from edgeseg.errors import UsageError


@dataclass(frozen=True)
class Part(Config):
    rate: float = option(0.0, help="Frames per second.", at_least=0, panel="Sources")
    colour: str = option("red", help="Which.", choices=("red", "dark-blue"))


@dataclass(frozen=True)
class Whole(Config):
    needed: str = option(help="Must be there.")
    model: Optional[Path] = option(None, help="A bundle.", is_argument=True)
    sources: Sequence[str] = option((), help="Where from.", flag="--source", short="-s")
    mixed: bool = option(True, help="Whether.")
    fast: bool = option(False, help="Whether.")
    depth: Optional[int] = option(None, help="How deep.", variable="OPTIONS_TEST_DEPTH")
    part: Part = Part()


def outcome(*words: str, **environment: str) -> tuple[Any, Any]:
    """What a command of ``Whole`` got, and the whole result."""
    got: list[Any] = []

    def work(config: Whole, context: typer.Context, as_json: JsonFlag = False) -> None:
        """Work."""
        got.extend([config, as_json, set(given_in(context))])
        say("`sources` and `mixed` and `model` and `part.rate` and `nothing`")

    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
    app.command("work")(command(Whole, work, file_in="model"))
    app.command("other")(lambda: say("`sources`"))
    return got, CliRunner().invoke(app, list(words), env=environment)


def test_options_become_fields() -> None:
    words = ["work", "m", "--needed", "a", "-s", "b", "--source", "c", "--no-mixed", "--rate", "2", "--colour"]
    got, done = outcome(*words, "dark-blue", "--json", OPTIONS_TEST_DEPTH="3")
    want = Whole("a", model=Path("m"), sources=["b", "c"], mixed=False, depth=3, part=Part(2.0, "dark-blue"))
    assert got[:2] == [want, True], done.output
    assert got[2] == {"model", "needed", "sources", "mixed", "rate", "colour", "as_json", "depth"}


def test_what_is_printed_names_the_flags_of_the_command() -> None:
    assert (
        outcome("work", "--needed", "a")[1].output == "--source and --mixed and MODEL and `part.rate` and `nothing`\n"
    )
    assert outcome("other")[1].output == "`sources`\n"


def test_a_file_stands_where_the_model_does_and_options_override_it(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("needed = 'a'\nmodel = 'm'\nsources = ['x', 'y']\nmixed = false\n[part]\nrate = 3\n")
    kept = Whole("a", model=Path("m"), sources=["x", "y"], mixed=False, part=Part(3.0))
    assert outcome("work", str(path))[0][0] == kept
    got, _ = outcome("work", str(path), "--rate", "0", "--source", "z", OPTIONS_TEST_DEPTH="1")
    assert got[0] == Whole("a", model=Path("m"), sources=["z"], mixed=False, depth=1)


@dataclass(frozen=True)
class Several(Config):
    data: Sequence[str] = option(help="Some.", is_argument=True)
    depth: int = option(1, help="How deep.")


def test_what_stands_behind_a_file_takes_the_place_of_its_value(tmp_path: Path) -> None:
    path, got = tmp_path / "c.toml", []
    path.write_text("data = ['a', 'b']\ndepth = 3\n")
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command(Several, got.append, file_in="data"))
    for words in ([], ["c"], ["c", "d", "--depth", "4"]):
        assert CliRunner().invoke(app, [str(path), *words]).exit_code == 0
    assert got == [Several(("a", "b"), 3), Several(("c",), 3), Several(("c", "d"), 4)]


def test_options_turn_off_what_a_file_turns_on_and_give_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("fast = true\n")
    assert outcome("work", str(path), "--needed", "a")[0][0] == Whole("a", fast=True)
    assert outcome("work", str(path), "--needed", "a", "--no-fast", "--mixed")[0][0] == Whole("a")
    got, done = outcome("work", str(path))
    assert not got and "`needed` is missing" in str(done.exception)


def _commands(group: Any, name: str = "edgeseg") -> Iterator[tuple[str, Any]]:
    yield name, group
    for word, inner in getattr(group, "commands", {}).items():
        if not inner.hidden:
            yield from _commands(inner, f"{name} {word}")


def test_every_option_of_every_command_is_one_and_has_one_line_of_help() -> None:
    found = list(_commands(command_line()))
    assert len(found) > 15
    for name, one in found:
        words = [word for known in one.params for word in (*known.opts, *known.secondary_opts)]
        assert len(words) == len(set(words)), (name, words)
        for known in one.params:
            said = getattr(known, "help", None)
            assert said and said == said.strip() and "\n" not in said, f"{name}: {known.name}"


@pytest.mark.parametrize("kind", [BenchConfig, CompileConfig, RunConfig, TrainConfig])
def test_every_field_has_a_name_of_its_own(kind: type[Config]) -> None:
    """So that a message needs no more than the name, and options of parts can stand side by side."""
    names = [field.name for field in fields_of(kind)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["work"], "`needed` is missing"),
        (["work", "none.toml", "--needed", "a"], "none.toml cannot be read"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], message: str) -> None:
    got, done = outcome(*words)
    assert not got and message in str(done.exception)


@pytest.mark.parametrize("words", [["--rate", "-1"], ["--colour", "green"], ["--depth", "x"], ["--sources", "x"]])
def test_typer_refuses_what_it_can(words: list[str]) -> None:
    got, done = outcome("work", "--needed", "a", *words)
    assert not got and done.exit_code == 2 and not isinstance(done.exception, UsageError)
