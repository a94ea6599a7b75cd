"""Bring a model to boards: some first, the others when these are well."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any, Sequence

from edgeseg.app.deploy_config import DeployConfig
from edgeseg.app.inventory import boards_of
from edgeseg.app.models import accepted_keys
from edgeseg.app.shipped import model_path
from edgeseg.bundle import read_bundle
from edgeseg.errors import DeployError, UsageError
from edgeseg.files import file_sha256
from edgeseg.fleet.remote import Remote
from edgeseg.fleet.steps import NOT_TRIED, Order, Outcome, Visit
from edgeseg.progress import Progress

__all__ = ["Deployment", "deploy"]


@dataclass(frozen=True)
class Deployment:
    """What came of a deployment.

    Attributes:
        model: the bundle's file.
        sha256: of it.
        signed_by: fingerprint of the accepted key; None where none was demanded.
        hosts: what came of each board, in the order in which they were named.
    """

    model: str
    sha256: str
    signed_by: str | None
    hosts: Sequence[Outcome]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        hosts = [asdict(one) for one in self.hosts]
        return {"model": self.model, "sha256": self.sha256, "signed_by": self.signed_by, "hosts": hosts}

    def require(self) -> None:
        """Raise DeployError: a board is not as it was asked to be."""
        bad = [one for one in self.hosts if not one.good]
        if bad:
            raise DeployError(
                f"{len(bad)} of {len(self.hosts)} boards are not as asked: "
                f"{', '.join(f'{one.host} ({one.result})' for one in bad)}; mend these and run it again"
            )


def deploy(config: DeployConfig, progress: Progress = Progress()) -> Deployment:
    """Let boards run a model, each of them only where it proves well there.

    Args:
        config: the model, the boards and what is checked.
        progress: takes a line per step of a board, and counts boards.

    Raises:
        UsageError, InputError: the boards or the model cannot be used; no board was touched.
        KeyboardInterrupt: it was interrupted. The same call takes up what is unfinished.
    """
    if config.patience < config.watch:
        raise UsageError(f"`patience` is {config.patience:g} s, which is less than `watch`: {config.watch:g} s")
    boards = boards_of(config)
    file = model_path(config.bundle)
    signer = read_bundle(file, accepted=accepted_keys(config.require_signature)).signer
    order = Order(
        file=file,
        digest=file_sha256(file),
        keys=config.require_signature,
        keys_digest="" if config.require_signature is None else file_sha256(config.require_signature),
        bench_s=config.bench_seconds,
        max_slowdown=config.max_slowdown,
        watch_s=config.watch,
        patience_s=config.patience,
        interval_s=config.watch_interval,
    )
    progress.step(f"model: {file}, SHA-256 {order.digest}")
    visits = [
        Visit(board, Remote(board.address, config.ssh_config, config.timeout), order, progress.step) for board in boards
    ]
    first = visits[: config.canary] if config.canary < len(visits) else visits
    outcomes = _at_once(first, config, progress)
    rest = visits[len(first) :]
    if all(one.good for one in outcomes):
        outcomes += _at_once(rest, config, progress)
    else:
        outcomes += [Outcome(one.board.name, NOT_TRIED, message="a board that went first is not well") for one in rest]
    return Deployment(str(file), order.digest, signer, outcomes)


def _at_once(visits: Sequence[Visit], config: DeployConfig, progress: Progress) -> list[Outcome]:
    """Visit boards side by side; where this is interrupted, no step goes on."""
    if not visits:
        return []
    with ThreadPoolExecutor(config.parallel, thread_name_prefix="edgeseg-deploy") as pool:
        try:
            futures = [pool.submit(one.go_back if config.rollback else one.deploy) for one in visits]
            for done, future in enumerate(as_completed(futures), 1):
                outcome = future.result()
                progress.step(
                    f"{outcome.host}: {outcome.result}" + (f" ({outcome.message})" if outcome.message else "")
                )
                progress.count("boards", done, len(visits))
        except BaseException:
            for one in visits:
                one.stop()
            raise
    return [future.result() for future in futures]
