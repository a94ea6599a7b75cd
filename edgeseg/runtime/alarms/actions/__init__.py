"""The table of actions: what is done when an alarm goes on or off."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping

from edgeseg.credentials import has_credentials
from edgeseg.errors import UsageError
from edgeseg.runtime.alarms.actions.base import ActionContext, AlarmAction
from edgeseg.uris import UriKind, known_kinds

__all__ = [
    "ACTIONS",
    "ActionContext",
    "ActionKind",
    "AlarmAction",
    "absolute_action",
    "action_from_text",
    "action_paths",
    "actions_help",
    "is_secret_action",
]

# What an opener opens is imported in it, so that the table costs nothing to read. It gets what follows the colon, and
# the whole text.


def _open_log(place: str, text: str, context: ActionContext) -> AlarmAction:
    from edgeseg.runtime.alarms.actions.log import LogAction

    return LogAction(context.tell)


def _open_lines(place: str, text: str, context: ActionContext) -> AlarmAction:
    from edgeseg.runtime.alarms.actions.lines import LinesAction

    return LinesAction(Path(place), context.overwrite)


def _open_snapshot(place: str, text: str, context: ActionContext) -> AlarmAction:
    from edgeseg.runtime.alarms.actions.snapshot import SnapshotAction

    return SnapshotAction(Path(place), context.painter, context.overwrite)


def _open_mqtt(place: str, text: str, context: ActionContext) -> AlarmAction:
    from edgeseg.runtime.alarms.actions.remote import RemoteAction
    from edgeseg.runtime.sinks.mqtt import MqttPublisher

    publisher = MqttPublisher(text)
    return RemoteAction(publisher.description, publisher.publish, publisher.close, context.tell)


def _open_webhook(place: str, text: str, context: ActionContext) -> AlarmAction:
    from edgeseg.runtime.alarms.actions.remote import RemoteAction
    from edgeseg.runtime.alarms.actions.webhook import Webhook

    webhook = Webhook(text)
    return RemoteAction(webhook.description, webhook.post, lambda deadline: None, context.tell)


@dataclass(frozen=True)
class ActionKind(UriKind):
    """A row of ``ACTIONS``.

    Attributes:
        open: makes the action of what follows the colon and of the whole text, for a run.
        is_bare: its name is all that there is; else something follows the colon.
        is_path: what follows the colon is a path on this machine.
        is_folder: pictures are written into that path.
        is_secret: the whole text is a secret: who knows the address of a webhook may post to it.
    """

    open: Callable[[str, str, ActionContext], AlarmAction]
    is_bare: bool = False
    is_folder: bool = False
    is_secret: bool = False


ACTIONS: Mapping[str, ActionKind] = {
    "log": ActionKind(_open_log, "log", "a line on standard error", is_bare=True),
    "jsonl": ActionKind(_open_lines, "jsonl:FILE", "a line of JSON", is_path=True),
    "snapshot": ActionKind(_open_snapshot, "snapshot:FOLDER", "the frame as a picture", is_path=True, is_folder=True),
    "mqtt": ActionKind(_open_mqtt, "mqtt://HOST/TOPIC", "a message; `mqtts://` for TLS"),
    "mqtts": ActionKind(_open_mqtt, "", "`mqtt://` over TLS"),
    "https": ActionKind(
        _open_webhook, "https://HOST/PATH", "a POST; redirects are not followed; `http://` without TLS", is_secret=True
    ),
    "http": ActionKind(_open_webhook, "", "`https://` without TLS", is_secret=True),
}
"""The word before the colon -> what it is."""


def actions_help() -> str:
    """Return the actions that there are, for ``run --help``."""
    return known_kinds(ACTIONS.values())


def action_from_text(text: str, context: ActionContext) -> AlarmAction:
    """Make the action that a text names.

    Args:
        text: of a row of ``ACTIONS``.
        context: what it needs to know.

    Raises:
        UsageError: there is no such action.
        SinkError: a file, folder or broker cannot be used.
    """
    name, colon, place = text.partition(":")
    kind = ACTIONS.get(name)
    if kind is None or (colon if kind.is_bare else not place):
        shown = f"{name}:..." if place else repr(text[:40])
        raise UsageError(f"no alarm action {shown}; there are {actions_help()}")
    return kind.open(place, text, context)


def action_paths(text: str) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the files that an action writes, and the folders that it puts pictures into."""
    name, _, place = text.partition(":")
    kind = ACTIONS.get(name)
    if kind is None or not kind.is_path or not place:
        return (), ()
    return ((), (Path(place),)) if kind.is_folder else ((Path(place),), ())


def absolute_action(text: str) -> str:
    """Return a text that means the same action in every folder."""
    name, _, place = text.partition(":")
    return f"{name}:{os.path.abspath(place)}" if any(action_paths(text)) else text


def is_secret_action(text: str) -> bool:
    """Tell whether an action holds a secret."""
    kind = ACTIONS.get(text.partition(":")[0])
    return has_credentials(text) or (kind is not None and kind.is_secret)
