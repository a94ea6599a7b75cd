"""Subscribe to a camera's images and publish the class ids of every pixel.

ros2 run edgeseg_ros segment --ros-args -r image:=/camera/image_raw -p model:=street.edgeseg
"""

import rclpy
from cv_bridge import CvBridge
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

import edgeseg


class SegmentNode(Node):
    """Node with a subscription to ``image`` and a publisher of ``mask``.

    A mask is of encoding mono8 and has the header of its image. The parameters are ``model``, a path or a name of
    'edgeseg models', and ``engine``, as of 'edgeseg run'. Images that come while one is segmented are left out, and so
    is one that cannot be read. As REP 2003 says, any subscriber may have the masks, and images of any camera are taken.
    """

    def __init__(self):
        super().__init__("edgeseg")
        model = self.declare_parameter("model", "").value or None
        engine = self.declare_parameter("engine", "auto").value
        self._bridge = CvBridge()
        options = edgeseg.EngineOptions(engine=engine)
        self._engine = edgeseg.open_engine(edgeseg.load(model), options, on_note=self.get_logger().info)
        self._masks = self.create_publisher(Image, "mask", 10)
        latest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(Image, "image", self._segment, latest)
        self.get_logger().info(f"runs {self._engine.description}")

    def _segment(self, image):
        try:
            frame = self._bridge.imgmsg_to_cv2(image, "bgr8")
            classes = edgeseg.segment(self._engine, frame).classes
        except edgeseg.EngineError:
            raise
        except Exception as error:  # whatever OpenCV makes of one image: the next may be well
            self.get_logger().error(f"an image is left out: {error}", throttle_duration_sec=5.0)
            return
        mask = self._bridge.cv2_to_imgmsg(classes, "mono8")
        mask.header = image.header
        self._masks.publish(mask)

    def destroy_node(self):
        """Close the engine, too."""
        self._engine.close()
        super().destroy_node()


def main():
    """Run until Ctrl-C."""
    rclpy.init()
    try:
        node = SegmentNode()
    except edgeseg.EdgesegError as error:
        raise SystemExit(f"edgeseg: {error}") from error
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    except edgeseg.EngineError as error:
        raise SystemExit(f"edgeseg: {error}") from error
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
