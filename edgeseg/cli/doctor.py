"""``edgeseg doctor``: one block to paste into an issue, with what is wrong and how to fix it."""

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import typer
from typing_extensions import Annotated

from edgeseg import __version__
from edgeseg.app.models import bundle_or_default
from edgeseg.app.shipped import SHIPPED
from edgeseg.cli.console import JsonFlag, print_json, say, say_aside
from edgeseg.cli.signals import stop_on_signals
from edgeseg.device.doctor import Finding, findings
from edgeseg.device.facts import Facts, gathered_facts
from edgeseg.device.gstreamer import NVIDIA_ELEMENTS, probed_gstreamer
from edgeseg.device.probe import Probe, Ran, probed_modules
from edgeseg.device.record import check_record_folder, probe_of_record, write_record
from edgeseg.engines.select import ENGINES
from edgeseg.errors import EdgesegError, InputError, UsageError

HERE = Path("/")
"""Where this machine's own files are."""

RootOption = Annotated[
    Optional[Path],
    typer.Option(
        "--root", help="Judge a tree that 'doctor --record' wrote elsewhere, not this machine.", metavar="DIR"
    ),
]
RecordOption = Annotated[
    Optional[Path],
    typer.Option(
        "--record",
        help="Also write the few files that were read, without serial numbers, to a new folder: to send with a report.",
        metavar="DIR",
    ),
]


FirstNightOption = Annotated[
    Optional[Path],
    typer.Option(
        "--first-night",
        help="Write one file about this board to send to us: this report, a fresh INT8 build of the shipped model with "
        "its log and layers, power mode, tegrastats, bench; no serial numbers, names or addresses. Takes minutes.",
        metavar="FILE",
    ),
]


def doctor(
    as_json: JsonFlag = False,
    root: RootOption = None,
    record: RecordOption = None,
    first_night: FirstNightOption = None,
) -> None:
    """Check this machine: board, JetPack, TensorRT, OpenCV, cameras, power, packages, the shipped model.

    Prints one block to paste into a report. Exit 1 if something is broken; warnings and notes are 0.

    Example: edgeseg doctor
    """
    if first_night is not None:
        if root is not None or record is not None:
            raise UsageError("--first-night is about this machine and holds a record of it; give it alone")
        _first_night(first_night, as_json)
        return
    if root is not None and record is not None:
        raise UsageError("--root reads a recorded tree and --record writes one of this machine; give one of them")
    if root is not None and not root.is_dir():
        raise InputError(f"{root} is not a folder; give the one that 'edgeseg doctor --record' wrote")
    if root is not None and not any((root / name).is_file() for name in ("edgeseg-probe.json", "proc/cpuinfo")):
        raise InputError(f"{root} holds no record of a machine; give the folder that 'edgeseg doctor --record' wrote")
    if record is not None:
        check_record_folder(record)
    probe = _probe() if root is None else probe_of_record(root)
    facts = gathered_facts(root or HERE, probe, _cameras(root or HERE))
    found = findings(facts)
    lines = dict(_lines(facts))
    if root is None:
        lines["shipped model"], broken = _shipped_model()
        found = broken + found
    if as_json:
        print_json(_document(facts, lines, found))
    else:
        say(_text(probe, lines, found))
    if record is not None:
        written = write_record(HERE, record, probe)
        print(f"recorded {len(written)} files in {record}", file=sys.stderr)
    if _problems(found):
        raise SystemExit(1)


def _first_night(target: Path, as_json: bool) -> None:
    from edgeseg.cli.first_night import check_target, gathered_night, write_night

    tell = say_aside if as_json else say
    check_target(target)
    tell("this takes minutes to an hour on a board; Ctrl-C leaves nothing behind")
    with stop_on_signals():
        night = gathered_night(HERE, _probe(), _recorded_report, tell)
        size = write_night(target, night)
    if as_json:
        print_json({"file": str(target), "bytes": size, "failed": night["failed"]})
    else:
        say(f"wrote {target} ({size / 1000:.0f} kB); read it, then attach it to an issue")


