"""What ``edgeseg deploy`` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

from edgeseg.app.config import ENGINE_NAMES
from edgeseg.app.fields import Config, option
from edgeseg.app.model_fields import signature_field
from edgeseg.app.shipped import absolute_model

__all__ = ["BoardConfig", "DeployConfig"]

_BOARDS = "Boards (also in the inventory, for all of them or for one)"
_CHECKS = "Checks"


def _as_it_is(path: str) -> str:
    """Return a path of a board, which no folder of this machine completes."""
    return path


@dataclass(frozen=True)
class BoardConfig(Config):
    """How a board is kept. The inventory says it of all boards, or of one."""

    root: str = option(
        "edgeseg-models",
        is_path=True,
        absolute=_as_it_is,
        help="Folder of models on the board; relative to the home of the user.",
        panel=_BOARDS,
    )
    link: str = option(
        "",
        is_path=True,
        absolute=_as_it_is,
        help="Path on the board that the service is given as its model; else current.edgeseg in `root`.",
        panel=_BOARDS,
    )
    command: str = option(
        "/opt/edgeseg/bin/edgeseg", help="The edgeseg on the board, with words before it.", panel=_BOARDS
    )
    service: str = option(
        "", help="Restart this unit of systemd, and watch it; else no service is touched.", panel=_BOARDS
    )
    systemctl: str = option(
        "sudo -n systemctl", help="The program that restarts it, with words before and behind it.", panel=_BOARDS
    )
    health: str = option(
        "", help="Address on the board that answers 200 while it is well: http://127.0.0.1:8080/healthz.", panel=_BOARDS
    )
    engine: str = option("auto", help="Engine of the checks there.", choices=ENGINE_NAMES, panel=_BOARDS)
    graph: str = option("", help="Graph whose golden frames are checked; else what the engine takes.", panel=_BOARDS)
    board_keys: str = option(
        "",
        is_path=True,
        absolute=_as_it_is,
        help="File of public keys on the board, by one of which it wants the bundle signed.",
        panel=_BOARDS,
    )


@dataclass(frozen=True)
class DeployConfig(Config):
    """A model, and the boards that are to run it."""

    bundle: Path = option(
        help="The bundle that the boards are to run, or a name of 'edgeseg models'.",
        is_argument=True,
        is_path=True,
        absolute=absolute_model,
    )
    hosts: Sequence[str] = option(
        (), is_argument=True, help="user@host, ssh://user@host:port or a name of the inventory; else all of that."
    )
    inventory: Optional[Path] = option(None, short="-i", is_path=True, help="TOML or JSON file of boards.")
    rollback: bool = option(False, help="Let boards that run this model run the one before it.")
    parallel: int = option(8, at_least=1, at_most=256, help="So many boards at once.")
    canary: int = option(
        1, at_least=0, at_most=10_000, help="So many boards go first; the others follow if all of these are well."
    )
    ssh_config: Optional[Path] = option(None, is_path=True, help="A file in place of ssh's own configuration.")
    timeout: float = option(3600.0, at_least=1.0, help="Seconds for one step on a board; a first engine takes long.")
    board: BoardConfig = BoardConfig()
    bench_seconds: float = option(
        3.0, at_least=0.0, help="Measuring time of each graph; 0 compares no times.", panel=_CHECKS
    )
    max_slowdown: float = option(
        1.5,
        at_least=0.0,
        help="Refuse a model that takes so many times the running one's time per frame; 0 takes any.",
        panel=_CHECKS,
    )
    watch: float = option(60.0, at_least=0.0, help="Seconds that the service must be well on end.", panel=_CHECKS)
    patience: float = option(180.0, at_least=0.0, help="Within so many seconds it must have been.", panel=_CHECKS)
    watch_interval: float = option(2.0, at_least=0.05, help="Seconds between two looks at it.", panel=_CHECKS)
    require_signature: Optional[Path] = signature_field()
