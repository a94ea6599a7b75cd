"""The names in ``data.yaml`` are those that PyYAML reads, or refused."""

from __future__ import annotations

from textwrap import indent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.data.yaml_names import names_from_yaml

yaml = pytest.importorskip("yaml", reason="PyYAML says what a text means")

LETTERS = st.characters(max_codepoint=0xD7FF, categories=("L", "N", "P", "S"))
NAMES = st.lists(st.text(st.one_of(LETTERS, st.sampled_from(" #,:-'\"[]{}&*!|>%@?")), min_size=1), min_size=1)
PIECES = (
    *("disc", "box", "traffic light", "'a, b'", '"c\\"d"', "'it''s'", "e#f", "g # h", "i: j", "k:l", "# m", "&n", "-"),
    *("0", "1", "'2'", ":", ": ", ", ", ",", "[", "]", "{", "}", "- ", "\n", "\n  ", "\n- ", "\n  0: ", "  ", "|", "~"),
)


def meant(text: str) -> Any:
    """What PyYAML makes of the key ``names``, every value a text as it is written; None where it reads nothing."""
    try:
        tree = yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError:
        return None
    names = tree.get("names") if isinstance(tree, dict) else None
    try:
        return {int(own): name for own, name in names.items()} if isinstance(names, dict) else dict(enumerate(names))
    except (TypeError, ValueError):
        return None


@given(
    names=NAMES,
    by_id=st.booleans(),
    flow=st.booleans(),
    style=st.sampled_from([None, "'", '"']),
    key=st.sampled_from(["names", "'names'", '"names"']),
    ends=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_every_form_that_a_library_writes_is_read(
    names: list[str], by_id: bool, flow: bool, style: str | None, key: str, ends: str
) -> None:
    tree: Any = {own if style is None else str(own): name for own, name in enumerate(names)} if by_id else names
    how = {"default_flow_style": flow, "default_style": style, "width": 10**6, "allow_unicode": True}
    dumped = yaml.safe_dump(tree, **how)
    body = f" {dumped}" if flow else "\n" + indent(dumped, "  ")
    text = f"nc: 2\n{key}:{body}train: x\n"
    assert meant(text) == dict(enumerate(names)), "the test writes what it means"
    assert names_from_yaml(text.replace("\n", ends)) == dict(enumerate(names))


@pytest.mark.parametrize(
    "text",
    [
        "names: [disc, box]",
        "names: [disc, box]  # two",
        "names: [disc, box,]",
        "names: ['disc',  # one\n        'box'\n]\nnc: 2",
        "names: {0: disc, 1: box}",
        "names: {'0': disc, \"1\":box}",
        "names:\n  0: disc\n  1: box",
        "names:\n  1: box\n  0: disc",
        "names:  # all\n  0: disc  # round\n\n  # none\n  1: 'box'\nnc: 2",
        "names:\n- disc\n- box\nnc: 2",
        "names:\n  - disc # round\n\n  - box\n",
        "names:\n  '0': disc\n  \"1\": box\n",
        'nc: 2\n"names": [disc, box]\n',
        "---\nnames:\n- disc\n- box\n---\n",
    ],
)
def test_forms_that_people_write(text: str) -> None:
    assert names_from_yaml(text) == {0: "disc", 1: "box"}


@given(pieces=st.lists(st.sampled_from(PIECES)))
def test_what_is_read_is_what_yaml_means(pieces: list[str]) -> None:
    text = "names: " + "".join(pieces) + "\n"
    try:
        found = names_from_yaml(text)
    except ValueError:
        return
    told = meant(text)
    assert told is None or {own: name for own, name in told.items() if name} == found, text


@pytest.mark.parametrize(
    "value",
    [
        *(
            " *anchor",
            " &a [x]",
            " x",
            "",
            " []",
            " {}",
            " |\n  x",
            " [x",
            " [[x]]",
            " [x: y]",
            " {x: 0}",
            " {0: x, 0: y}",
        ),
        *("\n  0: x\n  0: y", "\n  - x\n  0: y", "\n  - x\n    - y", "\n  0: x\n    more", ' ["\\x41"]', " [x] y"),
        *("\n  0:\n    name: x", "\n\t- x", " [a\n b]", " [x]\nnames: [y]", "\n  0: a: b"),
    ],
)
def test_other_forms_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"write names: \[a, b\]|."):
        names_from_yaml(f"names:{value}\n")


def test_a_text_without_names_has_none() -> None:
    assert names_from_yaml("train: x\nclasses:\n  names: [a]\n") is None
