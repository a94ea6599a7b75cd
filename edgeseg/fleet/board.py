"""One board of a fleet: how it is reached, where its model is, what runs it, and what it said of itself."""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.errors import DeployError

__all__ = ["Board", "Pending", "State", "state_from"]


@dataclass(frozen=True)
class Board:
    """How a board is reached and kept.

    Attributes:
        name: for people.
        address: as ssh takes it.
        root: folder of models there; relative to the home of the user.
        link: what the service is given as its model; empty is ``current.edgeseg`` in ``root``.
        command: words of the edgeseg there.
        systemctl: words of the program that restarts the service.
        service: unit there; empty where none is to be restarted.
        health: address that answers 200 while the service is well; empty where its state has to do.
        engine: that the golden frames and the measurement are of.
        graph: that the golden frames are of; None is what the engine takes.
        keys: file of public keys there; empty where none is named.
    """

    name: str
    address: str
    root: str
    link: str
    command: tuple[str, ...]
    systemctl: tuple[str, ...]
    service: str
    health: str
    engine: str
    graph: str | None
    keys: str


@dataclass(frozen=True)
class Pending:
    """A switch after which nobody saw the new model well.

    Attributes:
        old: what was live before.
        new: what the link was, or was to be, switched to.
        is_back: whether people asked for the former model.
    """

    old: str
    new: str
    is_back: bool


@dataclass(frozen=True)
class State:
    """What a board has. Models are named by their SHA-256, and ``none`` is no model.

    Attributes:
        root: absolute folder.
        link: absolute path.
        live: behind the link.
        held: whether the wanted model is there, whole.
        previous: the one before the live one.
        pending: a switch that is not finished.
    """

    root: str
    link: str
    live: str
    held: bool
    previous: str
    pending: Pending | None


def state_from(text: str, wanted: str) -> State:
    """Read what the step ``look`` printed, for a wanted model. Raises DeployError."""
    facts = dict(line.partition(" ")[::2] for line in text.splitlines())
    try:
        old, new, why = (*facts.get("pending", "").split(), "", "", "")[:3]
        pending = Pending(old, new, why == "back") if new else None
        held = facts["held"] == wanted
        return State(facts["root"], facts["link"], facts["live"], held, facts.get("previous", "none"), pending)
    except KeyError as error:
        raise DeployError(f"the board answered without its {error.args[0]}: does its shell print something?") from error
