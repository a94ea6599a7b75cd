"""OpenCV."""

from __future__ import annotations

from edgeseg.device.doctor.commands import apt, new_environment, opencv_wheels, pip, then, without_wheels
from edgeseg.device.doctor.finding import NOTE, PROBLEM, WARNING, Finding
from edgeseg.device.doctor.python_packages import numpy_is_why
from edgeseg.device.facts import Facts

__all__ = ["cv2_missing", "cv2_shadowed", "cv2_wheel_beside", "cv2_without_gstreamer"]


def cv2_missing(facts: Facts) -> Finding | None:
    """Find that Python cannot import OpenCV, unless NumPy 2 is why."""
    module = facts.probe.module("cv2")
    if not facts.probe.python or module.works or numpy_is_why(facts, module.error):
        return None
    if not facts.device.is_jetson:
        fix = f"{pip(facts)} install opencv-python"
    elif facts.system_cv2 and facts.probe.environment == "venv":
        fix = new_environment()
    else:
        fix = apt(facts, "install python3-opencv")
    seen = module.error or "not installed" + (f"; the system has {facts.system_cv2[0]}" if facts.system_cv2 else "")
    return Finding("cv2-missing", PROBLEM, "Python cannot import OpenCV (cv2)", seen, fix)


def cv2_shadowed(facts: Facts) -> Finding | None:
    """Find an OpenCV without GStreamer that hides JetPack's."""
    module = facts.probe.module("cv2")
    if not (module.works and facts.system_cv2 and facts.device.is_jetson and module.detail.startswith("NO")):
        return None
    if module.path.startswith("/usr/lib/python3"):
        return None
    return Finding(
        "cv2-shadowed",
        WARNING,
        "another OpenCV, without GStreamer, hides JetPack's: programs that open cameras by it fail (edgeseg does not)",
        f"cv2 {module.version} from {module.path} (GStreamer: {module.detail}) before {facts.system_cv2[0]}",
        without_wheels(facts) or f"remove {module.path}",
    )


def cv2_without_gstreamer(facts: Facts) -> Finding | None:
    """Find an OpenCV without GStreamer."""
    module = facts.probe.module("cv2")
    if not module.works or not module.detail.startswith("NO") or cv2_shadowed(facts):
        return None
    if not facts.device.is_jetson:
        return Finding(
            "cv2-without-gstreamer",
            NOTE,
            "OpenCV has no GStreamer; edgeseg does not need it to",
            f"cv2 {module.version} from {module.path}",
            "nothing, unless you need them: sudo apt install python3-opencv",
        )
    return Finding(
        "cv2-without-gstreamer",
        WARNING,
        "OpenCV has no GStreamer: programs that open CSI cameras with it fail (edgeseg does not)",
        f"cv2 {module.version} from {module.path}",
        apt(facts, "install python3-opencv") + then(without_wheels(facts)),
    )


def cv2_wheel_beside(facts: Facts) -> Finding | None:
    """Find pip's OpenCV beside JetPack's."""
    wheels = opencv_wheels(facts)
    if not wheels or not facts.device.is_jetson or not facts.system_cv2 or cv2_shadowed(facts):
        return None
    if not facts.probe.module("cv2").works:
        return None
    return Finding(
        "cv2-wheel-beside",
        WARNING,
        "pip's OpenCV is installed beside JetPack's; which of them is imported depends on the order of sys.path",
        f"{', '.join(wheels)} beside {facts.system_cv2[0]}; imported now: {facts.probe.module('cv2').path}",
        without_wheels(facts),
    )
