from __future__ import annotations

import math
from pathlib import Path

from edgeseg.device.power_mode import (
    PowerMode,
    current_power_mode,
    fastest_power_mode,
    power_mode_from_query,
    power_modes,
)

ROOTS = Path(__file__).parent / "roots"


def test_the_number_is_looked_up_in_the_configuration() -> None:
    assert current_power_mode(ROOTS / "xavier-nx-jp5.1.2") == PowerMode(2, "MODE_15W_6CORE", 1109.25)
    assert current_power_mode(ROOTS / "orin-nx-jp6.2") == PowerMode(0, "MAXN_SUPER", math.inf)
    assert current_power_mode(ROOTS / "laptop") is None


def test_a_mode_without_a_configuration_keeps_its_number(tmp_path: Path) -> None:
    (tmp_path / "var/lib/nvpmodel").mkdir(parents=True)
    (tmp_path / "var/lib/nvpmodel/status").write_text("pmode:0003 fmode:quiet\n")
    mode = current_power_mode(tmp_path)
    assert mode is not None and (mode.identifier, mode.name) == (3, "")


def test_the_fastest_mode_is_not_the_highest_number() -> None:
    def names(folder: str) -> str:
        fastest = fastest_power_mode(power_modes((ROOTS / folder / "etc/nvpmodel.conf").read_text()))
        return fastest.name if fastest else ""

    assert names("xavier-nx-jp5.1.2") == "MODE_20W_6CORE"
    assert names("orin-nano-jp6.0") == "15W"
    assert names("thor-jp7.0") == "MAXN"
    super_modes = (
        "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL NAME=MAXN_SUPER ID=2 >\n< POWER_MODEL ID=1 NAME=MAXN >\n"
    )
    fastest = fastest_power_mode(power_modes(super_modes))
    assert fastest is not None and fastest.identifier == 2
    assert fastest_power_mode(()) is None


def test_the_limit_of_a_mode_is_megahertz_unlimited_or_unstated() -> None:
    modes = power_modes(
        "< POWER_MODEL ID=0 NAME=MAXN >\nGPU MAX_FREQ -1\n\n"
        "< POWER_MODEL ID=1 NAME=15W >\nCPU_ONLINE CORE_0 1\nGPU MAX_FREQ 612000000\n< POWER_MODEL ID=2 NAME=X >\n"
    )
    assert [mode.gpu_max_mhz for mode in modes[:2]] == [math.inf, 612.0] and math.isnan(modes[2].gpu_max_mhz)


def test_the_answer_of_nvpmodel_q() -> None:
    answer = power_mode_from_query("NV Fan Mode:quiet\nNV Power Mode: MODE_15W_6CORE\n2\n")
    assert answer is not None and (answer.identifier, answer.name) == (2, "MODE_15W_6CORE")
    assert power_mode_from_query("NVPM ERROR: failed") is None
