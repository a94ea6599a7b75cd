from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def nothing_has_to_survive_a_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of engines are kept here, and waiting for a busy disk would take most of the time."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
