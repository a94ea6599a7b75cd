"""Configurations in files: TOML or JSON, by suffix. Only what differs from the defaults is written."""

import json
import os
import sys
import unicodedata
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Type, TypeVar

from edgeseg.app.fields import Config, config_with, fields_of, has_secrets, value_of
from edgeseg.errors import EdgesegError, InputError, UsageError, first_line, require
from edgeseg.files import atomic_write

__all__ = [
    "SUFFIXES",
    "config_from_tree",
    "is_config_file",
    "read_config",
    "save_config",
    "text_of_config",
    "tree_of",
    "write_config",
]

C = TypeVar("C", bound=Config)

SUFFIXES = (".toml", ".json")


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
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise InputError(f"{path} cannot be read as a configuration: {why}") from error
    return config_from_tree(kind, _parsed(text, path), str(path))


def config_from_tree(kind: Type[C], tree: Mapping[str, Any], where: str) -> C:
    """Build a configuration from tables of values.

    Args:
        kind: of the configuration.
        tree: fields by name, those of a part in a table of the part's name.
        where: what messages call the place.

    Raises:
        UsageError: a field is unknown or wrong; the message names the place, the field and what is right.
    """
    values = {}
    fields = {field.key: field for field in fields_of(kind)}
    parts = {field.path[0] for field in fields.values() if len(field.path) > 1}
    for key, value in _flat(tree, parts, where).items():
        if key not in fields:
            raise UsageError(f"{where}: there is no field `{key}`; {_near(key, list(fields))}")
        try:
            values[fields[key].name] = fields[key].checked(value, key)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
    try:
        return config_with(kind, values)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def write_config(config: Config, path: Path, *, mode: Optional[int] = None) -> None:
    """Write a configuration whole or not at all, secrets included.

    Args:
        config: what is written.
        path: ends in ``.toml`` or ``.json``; what is there is replaced.
        mode: of the file, also while it is written; None leaves it to the process's mask.

    Raises:
        UsageError: the suffix is another, or TOML cannot hold a value.
        InputError: the file cannot be written.
    """
    text = text_of_config(config, path.suffix)
    before = os.umask(0o077) if mode is not None else None
    try:
        atomic_write(path, text.encode())
        if mode is not None:
            path.chmod(mode)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; name another file") from error
    finally:
        if before is not None:
            os.umask(before)


def save_config(config: Config, path: Path) -> str:
    """Write a configuration to a new file, or over another configuration of its kind; one with secrets for its owner
    only.

    Returns:
        A line for people.

    Raises:
        UsageError: the file is there and something else, or the suffix is none of ``SUFFIXES``.
        InputError: the file cannot be written.
    """
    text_of_config(config, path.suffix)
    if path.exists():
        _refuse_foreign(type(config), path)
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


def _refuse_foreign(kind: Type[Config], path: Path) -> None:
    """Raise UsageError unless a file is empty or a configuration of a kind."""
    if not path.is_file():
        raise UsageError(f"{path} is not a file and is not replaced; name a new file")
    try:
        is_ours = not path.stat().st_size or bool(read_config(kind, path))
    except (OSError, EdgesegError):
        is_ours = False
    if not is_ours:
        raise UsageError(f"{path} exists and is no such configuration; it is not replaced, so name a new file")


def _parsed(text: str, path: Path) -> Dict[str, Any]:
    try:
        if path.suffix.lower() == ".json":
            tree = json.loads(text)
        else:
            tree = require("tomllib" if sys.version_info >= (3, 11) else "tomli", "").loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no {path.suffix[1:].upper()}: {first_line(error)}") from error
    if not isinstance(tree, dict):
        raise UsageError(f"{path} is a configuration only if it holds one object, {{...}}")
    return tree


def _flat(tree: Mapping[str, Any], parts: "set[str]", where: str) -> Dict[str, Any]:
    """Return {key: value} with the keys of parts' tables as ``part.name``."""
    flat: Dict[str, Any] = {}
    for name, value in tree.items():
        if name not in parts:
            flat[name] = value
        elif isinstance(value, dict):
            flat.update({f"{name}.{inner}": one for inner, one in value.items()})
        else:
            raise UsageError(f"{where}: `{name}` is a table of fields, [{name}]")
    return flat


def _near(key: str, known: "list[str]") -> str:
    import difflib

    name = key.rpartition(".")[2]
    same_name = [one for one in known if one.rpartition(".")[2] == name]
    near = same_name or difflib.get_close_matches(key, known, 1) or difflib.get_close_matches(name, known, 1)
    return f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}"


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
