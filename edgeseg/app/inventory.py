"""Which boards ``edgeseg deploy`` works on: of the command line, or of a file that says once how each is kept."""

from __future__ import annotations

import re
import shlex
from typing import Any, Mapping

from edgeseg.app.config_file import read_tree, tree_of, values_from_tree
from edgeseg.app.deploy_config import BoardConfig, DeployConfig
from edgeseg.app.fields import config_with
from edgeseg.credentials import redacted
from edgeseg.errors import UsageError, first_line
from edgeseg.fleet.board import Board

__all__ = ["boards_of"]

# ssh would take a host that begins with a dash for an option. A user with a colon would be a password.
_ADDRESS = re.compile(r"(?:ssh://)?(?:[\w.+][\w.+@-]*@)?[\w\[][\w.:%\]-]*", re.ASCII)
_UNIT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,250}")
_HEALTH = re.compile(r"https?://[\w\[][\w.:\]-]*(/[\w./-]*)?", re.ASCII)


def boards_of(config: DeployConfig) -> list[Board]:
    """Return the boards in the order in which they are named.

    Options of the command line, where they differ from their defaults, override the inventory; what it says of one
    board overrides what it says of all.

    Raises:
        UsageError: there is none, one is named twice or unknown to the inventory, or a value is wrong.
        InputError: the inventory cannot be read.
    """
    common: Mapping[str, Any] = {}
    known: dict[str, Mapping[str, Any]] = {}
    if config.inventory is not None:
        where = str(config.inventory)
        tree = dict(read_tree(config.inventory))
        known = _tables(tree.pop("hosts", {}), where)
        common = values_from_tree(BoardConfig, tree, where)
    names = list(config.hosts) or list(known)
    if not names:
        raise UsageError("no board is named; give `hosts` as user@host, or an `inventory` with a table [hosts.NAME]")
    boards = [_board(name, config, common, known) for name in names]
    places = [(board.address, board.root) for board in boards]
    for board, place in zip(boards, places):
        if places.count(place) > 1:
            raise UsageError(f"{board.name} is named twice, or two names are of one place: {board.address}")
    return boards


def _tables(hosts: Any, where: str) -> dict[str, Mapping[str, Any]]:
    if not isinstance(hosts, dict) or not all(isinstance(one, dict) for one in hosts.values()):
        raise UsageError(f"{where}: 'hosts' holds a table for each board, [hosts.NAME]")
    return hosts


def _board(name: str, config: DeployConfig, common: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> Board:
    if known and name not in known:
        raise UsageError(f"{_shown(name)} is none of {config.inventory}, which has {', '.join(known)}")
    own = dict(known.get(name, {}))
    address = own.pop("address", name)
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        raise UsageError(
            f"{_shown(str(address))} is no host for ssh: user@host, a name of its configuration or ssh://user@host:port,"
            " without a password and no dash first"
        )
    user_host = address.partition("://")[2] or address
    if user_host == address and address.count(":") == 1:
        raise UsageError(f"{_shown(address)} is a host with a port; ssh takes that as ssh://{address}")
    values = {**common, **values_from_tree(BoardConfig, own, f"{config.inventory}, {name}"), **tree_of(config.board)}
    kept = config_with(BoardConfig, values)
    for field, text in (
        ("root", kept.root),
        ("link", kept.link),
        ("graph", kept.graph),
        ("board_keys", kept.board_keys),
    ):
        if text.startswith("-") or not text.isprintable():
            raise UsageError(f"`{field}` is {text!r}; it begins with no dash and holds no control characters")
    if kept.service and not _UNIT.fullmatch(kept.service):
        raise UsageError(f"`service` is the name of a unit, such as edgeseg, got {kept.service!r}")
    if kept.health and not _HEALTH.fullmatch(kept.health):
        raise UsageError(f"`health` is an address such as http://127.0.0.1:8080/healthz, got {redacted(kept.health)!r}")
    if kept.health and not kept.service:
        raise UsageError("`health` is of a service; name it with `service`")
    return Board(
        name=name,
        address=address,
        root=kept.root.rstrip("/") or "/",
        link=kept.link,
        command=_words("command", kept.command),
        systemctl=_words("systemctl", kept.systemctl),
        service=kept.service,
        health=kept.health,
        engine=kept.engine,
        graph=kept.graph or None,
        keys=kept.board_keys,
    )


def _words(field: str, text: str) -> tuple[str, ...]:
    """Split what is called on the board as a shell would. Raises UsageError."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"`{field}` cannot be split into words ({first_line(error)}), got {text!r}") from error
    if not words or words[0].startswith("-") or not text.isprintable():
        raise UsageError(f"`{field}` is a program with its words, got {text!r}")
    return words


def _shown(name: str) -> str:
    """Return a name for a message, without what may be a password in it."""
    user, at, host = name.rpartition("@")
    return repr(f"***@{host}" if at and ":" in user else name)
