"""Every command line of edgeseg on a page, in a help text or in a message can be typed: its options are there."""

from __future__ import annotations

import re
from typing import Any, Iterator, Sequence

import pytest

from edgeseg.cli.main import command_line
from edgeseg.cli.service import service_config
from tests.pages import ROOT, Page, pages, simple_commands

PACKAGE = ROOT / "edgeseg"
OUTPUT = re.compile(r"edgeseg (\d|TensorRT)")
"""What edgeseg printed, shown in a block of a benchmark."""
OTHERS = {
    # docker, nvidia-container-runtime, pip, pytest, venv, gst, nvpmodel ...
    *(
        "--runtime",
        "--device",
        "--build-arg",
        "--shm-size",
        "--system",
        "--shell",
        "--no-build-isolation",
        "--no-deps",
        "--force-reinstall",
    ),
    *("--system-site-packages", "--upgrade", "--reinstall", "--constraint", "--no-index", "--find-links"),
}


@pytest.fixture(autouse=True)
def whole_clone() -> None:
    if not (ROOT / "jetson").is_dir() or not (ROOT / "README.md").is_file():
        pytest.skip("the pages are not beside tests/: only in a whole clone")


def of_edgeseg(line: str) -> Iterator[list[str]]:
    """The arguments of each call of edgeseg in a line."""
    if not re.search(r"(^|[;&|=] |sudo )\s*(\S*/)?edgeseg\s", line):
        return
    for words in simple_commands(line):
        words = words[1:] if words[:1] == ["sudo"] else words
        if words and re.fullmatch(r"(\S*/)?edgeseg", words[0]):
            yield words[1:]


def command_of(words: Sequence[str]) -> Any:
    """(command, its name, what follows). Raises AssertionError: there is no such command."""
    command, names, rest = command_line(), ["edgeseg"], list(words)
    while hasattr(command, "commands") and rest:
        if rest[0] not in command.commands and hasattr(command, "default"):
            rest.insert(0, command.default)
        if rest[0].startswith("-"):
            break
        assert rest[0] in command.commands, f"no command {' '.join([*names, rest[0]])}"
        command = command.commands[rest[0]]
        names.append(rest.pop(0))
    return command, " ".join(names), rest


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


def require_whole(words: Sequence[str]) -> None:
    """Let the command line parse as it stands."""
    command, name, rest = command_of(words)
    if hasattr(command, "commands"):
        assert not rest or set(rest) <= options(command), f"{name} has no {rest}"
        return
    command.make_context(name, list(rest))
    if name == "edgeseg service install":
        service_config(rest[rest.index("--") + 1 :])


def require_options(words: Sequence[str]) -> None:
    """A fragment: the command and each option named are there."""
    words = list(words)
    if "--" in words:  # what a service runs
        require_options(["run", *words[words.index("--") + 1 :]])
        words = words[: words.index("--")]
    command, name, rest = command_of(words)
    named = {word.split("=")[0] for word in rest if re.match(r"-\w$|--\w", word)}
    assert named <= options(command), f"{name} has no {sorted(named - options(command))}"


def everything() -> set[str]:
    """Every option of every command, and of the scripts in jetson/."""

    def walk(command: Any) -> Iterator[str]:
        yield from options(command)
        for inner in getattr(command, "commands", {}).values():
            yield from walk(inner)

    scripts = [*(ROOT / "jetson").rglob("*.sh"), *(ROOT / "jetson").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    scripts += [*(ROOT / "calibration").glob("*.py"), ROOT / "tests/device/take.py"]
    texts = "".join(path.read_text() for path in scripts)
    return set(walk(command_line())) | set(re.findall(r"--[a-z0-9-]+", texts)) | OTHERS


def test_command_lines_in_blocks_parse() -> None:
    count = 0
    for one in pages():
        for line in one.lines:
            if OUTPUT.match(line):
                continue
            for words in of_edgeseg(line):
                count += 1
                try:
                    require_whole(words)
                except Exception as error:
                    said = error.format_message() if hasattr(error, "format_message") else error
                    raise AssertionError(f"{one.name}: {line}: {said}") from error
    assert count > 20


def spans_of_edgeseg(one: Page) -> Iterator[list[str]]:
    for span in one.spans:
        if re.match(r"(sudo )?(\S*/)?edgeseg [a-z-]", span) and " | " not in span:
            yield from of_edgeseg(span)


def test_commands_in_the_text_have_their_options() -> None:
    count = 0
    for one in pages():
        for words in spans_of_edgeseg(one):
            count += 1
            require_options(words)
    assert count > 40


def test_options_named_in_the_text_exist() -> None:
    known = everything()
    for one in pages():
        for span in one.spans:
            for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", span):
                assert option in known, f"{one.name}: nothing has {option} (in {span!r})"


def test_messages_and_help_advise_commands_that_exist() -> None:
    count = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        text = re.sub(r'"\n\s*f?"', "", path.read_text())  # one message over several lines
        found = re.findall(r"'edgeseg ([a-z][^'\"\n]*)'", text) + re.findall(r"Example: (?:sudo )?edgeseg (.+)", text)
        for said in found:
            words = re.sub(r"\{[^}]*\}", "X", said).replace('"', "").split()
            if words[:1] == ["bundle"]:  # "'edgeseg bundle' file", of a file's type
                continue
            count += 1
            try:
                require_options([word for word in words if word != "X"])
            except AssertionError as error:
                raise AssertionError(f"{path.relative_to(ROOT)}: {said!r}: {error}") from error
    assert count > 40


@pytest.mark.parametrize(
    "line",
    [
        "edgeseg run --camra 0",
        "edgeseg compile mine.edgeseg --int8 --calibrate x",
        "sudo /opt/edgeseg/bin/edgeseg service instal -- x",
        "cd x && edgeseg engines lst",
        "edgeseg service install -- --camera zero",
    ],
)
def test_a_wrong_line_would_be_seen(line: str) -> None:
    with pytest.raises(Exception):  # noqa: B017
        for words in of_edgeseg(line):
            require_whole(words)
