"""What is done with one board. A step that fails is undone; a run that was killed is taken up by the next."""

from __future__ import annotations

import json
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable

from edgeseg.errors import DeployError
from edgeseg.fleet.board import Board, State, state_from
from edgeseg.fleet.commands import bench_words, verify_words, version_words
from edgeseg.fleet.driver import is_gone, shown, this_driver
from edgeseg.fleet.remote import Remote, Unreachable

__all__ = ["ALREADY", "FAILED", "LIVE", "NOT_TRIED", "Order", "Outcome", "ROLLED_BACK", "UNREACHABLE", "Visit"]

LIVE, ALREADY, ROLLED_BACK, FAILED = "live", "already live", "rolled back", "failed"
UNREACHABLE, NOT_TRIED = "unreachable", "not tried"
BACK, NOT_LIVE = "gone back", "not live"
_GOOD = (LIVE, ALREADY, BACK, NOT_LIVE)
_REFUSED = 3
_NONE = "none"


@dataclass(frozen=True)
class Order:
    """What is to be brought to boards.

    Attributes:
        file: the bundle here.
        digest: its SHA-256, 64 hexadecimal digits.
        keys: file of public keys one of which must have signed it; None demands nothing.
        keys_digest: SHA-256 of that file.
        bench_s: measuring time for each contender; 0 measures nothing.
        max_slowdown: refuse a model whose frames take so many times as long as the running one's; 0 takes any.
        watch_s: how long the service must be well on end.
        patience_s: within which time it must have been.
        interval_s: between two looks.
    """

    file: Path
    digest: str
    keys: Path | None
    keys_digest: str
    bench_s: float
    max_slowdown: float
    watch_s: float
    patience_s: float
    interval_s: float


