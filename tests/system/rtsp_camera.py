"""A camera on the network: GStreamer's own RTSP server with a user and a password. Run by the system's Python.

Arguments: port, codec (h264, rare-keys or mjpeg), size WIDTHxHEIGHT. Each line on standard input is an order:
``size WIDTHxHEIGHT`` changes the picture's size for the next client. Prints ``ready`` once it listens.
"""

import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! h264parse ! rtph264pay name=pay0 pt=96 "
    "config-interval=-1",
    # A key frame every ten seconds, and a large one.
    "rare-keys": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=300 bitrate=20000 ! h264parse ! "
    "rtph264pay name=pay0 pt=96 config-interval=-1 mtu=500",
    "mjpeg": "jpegenc ! rtpjpegpay name=pay0 pt=26",
}


def launch(codec, size):
    width, height = size.split("x")
    return (
        f"( videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width={width},height={height},"
        f"framerate=30/1 ! {ENCODERS[codec]} )"
    )


def main(port, codec, size):
    Gst.init(None)
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(port)
    auth = GstRtspServer.RTSPAuth.new()
    token = GstRtspServer.RTSPToken.new()
    token.set_string("media.factory.role", "user")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic("anna", "s3cret word"), token)
    server.set_auth(auth)
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_launch(launch(codec, size))
    factory.set_shared(True)
    factory.add_role_from_structure(
        Gst.Structure.new_from_string("user, media.factory.access=(boolean)true, media.factory.construct=(boolean)true")
    )
    server.get_mount_points().add_factory("/main", factory)
    if server.attach(None) == 0:
        sys.exit(f"port {port} is taken")

    def orders():
        for line in sys.stdin:
            verb, value = line.split()
            if verb == "size":
                factory.set_launch(launch(codec, value))
                print("done", flush=True)

    threading.Thread(target=orders, daemon=True).start()
    print("ready", flush=True)
    GLib.MainLoop().run()


main(*sys.argv[1:])
