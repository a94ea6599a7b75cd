"""Run a model on a Triton Inference Server, by gRPC: the frames go there, class ids come back."""

from __future__ import annotations

import re
import time
from typing import Any, Callable

import numpy as np

from edgeseg.engines.base import CLOSED, Engine, require_shapes
from edgeseg.errors import EngineError, UsageError, first_line, require

__all__ = ["TritonEngine", "is_triton"]

_ADDRESS = re.compile(
    r"triton://(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(?P<port>\d{1,5}))?/(?P<model>[\w.-]+)(?:/(?P<version>\d+))?",
    re.ASCII,
)
_PORT = 8001
_AWAY = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")
"""Statuses of gRPC of a server that is not there, or no longer."""
_SAID_AWAY = ("is not ready", "is not healthy")
"""What a server says that loads a model, or whose Python backend died and is started again."""
_ANSWER_S = 10.0
"""How long one answer may take: a server that was cut off never says so."""
_PAUSE_S = 0.2
_LOOK_S = 30.0
"""So often a golden frame shows whether the server still has the same model."""
_SAME = 0.999
"""Least share of its pixels that have the class that they had at first. On another machine a few may differ."""
_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # By itself gRPC waits longer and longer between two tries, up to two minutes, though the server is back.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


def is_triton(engine: str) -> bool:
    """Tell whether an engine's name is the address of a model on a server."""
    return engine.startswith("triton://")


