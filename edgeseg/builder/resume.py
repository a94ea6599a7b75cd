"""Tell whether a stored state is of the run that is to go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping

from edgeseg.builder.checkpoint import SafetensorsIO
from edgeseg.builder.networks import NetworkConfig
from edgeseg.builder.recipe import CHANGEABLE
from edgeseg.errors import CheckpointError

__all__ = ["epochs_done", "run_description"]

_STATE = 5
"""Version of what ``resume.safetensors`` holds."""
_UNSAID = {"mode": "multiclass", "threshold": 0.5}


def run_description(config: NetworkConfig, facts: Mapping[str, Any]) -> str:
    """Return as JSON what must be the same for a run to be resumed: all but the fields of ``CHANGEABLE``."""
    recipe = {key: value for key, value in facts["recipe"].items() if key not in CHANGEABLE}
    data = {key: facts[key] for key in ("training_data", "validation_data", "classes", "mode", "threshold", "size_hw")}
    data["teachers"] = facts.get("teachers", [])
    shape = config.to_json()
    network = {"network": shape.pop("architecture"), **{key: value for key, value in shape.items() if key != "classes"}}
    return json.dumps({"state": _STATE, **network, **data, **recipe}, sort_keys=True)


def epochs_done(path: Path, run: str, epochs: int) -> int:
    """Return the epochs behind the state at a path.

    Args:
        path: the stored state.
        run: description of the run that is to go on.
        epochs: epochs in all.

    Raises:
        CheckpointError: the state is missing, unreadable, of another run, or further than ``epochs``.
    """
    if not path.exists():
        raise CheckpointError(f"nothing to resume: {path} does not exist; leave `resume` out to start")
    state = SafetensorsIO().load_checkpoint(path)
    earlier = next((item["run"] for item in state["callbacks"].values() if "run" in item), "{}")
    one, other = {**_UNSAID, **json.loads(earlier)}, json.loads(run)
    if one.get("state") != _STATE:
        raise CheckpointError(f"{path} was written by another version of edgeseg; start a new `out`")
    differing = [f"{key} was {one.get(key)} and is {value}" for key, value in other.items() if one.get(key) != value]
    if differing:
        raise CheckpointError(
            f"{path} is of another run: {'; '.join(differing)}; resume with what it was started with, or start a new "
            "`out`"
        )
    done = int(state["epoch"]) + 1
    if done > epochs:
        raise CheckpointError(f"{path} has {done} epochs behind it; pass `epochs` of at least that, not {epochs}")
    return done
