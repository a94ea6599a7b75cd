"""Servers that are not what was exported: each is one line, and a server that comes back is found soon."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Iterator, NamedTuple, Sequence

import numpy as np
import pytest

from edgeseg.engines.triton import TritonEngine
from edgeseg.errors import EngineError

pytest.importorskip("tritonclient.grpc", reason="the package tritonclient is not installed")
grpc = pytest.importorskip("grpc", reason="the package grpcio is not installed")

FRAMES = ("frames", "UINT8", (-1, 4, 6, 3))
CLASSES = ("classes", "UINT8", (-1, 4, 6))


class _Of(NamedTuple):
    """An answer of a version of the model."""

    version: str
    answer: Any


@contextmanager
def server(inputs: Sequence[Any], outputs: Sequence[Any], answers: Sequence[Any] = ()) -> Iterator[str]:
    """A gRPC server that says of its model what it is told, and gives answers one after the other."""
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    waiting = list(answers)

    class Service(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc, unused-ignore]
        def ModelMetadata(self, request: Any, context: Any) -> Any:
            kind = service_pb2.ModelMetadataResponse
            ports = [
                [kind.TensorMetadata(name=name, datatype=datatype, shape=shape) for name, datatype, shape in side]
                for side in (inputs, outputs)
            ]
            return kind(name=request.name, versions=["1"], inputs=ports[0], outputs=ports[1])

        def ModelInfer(self, request: Any, context: Any) -> Any:
            answer = waiting.pop(0)
            if isinstance(answer, tuple) and not isinstance(answer, _Of):
                context.abort(*answer)
            version, answer = answer if isinstance(answer, _Of) else ("1", answer)
            return service_pb2.ModelInferResponse(
                model_version=version,
                outputs=[
                    service_pb2.ModelInferResponse.InferOutputTensor(name=name, datatype=datatype, shape=shape)
                    for name, datatype, shape, _ in answer
                ],
                raw_output_contents=[raw for *_, raw in answer],
            )

    made = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(), made)
    port = made.add_insecure_port("127.0.0.1:0")
    made.start()
    try:
        yield f"triton://127.0.0.1:{port}/street"
    finally:
        made.stop(None).wait()


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([], []),
        ([FRAMES], []),
        ([], [CLASSES]),
        ([FRAMES, FRAMES], [CLASSES]),
        ([("frames", "FP32", (-1, 4, 6, 3))], [CLASSES]),
        ([FRAMES], [("classes", "INT64", (-1, 4, 6))]),
        ([("frames", "", ())], [CLASSES]),
        *(
            ([("frames", "UINT8", shape)], [CLASSES])
            for shape in ((), (3,), (1, 3, 4, 6), (1, 0, 6, 3), (1, -1, -1, 3))
        ),
        *(
            ([FRAMES], [("classes", "UINT8", shape)])
            for shape in ((), (-1, -1, -1), (1, 4, 6, 1), (1, 3, 5), (1, 0, 0))
        ),
        ([("frames", "UINT8", (1, 4, 8, 3))], [("classes", "UINT8", (1, 4, 8))]),
    ],
)
def test_a_model_that_is_another_one_is_one_line(inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    with server(inputs, outputs) as address, pytest.raises(EngineError) as said:
        TritonEngine(address, (4, 6))
    assert address in str(said.value) and "\n" not in str(said.value)


GOOD = [("classes", "UINT8", (1, 4, 6), bytes(range(24)))]


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [("other", "UINT8", (1, 4, 6), bytes(24))],
        [("classes", "UINT8", (1, 4, 6), bytes(23))],
        [("classes", "UINT8", (1, 4, 6), b"")],
        [("classes", "UINT8", (1, 6, 4), bytes(24))],
        [("classes", "INT8", (1, 4, 6), bytes(24))],
        [("classes", "FP32", (1, 4, 6), bytes(96))],
        [("classes", "FP32", (1, 4, 6), bytes(95))],
        [("classes", "BYTES", (1, 4, 6), bytes(24))],
        [("classes", "NONSENSE", (1, 4, 6), bytes(24))],
        (grpc.StatusCode.INTERNAL, "a\nb"),
        (grpc.StatusCode.INVALID_ARGUMENT, ""),
    ],
)
def test_an_answer_that_is_none_is_one_line_and_the_next_is_taken(answer: Any) -> None:
    with server([FRAMES], [CLASSES], [answer, GOOD]) as address, TritonEngine(address, (4, 6)) as engine:
        with pytest.raises(EngineError) as said:
            engine.infer(engine.input)
        assert address in str(said.value) and "\n" not in str(said.value)
        np.testing.assert_array_equal(engine.infer(engine.input).ravel(), np.arange(24))


@pytest.mark.parametrize(
    "away",
    [
        (grpc.StatusCode.UNAVAILABLE, "queue is full"),
        (grpc.StatusCode.CANCELLED, ""),
        (grpc.StatusCode.INTERNAL, "Stub process 'street_0_0' is not healthy."),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'street' is not ready"),
    ],
)
def test_a_server_that_is_busy_with_itself_is_asked_again(away: Any) -> None:
    pauses: list[float] = []
    with server([FRAMES], [CLASSES], [away, away, GOOD]) as address, TritonEngine(
        address, (4, 6), sleep=pauses.append
    ) as engine:
        assert engine.infer(engine.input).shape == (1, 4, 6)
    assert len(pauses) == 2


OTHER = [("classes", "UINT8", (1, 4, 6), bytes(24))]
AWAY = (grpc.StatusCode.UNAVAILABLE, "")


@pytest.mark.parametrize(
    ("answers", "seconds", "is_noticed"),
    [
        ([OTHER], 0, False),  # other frames have other classes
        ([OTHER], 29, False),
        ([OTHER, GOOD], 31, False),
        ([OTHER, OTHER], 31, True),
        ([AWAY, OTHER, GOOD], 0, False),
        ([AWAY, AWAY, OTHER, OTHER], 0, True),
        ([OTHER, (grpc.StatusCode.INTERNAL, "is not healthy"), OTHER], 31, True),
        ([_Of("2", OTHER), _Of("2", GOOD)], 0, False),
        ([_Of("2", OTHER), _Of("2", OTHER)], 0, True),
    ],
)
def test_another_model_that_takes_the_same_frames_is_noticed(
    answers: Sequence[Any], seconds: float, is_noticed: bool
) -> None:
    now = [5.0]
    last = _Of("2" if any(isinstance(one, _Of) for one in answers) else "1", OTHER)
    with server([FRAMES], [CLASSES], [GOOD, *answers, last]) as address, TritonEngine(
        address, (4, 6), sleep=lambda span: None, clock=lambda: now[0]
    ) as engine:
        engine.watch(engine.input)
        now[0] += seconds
        if is_noticed:
            with pytest.raises(EngineError, match="has another model than when this began: 4.17 % of a golden frame's"):
                engine.infer(engine.input)
            return
        for _ in range(2):  # the second answer, which is the last one, asks nothing more
            assert not engine.infer(engine.input).any()


def test_a_server_that_is_away_is_looked_for_about_every_second() -> None:
    """As gRPC does it by itself, it would be found up to two minutes after it is back."""
    seen: list[int] = []
    with server([FRAMES], [CLASSES]) as address:
        engine = TritonEngine(address, (4, 6), patience_s=10)
    place = ("127.0.0.1", int(address.split(":")[2].partition("/")[0]))
    with engine, socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen()

        def refuse() -> None:
            with suppress(OSError):
                while True:
                    listening.accept()[0].close()
                    seen.append(1)

        threading.Thread(target=refuse, daemon=True).start()
        with pytest.raises(EngineError, match="does not answer for 10 s"):
            engine.infer(engine.input)
        listening.shutdown(socket.SHUT_RDWR)
    assert len(seen) >= 7, "gRPC alone tries five times in ten seconds"
