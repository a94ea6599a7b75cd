"""Fields of configurations. What the command line, files and the service need to know of a field is said once, here."""

import dataclasses
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Collection, Dict, List, Mapping, Optional, Tuple, Type, TypeVar, Union

from typing_extensions import get_args, get_type_hints

from edgeseg.credentials import redacted
from edgeseg.errors import UsageError

__all__ = [
    "Config",
    "Field",
    "Option",
    "absolute",
    "config_with",
    "fields_of",
    "has_secrets",
    "option",
    "overridden",
    "value_of",
]

C = TypeVar("C", bound="Config")

_KINDS: Dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
}
_IN_HOME = re.compile(r"(^|:|://)~(/|$)")


@dataclass(frozen=True)
class Option:
    """What is known of a field besides its name, type and default.

    Attributes:
        help: one line.
        flag: on the command line; empty is ``--name-of-the-field``. A switch has ``--no-...`` too.
        short: the flag's short form, such as ``-o``.
        at_least, at_most: bounds of a number, both allowed.
        choices: the only values of a text.
        address: form of an address that is a value besides the choices, such as ``tcp://HOST``.
        is_path: whether a value is a path, or a text with one in it.
        absolute: makes such a text independent of the working directory.
        is_secret: whether values are secret, or a function that says so of one value.
        panel: of ``--help``.
        variable: of the environment, which sets the field too.
        metavar: of ``--help``; empty is that of the type.
        is_argument: whether it stands on the command line without a flag.
        replaces: names of fields that go back to their defaults when this one is given.
    """

    help: str
    flag: str = ""
    short: str = ""
    at_least: Optional[float] = None
    at_most: Optional[float] = None
    choices: Tuple[str, ...] = ()
    address: str = ""
    is_path: bool = False
    absolute: Callable[[str], str] = os.path.abspath
    is_secret: Union[bool, Callable[[str], bool]] = False
    panel: str = ""
    variable: str = ""
    metavar: str = ""
    is_argument: bool = False
    replaces: Tuple[str, ...] = ()


def option(default: Any = dataclasses.MISSING, *, help: str, **about: Any) -> Any:
    """Declare a field of a configuration.

    Args:
        default: value of a field that is not given; without one the field must be given.
        help: one line, as ``--help`` shows it.
        about: the other attributes of ``Option``.
    """
    return dataclasses.field(default=default, metadata={"option": Option(help, **about)})


@dataclass(frozen=True)
class Field:
    """A field of a configuration or of one of its parts.

    Attributes:
        path: names from the configuration down to the field, such as ``("source", "rate")``.
        kind: bool, int, float, str or Path; of each item, where there are many.
        default: its default; ``dataclasses.MISSING`` where the field must be given.
        about: everything else.
        is_many: whether the value is a sequence.
        is_optional: whether None is a value.
    """

    path: Tuple[str, ...]
    kind: Any
    default: Any
    about: Option
    is_many: bool = False
    is_optional: bool = False

    @property
    def name(self) -> str:
        """Return the name within its part; unique within the whole configuration."""
        return self.path[-1]

    @property
    def key(self) -> str:
        """Return the name as files have it, such as ``source.rate``."""
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        """Return the flag on the command line, or the name in capitals for an argument.

        A switch has two, ``--name/--no-name``: options override a file, also one that turns it on.
        """
        if self.about.is_argument:
            return self.name.upper()
        flag = self.about.flag or f"--{self.name.replace('_', '-')}"
        return "/--no-".join((flag, flag[2:])) if self.kind is bool else flag

    def rule(self) -> str:
        """Return what is right for this field, as a message says it."""
        about, kind = self.about, _KINDS[self.kind]
        if about.choices:
            kind = f"one of {', '.join(about.choices)}" + (f" or {about.address}" if about.address else "")
        elif about.at_least is not None and about.at_most is not None:
            kind += f" from {about.at_least:g} to {about.at_most:g}"
        elif about.at_least is not None:
            kind += f" of at least {about.at_least:g}"
        elif about.at_most is not None:
            kind += f" of at most {about.at_most:g}"
        return f"a list, of each item: {kind}" if self.is_many else kind

    def checked(self, value: Any, called: str = "") -> Any:
        """Return a value as this field keeps it: a tuple for a list, a Path for a text, a float for a whole number.

        Args:
            value: what was given.
            called: what the message calls the field; empty is its name in backticks, which a command prints as its
                option.

        Raises:
            UsageError: it is of another type, out of bounds, no finite number, none of the choices, an empty text (but
                that is the default), or a path that begins with ``~`` or is none that a system has.
        """
        if value is None and self.is_optional:
            return None
        if self.is_many:
            if isinstance(value, (list, tuple)):
                return tuple(self._checked_item(item, called) for item in value)
            raise self._wrong(value, called)
        return self._checked_item(value, called)

    def is_secret(self, value: Any) -> bool:
        """Return whether a value of this field, or an item of it, is secret."""
        rule = self.about.is_secret
        if value is None or value == self.default or rule is False:
            return False
        if rule is True:
            return True
        return any(rule(str(one)) for one in (value if self.is_many else (value,)))

    def absolute(self, value: Any) -> Any:
        """Return a value whose paths do not depend on the working directory."""
        if not self.about.is_path or value is None:
            return value
        if self.is_many:
            return tuple(self.kind(self.about.absolute(str(one))) for one in value)
        return self.kind(self.about.absolute(str(value)))

    def _checked_item(self, value: Any, called: str) -> Any:
        about, allowed = self.about, {float: (int, float), Path: (str, Path)}.get(self.kind, (self.kind,))
        if not isinstance(value, allowed) or (isinstance(value, bool) and self.kind is not bool):
            raise self._wrong(value, called)
        if isinstance(value, (str, Path)):
            self._refuse_no_name(value, called)
        try:
            value = self.kind(value)
        except OverflowError:  # a whole number that no float holds
            raise self._wrong(value, called) from None
        too_small = about.at_least is not None and not value >= about.at_least
        too_large = about.at_most is not None and not value <= about.at_most
        is_infinite = isinstance(value, float) and not math.isfinite(value)
        if too_small or too_large or is_infinite or (about.choices and not self._is_choice(value)):
            raise self._wrong(value, called)
        return value

    def _is_choice(self, value: str) -> bool:
        scheme = self.about.address.partition("://")[0]
        return value in self.about.choices or bool(scheme and value.startswith(f"{scheme}://"))

    def _refuse_no_name(self, value: Union[str, Path], called: str) -> None:
        """Refuse a text that no system takes, or that is another path than it seems. Raises UsageError."""
        text, called = str(value), called or f"`{self.name}`"
        try:
            is_known = b"\0" not in os.fsencode(text)
        except UnicodeEncodeError:
            is_known = False
        if not is_known:
            raise UsageError(f"{called} holds a NUL or half a character, which no name has, got {self._shown(value)}")
        if not text and self.default != "":
            raise UsageError(f"{called} is empty; name what is meant, or leave it out")
        if self.about.is_path and _IN_HOME.search(text):
            raise UsageError(f"{called} is {self._shown(value)}, and only shells know the folder ~; write it out")

    def _wrong(self, value: Any, called: str) -> UsageError:
        return UsageError(f"{called or f'`{self.name}`'} is {self.rule()}, got {self._shown(value)}")

    def _shown(self, value: Any) -> str:
        """Return a value for people, without what may be secret in it."""
        rule = self.about.is_secret
        is_secret = rule if isinstance(rule, bool) else any(map(rule, _texts(value)))
        shown = redacted(repr(value))
        return "***" if is_secret else shown if len(shown) < 200 else f"{shown[:200]}..."


