"""Run a TensorRT plan: name-based I/O, ``execute_async_v3`` on streams of its own, buffers allocated once."""

from __future__ import annotations

import math
import traceback
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Iterator

import numpy as np

from edgeseg.device.driver_errors import translated
from edgeseg.engines.base import CLOSED, Engine, require_shapes
from edgeseg.engines.cuda.device import Buffer, Cuda, CudaGraph, Event, Kernel, Stream
from edgeseg.engines.tensorrt.api import Log, TensorRt
from edgeseg.engines.tensorrt.layers import layer_kinds
from edgeseg.errors import EngineError, UsageError

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["MEMORIES", "SWITCHES", "TensorRtEngine"]

SWITCHES = ("auto", "on", "off")
MEMORIES = ("auto", "mapped", "copy")
_SLOTS = 2
_PICTURES = 4


class TensorRtEngine(Engine):
    """Engine for a plan on the GPU; one thread owns it.

    ``infer`` handles one batch from start to end. ``submit`` and ``collect`` keep two batches in flight, so that copies
    and the caller's own work overlap with computing. What ``collect`` returns is valid until the next but one
    ``submit``.

    A captured CUDA graph holds the addresses of its execution context, so that each slot has a context of its own
    (NVIDIA's rule). All run on one stream, one after the other, and share their scratch memory: a second context costs
    no second set of activations. Without CUDA graphs there is one context.

    Args:
        plan: bytes of the engine, built by this TensorRT for this GPU.
        api: that TensorRT.
        cuda: the GPU; closed with the engine.
        name: name for the description, e.g. ``"int8-implicit"``.
        cuda_graph: ``"auto"`` replays a captured graph if it gives the same answer as a plain run, ``"on"`` raises
            if it does not, ``"off"`` never does.
        memory: ``"mapped"`` shares host memory with the GPU (best where it is the same memory), ``"copy"`` copies;
            ``"auto"`` maps on integrated GPUs.
        dla_core: the DLA core that the plan was built for; None is the GPU only.

    Attributes:
        laps_ms: times of the latest batch, by CUDA events: ``h2d``, ``compute``, ``d2h``.
        graph_note: why CUDA graphs are not used although ``"auto"``; empty when they are.

    Raises:
        EngineError: the plan is not for this TensorRT or GPU, has other ports, or CUDA failed. Nothing stays
            allocated.
    """

    def __init__(
        self,
        plan: bytes,
        api: TensorRt,
        cuda: Cuda,
        name: str = "engine",
        *,
        cuda_graph: str = "auto",
        memory: str = "auto",
        dla_core: int | None = None,
    ) -> None:
        if cuda_graph not in SWITCHES or memory not in MEMORIES:
            raise UsageError(f"a CUDA graph is {'|'.join(SWITCHES)} and memory {'|'.join(MEMORIES)}")
        self._api, self._cuda, self._log = api, cuda, Log()
        self._freed = ExitStack()
        self._closed = False
        self._contexts: list[Any] = []
        self._profiled: Any = None
        self._engine: Any = None
        self._runtime: Any = None
        self._upload: Stream
        self._compute: Stream
        self._download: Stream
        self.input = np.zeros((0, 0, 0, 3), np.uint8)
        self._slots: list[_Slot] = []
        self._flying: list[_Slot] = []
        self._turn = 0
        self.graph_note = ""
        mapped = cuda.facts.integrated if memory == "auto" else memory == "mapped"
        try:
            with cuda.current():
                self._open(plan, mapped, _SLOTS if cuda_graph != "off" else 1, dla_core)
            self.input, self.scores = self._slots[0].frame.host, self._slots[0].scores_host
            self._prepare_graphs(cuda_graph)
            self._log.errors.clear()  # of a capture that failed; later errors are not its
        except BaseException as error:
            # The failed calls still hold TensorRT's objects, which must go before the CUDA context does.
            said: BaseException | None = error
            while said is not None:
                traceback.clear_frames(said.__traceback__)
                said = said.__context__
            self.close()
            if isinstance(error, EngineError) or not isinstance(error, Exception):
                raise
            raise api.failure(error, self._log) from error
        how = ["mapped memory" if mapped else "pinned copies"]
        how += ["CUDA graph"] if self._slots[0].graph is not None else []
        how += ["conversion on the device"] if self._slots[0].conversions else []
        self.description = f"{api.name} on {cuda.facts.name}, {name}, {', '.join(how)}"

    def _open(self, plan: bytes, mapped: bool, contexts: int, dla_core: int | None) -> None:
        try:
            self._load(plan, contexts, dla_core)
        except EngineError:
            raise
        except Exception as error:  # TensorRT's bindings raise many types, without a common base
            raise self._api.failure(error, self._log) from error
        ports = self._ports()
        self._compute = self._stream()
        self._upload, self._download = (self._compute if mapped else self._stream() for _ in range(2))
        for index in range(_SLOTS):
            slot = _Slot(self._cuda, ports, mapped, self._freed)
            slot.context = self._contexts[index % contexts]
            self._slots.append(slot)

    def _load(self, plan: bytes, contexts: int, dla_core: int | None) -> None:
        """Make TensorRT's objects, and the scratch memory that its contexts share."""
        api = self._api
        self._logger = api.logger(self._log)
        self._runtime = api.runtime(self._logger, self._log, dla_core)
        self._engine = self._some(self._runtime.deserialize_cuda_engine(plan), "load the plan")
        self._scratch = self._cuda.scratch(max(api.scratch_bytes(self._engine), 1))
        self._freed.callback(self._scratch.free)
        for _ in range(contexts):
            self._contexts.append(self._context())

    def _context(self) -> Any:
        context = self._api.context_on(self._engine, self._scratch.address, self._api.scratch_bytes(self._engine))
        return self._some(context, "make an execution context")

    def _stream(self) -> Stream:
        stream = self._cuda.stream()
        self._freed.callback(stream.free)
        return stream

    def _ports(self) -> dict[str, _Port]:
        """Return the checked ports by name: one frame, the classes, maybe scores."""
        engine: trt.ICudaEngine = self._engine
        modes = self._api.trt.TensorIOMode
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        ports = {
            name: _Port(
                name,
                tuple(int(size) for size in engine.get_tensor_shape(name)),  # type: ignore[attr-defined, unused-ignore]
                self._api.dtype(engine.get_tensor_dtype(name)),
                engine.get_tensor_mode(name) == modes.INPUT,
            )
            for name in names
        }
        frame, classes = ports.get("frame"), ports.get("classes")
        if frame is None or classes is None or not frame.is_input or set(ports) - {"frame", "classes", "scores"}:
            raise EngineError(f"the plan has the tensors {', '.join(ports)}, not frame and classes; build it again")
        require_shapes("the plan", *(port.shape for port in (frame, classes, ports.get("scores")) if port is not None))
        return ports

    def _some(self, made: Any, what: str) -> Any:
        if made is None:
            raise EngineError(f"{self._api.name} could not {what}: {self._log.reason()}")
        return made

    def _run(self) -> np.ndarray:
        slot = self._idle()
        self._start(slot)
        return self._finish(slot)

    def _idle(self) -> _Slot:
        if not self._slots:
            raise EngineError(CLOSED)
        if self._flying:
            raise EngineError("collect what was submitted before calling infer")
        return self._slots[0]

    def layers_ms(self, runs: int) -> list[tuple[str, str, float]]:
        """Measure TensorRT's layers on the frames in ``input``, in plain runs of the network.

        TensorRT waits for each run and reads the events between its kernels, so that a run takes longer than usual.

        Args:
            runs: that count; as many go before to warm it up.

        Returns:
            Name, kind and mean milliseconds per run of every layer, in their order.

        Raises:
            EngineError: the engine is closed, something was submitted, or TensorRT or CUDA failed.
        """
        slot = self._idle()
        took: list[tuple[str, float]] = []
        with self._cuda.current():
            if self._profiled is None:  # a context of its own: those of CUDA graphs stay as they were captured
                self._profiled = self._context()
            profiler = self._api.profiler(lambda name, ms: took.append((name, ms)))
            self._profiled.profiler = profiler
            try:
                slot.frame.upload(self._compute)
                for run in range(2 * runs):
                    if run == runs:
                        took.clear()
                    self._enqueue(slot, self._profiled)
                self._compute.synchronize()
            finally:
                self._profiled.profiler = None  # before it is gone, whatever failed
            kinds = layer_kinds(self._api.inspected(self._engine))
        total: dict[str, float] = defaultdict(float)
        for name, ms in took:
            total[name] += ms
        return [(name, kinds.get(name, ""), ms / runs) for name, ms in total.items()]

    def submit(self, frames: np.ndarray) -> None:
        """Start segmenting frames without waiting for the answer.

        Args:
            frames: NxHxWx3 uint8 BGR as for ``infer``; copied before this returns.

        Raises:
            EngineError: two batches are in flight already, the shape is wrong, or CUDA failed.
        """
        if not self._slots:
            raise EngineError(CLOSED)
        if len(self._flying) == _SLOTS:
            raise EngineError("two batches are in flight already; collect one first")
        slot = self._slots[self._turn]
        if frames.shape != slot.frame.host.shape or frames.dtype != np.uint8:
            raise EngineError(f"the engine takes {slot.frame.host.shape} uint8, got {frames.shape} {frames.dtype}")
        np.copyto(slot.frame.host, frames)
        self._start(slot)
        self._flying.append(slot)
        self._turn = (self._turn + 1) % _SLOTS

    def collect(self) -> np.ndarray:
        """Wait for the batch that was submitted first and return its NxHxW uint8 classes.

        Raises:
            EngineError: nothing was submitted, or CUDA failed.
        """
        if not self._flying:
            raise EngineError("nothing was submitted" if self._slots else CLOSED)
        return self._finish(self._flying.pop(0))

    def _start(self, slot: _Slot) -> None:
        with self._cuda.current():
            with _lap(slot, "h2d", self._upload) as uploaded:
                slot.frame.upload(self._upload)
            self._compute.wait_for(uploaded)
            with _lap(slot, "compute", self._compute) as computed:
                if slot.graph is not None:
                    slot.graph.launch(self._compute)
                else:
                    self._enqueue(slot, slot.context)
            self._download.wait_for(computed)
            with _lap(slot, "d2h", self._download):
                for buffer in slot.results:
                    buffer.download(self._download)

    def _finish(self, slot: _Slot) -> np.ndarray:
        with self._cuda.current():
            slot.laps["d2h"][1].synchronize()
            self.laps_ms = {part: begin.ms_until(end) for part, (begin, end) in slot.laps.items()}
        return slot.classes.host

    def _enqueue(self, slot: _Slot, context: trt.IExecutionContext) -> None:
        """Queue the network and its conversions on the compute stream."""
        before, after = slot.conversions.get("frame"), slot.conversions.get("classes")
        if before is not None:
            before.launch(slot.frame.address, slot.addresses["frame"], self._compute)
        for name, address in slot.addresses.items():
            if not context.set_tensor_address(name, address):
                raise EngineError(f"{self._api.name} refuses the address of {name}: {self._log.reason()}")
        if not context.execute_async_v3(self._compute.handle):
            raise EngineError(f"{self._api.name} could not start the network: {self._log.reason()}")
        if after is not None:
            after.launch(slot.addresses["classes"], slot.classes.address, self._compute)

    def _prepare_graphs(self, wanted: str) -> None:
        """Run each slot (TensorRT allocates on a first run), then capture them all, then verify them all."""
        answers = self._plain_answers()
        try:
            if wanted != "off":
                self._capture()
                self._verify(answers, "a replayed CUDA graph gives another answer than a plain run")
        except EngineError as error:
            if wanted == "on":
                raise
            self.graph_note = f"no CUDA graph: {error}"
            for slot in self._slots:
                slot.drop_graph()
            self._verify(answers, "plain runs give another answer after a CUDA graph failed; use `cuda_graph` off")
        for slot in self._slots:
            slot.frame.host[...] = 0

    def _plain_answers(self) -> list[list[np.ndarray]]:
        """Return the results of a plain run of each slot, on a picture of its own that stays in it."""
        answers: list[list[np.ndarray]] = []
        for slot in self._slots:
            for grain in range(len(answers), _PICTURES):
                slot.frame.host[...] = _picture(slot.frame.host.shape, grain)
                self._start(slot)
                self._finish(slot)
                found = [buffer.host.copy() for buffer in slot.results]
                if not any(np.array_equal(found[0], other[0]) for other in answers):
                    break  # only pictures with different answers show that a slot reads another's
            answers.append(found)
        return answers

    def _capture(self) -> None:
        for slot in self._slots:
            with self._cuda.current():
                slot.graph = self._cuda.capture(self._compute, lambda slot=slot: self._enqueue(slot, slot.context))  # type: ignore[misc]

    def _verify(self, answers: list[list[np.ndarray]], otherwise: str) -> None:
        """Run all slots, in flight together, on the pictures in them. Raises EngineError, saying ``otherwise``."""
        with self._cuda.current():
            for slot, answer in zip(self._slots, answers):
                for buffer, right in zip(slot.results, answer):
                    buffer.host.view(np.uint8)[...] = ~right.view(np.uint8)
                    buffer.upload(self._upload)  # a replay that does nothing must not find the old answer
        for slot in self._slots:
            self._start(slot)
        for slot in self._slots:
            self._finish(slot)
        for slot, answer in zip(self._slots, answers):
            if not all(np.array_equal(buffer.host, right) for buffer, right in zip(slot.results, answer)):
                raise EngineError(otherwise)

    def close(self) -> None:
        """Wait for what is in flight and free everything. May be called twice.

        Raises:
            EngineError: CUDA failed.
        """
        self._flying = []
        self._slots, slots = [], self._slots
        # What pointed to page-locked memory must not be touched any more.
        self.input, self.scores = np.zeros(self.input.shape, np.uint8), None
        if self._closed:
            return
        self._closed = True
        with translated("CUDA failed"), ExitStack() as last:
            last.callback(self._cuda.close)
            last.callback(self._give_back, slots)  # what is left, where no context could be made current
            # Without one TensorRT's destructors, which call CUDA's runtime, would take one for good.
            with self._cuda.current():
                try:
                    for stream in (self._upload, self._compute, self._download) if slots else ():
                        stream.synchronize()
                finally:
                    self._give_back(slots)

    def _give_back(self, slots: list[_Slot]) -> None:
        """Release graphs and TensorRT's objects, then the memory that they point to."""
        for slot in slots:
            slot.drop_graph()
            slot.context = None
        self._contexts.clear()
        self._profiled = self._engine = self._runtime = None
        self._freed.close()


