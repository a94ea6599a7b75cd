"""Measure temperatures, power, clocks and throttling of a Jetson, from sysfs or from a line of tegrastats."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping

from edgeseg.device.tree import first_number, matches, text_of

__all__ = [
    "Clock",
    "Sample",
    "Telemetry",
    "sample_from_tegrastats",
    "telemetry_sample",
    "throttled_between",
    "throttled_now",
    "total_power_mw",
]


@dataclass(frozen=True)
class Clock:
    """A clock domain. Zero is "not stated".

    Attributes:
        mhz: the clock now.
        min_mhz: the floor that is set; jetson_clocks raises it to the ceiling.
        max_mhz: the ceiling that is set, by the power mode or by thermal capping.
        governor: name of what chooses between the two.
    """

    mhz: float = 0.0
    min_mhz: float = 0.0
    max_mhz: float = 0.0
    governor: str = ""

    @property
    def locked(self) -> bool:
        """Tell whether floor and ceiling are the same, as after jetson_clocks."""
        return 0 < self.max_mhz == self.min_mhz


@dataclass(frozen=True)
class Sample:
    """Readings of the sensors at one moment. A sensor that does not answer is absent.

    Attributes:
        temperatures_c: degrees Celsius per thermal zone, by the names that the board gives.
        power_mw: milliwatts per supply rail.
        clocks: ``"gpu"``, ``"emc"``, ``"cpu0"`` (the first core of each cluster), and further GPU domains by name.
        cooling: state per cooling device; 0 is off.
        over_current: how often the hardware reacted since boot, by ``"oc1"`` ... (Orin: 1 under-voltage, 2 average
            and 3 instantaneous over-current).
        load_percent: how busy ``"gpu"`` and ``"emc"`` are; only tegrastats says.
        memory_used_mib: (used, total) memory; only tegrastats says.
    """

    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    power_mw: Mapping[str, float] = field(default_factory=dict)
    clocks: Mapping[str, Clock] = field(default_factory=dict)
    cooling: Mapping[str, int] = field(default_factory=dict)
    over_current: Mapping[str, int] = field(default_factory=dict)
    load_percent: Mapping[str, float] = field(default_factory=dict)
    memory_used_mib: tuple[float, float] | None = None

    @property
    def hottest(self) -> tuple[str, float] | None:
        """Return the hottest zone and its degrees Celsius. The PMIC's is left out; it is a constant on many boards."""
        zones = {name: value for name, value in self.temperatures_c.items() if not name.lower().startswith("pmic")}
        return max(zones.items(), key=lambda zone: zone[1], default=None)


MONITORS = ("sys/bus/i2c/drivers/ina*/*/hwmon/hwmon*", "sys/class/hwmon/hwmon*")
"""Where power monitors are: below their driver, and in the class of all hardware monitors."""


