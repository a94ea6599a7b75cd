from __future__ import annotations

import numpy as np
import pytest

from edgeseg.runtime.monitoring import ShadowAgreement

CLASSES = ("road", "car", "sky")


def test_a_class_that_falls_is_told_once_and_its_recovery_too() -> None:
    told: list[tuple[str, str]] = []
    shadow = ShadowAgreement(CLASSES, lambda level, text: told.append((level, text)), least=0.8, window=20)
    truth = np.zeros((50, 40), np.uint8)
    truth[:, 20:] = 1
    wrong = truth.copy()
    wrong[:, 20:28] = 0  # IoU of car: 12 / 20; of road: 20 / 28
    for _ in range(20):
        shadow.add(truth, truth)
    assert told == [] and shadow.agreement()[:2].tolist() == [1, 1] and np.isnan(shadow.agreement()[2])
    for _ in range(20):
        shadow.add(wrong, truth)
    assert shadow.agreement()[:2] == pytest.approx([20 / 28, 12 / 20])
    assert [level for level, _ in told] == ["warning", "warning"] and shadow.low == {"road", "car"}
    assert "car agrees with the higher precision by" in told[0][1]
    for _ in range(20):
        shadow.add(truth, truth)
    assert [level for level, _ in told[2:]] == ["info", "info"] and not shadow.low
    assert shadow.to_json()["window"] == {"road": 1.0, "car": 1.0}
    assert shadow.to_json()["total"]["car"] == pytest.approx(52 / 60, abs=1e-5)


def test_rare_classes_and_few_frames_are_not_judged() -> None:
    told: list[str] = []
    shadow = ShadowAgreement(CLASSES, lambda level, text: told.append(text))
    running = np.zeros((100, 100), np.uint8)
    truth = running.copy()
    truth[0, :10] = 1  # a thousandth of the picture, all wrong
    for _ in range(30):
        shadow.add(running, truth)
    assert told == []
    few = ShadowAgreement(CLASSES, lambda level, text: told.append(text))
    for _ in range(9):
        few.add(running, np.full_like(running, 2))
    assert told == []
    few.add(running, np.full_like(running, 2))
    assert len(told) == 2
