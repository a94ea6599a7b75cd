"""Trials: Optuna chooses settings, and each trial is a training."""

from __future__ import annotations

import fcntl
import math
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeseg.app.config_file import read_config
from edgeseg.app.train import CONFIG_NAME, TrainingProgress, train
from edgeseg.app.train_config import TrainConfig
from edgeseg.app.trials import Trial, try_settings
from edgeseg.errors import TrainingError, UsageError
from tests import HANG_S
from tests.app.test_train import small
from tests.cli.test_cli import refused
from tests.cli.test_train import data_set

RATES = "learning_rate=1e-4:1e-2:log"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    pytest.importorskip("torch", reason="training needs torch, which the light suites leave out").set_num_threads(1)
    pytest.importorskip("optuna", reason="trials need optuna, of the extra trials")
    data_set(tmp_path, "train", 4, 1)
    data_set(tmp_path, "val", 2, 1)
    return tmp_path


def _killed_in_second(config: TrainConfig) -> None:
    def epoch(result: object) -> None:
        if (config.out / "trial-0001").exists():
            os.kill(os.getpid(), signal.SIGKILL)

    try_settings(config, progress=TrainingProgress(epoch=epoch))


def test_trials_go_on_after_a_kill_and_the_best_comes_first(data: Path) -> None:
    config = small(data, trials=2, search=(RATES, "batch=2|4", "compiled=false", "loss=ce|ce+dice"))
    child = multiprocessing.get_context("fork").Process(target=_killed_in_second, args=(config,))
    child.start()
    child.join(HANG_S)
    assert child.exitcode == -signal.SIGKILL
    with pytest.raises(UsageError, match="run holds earlier trials; pass `resume` to go on with them"):
        try_settings(config)
    heard: list[Trial] = []
    trials = try_settings(small(data, trials=3, search=config.search, resume=True), heard.append)
    assert [one.number for one in heard] == [2, 3], "the first one is known, and what was killed is given up"
    assert sorted(one.number for one in trials) == [0, 2, 3] and {one.end for one in trials} == {"finished"}
    assert [one.miou for one in trials] == sorted((one.miou for one in trials), reverse=True)
    for one in trials:
        own = read_config(TrainConfig, config.out / one.folder / CONFIG_NAME)
        assert {name: getattr(own, name) for name in one.settings} == one.settings
        assert 1e-4 <= own.learning_rate <= 1e-2 and own.batch in (2, 4) and own.loss in ("ce", "ce+dice")
        assert (own.trials, own.search) == (0, ()), "and can be trained again by itself"


def test_one_process_at_a_time_tries_settings_and_a_lock_of_one_that_was_killed_is_left(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna's lock of its file is a link, here as a process leaves it that is killed while it writes."""
    optuna = pytest.importorskip("optuna")
    monkeypatch.chdir(data)
    config = small(data, trials=1, epochs=1, search=("batch=2",), out=Path("run"), resume=True)
    Path("run").mkdir()
    with open("run/trials.log", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process is at work on the trials in run; name another `out`"):
            try_settings(config)
    lock, made = optuna.storages.journal.JournalFileSymlinkLock, []

    def left(path: str) -> Any:
        made.append(lock(path, grace_period=3))
        if len(made) == 1:
            made[0].acquire()
            assert Path("run/trials.log.lock").exists(), "the link leads to the file, so that its age can be seen"
        return made[-1]

    monkeypatch.setattr(optuna.storages.journal._file, "JournalFileSymlinkLock", left)
    assert [one.end for one in try_settings(config)] == ["finished"] and made


def test_a_trial_whose_loss_is_no_number_ends_no_other(data: Path) -> None:
    heard: list[Trial] = []
    with pytest.raises(TrainingError, match="none of 1 trials came to its end; the last one: the (loss|weights)"):
        try_settings(small(data, trials=1, search=("learning_rate=1e30",)), heard.append)
    assert len(heard) == 1 and math.isnan(heard[0].miou) and heard[0].settings == {"learning_rate": 1e30}


def test_settings_that_cannot_be_used_end_their_trial_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="`precision` is fp16, which a CPU does not train with"):
        try_settings(small(data, trials=2, search=("precision=fp16",)))

    def training(config: TrainConfig, progress: TrainingProgress) -> Any:
        return train(replace(config, precision="fp16") if config.out.name == "trial-0001" else config, progress)

    monkeypatch.setattr("edgeseg.app.trials.train", training)
    trials = try_settings(small(data, trials=3, epochs=1, search=(RATES,), out=data / "other"))
    assert [one.end == "finished" for one in trials] == [True, True, False]
    assert trials[-1].number == 1 and "fp16, which a CPU does not train with" in trials[-1].end


def test_a_trial_that_is_behind_the_others_is_stopped(data: Path) -> None:
    optuna = pytest.importorskip("optuna")
    journal = pytest.importorskip("optuna.storages.journal")
    config = small(data, trials=6, epochs=3, search=(RATES,), resume=True)
    config.out.mkdir()
    storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(config.out / "trials.log")))
    study = optuna.create_study(storage=storage, study_name="edgeseg", direction="maximize")
    for _ in range(5):
        attributes = {"settings": {"learning_rate": 1e-3}, "end": "finished"}
        study.add_trial(
            optuna.trial.create_trial(value=1.0, intermediate_values={1: 1.0, 2: 1.0, 3: 1.0}, user_attrs=attributes)
        )
    heard: list[Trial] = []
    assert len(try_settings(config, heard.append)) == 6
    assert [one.end for one in heard] == ["stopped"]
    assert len((config.out / "trial-0005" / "metrics.csv").read_text().splitlines()) == 2, "after its first epoch"


def test_one_training_has_nothing_to_search(tmp_path: Path) -> None:
    assert "--search says what --trials choose; pass both" in refused(
        *("train", "x", "--val", "x", "--search", RATES), cwd=tmp_path, code=2
    )


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ((), "`trials` need something to choose; pass `search`"),
        (("lr=1:2",), "of a field as files have it, such as learning_rate, got 'lr=1:2'"),
        (("epochs",), "got 'epochs'"),
        (("out=a|b",), "got 'out=a|b'"),
        (("learning_rate=2:1",), "learning_rate=2:1; LOW is below HIGH"),
        (("learning_rate=0:1:log",), "LOW is below HIGH, and above 0 with :log"),
        (("learning_rate=1:2:lin",), "learning_rate=1:2:lin; LOW is below HIGH"),
        (("batch=2|many",), "`batch` is a whole number of at least 2, got 'many'"),
        (("batch=1:8",), "`batch` is a whole number of at least 2, got 1"),
    ],
)
def test_what_cannot_be_searched_is_said(tmp_path: Path, search: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError) as error:
        try_settings(small(tmp_path, trials=1, search=search))
    assert said in str(error.value) and not (tmp_path / "run").exists()
