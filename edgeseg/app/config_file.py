"""Configurations in files: TOML or JSON, by suffix. Only what differs from the defaults is written."""

import json
import sys
import unicodedata
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Set, Tuple, Type, TypeVar

from edgeseg.app.fields import Config, Field, config_with, fields_of, has_secrets, value_of
from edgeseg.errors import EdgesegError, InputError, UsageError, first_line, require
from edgeseg.files import atomic_write, text_from

__all__ = [
    "SUFFIXES",
    "config_from_tree",
    "is_config_file",
    "read_config",
    "read_tree",
    "read_values",
    "refuse_edited",
    "save_config",
    "text_of_config",
    "tree_of",
    "values_from_tree",
    "write_config",
]

C = TypeVar("C", bound=Config)

SUFFIXES = (".toml", ".json")
_MOST_BYTES = 1 << 20


def is_config_file(path: Path) -> bool:
    """Return whether a name is that of a configuration."""
    return path.suffix.lower() in SUFFIXES


def read_config(kind: Type[C], path: Path) -> C:
    """Read a configuration.

    Args:
        kind: of the configuration.
        path: a ``.toml`` or ``.json`` file. Relative paths in it are relative to the working directory.

    Raises:
        InputError: the file cannot be read.
        UsageError: it is neither TOML nor JSON, or a field of it is unknown or wrong.
    """
    return config_from_tree(kind, read_tree(path), str(path))


def read_tree(path: Path) -> Dict[str, Any]:
    """Read the tables of a ``.toml`` or ``.json`` file.

    Raises:
        InputError: the file cannot be read. UsageError: it is neither TOML nor JSON.
    """
    return _parsed(_text(path), path)


def read_values(kind: Type[Config], path: Path) -> Dict[str, Any]:
    """Read what a file says of a configuration, which need not be whole.

    Args:
        kind: of the configuration.
        path: as of ``read_config``.

    Returns:
        Name of a field -> value, of the fields that the file has.

    Raises:
        InputError, UsageError: as ``read_config``.
    """
    return values_from_tree(kind, read_tree(path), str(path))


def config_from_tree(kind: Type[C], tree: Mapping[str, Any], where: str) -> C:
    """Build a configuration from tables of values.

    Args:
        kind: of the configuration.
        tree: fields by name, those of a part in a table of the part's name.
        where: what messages call the place.

    Raises:
        UsageError: a field is unknown or wrong; the message names the place, the field and what is right.
    """
    values = values_from_tree(kind, tree, where)
    try:
        return config_with(kind, values)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def values_from_tree(kind: Type[Config], tree: Mapping[str, Any], where: str) -> Dict[str, Any]:
    """Return the values that tables hold, by the names of their fields.

    Args:
        kind: of the configuration.
        tree: as of ``config_from_tree``, but fields may be missing.
        where: what messages call the place.

    Raises:
        UsageError: as ``config_from_tree``. Messages write names as files have them, ``'source.rate'``, so that no
            command takes them for its options.
    """
    values = {}
    fields = {field.path: field for field in fields_of(kind)}
    parts = {path[0] for path in fields if len(path) > 1}
    for path, value in _flat(tree, parts, where).items():
        key = ".".join(path)
        if path not in fields:
            raise UsageError(f"{where}: there is no field '{key}'; {_near(key, fields.values())}")
        try:
            values[fields[path].name] = fields[path].checked(value, f"'{key}'")
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
    return values


def write_config(config: Config, path: Path, *, mode: Optional[int] = None) -> None:
    """Write a configuration whole or not at all, secrets included.

    Args:
        config: what is written.
        path: ends in ``.toml`` or ``.json``; what is there is replaced.
        mode: of the file, at any time; None leaves it to the process's mask.

    Raises:
        UsageError: the suffix is another, or TOML cannot hold a value.
        InputError: the file cannot be written.
    """
    text = text_of_config(config, path.suffix)
    try:
        atomic_write(path, text.encode(), mode=mode)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; name another file") from error


def save_config(config: Config, path: Path) -> str:
    """Write a configuration to a new file, or over one that was written like this and not edited since.

    A file with secrets is for its owner only.

    Returns:
        A line for people.

    Raises:
        UsageError: the file is there and something else, or the suffix is none of ``SUFFIXES``.
        InputError: the file cannot be written.
    """
    text_of_config(config, path.suffix)
    refuse_edited(type(config), path)
    secret = has_secrets(config)
    write_config(config, path, mode=0o600 if secret else None)
    return f"wrote {path}" + (", which holds secrets: only you can read it (mode 600)" if secret else "")


def text_of_config(config: Config, suffix: str) -> str:
    """Return a configuration as the text of a file.

    Args:
        config: what is written.
        suffix: ``.toml`` or ``.json``.

    Raises:
        UsageError: the suffix is another, or TOML cannot hold a value.
    """
    if suffix.lower() == ".json":
        return json.dumps(tree_of(config), indent=1) + "\n"
    if suffix.lower() == ".toml":
        return _toml(tree_of(config))
    raise UsageError(f"a configuration is written to a file that ends in {' or '.join(SUFFIXES)}, got {suffix!r}")


