"""The output process: encodes pictures from shared memory to H.264, into a video file or for RTSP clients.

Started as a script by ``edgeseg.runtime.gst.process``; imports nothing of edgeseg and runs on Python 3.8. It gets two
descriptors: a SOCK_SEQPACKET socket and the memory of the pictures (one state byte per slot first: 1 = filled by the
parent, 0 = taken). The parent sends one JSON configuration, then ``{"slot": n, "pts": ns, "duration": ns}`` per
picture, at last ``{"stop": true}``. The child sends ``ready``, ``error``, and for files ``{"kept": n}``: pictures that
a kill can no longer take away, and at the end ``{"finished": true}``.

First it tries an encoder, one that the parent has not refused, on a few dark pictures: that an element is there does
not mean that its hardware is, and some fail, hang or crash only at a picture. It says ``{"trying": name}`` before and
``{"trying": ""}`` after; when it does not come that far, the parent refuses that encoder and starts a process anew.
"""

import ctypes
import json
import mmap
import select
import signal
import socket
import struct
import sys
import threading
from typing import Any, Dict, Iterator, List, Optional

FRAMES_AT = 4096
TRIAL_PICTURES = 3
TRIAL_NS = 8_000_000_000
ENCODERS = (
    (
        "nvv4l2h264enc",
        "videoconvert ! video/x-raw,format=BGRx ! nvvidconv ! video/x-raw(memory:NVMM),format=NV12 ! "
        "nvv4l2h264enc insert-sps-pps=true idrinterval={gop} maxperf-enable=1 bitrate={bps}",
    ),
    (
        "x264enc",
        "videoconvert ! video/x-raw,format=I420 ! "
        "x264enc tune=zerolatency speed-preset=ultrafast key-int-max={gop} bitrate={kbps}",
    ),
    (
        "openh264enc",
        "videoconvert ! video/x-raw,format=I420 ! openh264enc complexity=low gop-size={gop} bitrate={bps}",
    ),
)
"""Encoders of H.264, the preferred first: (element, pipeline from raw pictures). ``gop`` is frames between key frames,
``bps`` and ``kbps`` the rate."""


def main(socket_fd: int, memory_fd: int) -> int:
    """Encode the parent's pictures until it says stop or is gone; return the exit status."""
    link = socket.socket(fileno=socket_fd)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they reach the parent too, who then says stop
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    config = json.loads(link.recv(1 << 16))
    try:
        import gi

        gi.require_version("Gst", "1.0")
        from gi.repository import Gst
    except (ImportError, ValueError) as error:
        send(link, {"error": str(error)})
        return 1
    Gst.init(None)
    chosen = [
        (name, text) for name, text in ENCODERS if name not in config["refused"] and Gst.ElementFactory.find(name)
    ]
    if not chosen:
        tried = "".join(f"; {name} does not work here: {why}" for name, why in config["refused"].items())
        send(link, {"error": f"no H.264 encoder{tried}; sudo apt install gstreamer1.0-plugins-ugly (x264enc)"})
        return 1
    name, text = chosen[0]
    encoder = text.format(gop=config["gop"], kbps=config["kbps"], bps=config["kbps"] * 1000)
    config["encoder"] = name
    send(link, {"trying": name})
    fault = trial(Gst, encoder, config)
    if fault:
        send(link, {"error": fault})
        return 1
    send(link, {"trying": ""})
    memory = mmap.mmap(memory_fd, 0)
    if config["kind"] == "file":
        return FileOutput(Gst, link, memory, config, encoder).run()
    return RtspOutput(Gst, link, memory, config, encoder).run()