class Config:
    """Base of all configurations: frozen dataclasses whose fields are declared with ``option``, or are parts.

    Raises:
        UsageError: a value is wrong; the message names the field in backticks.
    """

    def __post_init__(self) -> None:
        for field in _own(type(self)):
            if isinstance(field, Field):
                object.__setattr__(self, field.name, field.checked(getattr(self, field.name)))


def fields_of(kind: Type[Config]) -> Tuple[Field, ...]:
    """Return the fields of a configuration and of its parts, in the order of their declaration."""
    found: List[Field] = []
    for field in _own(kind):
        if isinstance(field, Field):
            found.append(field)
        else:
            name, part = field
            found += [dataclasses.replace(inner, path=(name, *inner.path)) for inner in fields_of(part)]
    return tuple(found)


def value_of(config: Config, field: Field) -> Any:
    """Return the value that a configuration has of a field."""
    value: Any = config
    for name in field.path:
        value = getattr(value, name)
    return value


def overridden(kind: Type[Config], values: Mapping[str, Any], by: Mapping[str, Any]) -> Dict[str, Any]:
    """Return values of fields by name with others in their place; what these replace goes.

    Args:
        kind: of the configuration.
        values: name of a field -> value.
        by: the same, of what goes first.
    """
    gone = {other for field in fields_of(kind) if field.name in by for other in field.about.replaces}
    return {**{name: value for name, value in values.items() if name not in gone}, **by}


def config_with(kind: Type[C], values: Mapping[str, Any]) -> C:
    """Return a configuration of values.

    Args:
        kind: of the configuration.
        values: name of a field -> value, without the names of parts. Other fields have their defaults.

    Raises:
        UsageError: a value is wrong, or one that must be given is missing; the message names the field in backticks.
    """
    mine: Dict[str, Any] = {}
    for field in _own(kind):
        if not isinstance(field, Field):
            name, part = field
            mine[name] = config_with(part, values)
        elif field.name in values:
            mine[field.name] = values[field.name]
        elif field.default is dataclasses.MISSING:
            raise UsageError(f"`{field.name}` is missing; it is {field.rule()}: {field.about.help}")
    return kind(**mine)


def absolute(config: C, given: Collection[str] = ()) -> C:
    """Return the configuration with paths that do not depend on the working directory.

    Args:
        config: with any paths.
        given: names of fields that somebody has set. Defaults of the others stay as they are.
    """
    values = {}
    for field in fields_of(type(config)):
        value = value_of(config, field)
        is_default = value == field.default and field.name not in given
        values[field.name] = value if is_default else field.absolute(value)
    return config_with(type(config), values)


def has_secrets(config: Config) -> bool:
    """Return whether a configuration holds a password, a token or the address of a webhook."""
    return any(field.is_secret(value_of(config, field)) for field in fields_of(type(config)))


def _texts(value: Any) -> List[str]:
    """Return every text in a value of any type."""
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple)):
        return [text for one in value for text in _texts(one)]
    return [str(value)]


def _own(kind: Type[Config]) -> Tuple[Any, ...]:
    """Return the fields of one class; (name, class) stands for a part."""
    hints = get_type_hints(kind)
    own: List[Any] = []
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, Config):
            own.append((field.name, hint))
            continue
        is_optional = type(None) in get_args(hint)
        if is_optional:
            hint = next(one for one in get_args(hint) if one is not type(None))
        is_many = bool(get_args(hint))
        about = field.metadata["option"]
        own.append(
            Field((field.name,), get_args(hint)[0] if is_many else hint, field.default, about, is_many, is_optional)
        )
    return tuple(own)