def tree_of(config: Config) -> Dict[str, Any]:
    """Return what differs from the defaults as a JSON-serialisable dict, the fields of a part in a dict of its own."""
    tree: Dict[str, Any] = {}
    for field in fields_of(type(config)):
        value = value_of(config, field)
        if value == field.default:
            continue
        table = tree
        for name in field.path[:-1]:
            table = table.setdefault(name, {})
        plain = [str(one) if isinstance(one, Path) else one for one in value] if field.is_many else value
        table[field.name] = str(plain) if isinstance(plain, Path) else plain
    return tree


def refuse_edited(kind: Type[Config], path: Path) -> None:
    """Refuse a name that something else has than a configuration as ``save_config`` writes it: comments would be lost.

    Args:
        kind: of the configuration.
        path: of the file to write; it may be missing or empty.

    Raises:
        UsageError: it is there and something else, or was edited.
    """
    if not path.exists():
        return
    if not path.is_file():
        raise UsageError(f"{path} is not a file and is not replaced; name a new file")
    try:
        text = _text(path)
        is_ours = not text or text == text_of_config(read_config(kind, path), path.suffix)
    except EdgesegError:
        is_ours = False
    if not is_ours:
        raise UsageError(f"{path} exists and is not as edgeseg wrote it; it is not replaced, so name a new file")


def _text(path: Path) -> str:
    """Return the text of a file that people write. Raises InputError."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} cannot be read as a configuration: it is no file")
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise InputError(f"{path} cannot be read as a configuration: it is larger than {_MOST_BYTES >> 20} MiB")
        text = text_from(data)
        text.encode()  # what is no UTF-8 became surrogates
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise InputError(f"{path} cannot be read as a configuration: {why}") from error
    return text


def _once(pairs: "List[Tuple[str, Any]]") -> Dict[str, Any]:
    """Return a JSON object whose names are all different. Raises ValueError."""
    tree = dict(pairs)
    if len(tree) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return tree


def _parsed(text: str, path: Path) -> Dict[str, Any]:
    try:
        if path.suffix.lower() == ".json":
            tree = json.loads(text, object_pairs_hook=_once)
        else:
            tree = require("tomllib" if sys.version_info >= (3, 11) else "tomli", "").loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no {path.suffix[1:].upper()}: {first_line(error)}") from error
    if not isinstance(tree, dict):
        raise UsageError(f"{path} is a configuration only if it holds one object, {{...}}")
    return tree


def _flat(tree: Mapping[str, Any], parts: "Set[str]", where: str) -> "Dict[Tuple[str, ...], Any]":
    """Return {path: value}, where the path of a part's field begins with the part."""
    flat: Dict[Tuple[str, ...], Any] = {}
    for name, value in tree.items():
        if name not in parts:
            flat[(name,)] = value
        elif isinstance(value, dict):
            flat.update({(name, inner): one for inner, one in value.items()})
        else:
            raise UsageError(f"{where}: '{name}' is a table of fields, [{name}]")
    return flat


def _near(key: str, fields: Iterable[Field]) -> str:
    """Return the name that was meant: as a file has it, whether the name or the option of a field was written."""
    import difflib

    fields = list(fields)
    keys = [field.key for field in fields]
    if key in keys:
        part, _, name = key.rpartition(".")
        return f"'{name}' stands in the table '{part}'"
    called = {field.flag.split("/")[0].strip("-").replace("-", "_"): field.key for field in fields}
    called.update({key.rpartition(".")[2]: key for key in keys})
    name = key.rpartition(".")[2].replace("-", "_")
    near = [called[one] for one in difflib.get_close_matches(name, called, 1)]
    near = near or difflib.get_close_matches(key, keys, 1)
    return f"did you mean '{near[0]}'?" if near else f"there are {', '.join(keys)}"


def _toml(tree: Mapping[str, Any]) -> str:
    lines = [f"{name} = {_toml_value(name, value)}" for name, value in tree.items() if not isinstance(value, dict)]
    for part, table in tree.items():
        if isinstance(table, dict):
            lines += ["", f"[{part}]", *(f"{name} = {_toml_value(name, value)}" for name, value in table.items())]
    return "\n".join(lines).lstrip("\n") + "\n"


def _toml_value(name: str, value: Any) -> str:
    if isinstance(value, list):
        items = [_toml_value(name, one) for one in value]
        one_line = f"[{', '.join(items)}]"
        return one_line if len(one_line) < 100 else "[\n" + "".join(f"  {item},\n" for item in items) + "]"
    if not isinstance(value, str):
        return json.dumps(value)  # true, false and numbers are written as in JSON
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"`{name}` is no UTF-8, and TOML holds nothing else; write a .json file") from error
    return "".join(map(_readable, json.dumps(value, ensure_ascii=False)))


def _readable(letter: str) -> str:
    """Return a letter of a TOML text as one that shows in an editor and changes nothing of a terminal."""
    return f"\\u{ord(letter):04x}" if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter
