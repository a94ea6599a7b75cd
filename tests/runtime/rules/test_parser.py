from __future__ import annotations

import random
from typing import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.errors import UsageError
from edgeseg.runtime.alarms.expression import AllOf, AnyOf, Comparison, Duration, Limit, Not, Rule, Term
from edgeseg.runtime.alarms.parser import parse
from tests.runtime.rules.made import CLASSES, ROIS, made_rule

BUSY = (
    'busy: source(0): not (area("traffic light") in roi(gate) >= 0.1 or change(sky)<5%) for 2.5s clear after 3 frames'
)


def test_what_a_rule_says() -> None:
    assert parse("area(car) > 20% of roi(road) for 5 frames", CLASSES) == Rule(
        Comparison(Term("area", "car", relative_to="road"), ">", Limit(20, True)), Duration(5)
    )
    in_gate = Comparison(Term("area", "traffic light", "gate"), ">=", Limit(0.1))
    assert parse(BUSY, CLASSES, ROIS) == Rule(
        Not(AnyOf((in_gate, Comparison(Term("change", "sky"), "<", Limit(5, True))))),
        Duration(2.5, True),
        Duration(3),
        "busy",
        "0",
    )


def test_of_a_region_is_in_that_region() -> None:
    of, within = (parse(text, CLASSES, ROIS) for text in ("area(car) > 5% of roi(gate)", "area(car) in roi(gate) > 5%"))
    assert of == within


def test_and_binds_stronger_than_or() -> None:
    first, second, third = (f"area({name}) > 1%" for name in ("road", "car", "sky"))
    condition = parse(f"{first} or {second} and not {third}", CLASSES).condition
    assert isinstance(condition, AnyOf) and isinstance(condition.parts[1], AllOf)
    assert parse(f"({first} or {second}) and {third}", CLASSES).condition != condition


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 1: expected area, confidence, change, 'not' or '('"),
        ("area(cat) > 1%", "column 6: expected a class: there are road, car, sky, traffic light"),
        ("area(car) in roi(road) > 1%", "column 18: expected a region: there are gate, left lane"),
        ("area(car) > 1% of roi(x)", "column 23: expected a class or region: there are road"),
        ("area(car) in roi(gate) > 1% of roi(left)", "column 36: expected a class or region"),
        ('area(car) in roi(gate) > 1% of roi("left lane")', "column 36: expected a class, since 'in' names"),
        ("area(car) > 20", "column 13: expected a share of 0 to 1, or 0% to 100% .did you mean 20%"),
        ("area(car) = 1%", "column 11: expected a word, number"),
        ("area(car) 1%", "column 11: expected > >= < or <=, or 'in roi"),
        ("area(car) > 1% for 0 frames", "column 20: expected a whole number of frames"),
        ("area(car) > 1% for 5", "column 21: expected frames or s"),
        ("area(car) > 1e999%", "column 13: expected a smaller number"),
        ("area(car) > 1% area(sky)", "column 16: expected 'and', 'or', 'for', 'clear after' or the end"),
        ("confidence(car) > 1% of roi(gate)", "column 22: expected 'and'"),
        ("confidence(car) 1%", "column 17: expected > >= < or <=; at"),
        ("area(car) in roi(gate) 1%", "column 24: expected > >= < or <=; at"),
        ("area(car) > 1% for 1.5 frames", "column 20: expected a whole number of frames"),
        ("area(car) > 1% for 2e9 frames", "column 20: expected a whole number of frames"),
        ("area(car) > 1% clear 5 s", "column 22: expected 'after'"),
        ("source(1.5): area(car) > 1%", "column 8: expected the name of a source; quote a name"),
        ("source('  '): area(car) > 1%", "column 8: expected the name of a source of printable characters"),
        ("source('a\u2028'): area(car) > 1%", "column 8: expected the name of a source of printable"),
        ("area", "column 5: expected '('"),
        ("'area'(car) > 1%", "column 1: expected area, confidence, change, 'not' or '('"),
        ("(" * 40 + "area(car) > 1%" + ")" * 40, "column 33: expected at most 32 levels"),
        ("not " * 400, "at most 32 levels"),
        ("(" * 10_000, "at most 2000 characters, got 10000"),
        ("area(car) > 1% or " * 60_000, "at most 2000 characters"),
        ("area(\u0660) > 1%", "column 6: expected a word, number, quoted name"),
    ],
)
def test_what_is_no_rule_is_told_in_a_line(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(").replace(")", r"\)")) as caught:
        parse(text, CLASSES, ROIS)
    assert len(str(caught.value)) < 300 and str(caught.value).isprintable()