@dataclass(frozen=True)
class Outcome:
    """What came of one board.

    Attributes:
        host: its name.
        result: ``live``, ``already live``, ``rolled back`` (a step failed; what ran before runs again), ``failed`` (it
            could not be rolled back), ``unreachable``, ``not tried``, ``gone back``, ``not live``.
        step: that failed; empty where none did.
        message: why, or what there is to say.
        before: SHA-256 of what was live, or None.
        after: SHA-256 of what is live, or None where it is not known.
        golden: share of golden pixels with the class that FP32 gave on the host, the worst graph; None: not run.
        ms: median per frame of the new model, end to end.
        ms_before: the same of the model that ran.
        seconds: that it took.
    """

    host: str
    result: str
    step: str = ""
    message: str = ""
    before: str | None = None
    after: str | None = None
    golden: float | None = None
    ms: float | None = None
    ms_before: float | None = None
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Tell whether the board is as it was asked to be."""
        return self.result in _GOOD


class Visit:
    """The work on one board.

    Args:
        board: which.
        remote: how commands get there.
        order: what for.
        tell: takes a line for people at a time.
    """

    def __init__(self, board: Board, remote: Remote, order: Order, tell: Callable[[str], None]) -> None:
        self.board, self._remote, self._order, self._to = board, remote, order, tell
        self._step = "connect"
        self._token = secrets.token_hex(8)
        self._root = ""  # once the board is locked
        self._outcome = Outcome(board.name, FAILED)
        self._is_unsure = False  # of what the link leads to
        self._began = time.monotonic()

    def stop(self) -> None:
        """End the command that runs there, and let no other begin."""
        self._remote.stop()

    def deploy(self) -> Outcome:
        """Let the board run the model, or what it ran before."""
        return self._guarded(self._deploy)

    def go_back(self) -> Outcome:
        """Let a board that runs the model run the one before it."""
        return self._guarded(self._go_back)

    def _guarded(self, work: Callable[[], None]) -> Outcome:
        try:
            work()
        except Unreachable as error:
            is_lost = self._step not in ("connect", "look")
            more = (
                "; run it again when the board is back, which takes up or undoes what is unfinished" if is_lost else ""
            )
            self._note(result=UNREACHABLE, step=self._step, message=f"{error}{more}")
        except DeployError as error:
            self._note(result=FAILED, step=self._step, message=str(error))
        if self._root and self._outcome.result != UNREACHABLE:
            with suppress(DeployError):
                self._do("unlock", self._root, self._token)
        if self._is_unsure:
            self._note(after=None)
        return replace(self._outcome, seconds=round(time.monotonic() - self._began, 2))

    def _note(self, **what: Any) -> None:
        self._outcome = replace(self._outcome, **what)

    def _tell(self, line: str) -> None:
        self._to(f"{self.board.name}: {line}")

    def _begin(self, step: str) -> None:
        self._step = step
        self._tell(step)

    # Bringing a model

    def _deploy(self) -> None:
        wanted = self._order.digest
        state = self._look()
        if state.pending is not None and not state.live == wanted == state.pending.new:
            state = self._undone(state, "unfinished")
        if state.live == wanted:
            self._finish(state)
            return
        try:
            self._prepare(state)
        except Unreachable:
            raise
        except DeployError as error:
            self._do("drop", state.root, state.link, wanted)
            self._note(result=ROLLED_BACK, step=self._step, message=str(error))
            return
        self._switch(state, wanted, "deploy")
        self._start(state)

    def _look(self) -> State:
        self._begin("look")
        board, state = self.board, self._state()
        self._note(before=_known(state.live), after=_known(state.live))
        try:
            self._program(version_words())
        except Unreachable:
            raise
        except DeployError as error:
            raise DeployError(f"no edgeseg answers there ({error}); say where it is with `command`") from error
        if board.service:
            self._do("serves", state.link, board.service, *board.systemctl)
        return state

    def _finish(self, state: State) -> None:
        """Take up what a killed run left, where the model is live already."""
        if state.pending is not None:
            self._tell("a deployment of this model was not finished: it is taken up")
            self._note(before=_known(state.pending.old))
            self._start(state)
            return
        if self.board.service:
            self._begin("health")
            try:
                self._watch(0, self._order.patience_s)
            except Unreachable:
                raise
            except DeployError as error:
                self._tell(f"{error}; it is restarted")
                self._restart()
                self._begin("health")
                self._watch(self._order.watch_s, self._order.patience_s)
                self._note(result=LIVE, message=f"restarted, since {error}")
                return
        self._note(result=ALREADY)

    def _prepare(self, state: State) -> None:
        """Everything that can be done while the former model runs."""
        wanted = f"{state.root}/models/{self._order.digest}.edgeseg"
        if not state.held:
            self._begin("copy")
            self._do("copy", state.root, self._order.digest, secrets.token_hex(8), send=self._order.file)
        self._begin("golden frames")
        keys = self._keys(state)
        words = verify_words(wanted, self.board.engine, self.board.graph, keys)
        self._note(golden=_checked(self._document(words, codes=(0, _REFUSED))))
        if self._order.bench_s:
            self._begin("bench")
            self._compare(state, wanted, keys)

    def _keys(self, state: State) -> str:
        """Return the file there with which the board checks the signature itself; empty where none is demanded."""
        if self.board.keys or self._order.keys is None:
            return self.board.keys
        self._do("key", state.root, self._order.keys_digest, send=self._order.keys)
        return f"{state.root}/keys/{self._order.keys_digest}.pem"

    def _compare(self, state: State, wanted: str, keys: str) -> None:
        new = self._measured(wanted, keys)
        self._note(ms=new)
        if state.live == _NONE:
            return
        try:
            old = self._measured(state.link, "")
        except Unreachable:
            raise
        except DeployError as error:
            self._tell(f"the running model cannot be measured, so there is nothing to compare with: {error}")
            return
        self._note(ms_before=old)
        most = self._order.max_slowdown
        if most and new > most * old:
            raise DeployError(
                f"{new:.2f} ms per frame, {new / old:.2f} times the running model's {old:.2f} ms; `max_slowdown` is "
                f"{most:g}"
            )

    def _measured(self, model: str, keys: str) -> float:
        words = bench_words(model, self.board.engine, self._order.bench_s, keys)
        try:
            return float(self._document(words)["contenders"][0]["ms_per_frame"]["p50_ms"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise DeployError("the edgeseg there measures in another way; install the same version there") from error

    def _document(self, words: list[str], codes: tuple[int, ...] = (0,)) -> Any:
        text = self._program(words, codes)
        try:
            return json.loads(text[text.index("{") :])
        except ValueError as error:
            raise DeployError(f"'edgeseg {words[0]}' there gave no JSON; install the same version there") from error

    # Running it

    def _switch(self, state: State, to: str, why: str) -> None:
        self._begin("switch")
        self._is_unsure = True
        self._do("switch", state.root, state.link, state.live, to, why)

    def _start(self, state: State) -> None:
        """Restart the service with what is behind the link, watch it, and go back where it is not well."""
        try:
            self._restart()
            if self.board.service:
                self._begin("health")
                self._watch(self._order.watch_s, self._order.patience_s)
            self._step = "settle"
            self._do("settle", state.root, state.link, self._order.digest)
        except Unreachable:
            raise
        except DeployError as error:
            step, message = self._step, str(error)
            now = self._undone(state, "roll back", f"{step}: {message}; then it could not be rolled back: ")
            if now.live != _NONE:
                self._require_well(f"{step}: {message}; the former model runs again, and is not well either: ")
            self._note(result=ROLLED_BACK, step=step, message=message)
            return
        self._is_unsure = False
        self._note(result=LIVE, after=self._order.digest)

    def _undone(self, state: State, step: str, context: str = "") -> State:
        """Go back to what was live before a switch that is not finished. Raises DeployError, with its context."""
        self._begin(step)
        self._is_unsure = True
        try:
            self._do("back", state.root, state.link)
            now = self._state()
            if now.live != _NONE:
                self._restart()
            elif self.board.service:
                self._do("halt", self.board.service, *self.board.systemctl)
            self._do("forget", state.root)
        except DeployError as error:
            raise type(error)(f"{context}{error}") from error
        self._is_unsure = False
        self._note(after=_known(now.live))
        return replace(now, pending=None)

    def _state(self, gone: str = "-") -> State:
        """Look at the board, and lock it; in place of a deployment that is gone."""
        board, wanted = self.board, self._order.digest
        said = self._remote.step("look", board.root, board.link, wanted, self._token, this_driver(), gone)
        if said.startswith("busy "):
            token, _, driver = said.strip()[len("busy ") :].partition(" ")
            if is_gone(driver) and gone != token:
                return self._state(token)
            if gone == token:
                raise DeployError(
                    f"what a deployment started still runs there, though that one has ended ({shown(driver)}); run it "
                    "again when that has ended too"
                )
            raise DeployError(
                f"another deployment is at work there, or was 30 s ago: {shown(driver)}; run it again when it has ended"
            )
        state = state_from(said, wanted)
        self._root = state.root
        return state

    def _do(self, step: str, *arguments: str, send: Path | None = None, codes: tuple[int, ...] = (0,)) -> str:
        """Run a step of ours there, and return what it printed."""
        return self._remote.step("locked", self._root, self._token, step, *arguments, send=send, codes=codes)

    def _program(self, words: list[str], codes: tuple[int, ...] = (0,)) -> str:
        """Run the edgeseg there, and return what it printed."""
        seconds = str(round(self._remote.timeout_s) or 1)
        return self._do("program", seconds, *self.board.command, *words, codes=codes)

    def _restart(self) -> None:
        if self.board.service:
            self._begin("restart")
            self._do("restart", self.board.service, *self.board.systemctl)

    def _require_well(self, context: str) -> None:
        """Look until the service is well. Raises DeployError, with its context."""
        if self.board.service:
            self._begin("health")
            try:
                self._watch(0, self._order.patience_s)
            except DeployError as error:
                raise type(error)(f"{context}{error}") from error

    def _watch(self, needed_s: float, patience_s: float) -> None:
        spans = [str(round(100 * span)) for span in (needed_s, patience_s)]
        interval = f"{self._order.interval_s:g}"
        self._do("watch", self.board.service, self.board.health, *spans, interval, *self.board.systemctl)

    # Going back by hand

    def _go_back(self) -> None:
        mine, state = self._order.digest, self._look()
        pending = state.pending
        if pending is not None and pending.is_back and pending.old == mine and state.live == pending.new:
            self._leave(state, pending.new)
            return
        if pending is not None:
            state = self._undone(state, "unfinished")
            if pending.new == mine:
                self._require_well("the former model runs again, and is not well: ")
                self._note(result=BACK)
                return
        if state.live != mine:
            self._note(result=NOT_LIVE, message="it runs another model, and stays as it is")
            return
        if state.previous == _NONE:
            raise DeployError("there is no former model on the board")
        self._switch(state, state.previous, "back")
        self._leave(state, state.previous)

    def _leave(self, state: State, former: str) -> None:
        """Run the former model. Nothing is undone where it is not well either: people wanted away from this one."""
        self._restart()
        self._do("settle", state.root, state.link, former)
        self._is_unsure = False
        self._note(result=BACK, after=former)
        if self.board.service:
            self._begin("health")
            self._watch(self._order.watch_s, self._order.patience_s)


def _known(digest: str) -> str | None:
    return None if digest == _NONE else digest


def _checked(document: Any) -> float:
    """Return the worst agreement that ``edgeseg verify`` found. Raises DeployError: a graph failed."""
    try:
        results = document["results"]
        failed = [one for one in results if not one["passed"]]
        if failed:
            one = failed[0]
            lost = f", lost: {', '.join(one['lost'])}" if one["lost"] else ""
            raise DeployError(
                f"{one['graph']} gives {100 * one['agreement']:.2f} % of pixels as FP32 on the host, the limit is "
                f"{100 * one['limit']:g} %{lost}"
            )
        return min(float(one["agreement"]) for one in results)
    except (KeyError, TypeError, ValueError) as error:
        raise DeployError("the edgeseg there checks in another way; install the same version there") from error