def trial(gst: Any, encoder: str, config: Any) -> str:
    """Say what is wrong with an encoder; empty when it makes H.264 of pictures of this size."""
    try:
        pipeline = gst.parse_launch(
            f"appsrc name=in format=time ! {encoder} ! h264parse ! fakesink name=out sync=false"
        )
    except Exception as error:  # GLib.Error: an element or a property that this release lacks
        return str(getattr(error, "message", error))
    encoded: List[int] = []

    def on_encoded(pad: Any, info: Any) -> Any:
        encoded.append(1)
        return gst.PadProbeReturn.OK

    pipeline.get_by_name("out").get_static_pad("sink").add_probe(gst.PadProbeType.BUFFER, on_encoded)
    source, size = pipeline.get_by_name("in"), picture_size(config)
    source.set_property("caps", picture_caps(gst, config))
    bus = pipeline.get_bus()
    if pipeline.set_state(gst.State.PLAYING) != gst.StateChangeReturn.FAILURE:
        for number in range(TRIAL_PICTURES):
            buffer = gst.Buffer.new_allocate(None, size, None)
            buffer.memset(0, 0, size)
            buffer.pts = number * 33_000_000
            source.emit("push-buffer", buffer)
        source.emit("end-of-stream")
    message = bus.timed_pop_filtered(TRIAL_NS, gst.MessageType.EOS | gst.MessageType.ERROR)
    if message is None:  # and so it might not stop either: that is left to the end of the process
        return "it does not finish a few pictures"
    if message.type == gst.MessageType.ERROR:
        return described(message)
    pipeline.set_state(gst.State.NULL)
    return "" if encoded else "it makes nothing of a few pictures"


def described(message: Any) -> str:
    """Return what an error says; where that is only that data does not flow, also what GStreamer adds."""
    error, debug = message.parse_error()
    detail = (debug or "").strip().splitlines()[-1:]
    internal = "internal data" in error.message.lower()
    return " ".join([error.message, *detail]) if internal else str(error.message)


def picture_size(config: Any) -> int:
    """Bytes of a picture, whose rows begin at multiples of 4 bytes."""
    return (3 * int(config["width"]) + 3) // 4 * 4 * int(config["height"])


def picture_caps(gst: Any, config: Any) -> Any:
    """Return the caps of raw pictures, BGR of the configured size."""
    return gst.Caps.from_string(
        f"video/x-raw,format=BGR,width={config['width']},height={config['height']},framerate=0/1"
    )


class Output:
    """Feed the parent's pictures to a pipeline with an encoder."""

    failed = False

    def __init__(self, gst: Any, link: socket.socket, memory: mmap.mmap, config: Any, encoder: str) -> None:
        self.gst, self.link, self.memory, self.config = gst, link, memory, config
        self.encode = f"{encoder} ! h264parse"
        self.size = picture_size(config)
        self.caps = picture_caps(gst, config)

    def heard(self, bus: Any, wait_ns: int) -> bool:
        """Pass an error of the bus on, and tell whether there was one."""
        message = bus.timed_pop_filtered(wait_ns, self.gst.MessageType.ERROR)
        if message is not None:
            self.failed = True
            send(self.link, self.fault(message))
        return message is not None

    def ready(self) -> None:
        """Tell the parent that pictures may come, and which encoder takes them."""
        send(self.link, {"ready": True, "encoder": self.config["encoder"]})

    def fault(self, message: Any) -> Any:
        """Make the message for an error on the bus; it names the encoder where not the disk is to blame."""
        element, name = message.src, self.config["encoder"]
        while element is not None:
            factory = element.get_factory() if hasattr(element, "get_factory") else None
            if factory is not None and factory.get_name() in (name, "nvvidconv"):
                return {"error": described(message), "encoder": name}
            element = element.get_parent()
        return {"error": described(message)}

    def pictures(self, bus: Optional[Any]) -> Iterator[Any]:
        """Buffers as the parent sends them, until it says stop or is gone; or until the bus has an error."""
        while True:
            readable, _, _ = select.select([self.link], [], [], 0.1)
            if bus is not None and self.heard(bus, 0):
                return
            if not readable:
                continue
            data = self.link.recv(1 << 16)
            order = json.loads(data) if data else {"stop": True}
            if "stop" in order:
                return
            slot = order["slot"]
            start = FRAMES_AT + slot * self.size
            buffer = self.gst.Buffer.new_wrapped(self.memory[start : start + self.size])
            self.memory[slot] = 0
            buffer.pts = order["pts"]
            if order.get("duration"):
                buffer.duration = order["duration"]
            yield buffer


