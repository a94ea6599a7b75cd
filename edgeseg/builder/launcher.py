"""Start processes on this machine that train together, as ``torchrun`` does, without its reports."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from typing import Sequence

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from edgeseg.errors import TrainingError
from edgeseg.files import scratch_folder

__all__ = ["run_together"]

_INTERRUPTED = 130


def run_together(count: int, arguments: Sequence[str]) -> int:
    """Run a command of edgeseg in several processes of this machine, and return its exit code when all have ended.

    Where one ends with an error, the others are ended. The processes have told of it.

    Args:
        count: of the processes.
        arguments: of the command line, as in ``["train", "data", "--val", "val"]``.

    Raises:
        TrainingError: a process was killed.
    """
    logging.disable(logging.CRITICAL)  # this process has nothing else to log
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    try:
        with scratch_folder() as reports:
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=count,
                run_id=uuid.uuid4().hex,
                rdzv_backend="c10d",
                rdzv_endpoint="localhost:0",
                max_restarts=0,
                logs_specs=DefaultLogsSpecs(log_dir=str(reports)),  # else a folder is left in /tmp by every training
            )
            elastic_launch(config, sys.executable)("-m", "edgeseg", *arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            raise TrainingError(
                f"process {rank} of this training was killed (signal {-failure.exitcode}); go on with `resume`"
            ) from error
        return failure.exitcode
    except SignalException:
        return _INTERRUPTED
    return 0
