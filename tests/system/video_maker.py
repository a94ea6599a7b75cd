"""Makes a video with GStreamer: ``video_maker.py '{"path": ..., "times_ms": [...]}'``. For a Python with its bindings.

Every picture is flat and brighter than the one before; ``mark`` gives a black one with a white corner, which is top
left. ``gop`` is the key frames' distance, ``faststart`` puts
the index first, ``interlaced`` encodes fields, ``bframes`` pictures
in another order than they are shown, and ``whole_range`` values of 0 to 255.
"""

import json
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

WIDTH, HEIGHT = 96, 64


def main(order):
    Gst.init(None)
    suffix = order["path"].rpartition(".")[2]
    mux = {
        "mp4": "mp4mux faststart=" + str(order.get("faststart", False)).lower(),
        "mkv": "matroskamux",
        "ts": "mpegtsmux",
    }[suffix]
    interlaced = "interlaced=true" if order.get("interlaced") else ""
    encoder = "x264enc bframes={} b-adapt=false qp-min=1 qp-max=20 key-int-max={} {}".format(
        order.get("bframes", 0),
        order.get("gop", 30),
        interlaced,
    )
    pipeline = Gst.parse_launch(
        f"appsrc name=in format=time ! {encoder} ! h264parse ! {mux} name=mux ! filesink name=out"
    )
    pipeline.get_by_name("out").set_property("location", order["path"])
    source, times = pipeline.get_by_name("in"), order["times_ms"]
    mode = ",interlace-mode=interleaved,field-order=top-field-first" if interlaced else ""
    rate = "25/1" if interlaced else "0/1"
    caps = f"video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={rate}{mode}"
    caps += ",colorimetry=1:4:0:0" if order.get("whole_range") else ""
    source.set_property("caps", Gst.Caps.from_string(caps))
    durations = []

    def on_picture(pad, info):  # h264parse takes the durations away where there is no rate
        info.get_buffer().duration = durations.pop(0)
        return Gst.PadProbeReturn.OK

    for pad in pipeline.get_by_name("mux").sinkpads:
        pad.add_probe(Gst.PadProbeType.BUFFER, on_picture)
    pipeline.set_state(Gst.State.PLAYING)
    for number, time_ms in enumerate(times):
        level = 16 if order.get("mark") else 60 + 145 * number // max(1, len(times) - 1)
        luma = bytearray([level]) * (WIDTH * HEIGHT)
        if order.get("mark"):
            for row in range(16):
                luma[row * WIDTH : row * WIDTH + 16] = b"\xeb" * 16
        buffer = Gst.Buffer.new_wrapped(bytes(luma) + b"\x80" * (WIDTH * HEIGHT // 2))
        buffer.pts = time_ms * 1000000
        following = (
            times[number + 1] if number + 1 < len(times) else 2 * time_ms - (times[number - 1] if number else -40)
        )
        buffer.duration = (following - time_ms) * 1000000
        durations.append(buffer.duration)
        source.emit("push-buffer", buffer)
    source.emit("end-of-stream")
    message = pipeline.get_bus().timed_pop_filtered(30 * Gst.SECOND, Gst.MessageType.EOS | Gst.MessageType.ERROR)
    pipeline.set_state(Gst.State.NULL)
    return 0 if message is not None and message.type == Gst.MessageType.EOS else 1


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
