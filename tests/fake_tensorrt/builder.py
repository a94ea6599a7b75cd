"""The builder."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from tests.fake_cuda import CODES, CuError
from tests.fake_tensorrt.build import Build, Stop
from tests.fake_tensorrt.callbacks import usable
from tests.fake_tensorrt.objects import Managed, stored_attribute

if TYPE_CHECKING:
    from tests.fake_tensorrt.callbacks import ILogger
    from tests.fake_tensorrt.config import IBuilderConfig
    from tests.fake_tensorrt.network import INetworkDefinition


class Builder(Managed):
    def __init__(self, logger: ILogger) -> None:
        self._logger = usable(logger, self._s.module.ILogger)
        self._s.start("trt.Builder", logger)
        self._values = {"max_threads": 1, "error_recorder": None}
        self._s.track("builders", self)
        used = self._s.cuda.total_mib - self._s.cuda.free_mib
        text = f"[MemUsageChange] Init CUDA: CPU +183, GPU +0, now: CPU 221, GPU {used} (MiB)"
        self._s.log(logger, "INFO", text)

    max_threads = stored_attribute("max_threads", int)
    error_recorder = stored_attribute("error_recorder")
    logger = property(lambda self: self._logger)
    num_DLA_cores = property(lambda self: self._s.num_dla_cores)
    max_DLA_batch_size = property(lambda self: 4096)
    platform_has_tf32 = property(lambda self: self._s.cuda.compute_capability >= (8, 0))
    platform_has_fast_fp16 = property(lambda self: self._s.cuda.compute_capability >= (5, 3))
    platform_has_fast_int8 = property(lambda self: self._s.fast_int8)

    def create_network(self, flags: int = 0) -> Any:
        flags = operator.index(flags)
        if self._s.fails("trt.Builder.create_network", self._logger):
            return None
        network = self._s.make("INetworkDefinition", self, flags)
        self._s.track("networks", network)
        return network

    def create_builder_config(self) -> Any:
        if self._s.fails("trt.Builder.create_builder_config", self._logger):
            return None
        config = self._s.make("IBuilderConfig", self)
        self._s.track("configs", config)
        return config

    def create_optimization_profile(self) -> Any:
        return self._s.make("IOptimizationProfile")

    def is_network_supported(self, network: INetworkDefinition, config: IBuilderConfig) -> bool:
        return network._graph is not None

    def reset(self) -> None:
        pass

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
        state = self._s
        if state.fails("trt.Builder.build_serialized_network", self._logger):
            return None
        try:
            with state.cuda.runtime("build_serialized_network"):
                plan = Build(state, self._logger, network, config).plan()
        except Stop as stop:
            if stop.text:
                state.log(self._logger, "ERROR", stop.text)
            return None
        except CuError as error:
            state.log(
                self._logger,
                "ERROR",
                f"1: [caskUtils.cpp::trtSmToCask::114] Error Code 1: Cuda Runtime ({CODES[error.code][1]})",
            )
            return None
        return state.host_memory(plan)