class TritonEngine(Engine):
    """Engine for a model of a Triton server, as 'edgeseg export triton' writes it.

    A server that does not answer is asked again for some time, so that it may be restarted. Frames that come meanwhile
    wait or are dropped as the policy of the run says, and are counted.

    A model may be replaced on a server at any time, by one that takes the same frames. ``watch`` has that noticed.

    Args:
        address: ``triton://HOST[:PORT]/MODEL[/VERSION]``; the port is that of gRPC.
        size_hw: height and width of the frames.
        patience_s: seconds for which the server may be away.
        sleep: waits this many seconds; injected in tests.
        clock: seconds that no clock setting changes; injected in tests.

    Raises:
        UsageError: the address is none.
        EngineError: the server or the model is not there, or the model takes something else than frames.
        MissingDependencyError: tritonclient is not installed.
    """

    def __init__(
        self,
        address: str,
        size_hw: tuple[int, int],
        *,
        patience_s: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        found = _ADDRESS.fullmatch(address)
        if found is None or int(found["port"] or _PORT) not in range(1, 65536):
            raise UsageError("`engine` of a server is triton://HOST:PORT/MODEL, the port being that of gRPC (8001)")
        self._grpc = require("tritonclient.grpc", "triton")
        self._model, self._version = found["model"], found["version"] or ""
        self._address, self._patience_s, self._sleep, self._clock = address, patience_s, sleep, clock
        self._watched: tuple[np.ndarray, np.ndarray] | None = None  # frames, and their classes at first
        self._looked, self._served, self._was_away = 0.0, "", False
        place = f"{found['host']}:{found['port'] or _PORT}"
        self._client: Any = self._grpc.InferenceServerClient(place, channel_args=_CHANNEL)
        try:
            metadata = self._asked(
                lambda: self._client.get_model_metadata(self._model, self._version, client_timeout=_ANSWER_S), 0.0
            )
            frames, classes = _ports(metadata, address)
            sizes = [1 if side < 0 else side for side in frames.shape]
            require_shapes(address, sizes, [sizes[0], *classes.shape[1:]])
        except BaseException:
            self.close()
            raise
        if tuple(sizes[1:3]) != size_hw:
            self.close()
            raise EngineError(
                f"{address} takes frames of {sizes[2]}x{sizes[1]}, and the bundle says {size_hw[1]}x{size_hw[0]}; name "
                "the bundle that was exported"
            )
        self.input = np.zeros(sizes, np.uint8)
        self._classes = np.zeros((sizes[0], *classes.shape[1:]), np.uint8)
        self._given = self._grpc.InferInput(frames.name, sizes, "UINT8")
        self._wanted = [self._grpc.InferRequestedOutput(classes.name)]
        self.description = f"Triton at {address}, version {metadata.versions[-1] if metadata.versions else 'unknown'}"

    def watch(self, frames: np.ndarray) -> None:
        """Refuse answers once the server gives other classes for some frames than it does now.

        It is asked about them again when it was away, when it says another version of the model, and every half minute.

        Args:
            frames: NxHxWx3 uint8 BGR, as ``infer`` takes them.

        Raises:
            EngineError: the server does not answer.
        """
        self._watched = (frames.copy(), self.infer(frames).copy())
        self._looked, self._was_away = self._clock(), False

    def _run(self) -> np.ndarray:
        served = self._served
        classes = self._answered(self.input)
        if self._watched is not None and (
            self._was_away or self._served != served or self._clock() >= self._looked + _LOOK_S
        ):
            self._require_same(*self._watched)
        np.copyto(self._classes, classes)
        return self._classes

    def _require_same(self, frames: np.ndarray, before: np.ndarray) -> None:
        """Raise EngineError: the model was replaced since ``watch``."""
        same = float(np.mean(self._answered(frames) == before))
        if same < _SAME:
            raise EngineError(
                f"{self._address} has another model than when this began: {100 * same:.2f} % of a golden frame's pixels"
                " have the class that they had; start it again with the bundle that the server runs now"
            )
        self._looked, self._was_away = self._clock(), False

    def _answered(self, frames: np.ndarray) -> np.ndarray:
        """Return class ids NxHxW of the server. Raises EngineError."""
        if self._client is None:
            raise EngineError(CLOSED)
        self._given.set_data_from_numpy(frames)
        answer = self._asked(
            lambda: self._client.infer(
                self._model, [self._given], self._version, outputs=self._wanted, client_timeout=_ANSWER_S
            ),
            self._patience_s,
        )
        try:
            found: np.ndarray | None = answer.as_numpy(self._wanted[0].name())
        except Exception:  # of bytes that are not what the answer says of them
            found = None
        if found is None or found.shape != self._classes.shape or found.dtype != np.uint8:
            raise EngineError(f"{self._address} answered with something else than {self._classes.shape} uint8")
        self._served = str(answer.get_response().model_version)
        return found

    def _asked(self, ask: Callable[[], Any], patience_s: float) -> Any:
        """Return an answer; a server that is away is asked again until the patience ends. Raises EngineError."""
        until = time.monotonic() + patience_s
        while True:
            try:
                return ask()
            except self._grpc.InferenceServerException as error:
                is_away = str(error.status() or "").rpartition(".")[2] in _AWAY or any(
                    said in str(error) for said in _SAID_AWAY
                )
                if is_away and time.monotonic() < until:
                    self._was_away = True
                    self._sleep(_PAUSE_S)
                    continue
                waited = f" for {patience_s:g} s" if is_away and patience_s else ""
                what = "does not answer" if is_away else "refused"
                raise EngineError(f"{self._address} {what}{waited}: {first_line(error)}") from error

    def close(self) -> None:
        """Close the connection. May be called twice."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _ports(metadata: Any, address: str) -> tuple[Any, Any]:
    """Return the input of frames and the output of class ids. Raises EngineError: there are others."""
    fits = len(metadata.inputs) == 1 and len(metadata.outputs) >= 1
    if fits:
        frames, classes = metadata.inputs[0], metadata.outputs[0]
        if (frames.datatype, classes.datatype) == ("UINT8", "UINT8") and len(frames.shape) == 4:
            return frames, classes
    given = ", ".join(f"{one.datatype} {list(one.shape)}" for one in (*metadata.inputs, *metadata.outputs))
    raise EngineError(f"{address} has {given}; expected frames UINT8 NxHxWx3 and class ids UINT8 NxHxW")
