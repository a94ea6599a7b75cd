"""What ``edgeseg tune`` found fastest on this machine's CPU, remembered per machine and model."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeseg.device.detect import detected_device
from edgeseg.engines.select import CPU_ENGINES, ENGINES, cpu_graphs, installed_engines
from edgeseg.engines.tensorrt.factory import model_digest
from edgeseg.files import atomic_write

if TYPE_CHECKING:
    from edgeseg.bundle import Bundle

__all__ = ["HostChoice", "HostChoices"]


@dataclass(frozen=True)
class HostChoice:
    """A way to run a bundle on a CPU: engine, graph, and threads (0 for all)."""

    engine: str
    graph: str
    threads: int

    @property
    def name(self) -> str:
        """Return what people call it, such as ``int8-cpu in openvino, 2 threads``."""
        return f"{self.graph} in {self.engine}, {self.threads or 'all'} threads"


class HostChoices:
    """A folder of choices, a file per model. A choice is bound to the CPU, its cores and the engines' versions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, bundle: Bundle) -> HostChoice | None:
        """Return the choice for a bundle here; None where there is none, or where it cannot be used any more."""
        kept: Any = self._kept(bundle).get(_place())
        try:
            choice = HostChoice(str(kept["engine"]), str(kept["graph"]), int(kept["threads"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        usable = choice.engine in installed_engines() and choice.graph in cpu_graphs(bundle) and choice.threads >= 0
        return choice if usable else None

    def keep(self, bundle: Bundle, choice: HostChoice) -> None:
        """Remember a choice for a bundle here.

        Raises:
            OSError: the disk refused.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        data = json.dumps({**self._kept(bundle), _place(): asdict(choice)}, indent=1)
        atomic_write(self._path(bundle), data.encode())

    def _kept(self, bundle: Bundle) -> dict[str, Any]:
        try:
            found = json.loads(self._path(bundle).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _path(self, bundle: Bundle) -> Path:
        return self._folder / f"{model_digest(bundle)[:16]}.json"


def _place() -> str:
    """Name what a choice is bound to."""
    device = detected_device()
    versions = [f"{name} {_version(ENGINES[name].module)}" for name in CPU_ENGINES if name in installed_engines()]
    return ", ".join([device.cpu, f"{device.cores} cores", *versions])


def _version(module: str) -> str:
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
