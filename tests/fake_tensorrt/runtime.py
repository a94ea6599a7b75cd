"""The runtime, which reads plans."""

from __future__ import annotations

import json
import operator
import struct
import weakref
import zlib
from typing import TYPE_CHECKING, Any

from tests.fake_cuda import CODES, MIB, CuError
from tests.fake_tensorrt.build import MAGIC, Stop
from tests.fake_tensorrt.callbacks import usable
from tests.fake_tensorrt.objects import Managed, stored_attribute

if TYPE_CHECKING:
    from tests.fake_tensorrt.callbacks import ILogger


class Runtime(Managed):
    def __init__(self, logger: ILogger) -> None:
        self._logger = usable(logger, self._s.module.ILogger)
        self._s.start("trt.Runtime", logger)
        self._values = {
            "DLA_core": -1,
            "max_threads": 1,
            "error_recorder": None,
            "engine_host_code_allowed": False,
            "temporary_directory": None,
        }
        self._s.track("runtimes", self)

    @property
    def DLA_core(self) -> int:
        """-1 where it is unset or there are no cores."""
        return int(self._values["DLA_core"])

    @DLA_core.setter
    def DLA_core(self, core: int) -> None:
        cores, core = self._s.num_dla_cores, operator.index(core)
        if cores and not -1 <= core < cores:
            text = "IRuntime::setDLACore: Error Code 3: API Usage Error (Parameter check failed, condition: dlaCore < "
            self._s.log(self._logger, "ERROR", f"{text}getNbDLACores())")
        elif cores:  # without any it does nothing, as documented
            self._values["DLA_core"] = core

    max_threads = stored_attribute("max_threads", int)
    error_recorder = stored_attribute("error_recorder")
    engine_host_code_allowed = stored_attribute("engine_host_code_allowed", bool)
    temporary_directory = stored_attribute("temporary_directory")
    num_DLA_cores = property(lambda self: self._s.num_dla_cores)
    logger = property(lambda self: self._logger)

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        state = self._s
        data = bytes(memoryview(serialized_engine))
        if state.fails("trt.Runtime.deserialize_cuda_engine", self._logger):
            return None
        state.log(self._logger, "INFO", f"Loaded engine size: {len(data) // MIB} MiB")
        try:
            with state.cuda.runtime("deserialize_cuda_engine"):
                header, model = self._unpacked(data)
                if header["dla"] and self.DLA_core < 0:
                    # The worst case. NVIDIA documents -1 as "not used"; 10.3 is known to take core 0, whatever core the
                    # plan was built for.
                    raise Stop("3: Error Code 3: API Usage Error (the engine uses DLA and no DLA core is set)")
                weights = state.cuda.device_malloc(max(len(model), 1))
        except Stop as stop:
            state.log(self._logger, "ERROR", stop.text)
            tail = "deserializeCudaEngine: Error Code 4: Internal Error (Engine deserialization failed.)"
            state.log(
                self._logger, "ERROR", f"4: [runtime.cpp::{tail}" if state.version < (10,) else f"IRuntime::{tail}"
            )
            return None
        except CuError as error:
            state.log(
                self._logger,
                "ERROR",
                f"1: [defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime ({CODES[error.code][1]})",
            )
            return None
        state.dla_core_used = self.DLA_core if header["dla"] else None
        engine = state.make("ICudaEngine", self, header, model)
        weakref.finalize(engine, state.cuda.device_free, weights).atexit = False
        state.track("engines", engine)
        return engine

    def _unpacked(self, data: bytes) -> tuple[dict[str, Any], bytes]:
        state = self._s
        if len(data) < 16 or data[:4] != MAGIC:
            raise Stop(
                "1: [stdArchiveReader.cpp::StdArchiveReader::32] Error Code 1: Serialization (Serialization assertion "
                "magicTagRead == kPLAN_MAGIC_TAG failed. Trying to load an engine created with "
                "incompatible serialization "
                "version or that is no engine. Magic tag does not match)"
            )
        size, check = struct.unpack_from("<QI", data, 4)
        body = data[16:]
        if len(body) < 4 or len(body) < min(size, 4):
            raise Stop("1: Error Code 1: Serialization (Serialization assertion size >= sizeof(header) failed.)")
        try:
            length = struct.unpack_from("<I", body)[0]
            header = json.loads(body[4 : 4 + length])
        except ValueError:
            header = None
        if header is not None and header["version"] != state.version_text:
            raise Stop(
                "6: The engine plan file is not compatible with this version of TensorRT, expecting library version "
                f"{state.version_text} got {header['version']}, please rebuild."
            )
        if len(body) != size:
            raise Stop(
                "1: Error Code 1: Serialization (Serialization assertion stream.size() == planSize "
                "failed. The plan is truncated)"
            )
        if header is None or zlib.crc32(body) != check:
            raise Stop(
                "1: Error Code 1: Serialization (Serialization assertion checksum failed. The plan is corrupted)"
            )
        here, built = tuple(state.cuda.compute_capability), tuple(header["cc"])
        compatible = header["hardware"] == "AMPERE_PLUS" and here >= (8, 0) and built >= (8, 0)
        if here != built and not compatible:
            raise Stop(
                "6: The engine plan file is generated on an incompatible device, expecting compute "
                f"{here[0]}.{here[1]} got compute {built[0]}.{built[1]}, please rebuild."
            )
        if header["device"] != state.cuda.name or header["sm"] != state.cuda.sm_count:
            text = (
                "Using an engine plan file across different models of devices is not recommended and is likely to "
                "affect performance or even cause errors."
            )
            state.log(self._logger, "WARNING", text)
        return header, zlib.decompress(body[4 + length :])