def _recorded_report(root: Path) -> Dict[str, Any]:
    """What --root would print about a recorded tree, as text and for machines."""
    probe = probe_of_record(root)
    facts = gathered_facts(root, probe, _cameras(root))
    lines, found = dict(_lines(facts)), findings(facts)
    return {"text": _text(probe, lines, found) + "\n", "json": _document(facts, lines, found)}


def _problems(found: List[Finding]) -> List[str]:
    return [f"{item.what} ({item.seen}); {item.fix}" for item in found if item.severity == "problem"]


def _document(facts: Facts, lines: Dict[str, str], found: List[Finding]) -> Dict[str, Any]:
    named = [item.to_json() for item in found]
    return {"device": facts.device.to_json(), "facts": lines, "problems": _problems(found), "findings": named}


def _text(probe: Probe, lines: Dict[str, str], found: List[Finding]) -> str:
    said = [f"edgeseg {probe.edgeseg or '(version not recorded)'}"]
    said += [f"  {name + ':':<15}{value}" for name, value in lines.items()]
    for number, item in enumerate(found, 1):
        said += [f"{number}. {item.severity}: {item.what}", f"   seen: {item.seen}", f"   fix:  {item.fix}"]
    counts = (
        (severity, sum(item.severity == severity for item in found)) for severity in ("problem", "warning", "note")
    )
    return "\n".join([*said, ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts)])


def _lines(facts: Facts) -> Iterator[Tuple[str, str]]:
    """The facts as people read them: what is not there is said to be not found, never left to guess."""
    device, probe = facts.device, facts.probe
    chip = ", ".join(filter(None, (device.module, device.soc)))
    if device.is_jetson or device.board:
        yield "board", (device.board or "not visible") + (f" ({chip})" if chip else "")
    if device.is_jetson:
        yield "release", f"JetPack {device.jetpack or 'not found'}, L4T {device.l4t or 'not found'}"
    yield "system", _joined(device.system, device.architecture, "in a container" if device.in_container else "")
    if device.in_container and device.is_jetson:
        yield "container", f"image L4T {facts.image_l4t or 'not stated'}, board L4T {facts.host_l4t or 'not visible'}"
    yield "cpu", f"{device.cpu}, {device.cores} cores, {', '.join(device.int8_instructions) or 'no INT8 instructions'}"
    if device.is_jetson:
        dla = "" if device.dla_cores is None else f"{device.dla_cores} DLA"
        yield "gpu", _joined(f"compute capability {device.compute_capability or 'unknown'}", _gpu_clock(facts), dla)
        yield "cuda", f"{device.cuda or 'not found'}; TensorRT {device.tensorrt or 'not found'} (system packages)"
        yield "power", _power(facts)
    yield "memory", f"{device.memory_available_gib} of {device.memory_gib} GiB available, {device.swap_gib} GiB swap"
    hottest = facts.sample.hottest
    if device.is_jetson and hottest:
        yield "hottest", f"{hottest[0]} {hottest[1]:.1f} C"
    yield "cameras", ", ".join(facts.cameras) or "none (/dev/video*)"
    yield from _python_lines(probe)
    yield from _gstreamer_line(facts)


def _python_lines(probe: Probe) -> Iterator[Tuple[str, str]]:
    if not probe.python:
        yield "python", "not recorded"
        return
    yield "python", f"{probe.python} ({probe.environment}) {probe.executable}"
    for name, module in probe.modules.items():
        extra = {"cv2": "GStreamer ", "torch": "CUDA "}.get(name, "") + module.detail if module.detail else ""
        extra = extra.replace("CUDA none", "CPU build")
        state = f"{module.version} ({module.path})" if module.works else ""
        yield name, _joined(state, extra, f"broken: {module.error}" if module.error else "")
    installed = (f"{name} {version}" for name, version in probe.distributions.items())
    yield "packages", ", ".join(installed) or "none of the packages that matter here"