class FileOutput(Output):
    """Fragmented MP4 (or Matroska): what was written can be played whatever happens next."""

    kept = pending = 0
    offset: Optional[int] = None

    def run(self) -> int:
        """Write pictures into a file until the parent says stop; return the exit status."""
        gst = self.gst
        self.durations: Dict[int, int] = {}
        mux = (
            "matroskamux name=mux"
            if self.config["path"].lower().endswith(".mkv")
            else "mp4mux name=mux fragment-duration=500"
        )
        pipeline = gst.parse_launch(
            f"appsrc name=in format=time ! {self.encode} ! {mux} ! filesink name=out buffer-mode=unbuffered sync=false"
        )
        pipeline.get_by_name("out").set_property("location", self.config["path"])
        source = pipeline.get_by_name("in")
        source.set_property("caps", self.caps)
        pipeline.get_by_name("out").get_static_pad("sink").add_probe(gst.PadProbeType.BUFFER, self.on_written)
        for pad in pipeline.get_by_name("mux").sinkpads:
            pad.add_probe(gst.PadProbeType.BUFFER, self.on_compressed)
        bus = pipeline.get_bus()
        pipeline.set_state(gst.State.PLAYING)
        self.ready()
        for buffer in self.pictures(bus):
            self.durations[buffer.pts] = buffer.duration
            if not self.give(source, bus, buffer):
                break
        if self.failed:
            pipeline.set_state(gst.State.NULL)
            return 1
        source.emit("end-of-stream")
        message = bus.timed_pop_filtered(10 * gst.SECOND, gst.MessageType.EOS | gst.MessageType.ERROR)
        pipeline.set_state(gst.State.NULL)
        if message is None or message.type == gst.MessageType.ERROR:
            send(self.link, self.fault(message) if message else {"error": "the video does not end"})
            return 1
        send(self.link, {"finished": True})
        return 0

    def give(self, source: Any, bus: Any, buffer: Any) -> bool:
        """Hand over a picture when there is room. An appsrc that waits for room by itself would wait for ever behind an
        encoder that failed."""
        while source.get_property("current-level-bytes") >= 2 * self.size:
            if self.heard(bus, 2_000_000):
                return False
        if source.emit("push-buffer", buffer) == self.gst.FlowReturn.OK:
            return True
        if not self.heard(bus, self.gst.SECOND):
            self.failed = True
            send(self.link, {"error": "the encoder takes no more pictures"})
        return False

    def on_compressed(self, pad: Any, info: Any) -> Any:
        """Gives a picture the duration back that h264parse takes from it: for the last one there is no other."""
        buffer = info.get_buffer()
        if self.durations:
            if self.offset is None:  # x264enc begins at 1000 hours
                self.offset = buffer.pts - next(iter(self.durations))
            duration = self.durations.pop(buffer.pts - self.offset, self.gst.CLOCK_TIME_NONE)
            if duration != self.gst.CLOCK_TIME_NONE:
                buffer.duration = duration
        return self.gst.PadProbeReturn.OK

    def on_written(self, pad: Any, info: Any) -> Any:
        """Counts pictures whose fragment is on its way to the disk; a fragment is safe when the next one begins."""
        buffer = info.get_buffer()
        ok, mapped = buffer.map(self.gst.MapFlags.READ)
        if ok:
            count = samples_in_fragment(bytes(mapped.data[:4096]))
            buffer.unmap(mapped)
            if count:
                self.kept, self.pending = self.kept + self.pending, count
                send(self.link, {"kept": self.kept})
        return self.gst.PadProbeReturn.OK