class Telemetry:
    """Reader of the sensors under a root; where they are is looked up once.

    Args:
        root: stands for ``/``.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._zones = matches(root, "sys/class/thermal/thermal_zone*")
        self._cooling = matches(root, "sys/class/thermal/cooling_device*")
        self._rails = _rails(root)
        self._counters = matches(root, "sys/class/hwmon/hwmon*/oc*_event_cnt")
        self._devfreq = {_domain(node.name): node for node in matches(root, "sys/class/devfreq/*")}
        self._policies = matches(root, "sys/devices/system/cpu/cpufreq/policy*")
        self._emc = root / "sys/kernel/debug/bpmp/debug/clk/emc"

    def sample(self) -> Sample:
        """Read the sensors now."""
        cooling = ((text_of(node / "type"), first_number(node / "cur_state")) for node in self._cooling)
        counters = ((path.name.split("_")[0], first_number(path)) for path in self._counters)
        return Sample(
            temperatures_c=_temperatures(self._zones),
            power_mw=_powers(self._rails),
            clocks=self._clocks(),
            cooling={
                _numbered(name, number): state for number, (name, state) in enumerate(cooling) if state is not None
            },
            over_current={name: count for name, count in counters if count is not None},
        )

    def _clocks(self) -> dict[str, Clock]:
        clocks = {name: _devfreq_clock(node) for name, node in self._devfreq.items()}
        rate = first_number(self._emc / "rate")
        if rate is not None:
            limits = first_number(self._emc / "min_rate") or 0, first_number(self._emc / "max_rate") or 0
            clocks["emc"] = Clock(rate / 1e6, limits[0] / 1e6, limits[1] / 1e6)
        clocks.update({f"cpu{node.name[len('policy') :]}": _cpu_clock(node) for node in self._policies})
        return {name: clock for name, clock in clocks.items() if clock != Clock()}


def telemetry_sample(root: Path = Path("/")) -> Sample:
    """Read the sensors once, for those who want no second sample."""
    return Telemetry(root).sample()


def _temperatures(zones: list[Path]) -> dict[str, float]:
    """Read the zones that answer with a temperature; one that is switched off fails to read or says -256."""
    found = {}
    for zone in zones:
        value = first_number(zone / "temp")
        if value is not None and -60_000 < value < 200_000:
            found[text_of(zone / "type") or zone.name] = value / 1000
    return found


def _rails(root: Path) -> dict[str, tuple[Path, ...]]:
    """Map each rail to the files whose product is its power: millivolts and milliamperes, or microwatts (INA238)."""
    rails: dict[str, tuple[Path, ...]] = {}
    for monitor in (found for pattern in MONITORS for found in matches(root, pattern)):
        if not text_of(monitor / "name").startswith("ina"):
            continue
        for label in matches(monitor, "in*_label"):
            number, name = label.name[2 : -len("_label")], text_of(label)
            volts, amperes = monitor / f"in{number}_input", monitor / f"curr{number}_input"
            watts = monitor / f"power{number}_input"
            if name not in ("", "NC") and "shunt" not in name and name not in rails:
                if watts.exists():
                    rails[name] = (watts,)
                elif amperes.exists():
                    rails[name] = (volts, amperes)
    return rails


def _powers(rails: Mapping[str, tuple[Path, ...]]) -> dict[str, float]:
    """Read the milliwatts of each rail."""
    found = {}
    for name, files in rails.items():
        values = [value for value in map(first_number, files) if value is not None]
        if len(values) == len(files):
            found[name] = round(math.prod(values) / 1000, 1)
    return found


def _domain(node: str) -> str:
    """Name the domain of a devfreq node. ``17000000.gv11b``, ``.ga10b``, ``.gb10b``, ``.gpu``, ``gpu-gpc-0`` are GPUs.

    Thor's ``gpu-nvd-0`` is the clock of its video engines and keeps its name.
    """
    if node == "gpu-gpc-0" or re.fullmatch(r"[0-9a-f]+\.(gpu|gp10b|gv11b|ga10b|gb10b)", node):
        return "gpu"
    return "emc" if re.search(r"emc|bwmgr", node) else node


def _devfreq_clock(node: Path) -> Clock:
    """Read a clock from files in hertz."""
    now, low, high = ((first_number(node / name) or 0) / 1e6 for name in ("cur_freq", "min_freq", "max_freq"))
    return Clock(now, low, high, text_of(node / "governor"))


def _cpu_clock(policy: Path) -> Clock:
    """Read a clock from files in kilohertz."""
    names = ("scaling_cur_freq", "scaling_min_freq", "scaling_max_freq")
    now, low, high = ((first_number(policy / name) or 0) / 1e3 for name in names)
    return Clock(now, low, high, text_of(policy / "scaling_governor"))


def _numbered(name: str, number: int) -> str:
    return name or f"cooling_device{number}"


_INPUTS = ("VDD_IN", "POM_5V_IN", "VIN")
"""Rails that feed a whole module: Xavier NX, Orin NX and Nano; older Nano; Thor."""


def total_power_mw(sample: Sample) -> float | None:
    """Return what the whole module takes in milliwatts: its input rail, else the sum of its rails; None without any.

    AGX modules have no sensor on their input, so that their sum leaves out what no rail carries.
    """
    for name in _INPUTS:
        if name in sample.power_mw:
            return sample.power_mw[name]
    return sum(sample.power_mw.values()) or None


_OVER_CURRENT = {"oc1": "under-voltage", "oc2": "average over-current", "oc3": "instantaneous over-current"}
_BELOW = 0.97  # sysfs rounds; a clock this close to its floor is on it


def throttled_now(sample: Sample) -> list[str]:
    """List the reasons why the board runs slower than it was set to, at this moment; empty when it does not."""
    alerts = [
        f"{name} is active (state {state})"
        for name, state in sample.cooling.items()
        if state > 0 and name.endswith("-alert")
    ]
    below = [
        f"{name} runs at {clock.mhz:.0f} MHz, below the floor of {clock.min_mhz:.0f} MHz that is set"
        for name, clock in sample.clocks.items()
        if 0 < clock.mhz < _BELOW * clock.min_mhz and not name.startswith("cpu")  # an idle core's reading means nothing
    ]
    return alerts + below


def throttled_between(before: Sample, after: Sample) -> list[str]:
    """List the reasons why the board may have run slower than it was set to between two samples; empty without any.

    These count: throttle alerts that are active in either sample, over-current counters that grew, thermal caps that
    rose, ceilings that fell, and clocks of GPU and memory below their own floor (no governor goes there, only
    protection hardware does).
    """
    reasons = list(dict.fromkeys(throttled_now(before) + throttled_now(after)))
    for name, count in after.over_current.items():
        grown = count - before.over_current.get(name, count)
        if grown > 0:
            reasons.append(f"{name} ({_OVER_CURRENT.get(name, 'over-current')}) reacted {grown} times")
    for name, state in after.cooling.items():
        was = before.cooling.get(name, state)
        if state > was and re.match(r"(thermal-)?(cpufreq|devfreq)-", name):
            reasons.append(f"thermal cap {name} rose from {was} to {state}")
    for name, clock in after.clocks.items():
        ceiling = before.clocks.get(name, clock).max_mhz
        if 0 < clock.max_mhz < _BELOW * ceiling:
            reasons.append(f"the ceiling of {name} fell from {ceiling:.0f} to {clock.max_mhz:.0f} MHz")
    return reasons


_NUMBER = r"\d{1,9}(?:\.\d{1,9})?"
_FREQUENCY = re.compile(rf"\b(GR3D|EMC)_FREQ (?:({_NUMBER})%)?(?:@\[?\s*({_NUMBER}))?")
_TEMPERATURE = re.compile(rf"(?<!\S)([A-Za-z][\w-]*)@(-?{_NUMBER})C")
_POWER = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (\d{1,9})(?:mW)?/\d{1,9}(?:mW)?(?![\dkMG])")
_MEMORY = re.compile(rf"\bRAM ({_NUMBER})/({_NUMBER})MB")
_CPUS = re.compile(rf"\bCPU \[([^\]]*)\](?:@({_NUMBER}))?")


def sample_from_tegrastats(line: str) -> Sample:
    """Parse one line of tegrastats, in the formats of JetPack 4 to 7 on Xavier, Orin and Thor.

    The rails' first number is the present one. Where the GPU has several clusters, the first one's clock counts.
    A clock of 0 is a GPU that is switched off.
    """
    clocks, load = _tegrastats_clocks(line)
    memory = _MEMORY.search(line)
    temperatures = {name: float(value) for name, value in _TEMPERATURE.findall(line) if float(value) > -60}
    return Sample(
        temperatures_c=temperatures,
        power_mw={name: float(value) for name, value in _POWER.findall(line)},
        clocks=clocks,
        load_percent=load,
        memory_used_mib=(float(memory.group(1)), float(memory.group(2))) if memory else None,
    )


def _tegrastats_clocks(line: str) -> tuple[dict[str, Clock], dict[str, float]]:
    clocks, load = {}, {}
    for engine, percent, mhz in _FREQUENCY.findall(line):
        name = "gpu" if engine == "GR3D" else "emc"
        if mhz:
            clocks[name] = Clock(float(mhz))
        if percent:
            load[name] = float(percent)
    cpus = _CPUS.search(line)
    if cpus:
        own = [re.search(rf"@({_NUMBER})", core) for core in cpus.group(1).split(",")]
        for index, match in enumerate(own):
            if match:
                clocks[f"cpu{index}"] = Clock(float(match.group(1)))
        if cpus.group(2):
            clocks["cpu0"] = Clock(float(cpus.group(2)))
    return clocks, load
