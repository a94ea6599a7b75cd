"""Write what was measured on a Jetson as rows that sharpen forecasts of others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from edgeseg.app.estimate import network_of_bundle
from edgeseg.bundle import Bundle
from edgeseg.device.specifications import JETSONS, jetson_of_module
from edgeseg.errors import ForeignFileError, UsageError
from edgeseg.estimate.forecast import Network, mode_named
from edgeseg.estimate.measured import MeasuredRow, rows_from_text, rows_json
from edgeseg.files import atomic_write, text_from

if TYPE_CHECKING:
    from edgeseg.bench.measure import Measurement
    from edgeseg.device.detect import Device

__all__ = ["CalibrationRows"]


class CalibrationRows:
    """A file of measured rows that a measurement adds to.

    Args:
        path: of the file; it need not be there.
        device: this machine.
        engines: that are timed.

    Raises:
        UsageError: this is no Jetson that forecasts know, in no mode that they know, or TensorRT is not timed.
        ForeignFileError: the file holds something else.
    """

    def __init__(self, path: Path, device: Device, engines: Sequence[str]) -> None:
        board = jetson_of_module(device.module)
        if board is None or "tensorrt" not in engines:
            seen = device.board or device.cpu
            raise UsageError(
                f"`calibrate` writes rows of TensorRT on a Jetson; this is {seen}, timed in {', '.join(engines)}"
            )
        self._path, self._board = path, board
        self._mode = mode_named(JETSONS[board], device.power_mode)
        self._there()

    def _there(self) -> list[MeasuredRow]:
        if not self._path.exists():
            if not self._path.parent.is_dir():
                raise UsageError(f"`calibrate` {self._path}: its folder does not exist")
            return []
        try:
            return rows_from_text(text_from(self._path.read_bytes()), self._path.name, _no_csv)
        except (UsageError, OSError, UnicodeDecodeError) as error:
            raise ForeignFileError(f"{self._path} is not replaced: {error}; name another file") from error

    def add(self, times: Sequence[tuple[Bundle, Measurement]]) -> str:
        """Write a row for each graph that TensorRT ran, and return a line for people. Raises OSError, EdgesegError."""
        added = []
        for bundle, one in times:
            graph = str(one.facts.get("graph", ""))
            precision = next((known for known in ("int8", "fp16", "fp32") if graph.startswith(known)), None)
            if one.facts.get("engine") == "tensorrt" and one.batch == 1 and precision is not None:
                network = network_of_bundle(bundle, str(one.facts.get("model", "")))
                ms = one.stages.get("compute", one.stages["infer"]).p50_ms
                added.append(MeasuredRow(self._board, self._mode, precision, round(ms, 4), network))
        there = self._there()  # anew: a measurement takes minutes, and another one may have added its own
        atomic_write(self._path, rows_json([*there, *added]).encode())
        return f"{len(added)} rows were added to {self._path}, which holds {len(there) + len(added)}"


def _no_csv(model: str, size: str | None) -> Network:
    raise UsageError("it is CSV, and rows are added to JSON")
