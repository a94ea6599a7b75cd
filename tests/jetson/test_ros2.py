"""The node of jetson/ros2, with imitations of the four modules of ROS that it imports: ROS is not on PyPI."""

from __future__ import annotations

import importlib.util
import sys
import xml.etree.ElementTree
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Callable

import numpy as np
import pytest

import edgeseg
from edgeseg.demo.street import StreetDataset

ROS2 = Path(__file__).resolve().parents[2] / "jetson" / "ros2"


class Node:
    """rclpy.node.Node: keeps what a node asks for."""

    parameters: dict[str, object] = {}
    made: list[Node] = []

    def __init__(self, name: str) -> None:
        self.name, self.published, self.lines = name, [], []
        self.callback: Callable[[Any], None] | None = None
        self.depth = 0
        Node.made.append(self)

    def declare_parameter(self, name: str, default: object) -> SimpleNamespace:
        return SimpleNamespace(value=self.parameters.get(name, default))

    def create_publisher(self, kind: type, topic: str, qos: Any) -> SimpleNamespace:
        assert topic == "mask" and qos == 10, "reliable, as a number is"
        return SimpleNamespace(publish=self.published.append)

    def create_subscription(self, kind: type, topic: str, callback: Callable[[Any], None], qos: Any) -> None:
        assert topic == "image"
        assert qos.reliability == "best effort"
        self.callback, self.depth = callback, qos.depth

    def get_logger(self) -> SimpleNamespace:
        def error(line: str, throttle_duration_sec: float) -> None:
            self.lines.append(line)

        return SimpleNamespace(info=self.lines.append, error=error)

    def destroy_node(self) -> None:
        self.lines.append("destroyed")


class CvBridge:
    """cv_bridge.CvBridge for 8-bit pictures."""

    def imgmsg_to_cv2(self, message: Any, encoding: str) -> np.ndarray:
        assert encoding == "bgr8"
        if message.picture is None:
            raise RuntimeError("[8UC7] is not a color format")
        return np.asarray(message.picture)

    def cv2_to_imgmsg(self, picture: np.ndarray, encoding: str) -> SimpleNamespace:
        return SimpleNamespace(picture=picture, encoding=encoding, header=None)


@pytest.fixture
def node_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    calls: list[str] = []

    def spin(node: Node) -> None:
        assert node.callback is not None
        node.callback(SimpleNamespace(header="wrong", picture=None))
        node.callback(SimpleNamespace(header="empty", picture=np.zeros((0, 0, 3), np.uint8)))
        for index in range(2):
            node.callback(SimpleNamespace(header=f"header {index}", picture=STREET[index].frame))
        raise KeyboardInterrupt

    modules = {
        "rclpy": {"init": lambda: calls.append("init"), "spin": spin, "try_shutdown": lambda: calls.append("shutdown")},
        "rclpy.node": {"Node": Node},
        "rclpy.qos": {
            "QoSProfile": SimpleNamespace,
            "ReliabilityPolicy": SimpleNamespace(BEST_EFFORT="best effort"),
        },
        "cv_bridge": {"CvBridge": CvBridge},
        "sensor_msgs": {},
        "sensor_msgs.msg": {"Image": object},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Node, "made", [])
    spec = importlib.util.spec_from_file_location("edgeseg_ros_node", ROS2 / "edgeseg_ros" / "node.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    vars(loaded)["calls"] = calls
    return loaded


STREET = StreetDataset("demo://street?frames=2&size=160x120")


def test_every_image_gets_a_mask_with_its_header(node_module: ModuleType) -> None:
    node_module.main()
    (node,) = Node.made
    assert node.depth == 1 and node.lines.pop(0).startswith("auto takes int8-cpu in ")
    assert "runs " in node.lines[0] and node.lines[-1] == "destroyed"
    assert node_module.calls == ["init", "shutdown"]
    assert node.lines[1] == "an image is left out: [8UC7] is not a color format"
    assert node.lines[2].startswith("an image is left out: ") and len(node.lines) == 4
    assert [(mask.header, mask.encoding) for mask in node.published] == [("header 0", "mono8"), ("header 1", "mono8")]
    with edgeseg.open_engine(edgeseg.load()) as engine:
        expected = edgeseg.segment(engine, STREET[1].frame).classes
    np.testing.assert_array_equal(node.published[1].picture, expected)


def test_an_engine_that_fails_ends_the_node_in_one_line(
    node_module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(engine: object, frame: object) -> None:
        raise edgeseg.EngineError("the GPU is gone")

    monkeypatch.setattr(edgeseg, "segment", failed)
    with pytest.raises(SystemExit, match="^edgeseg: the GPU is gone"):
        node_module.main()
    assert Node.made[0].lines[-1] == "destroyed" and node_module.calls == ["init", "shutdown"]


def test_a_model_that_is_not_there_is_one_line(node_module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Node, "parameters", {"model": "gone.edgeseg"})
    with pytest.raises(SystemExit, match=r"^edgeseg: .*gone.edgeseg"):
        node_module.main()


def test_the_package_says_what_it_needs_and_has_the_version_of_edgeseg() -> None:
    package = xml.etree.ElementTree.parse(ROS2 / "package.xml").getroot()
    assert package.findtext("version") == edgeseg.__version__ and package.findtext("name") == "edgeseg_ros"
    assert f'version="{edgeseg.__version__}"' in (ROS2 / "setup.py").read_text()
    needed = {one.text for one in package.findall("exec_depend")}
    imported = (ROS2 / "edgeseg_ros" / "node.py").read_text()
    assert needed == {"rclpy", "sensor_msgs", "cv_bridge"} and all(str(name) in imported for name in needed)
