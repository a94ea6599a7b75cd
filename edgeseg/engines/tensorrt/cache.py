"""Keep built engines on the device that built them.

Each engine is a file as TensorRT wrote it (nothing is put in front, so trtexec reads it too) with a sidecar
``NAME.engine.json`` that says what it was built from, with what and for which device. The sidecar is compared before
TensorRT sees a byte: engines are not portable, and TensorRT's own refusals are hard to read or come as crashes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

from edgeseg.engines.tensorrt.build import BuiltPlan
from edgeseg.engines.tensorrt.layers import LayerPrecisions
from edgeseg.errors import EngineError
from edgeseg.files import atomic_write

__all__ = ["CachedEngine", "EngineCache", "EngineKey", "NewerEngine", "engine_from_plan", "read_engine", "write_engine"]

SCHEMA = 1
_MOST = 1 << 40
"""Of bytes, and of seconds since 1970."""
_SUFFIX = ".engine"
_UNSAFE = re.compile(r"[^\w.+ -]")
_OURS = re.compile(
    r".+-[0-9a-f]{16}\.engine(\.json)?|timing-[0-9a-f]{16}\.cache|choice-[0-9a-f]{16}\.json|building\.lock|\.[0-9a-f]{16}\.tmp",
    re.DOTALL,
)
"""What the files of the folder are called; whatever else is there somebody else put there."""


class NewerEngine(EngineError):
    """Error for an engine that a newer edgeseg built: whole, but not for us."""


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on. Two equal keys mean the same engine.

    Attributes:
        model: name of the bundle's file, for people.
        precision: one of ``build.PRECISIONS``.
        graph_sha256: hash of the ONNX graph it is built from.
        ranges_sha256: hash of the ranges; empty where they are in the graph.
        shape: shape of the frame, HxWx3.
        options: limits and flags that can change the engine.
        tensorrt: flavour and full version with the build number.
        gpu: name of the GPU, as the driver says it.
        compute_capability: like ``"8.7"``.
        sm_count: streaming multiprocessors of the GPU.
        device: board and L4T version; empty on a PC.
    """

    model: str
    precision: str
    graph_sha256: str
    ranges_sha256: str
    shape: tuple[int, ...]
    options: str
    tensorrt: str
    gpu: str
    compute_capability: str
    sm_count: int
    device: str

    def digest(self) -> str:
        """Return 16 hexadecimal digits for the key; the name for people does not count."""
        data = {**asdict(self), "model": "", "shape": list(self.shape)}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]

    def describe(self) -> str:
        """Describe the place that it is for: ``TensorRT 8.5.2.2 on Xavier (7.2, 6 SMs), NVIDIA Jetson Xavier NX``."""
        where = f", {self.device}" if self.device else ""
        return f"{self.tensorrt} on {self.gpu} ({self.compute_capability}, {self.sm_count} SMs){where}"

    def same_work(self, other: EngineKey) -> bool:
        """Tell whether both are the same graph in the same precision, wherever they were built."""
        mine, theirs = ((key.graph_sha256, key.ranges_sha256, key.precision, key.options) for key in (self, other))
        return mine == theirs

    def difference(self, other: EngineKey) -> str:
        """Describe what differs, for people; empty for equal keys."""
        if self.same_work(other):
            return "" if self.digest() == other.digest() else f"built for {other.describe()}, this is {self.describe()}"
        return "built from another graph, ranges or options"


@dataclass(frozen=True)
class CachedEngine:
    """An engine file and its sidecar.

    Attributes:
        path: path of the engine file.
        key: what it was built from and for.
        plan_sha256: hash of the engine file.
        plan_bytes: size of the engine file.
        float_ports: it reads float32 frames and writes int32 classes.
        precisions: precisions of its layers.
        notes: notes of the build.
        build_s: seconds that the build took.
        created: Unix time in seconds.
        self_test: what the golden frames gave; None when they were not tried yet.
        added: it was built elsewhere and taken in, so no signature of a bundle covers it.
    """

    path: Path
    key: EngineKey
    plan_sha256: str
    plan_bytes: int
    float_ports: bool
    precisions: LayerPrecisions
    notes: tuple[str, ...]
    build_s: float
    created: float
    self_test: Mapping[str, Any] | None
    added: bool = False

    def plan(self) -> bytes:
        """Read the engine file's bytes.

        Raises:
            EngineError: the file cannot be read, or its bytes are not those that were written.
        """
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise EngineError(f"{self.path} cannot be read: {error.strerror}; build it again") from error
        if hashlib.sha256(data).hexdigest() != self.plan_sha256:
            raise EngineError(f"{self.path} is truncated or altered ({len(data)} bytes); build it again")
        return data

    def to_json(self) -> dict[str, Any]:
        """Return the content of the sidecar as a JSON-serialisable dict."""
        data = {**asdict(self), "schema": SCHEMA}
        del data["path"]
        return data


