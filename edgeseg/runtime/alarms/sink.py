"""Follow rules over a run, and act when one begins or ceases to hold."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from functools import partial
from typing import Any, Callable, Sequence

import numpy as np

from edgeseg.errors import EdgesegError, UsageError
from edgeseg.runtime.alarms.actions import AlarmAction
from edgeseg.runtime.alarms.evaluate import Measured, Watch
from edgeseg.runtime.alarms.expression import Rule
from edgeseg.runtime.alarms.roi import RoiSet
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.spec import ModelSpec

__all__ = ["AlarmSink"]


class AlarmSink(FrameSink):
    """Sink that follows rules over the frames of every source, and acts when an alarm goes on or off.

    Actions get ``{"alarm": name, "on": bool, "source", "frame": index, "at": UTC ISO time, "values": {term: value}}``.
    A value is None where it is infinite. When a source has ended for good its alarms go off, with no values and
    ``"why": "its source ended"``. An action that fails does not stop the others: it is told and, where that
    makes sense, tried again. A rule that cannot be evaluated is told once and left as it is.

    Args:
        rules: their names must differ.
        spec: class names.
        rois: the regions that the rules name; they can no longer be removed, but may be changed.
        actions: what to do; closed with the sink.
        tell: ``RunState.tell``.
        is_over: tells by a source's name whether no more frames come from it.

    Raises:
        UsageError: two rules have one name.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        spec: ModelSpec,
        rois: RoiSet,
        actions: Sequence[AlarmAction],
        tell: Callable[[str, str, str], None],
        is_over: Callable[[str], bool] = lambda source: False,
    ) -> None:
        names = [rule.name for rule in rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(
                f"two alarms are called {twice[0]!r}; give one another name, as in 'other: area(...) > 5%'"
            )
        self._rules, self._classes, self._rois = tuple(rules), spec.classes, rois
        self._actions, self._tell = tuple(actions), tell
        self._is_over = is_over
        rois.pin([term.within for rule in rules for term in rule.terms() if term.within])
        self._watches: dict[tuple[str, str], Watch] = {}
        self._before: dict[str, np.ndarray] = {}
        self._frames: dict[str, int] = {}
        self._active: dict[tuple[str, str], dict[str, Any]] = {}
        self._raised = dict.fromkeys(names, 0)
        self._told: set[str] = set()
        self._lock = threading.Lock()
        self.description = f"{len(names)} alarms: {'; '.join(names)}"

    def write(self, result: Segmentation) -> None:
        """Evaluate the rules on a frame and act on those that changed. What fails is told and not raised."""
        source = result.frame.source
        measured = Measured(result, self._classes, self._rois, self._before.get(source))
        self._before[source], self._frames[source] = result.area, result.frame.index
        for action in self._actions:
            self._attempt(action, action.retry)
        for rule in self._rules:
            if rule.source in ("", source):
                self._follow(rule, result, measured)
        for name in [name for name in self._frames if name != source and self._is_over(name)]:
            self._forget(name)

    def active(self) -> list[dict[str, Any]]:
        """Return the record of each alarm that is on, from when it went on. Any thread may ask."""
        with self._lock:
            return list(self._active.values())

    def counts(self) -> dict[str, int]:
        """Count how often each alarm went on, by name."""
        with self._lock:
            return dict(self._raised)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict: what is on, how often each went on, and how the actions fare."""
        return {
            "active": self.active(),
            "raised": self.counts(),
            "actions": [action.to_json() for action in self._actions],
        }

    def close(self) -> None:
        """Close all actions before the deadline."""
        for action in self._actions:  # all at once, so that one that hangs takes no time from the others
            action.finish()
        for action in self._actions:
            self._attempt(action, partial(action.close, self.deadline))

    def _follow(self, rule: Rule, result: Segmentation, measured: Measured) -> None:
        key = (rule.name, result.frame.source)
        watch = self._watches.setdefault(key, Watch(rule))
        try:
            changed = watch.step(measured.holds(rule.condition), result.frame.at_ns)
            if not changed:
                return
            record = _record(rule, result, measured, watch.is_on)
        except UsageError as error:
            if rule.name not in self._told:
                self._told.add(rule.name)
                self._tell("error", "alarm", f"{rule.name}: {error}")
            return
        with self._lock:
            if watch.is_on:
                self._raised[rule.name] += 1
                self._active[key] = record
            else:
                self._active.pop(key, None)
        self._act(record, result)

    def _forget(self, source: str) -> None:
        """Drop a source that is over. Nobody would see its alarms go off, and a long run must not grow."""
        frame = self._frames.pop(source)
        del self._before[source]
        for key in [key for key in self._watches if key[1] == source]:
            del self._watches[key]
            with self._lock:
                record = self._active.pop(key, None)
            if record is not None:
                off = {"on": False, "frame": frame, "at": _now(), "values": {}, "why": "its source ended"}
                self._act({**record, **off}, None)

    def _act(self, record: dict[str, Any], result: Segmentation | None) -> None:
        for action in self._actions:
            self._attempt(action, partial(action.act, record, result))

    def _attempt(self, action: AlarmAction, do: Callable[[], None]) -> None:
        try:
            do()
        except EdgesegError as error:
            self._tell("error", "alarm", f"{action.description}: {error}")


def _record(rule: Rule, result: Segmentation, measured: Measured, is_on: bool) -> dict[str, Any]:
    values = {term.label: measured.value(term) for term in rule.terms()}
    return {
        "alarm": rule.name,
        "on": is_on,
        "source": result.frame.source,
        "frame": result.frame.index,
        "at": _now(),
        "values": {name: round(value, 5) if np.isfinite(value) else None for name, value in values.items()},
    }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
