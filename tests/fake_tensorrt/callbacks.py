"""What an application implements: loggers, profilers, monitors and calibrators."""

from __future__ import annotations

import sys
from typing import Any, Callable


class _Checked(type):
    """pybind11's metaclass: an __init__ that forgets its base is a TypeError."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        if not made._initialised:
            bound = next(base for base in cls.__mro__ if "_s" in vars(base))
            name = f"{bound.__module__}.{bound.__name__}"
            raise TypeError(f"{name}.__init__() must be called when overriding __init__")
        return made


class _Trampoline(metaclass=_Checked):
    """A class to derive from. What is not overridden says so and answers with nothing."""

    _initialised = False

    def __init__(self) -> None:
        self._initialised = True

    def __setattr__(self, name: str, value: Any) -> None:
        if "_s" in vars(type(self)) and not hasattr(type(self), name):
            raise AttributeError(f"'tensorrt.tensorrt.{type(self).__name__}' object has no attribute '{name}'")
        object.__setattr__(self, name, value)


def _pure_virtual(name: str) -> None:
    text = f'Tried to call pure virtual function "{name}"'
    print(f"[ERROR] Exception caught in {name.rpartition('::')[2]}(): {text}", file=sys.stderr)


def usable(value: Any, base: Any) -> Any:
    if not isinstance(value, base):
        raise TypeError(f"incompatible function arguments: expected tensorrt.tensorrt.{base.__name__}, got {value!r}")
    return value


class ILogger(_Trampoline):
    def log(self, severity: Any, msg: str) -> None:
        _pure_virtual("ILogger::log")

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class Logger(ILogger):
    min_severity: Any = property(lambda self: self._min_severity, lambda self, value: self._set(value))
    _min_severity: Any = None

    def __init__(self, min_severity: Any = None) -> None:
        ILogger.__init__(self)
        self._set(self.WARNING if min_severity is None else min_severity)  # type: ignore[attr-defined]

    def _set(self, value: Any) -> None:
        self._min_severity = value

    def log(self, severity: Any, msg: str) -> None:
        if severity <= self.min_severity:
            print(f"[TRT] [{severity.name[0]}] {msg}", file=sys.stderr)


class IProfiler(_Trampoline):
    def report_layer_time(self, layer_name: str, ms: float) -> None:
        _pure_virtual("IProfiler::report_layer_time")


class Profiler(IProfiler):
    def report_layer_time(self, layer_name: str, ms: float) -> None:
        print(f"{layer_name}: {ms}ms")


class IProgressMonitor(_Trampoline):
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        _pure_virtual("IProgressMonitor::phase_start")

    def step_complete(self, phase_name: str, step: int) -> bool:
        _pure_virtual("IProgressMonitor::step_complete")
        return False

    def phase_finish(self, phase_name: str) -> None:
        _pure_virtual("IProgressMonitor::phase_finish")


class IInt8Calibrator(_Trampoline):
    _algorithm = ""

    def get_batch_size(self) -> int:
        _pure_virtual("Derived::get_batch_size")
        return -1

    def get_algorithm(self) -> Any:
        return getattr(self._s.CalibrationAlgoType, self._algorithm)  # type: ignore[attr-defined]

    def get_batch(self, names: list[str]) -> Any:
        return []

    def read_calibration_cache(self) -> Any:
        raise TypeError("Unable to convert function return value to a Python type!")

    def write_calibration_cache(self, cache: Any) -> None:
        return None


class IInt8EntropyCalibrator2(IInt8Calibrator):
    _algorithm = "ENTROPY_CALIBRATION_2"


class IInt8MinMaxCalibrator(IInt8Calibrator):
    _algorithm = "MINMAX_CALIBRATION"


class IInt8EntropyCalibrator(IInt8Calibrator):
    _algorithm = "ENTROPY_CALIBRATION"


CACHE_NAME = {
    "ENTROPY_CALIBRATION_2": "EntropyCalibration2",
    "MINMAX_CALIBRATION": "MinMaxCalibration",
    "ENTROPY_CALIBRATION": "EntropyCalibration",
}


def guarded(name: str, call: Callable[[], Any], otherwise: Any) -> Any:
    """pyInt8.cpp and pyCore.cpp: an exception of a callback is printed and stands for a value."""
    try:
        return call()
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        print(f"[ERROR] Exception caught in {name}(): {text}", file=sys.stderr)
        return otherwise