def read_engine(path: Path) -> CachedEngine:
    """Read an engine's sidecar.

    Raises:
        EngineError: there is none (a foreign engine), or it is damaged or from a newer edgeseg.
    """
    sidecar = _sidecar(path)
    try:
        data = json.loads(sidecar.read_text(encoding="utf-8"))
        if data["schema"] > SCHEMA:
            raise NewerEngine(f"{sidecar} has schema {data['schema']}, this edgeseg reads up to {SCHEMA}; upgrade it")
        key = EngineKey(**{**data["key"], "shape": tuple(data["key"]["shape"])})
        data.setdefault("added", False)  # sidecars of older versions do not say
        _require_kinds(data, key)
        precisions = LayerPrecisions.from_json(data["precisions"])
        values = {field.name: data[field.name] for field in fields(CachedEngine) if field.name != "path"}
        values.update(key=key, precisions=precisions, notes=tuple(data["notes"]))
        return CachedEngine(path=path, **values)
    except OSError as error:
        raise EngineError(
            f"{path} has no sidecar {sidecar.name}, so edgeseg did not build it and cannot know what it is; "
            "pass the bundle, and the engine is built from it"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise EngineError(f"{sidecar} is damaged; delete it and {path.name}, and the engine is built again") from error


def _require_kinds(data: Mapping[str, Any], key: EngineKey) -> None:
    """Raise ValueError unless the parts of a sidecar, which may come from elsewhere, are what others take them for."""
    texts = [value for name, value in asdict(key).items() if name not in ("shape", "sm_count")]
    numbers = [key.sm_count, *key.shape, data["plan_bytes"], data["build_s"], data["created"]]
    test = data["self_test"]
    if not (
        all(isinstance(text, str) for text in (*texts, data["plan_sha256"], *data["notes"]))
        and all(isinstance(number, (int, float)) and 0 <= number < _MOST for number in numbers)
        and isinstance(json.loads(key.options), dict)
        and (test is None or isinstance(test, dict) and "passed" in test)
        and isinstance(data["added"], bool)
    ):
        raise ValueError("a part of another kind")


class EngineCache:
    """A folder of engines, timing caches and choices. Every file is written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: EngineKey) -> Path:
        """Return where the engine of a key is or would be."""
        # A sidecar that came from elsewhere names the model, so its name must not lead out of the folder.
        safe = (_UNSAFE.sub("_", name).encode()[:100] for name in (key.model, key.precision))
        model, precision = (name.decode(errors="ignore") for name in safe)
        return self.folder / f"{model.lstrip('.')}-{precision}-{key.digest()}{_SUFFIX}"

    def find(self, key: EngineKey, *, own: bool = False) -> tuple[tuple[CachedEngine, bytes] | None, str]:
        """Find the engine of a key and its plan.

        Args:
            key: everything that the engine depends on.
            own: an engine that was built elsewhere does not do.

        Returns:
            ((engine, plan bytes), empty); else None and, where a similar engine is there, why it does not do.
        """
        exact, reason = self.path(key), ""
        if exact.exists():
            try:
                engine = read_engine(exact)
                if own and engine.added:
                    return None, f"{exact.name} was built elsewhere, and no signature covers it"
                return (engine, engine.plan()), ""
            except EngineError as error:
                return None, str(error)
        for path in self._paths():
            with suppress(EngineError):  # it says nothing about this key
                other = read_engine(path).key
                if other.same_work(key) or (other.model, other.precision, reason) == (key.model, key.precision, ""):
                    reason = f"{path.name} was {key.difference(other)}"
        return None, reason

    @contextmanager
    def building(self, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Lock the device for one build: it takes most of the memory, and who waited may find the engine made."""
        with ExitStack() as stack:
            with suppress(OSError):  # where nothing can be kept there is nothing to wait for
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(open(self.folder / "building.lock", "w"))
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    on_wait()
                    fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def store(self, engine: CachedEngine, plan: bytes) -> None:
        """Keep a built engine.

        Raises:
            OSError: the disk refused.
        """
        write_engine(engine, plan)

    def note_self_test(self, engine: CachedEngine, self_test: Mapping[str, Any]) -> CachedEngine:
        """Note in the sidecar what the golden frames gave.

        Raises:
            OSError: the disk refused.
        """
        known = replace(engine, self_test=dict(self_test))
        if engine.path.exists():
            _write_sidecar(known)
        return known

    def entries(self) -> Iterator[tuple[Path, CachedEngine | EngineError]]:
        """Yield every engine file, with its sidecar or the error why that cannot be read."""
        for path in self._paths():
            try:
                yield path, read_engine(path)
            except EngineError as error:
                yield path, error

    def remove(self, path: Path) -> int:
        """Delete an engine and its sidecar, and return the bytes that this frees.

        Raises:
            OSError: a file cannot be deleted.
        """
        freed = 0
        for file in (path, _sidecar(path)):
            if file.exists():
                freed += file.stat().st_size
                file.unlink()
        return freed

    def is_ours(self, path: Path) -> bool:
        """Tell whether a file of the folder is called as edgeseg calls its own."""
        return path.is_file() and _OURS.fullmatch(path.name) is not None

    def clear(self) -> list[Path]:
        """Delete all that edgeseg wrote, and the folder when it is empty then; return what stays.

        Raises:
            OSError: a file cannot be deleted.
        """
        for path in list(self.folder.iterdir()) if self.folder.is_dir() else ():
            if self.is_ours(path):
                path.unlink()
        left = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        if not left and self.folder.is_dir() and not self.folder.is_symlink():
            self.folder.rmdir()
        return left

    def timing_cache(self, key: EngineKey) -> bytes:
        """Return what earlier builds with this TensorRT on this GPU learnt; empty at first."""
        try:
            return self._timing_path(key).read_bytes()
        except OSError:
            return b""

    def keep_timing_cache(self, key: EngineKey, data: bytes) -> None:
        """Replace the timing cache; empty data leaves it.

        Raises:
            OSError: the disk refused.
        """
        if data:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic_write(self._timing_path(key), data)

    def choices(self, model_digest: str) -> dict[str, dict[str, Any]]:
        """Return by place what ``edgeseg compile`` or ``tune`` chose there for a model: ``by`` and ``options``."""
        try:
            found = json.loads(self._choice_path(model_digest).read_text(encoding="utf-8"))
            return {str(place): {"by": str(one["by"]), "options": dict(one["options"])} for place, one in found.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def choose(self, model_digest: str, place: str, by: str, options: Mapping[str, Any]) -> None:
        """Keep a choice of engine options.

        Raises:
            OSError: the disk refused.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = {**self.choices(model_digest), place: {"by": by, "options": dict(options)}}
        atomic_write(self._choice_path(model_digest), json.dumps(kept, indent=1).encode())

    def add(self, path: Path) -> CachedEngine:
        """Copy in an engine that was built elsewhere, with its sidecar; it is tested here, whatever that says.

        Raises:
            EngineError: the engine or its sidecar is damaged.
            OSError: the disk refused.
        """
        engine = read_engine(path)
        target = self.path(engine.key)
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_write(target, engine.plan())
        return _write_sidecar(replace(engine, path=target, added=True, self_test=None))

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{_SUFFIX}")) if self.folder.is_dir() else []

    def _timing_path(self, key: EngineKey) -> Path:
        return self.folder / f"timing-{_short(key.describe())}.cache"

    def _choice_path(self, model_digest: str) -> Path:
        return self.folder / f"choice-{_short(model_digest)}.json"


def engine_from_plan(path: Path, key: EngineKey, built: BuiltPlan) -> CachedEngine:
    """Describe a built plan as its sidecar will; nothing is written yet, and nothing tested."""
    return CachedEngine(
        path=path,
        key=key,
        plan_sha256=hashlib.sha256(built.plan).hexdigest(),
        plan_bytes=len(built.plan),
        float_ports=built.variant.float_ports,
        precisions=built.precisions,
        notes=built.notes,
        build_s=round(built.build_s, 1),
        created=round(time.time()),
        self_test=None,
    )


def write_engine(engine: CachedEngine, plan: bytes) -> None:
    """Write an engine file, then its sidecar.

    Raises:
        OSError: the disk refused; then neither is there.
    """
    engine.path.parent.mkdir(parents=True, exist_ok=True)
    if _sidecar(engine.path).exists():
        _sidecar(engine.path).unlink()
    try:
        atomic_write(engine.path, plan)
        _write_sidecar(engine)
    except OSError:
        if engine.path.exists():
            engine.path.unlink()
        raise


def _write_sidecar(engine: CachedEngine) -> CachedEngine:
    atomic_write(_sidecar(engine.path), json.dumps(engine.to_json(), indent=1).encode())
    return engine


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
