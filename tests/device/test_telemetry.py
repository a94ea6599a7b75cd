from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgeseg.device.telemetry import (
    Clock,
    Sample,
    Telemetry,
    sample_from_tegrastats,
    telemetry_sample,
    throttled_between,
    throttled_now,
)

ROOTS = Path(__file__).parent / "roots"


def test_xavier_rails_through_the_i2c_driver() -> None:
    sample = telemetry_sample(ROOTS / "xavier-nx-jp5.1.2")
    assert sample.power_mw == {"VDD_IN": 4179.8, "VDD_CPU_GPU_CV": 716.5, "VDD_SOC": 1311.6}
    assert sample.clocks["gpu"] == Clock(114.75, 114.75, 1109.25, "nvhost_podgov")
    assert sample.clocks["cpu4"].max_mhz == pytest.approx(1420.8)
    assert sample.temperatures_c["PMIC-Die"] == 100.0 and sample.hottest == ("CPU-therm", 41.5)
    assert throttled_now(sample) == []


def test_orin_leaves_out_sensors_that_are_off() -> None:
    sample = telemetry_sample(ROOTS / "orin-nx-jp6.2")
    assert "cv0-thermal" not in sample.temperatures_c and sample.hottest == ("cpu-thermal", 52.375)
    assert sample.over_current == {"oc1": 0, "oc2": 0, "oc3": 37}
    assert sample.clocks["gpu"].locked and set(sample.power_mw) == {"VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"}


def test_thor_has_other_names_and_a_power_meter_in_microwatts() -> None:
    sample = telemetry_sample(ROOTS / "thor-jp7.0")
    assert sample.power_mw["VIN"] == 28906.0 and sample.power_mw["VDD_GPU"] == pytest.approx(6468.2)
    assert sample.clocks["gpu"].max_mhz == 1575.0 and sample.clocks["gpu-nvd-0"].max_mhz == 1692.0
    assert sample.cooling["devfreq-gpu-gpc-0"] == 18 and throttled_now(sample) == []