@pytest.mark.parametrize("opens", ["(", "not "])
def test_the_longest_and_the_deepest_rule(opens: str) -> None:
    plain = "area(car) > 1%"
    assert parse(plain + " " * (2000 - len(plain)), CLASSES) == parse(plain, CLASSES)
    with pytest.raises(UsageError, match="at most 2000 characters, got 2001"):
        parse(plain + " " * (2001 - len(plain)), CLASSES)
    siblings, closes = f"{plain} and " * 40, ")" if opens == "(" else ""
    assert parse(siblings + opens * 31 + plain + closes * 31, CLASSES)
    with pytest.raises(UsageError, match="at most 32 levels"):
        parse(siblings + opens * 32 + plain + closes * 32, CLASSES)


def test_durations_and_limits_at_their_ends() -> None:
    for text in ("1 frame", "1 frames", "1000000000 frames", "0 s", "2.5 seconds", "1e3 s"):
        amount, unit = text.split()
        rule = parse(f"area(car) > 100% for {text}", CLASSES)
        assert rule.hold == Duration(float(amount), not unit.startswith("frame"))
        assert rule.condition == Comparison(Term("area", "car"), ">", Limit(100, True))
    assert parse("area(car) > 1", CLASSES).condition == Comparison(Term("area", "car"), ">", Limit(1))
    assert parse("area(car) > 300% of roi(road)", CLASSES)


def test_a_fault_is_shown_with_twenty_characters_on_either_side() -> None:
    text = "area(car) > 1% and area(sky) > 1% or area(cat) > 2% and area(sky) > 3%"
    at = text.index("cat")
    with pytest.raises(UsageError, match=f"alarm rule, column {at + 1}: ") as refused:
        parse(text, CLASSES)
    assert str(refused.value).endswith(f"; at >>> in: {text[at - 20 : at]} >>> {text[at : at + 20]}")
    with pytest.raises(UsageError) as refused:
        parse("area(cat) > 1%", CLASSES)
    assert str(refused.value).endswith("; at >>> in: area( >>> cat) > 1%")


def _parses_or_says_why(text: str) -> bool:
    try:
        rule = parse(text, CLASSES, ROIS)
    except UsageError as error:
        assert str(error).isprintable()
        return False
    assert parse(str(rule), CLASSES, ROIS) == rule
    return True


def _random_text(rng: random.Random) -> str:
    return "".join(chr(rng.choice((rng.randrange(32, 127), rng.randrange(0x3000)))) for _ in range(rng.randrange(40)))


WORDS = [*"()%:<>", ">=", "<=", "area", "change", "confidence", "in", "of", "roi", "source", "and", "or", "not", "for"]
WORDS += [
    "clear",
    "after",
    "frames",
    "s",
    "car",
    "road",
    "gate",
    '"left lane"',
    "5",
    "20",
    "0.5",
    "1e-3",
    "'",
    '"',
    "\\",
]


def _random_words(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(20)))


def _mutated(rng: random.Random) -> str:
    text = str(made_rule(rng))
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(["", rng.choice(WORDS), _random_text(rng)[:2]]) + text[at + rng.randrange(3) :]
    return text


@pytest.mark.parametrize(("make", "count"), [(_random_text, 25_000), (_random_words, 20_000), (_mutated, 25_000)])
def test_any_text_is_a_rule_or_a_usage_error(make: Callable[[random.Random], str], count: int) -> None:
    rng = random.Random(make.__name__)
    parsed = sum(_parses_or_says_why(make(rng)) for _ in range(count))
    assert parsed < count
    if make is _mutated:
        assert parsed > count / 50, "some still are rules"


def test_what_a_rule_prints_is_that_rule() -> None:
    rng = random.Random("rules")
    for _ in range(4_000):
        rule = made_rule(rng)
        assert parse(str(rule), CLASSES, ROIS) == rule, str(rule)


@settings(max_examples=200)
@given(st.text(max_size=200))
def test_hypothesis_finds_no_text_that_breaks_it(text: str) -> None:
    _parses_or_says_why(text)


@settings(max_examples=200)
@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1))
def test_any_printable_name_can_be_quoted(name: str) -> None:
    if not name.isprintable():
        return
    rule = Rule(Comparison(Term("area", name), ">", Limit(1, True)), title=name, source=name)
    assert parse(str(rule), [name]) == rule