@contextmanager
def _lap(slot: _Slot, part: str, stream: Stream) -> Iterator[Event]:
    """Put the body of a ``with`` between two events; yield the one behind it."""
    begin, end = slot.laps[part]
    begin.record(stream)
    yield end
    end.record(stream)


def _picture(shape: tuple[int, ...], grain: int) -> np.ndarray:
    """Make noise in squares of 4 ** ``grain`` pixels, NxHxWx3 uint8: each grain is another picture."""
    n, y, x, channel = np.ogrid[tuple(slice(size) for size in shape)]
    number = ((n * shape[1] + (y >> 2 * grain)) * shape[2] + (x >> 2 * grain)) * shape[3] + channel
    noise: np.ndarray = (number.astype(np.uint32) * np.uint32(2654435761) >> np.uint32(13)).astype(np.uint8)
    return noise


class _Port:
    """A tensor of the engine's interface."""

    def __init__(self, name: str, shape: tuple[int, ...], dtype: Any, is_input: bool) -> None:
        self.name, self.shape, self.dtype, self.is_input = name, shape, dtype, is_input

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class _Slot:
    """Buffers, events and graph of one batch in flight; ``freed`` takes what must be given back.

    Attributes:
        context: TensorRT's context, of this slot alone where there are CUDA graphs.
        laps: the events before and behind ``h2d``, ``compute`` and ``d2h``.
        addresses: addresses of TensorRT's tensors, by name.
        conversions: kernels between the engine's own uint8 buffers and TensorRT's, by tensor.
        results: buffers that are copied back.
    """

    def __init__(self, cuda: Cuda, ports: dict[str, _Port], mapped: bool, freed: ExitStack) -> None:
        self._cuda, self._mapped, self._freed = cuda, mapped, freed
        self.context: Any = None
        self.graph: CudaGraph | None = None
        self.conversions: dict[str, Kernel] = {}
        self.frame, self.classes = (self._buffer(ports[name].shape, np.uint8) for name in ("frame", "classes"))
        self.results = [self.classes]
        self.addresses = {"frame": self.frame.address, "classes": self.classes.address}
        if ports["frame"].dtype != np.uint8:
            self._convert(ports["frame"], "uint8_to_float32", np.float32)
        if ports["classes"].dtype != np.uint8:
            self._convert(ports["classes"], "int32_to_uint8", np.int32)
        self.scores_host: np.ndarray | None = None
        if "scores" in ports:
            self.results.append(self._buffer(ports["scores"].shape, ports["scores"].dtype))
            self.addresses["scores"], self.scores_host = self.results[1].address, self.results[1].host
        self.laps = {part: (self._event(), self._event()) for part in ("h2d", "compute", "d2h")}

    def _buffer(self, shape: tuple[int, ...], dtype: Any) -> Buffer:
        buffer = self._cuda.buffer(shape, dtype, mapped=self._mapped)
        self._freed.callback(buffer.free)
        return buffer

    def _event(self) -> Event:
        event = self._cuda.event()
        self._freed.callback(event.free)
        return event

    def _convert(self, port: _Port, kernel: str, dtype: Any) -> None:
        """Allocate scratch memory for a port that is not uint8, and load the kernel in between."""
        if port.dtype != dtype:
            raise EngineError(f"the plan's {port.name} is {np.dtype(port.dtype)}, which is not supported")
        scratch = self._cuda.scratch(port.size * np.dtype(dtype).itemsize)
        self._freed.callback(scratch.free)
        self.addresses[port.name] = scratch.address
        self.conversions[port.name] = self._cuda.kernel(kernel, port.size)
        self._freed.callback(self.conversions[port.name].free)

    def drop_graph(self) -> None:
        """Go back to plain runs."""
        graph, self.graph = self.graph, None
        if graph is not None:
            graph.free()