@pytest.mark.parametrize(
    "node", ["17000000.gp10b", "17000000.gv11b", "17000000.ga10b", "810000000.gb10b", "17000000.gpu"]
)
def test_the_gpu_under_each_of_its_names(node: str, tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/devfreq" / node
    folder.mkdir(parents=True)
    for name, hertz in (("cur_freq", 315000000), ("min_freq", 315000000), ("max_freq", 1575000000)):
        (folder / name).write_text(f"{hertz}\n")
    assert telemetry_sample(tmp_path).clocks == {"gpu": Clock(315.0, 315.0, 1575.0)}


def test_an_agx_orin_has_two_monitors_and_unconnected_channels() -> None:
    assert set(telemetry_sample(ROOTS / "agx-orin-jp7.2").power_mw) == {
        "VDD_GPU_SOC",
        "VDD_CPU_CV",
        "VIN_SYS_5V0",
        "VDDQ_VDD2_1V8AO",
    }


def test_nothing_there_is_an_empty_sample(tmp_path: Path) -> None:
    assert telemetry_sample(tmp_path) == Sample()
    assert Sample().hottest is None


def test_the_memory_clock_where_debugfs_is_readable(tmp_path: Path) -> None:
    emc = tmp_path / "sys/kernel/debug/bpmp/debug/clk/emc"
    emc.mkdir(parents=True)
    for name, value in (("rate", 2133000000), ("min_rate", 204000000), ("max_rate", 3199000000)):
        (emc / name).write_text(f"{value}\n")
    assert telemetry_sample(tmp_path).clocks == {"emc": Clock(2133.0, 204.0, 3199.0)}


def test_throttling_that_comes_and_goes_between_two_samples(tmp_path: Path) -> None:
    root = tmp_path / "orin"
    shutil.copytree(ROOTS / "orin-nx-jp6.2", root)
    telemetry = Telemetry(root)
    before = telemetry.sample()
    assert throttled_between(before, telemetry.sample()) == []

    (root / "sys/class/hwmon/hwmon3/oc3_event_cnt").write_text("40\n")
    (root / "sys/class/thermal/cooling_device0/cur_state").write_text("5\n")
    (root / "sys/class/thermal/cooling_device3/cur_state").write_text("1\n")
    (root / "sys/class/devfreq/17000000.gpu/cur_freq").write_text("612000000\n")
    (root / "sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq").write_text("1190400\n")
    assert throttled_between(before, telemetry.sample()) == [
        "gpu-throttle-alert is active (state 1)",
        "gpu runs at 612 MHz, below the floor of 1173 MHz that is set",
        "oc3 (instantaneous over-current) reacted 3 times",
        "thermal cap cpufreq-cpu0 rose from 0 to 5",
        "the ceiling of cpu4 fell from 1984 to 1190 MHz",
    ]


def test_a_gpu_that_sleeps_or_follows_its_load_is_not_throttled() -> None:
    busy = Sample(clocks={"gpu": Clock(1100, 306, 1100)})
    assert throttled_between(busy, Sample(clocks={"gpu": Clock(306, 306, 1100)})) == []
    assert throttled_between(busy, Sample(clocks={"gpu": Clock(0, 306, 1100)})) == []
    assert throttled_between(busy, Sample(clocks={"gpu": Clock(300, 306, 1100)})) == []
    assert throttled_now(Sample(clocks={"cpu0": Clock(700, 1984, 1984)})) == []


def test_a_counter_that_restarted_is_no_event() -> None:
    assert throttled_between(Sample(over_current={"oc1": 9}), Sample(over_current={"oc1": 0, "oc2": 4})) == []


JETPACK_4 = (
    "RAM 2673/7765MB (lfb 118x4MB) SWAP 0/3883MB (cached 0MB) CPU [12%@1190,8%@1190,off,off] EMC_FREQ 7% GR3D_FREQ 33% "
    "AO@35C GPU@33C PMIC@100C AUX@33.5C CPU@35C thermal@33.9C VDD_IN 3902/3611 VDD_CPU_GPU_CV 1331/1180 VDD_SOC 997/941"
)
JETPACK_5 = (
    "11-20-2026 10:00:01 RAM 3010/6963MB (lfb 4x4MB) SWAP 0/3481MB (cached 0MB) CPU [4%@1190,off] EMC_FREQ 3%@1600 "
    "GR3D_FREQ 71%@[1109] VIC_FREQ 115 APE 150 AUX@41C CPU@42.5C thermal@41.9C AO@41C GPU@43C PMIC@50C "
    "VDD_IN 9032mW/8700mW VDD_CPU_GPU_CV 4100mW/3900mW VDD_SOC 1600mW/1580mW"
)
JETPACK_6 = (
    "04-27-2026 15:00:54 RAM 779/7620MB (lfb 2x4MB) SWAP 0/3810MB (cached 0MB) CPU [0%@1344,2%@729] GR3D_FREQ 0% "
    "cpu@50.125C soc2@49.125C gpu@50.562C tj@50.562C VDD_IN 6626mW/6625mW VDD_CPU_GPU_CV 1228mW/1230mW "
    "VDD_SOC 2380mW/2380mW"
)
ORIN_7 = (
    "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201] EMC_FREQ 3%@3199 "
    "GR3D_FREQ 0%@[1300,1300] NVENC0 off APE 174 cpu@52.968C/52.968C"
)
THOR = (
    "08-08-2026 20:58:23 RAM 3429/125749MB (lfb 120x4MB) CPU [0%,5%,off]@2601 EMC_FREQ @4266 "
    "GR3D_FREQ @[1574,1574,1574] cpu@49.75C/49.75C tj@51.218C/51.218C gpu@51.218C/51.218C cv0@-256C "
    "VDD_GPU 6330mW/6330mW/6330mW VIN 28906mW/14453mW/28906mW"
)


def test_tegrastats_of_jetpack_4() -> None:
    sample = sample_from_tegrastats(JETPACK_4)
    assert sample.power_mw == {"VDD_IN": 3902, "VDD_CPU_GPU_CV": 1331, "VDD_SOC": 997}
    assert sample.load_percent == {"gpu": 33, "emc": 7} and "gpu" not in sample.clocks
    assert sample.memory_used_mib == (2673, 7765) and sample.hottest == ("AO", 35)


def test_tegrastats_of_jetpack_5() -> None:
    sample = sample_from_tegrastats(JETPACK_5)
    assert sample.clocks["gpu"] == Clock(1109) and sample.clocks["emc"] == Clock(1600)
    assert sample.load_percent == {"gpu": 71, "emc": 3} and sample.hottest == ("GPU", 43)
    assert sample.power_mw["VDD_IN"] == 9032 and "cpu1" not in sample.clocks


def test_tegrastats_of_jetpack_6_and_7() -> None:
    sample = sample_from_tegrastats(JETPACK_6)
    assert sample.load_percent == {"gpu": 0} and sample.temperatures_c["tj"] == 50.562
    assert [sample.clocks[name].mhz for name in ("cpu0", "cpu1")] == [1344, 729]
    assert sample.power_mw == {"VDD_IN": 6626, "VDD_CPU_GPU_CV": 1228, "VDD_SOC": 2380}
    orin = sample_from_tegrastats(ORIN_7)
    assert orin.clocks["gpu"] == Clock(1300) and orin.load_percent["gpu"] == 0
    thor = sample_from_tegrastats(THOR)
    assert thor.clocks["gpu"] == Clock(1574) and thor.clocks["cpu0"] == Clock(2601) and thor.load_percent == {}
    assert thor.power_mw == {"VDD_GPU": 6330, "VIN": 28906} and "cv0" not in thor.temperatures_c


@pytest.mark.parametrize("line", ["", "garbage", "RAM x/yMB GR3D_FREQ %@[", "CPU [", JETPACK_5[:150], THOR[40:190]])
def test_cut_tegrastats_lines_never_raise(line: str) -> None:
    assert isinstance(sample_from_tegrastats(line), Sample)