def _gstreamer_line(facts: Facts) -> Iterator[Tuple[str, str]]:
    """What carries CSI and network cameras and H.264; records of older versions do not say."""
    found = facts.probe.gstreamer
    if found is None:
        return
    lacking = [name for name in found.missing if facts.device.is_jetson or name not in NVIDIA_ELEMENTS]
    lacks = f"lacks {', '.join(lacking)}" if lacking else ""
    yield "gstreamer", _joined(f"{found.version} through {found.python}", lacks) if found.works else "not usable"


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _gpu_clock(facts: Facts) -> str:
    device = facts.device
    if not device.gpu_max_mhz:
        return "clock not visible"
    if device.clocks_locked:
        return f"{device.gpu_mhz:.0f} MHz (clocks locked)"
    limits = f"{device.gpu_min_mhz:.0f} to {device.gpu_max_mhz:.0f}"
    return f"{device.gpu_mhz:.0f} MHz ({limits}, governor {device.gpu_governor or 'unknown'}, clocks not locked)"


def _power(facts: Facts) -> str:
    device = facts.device
    mode = "mode not visible"
    if device.power_mode_id is not None:
        mode = f"mode {device.power_mode or 'unnamed'} ({device.power_mode_id})"
    rails = (f"{name} {milliwatts / 1000:.1f} W" for name, milliwatts in facts.sample.power_mw.items())
    return _joined(mode, *rails)


def _shipped_model() -> Tuple[str, List[Finding]]:
    try:
        bundle, _ = bundle_or_default(SHIPPED, None)
    except EdgesegError as error:
        fix = "pip install --force-reinstall edgeseg"
        return "broken", [Finding("shipped-model", "problem", "the shipped model cannot be read", str(error), fix)]
    return f"{SHIPPED.name}, graphs {', '.join(bundle.graphs)}", []


def _cameras(root: Path) -> Tuple[str, ...]:
    from edgeseg.runtime.sources.camera import camera_devices

    return tuple(camera_devices(root))


_DISTRIBUTIONS = re.compile(
    r"opencv-.*|onnx|onnxruntime(-gpu)?|onnxsim|onnxslim|pycuda|torch"
    r"|tensorrt([_-](cu\d+|rtx[_-]cu\d+))?([_-](libs|bindings))?"
)
_OF_ENGINES = {kind.module for kind in ENGINES.values()}


def _probe() -> Probe:
    """Ask this machine what no file says."""
    home = os.path.expanduser("~")
    modules = probed_modules(_run, sys.executable, sys.path)
    gstreamer = probed_gstreamer(_run)
    return Probe(
        edgeseg=__version__,
        python=platform.python_version(),
        executable=_without_home(sys.executable, home),
        environment=_environment(),
        architecture=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        cores=len(os.sched_getaffinity(0)),
        modules={
            name: type(module)(**{key: _without_home(text, home) for key, text in vars(module).items()})
            for name, module in modules.items()
        },
        gstreamer=replace(
            gstreamer, python=_without_home(gstreamer.python, home), error=_without_home(gstreamer.error, home)
        ),
        distributions=_distributions(),
        groups=_groups(),
        display=bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")),
        disk_free_gib=round(shutil.disk_usage(home if os.path.isdir(home) else "/").free / 2**30, 1),
    )


def _without_home(text: str, home: str) -> str:
    """A path that does not tell the user's name to those who read the report."""
    return text.replace(home.rstrip("/") + "/", "~/") if len(home) > 1 else text


def _run(command: Sequence[str]) -> Ran:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Ran(-1, "", str(error))
    return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def _environment() -> str:
    if sys.prefix == sys.base_prefix:
        return "system"
    sealed = not any(part.endswith("dist-packages") for part in sys.path)
    return "venv" if sealed else "venv, system packages visible"


def _distributions() -> Dict[str, str]:
    """The pip packages that matter here; of two with the same name, the one that is imported."""
    from importlib import metadata

    found: Dict[str, str] = {}
    for distribution in metadata.distributions():
        name = str(distribution.metadata["Name"] or "")
        if _DISTRIBUTIONS.fullmatch(name) or name.replace("-", "_") in _OF_ENGINES:
            found.setdefault(name, str(distribution.version))
    return dict(sorted(found.items()))


def _groups() -> Tuple[str, ...]:
    import grp

    names: List[str] = ["root"] if os.geteuid() == 0 else []
    for number in os.getgroups():
        try:
            names.append(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return tuple(sorted({name for name in names if name in ("root", "video", "render")})) or ("none",)