def samples_in_fragment(data: bytes) -> int:
    """Samples that a ``moof`` box announces (ISO 14496-12: moof/traf/trun); 0 for other boxes."""
    if data[4:8] != b"moof":
        return 0
    found = data.find(b"trun")
    return int(struct.unpack_from(">I", data, found + 8)[0]) if found > 0 else 0


class RtspOutput(Output):
    """An RTSP server for the pictures; clients come and go."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.sources: List[Any] = []
        self.lock = threading.Lock()

    def run(self) -> int:
        """Serve pictures to RTSP clients until the parent says stop; return the exit status."""
        try:
            import gi

            gi.require_version("GstRtspServer", "1.0")
            from gi.repository import GLib, GstRtspServer
        except (ImportError, ValueError):
            send(self.link, {"error": "no RTSP server: sudo apt install gir1.2-gst-rtsp-server-1.0"})
            return 1
        server = GstRtspServer.RTSPServer.new()
        server.set_address(self.config["host"])
        server.set_service(str(self.config["port"]))
        factory = GstRtspServer.RTSPMediaFactory.new()
        factory.set_launch(
            f"( appsrc name=in is-live=true format=time do-timestamp=true ! {self.encode} ! "
            "rtph264pay name=pay0 pt=96 config-interval=-1 )"
        )
        factory.set_shared(True)
        factory.connect("media-configure", self.on_media)
        if self.config["password"]:
            self.require_user(GstRtspServer, server, factory)
        server.get_mount_points().add_factory(self.config["mount"], factory)
        if server.attach(None) == 0:
            send(
                self.link,
                {"error": f"port {self.config['port']} of {self.config['host']} cannot be used; is it taken?"},
            )
            return 1
        loop = GLib.MainLoop()
        threading.Thread(target=loop.run, daemon=True).start()
        self.ready()
        for buffer in self.pictures(None):
            buffer.pts = buffer.duration = self.gst.CLOCK_TIME_NONE
            with self.lock:
                self.sources = [source for source in self.sources if self.push(source, buffer)]
        loop.quit()
        send(self.link, {"finished": True})
        return 0

    def push(self, source: Any, buffer: Any) -> bool:
        """Give a picture to one stream; a stream that does not keep up misses it. False when the stream is gone."""
        if source.get_property("current-level-bytes") > 2 * self.size:
            return True
        return bool(source.emit("push-buffer", buffer.copy()) == self.gst.FlowReturn.OK)

    def on_media(self, factory: Any, media: Any) -> None:
        """Take over the pipeline that the server has made for its first client."""
        source = media.get_element().get_by_name("in")
        source.set_property("caps", self.caps)
        bus = media.get_element().get_parent().get_bus()
        bus.enable_sync_message_emission()  # the server takes the messages itself, and tells nobody
        bus.connect("sync-message::error", self.on_error)
        with self.lock:
            self.sources.append(source)

    def on_error(self, bus: Any, message: Any) -> None:
        """Pass on that the encoder failed: without it no client gets a picture any more. Others' errors are theirs."""
        fault = self.fault(message)
        if "encoder" in fault:
            send(self.link, fault)

    def require_user(self, rtsp: Any, server: Any, factory: Any) -> None:
        """Demand the configured user and password of every client."""
        auth, token = rtsp.RTSPAuth.new(), rtsp.RTSPToken.new()
        token.set_string("media.factory.role", "user")
        auth.add_basic(rtsp.RTSPAuth.make_basic(self.config["user"], self.config["password"]), token)
        server.set_auth(auth)
        role = "user, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
        factory.add_role_from_structure(self.gst.Structure.new_from_string(role))


def send(link: socket.socket, message: Any) -> bool:
    """Send a message as JSON; False when the parent is gone."""
    try:
        link.send(json.dumps(message).encode())
        return True
    except OSError:  # the parent is gone
        return False


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
