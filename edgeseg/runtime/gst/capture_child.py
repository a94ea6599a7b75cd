"""The capture process: runs one GStreamer pipeline and lays its frames into shared memory.

Started as a script by ``edgeseg.runtime.gst.process`` with the first Python that has GStreamer's bindings, usually the
system's; so it imports nothing of edgeseg and runs on Python 3.8. It gets two descriptors:

* a SOCK_SEQPACKET socket. The parent sends one JSON configuration (not on the command line: it may hold a password) and
  later ``{"stop": true}``. The child sends JSON: ``caps`` (with the descriptor of the frame memory), ``frame``,
  ``eos``, ``error``. The end of the socket is the end of the child.
* the board: shared memory with three counters (frames produced, dropped because no slot was free, dropped because the
  decoder marked them corrupt). It outlives a child that is killed, so that the parent can count what was lost with it.

The frame memory starts with one byte per slot: 1 when the child fills it, 0 when the parent no longer needs it.
"""

import ctypes
import json
import mmap
import os
import runpy
import signal
import socket
import struct
import sys
import threading
import time
from typing import Any, Iterator, List, Optional, Set, Tuple
from urllib.parse import urlsplit

COUNTERS = struct.Struct("<QQQ")
FRAMES_AT = 4096
POLL_NS = 50_000_000
TRY, SKIP = 0, 2  # GstAutoplugSelectResult
NO_PICTURE_S, NO_PICTURE_BYTES = 3.0, 1 << 16
"""A camera that has sent so much for so long, and no JPEG picture in it, sends something else."""
HARDWARE = ("nv", "va", "omx", "msdk", "qsv", "v4l2")
MOST_REQUESTS, PAUSE_S = 500, 0.05
"""After so many requests without a picture the source has failed; the pause is until its end has come through."""
MOST_FPS = 10_000


def main(socket_fd: int, board_fd: int) -> int:
    """Run the pipeline that the parent describes, until it says stop or is gone; return the exit status."""
    link = socket.socket(fileno=socket_fd)
    die_with_parent()
    config = json.loads(link.recv(1 << 16))
    try:
        import gi

        gi.require_version("Gst", "1.0")
        from gi.repository import Gst
    except (ImportError, ValueError) as error:
        send(link, {"error": {"domain": "edgeseg", "code": "no-gi", "text": str(error), "debug": ""}})
        return 1
    Gst.init(None)
    if config.get("schemes"):
        confine(Gst, set(config["schemes"]))
    return Capture(Gst, link, mmap.mmap(board_fd, 0), config).run()


class Capture:
    """Run one pipeline and lay its frames into the parent's shared memory."""

    def __init__(self, gst: Any, link: socket.socket, board: mmap.mmap, config: Any) -> None:
        self.gst, self.link, self.board, self.config = gst, link, board, config
        self.waits = config["waits"]
        self.slots = config["slots"]
        self.produced = self.busy = self.corrupt = 0
        self.counting = threading.Lock()
        self.memory: Any = None
        self.address = 0
        self.extract = ctypes.CDLL("libgstreamer-1.0.so.0").gst_buffer_extract
        self.extract.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
        self.extract.restype = ctypes.c_size_t
        self.caps: Any = None
        self.camera = False
        self.jpegdec = gst.ElementFactory.find("jpegdec") is not None
        self.tried: List[str] = []
        self.requests = 0
        self.elsewhere = ""
        self.stopped = threading.Event()
        self.pipeline: Any = None

    def run(self) -> int:
        """Start the pipeline and follow it to its end; return the exit status."""
        gst = self.gst
        try:
            self.pipeline = gst.parse_launch(self.config["pipeline"])
        except Exception as error:  # GLib.Error: a missing element or a syntax error
            return self.fail(error, str(error))
        for name, values in self.config["properties"].items():
            element = self.pipeline.get_by_name(name)
            for key, value in values.items():
                element.set_property(key, value)
        for place, data in self.config["instead"]:
            Instead(gst, self.pipeline.get_by_name("origin").get_static_pad("src"), place, bytes.fromhex(data))
        sink = self.pipeline.get_by_name("frames")
        sink.set_property("emit-signals", True)
        sink.connect("new-sample", self.on_sample)
        self.pipeline.connect("deep-element-added", self.on_element)
        for element in self.elements():
            self.on_element(self.pipeline, self.pipeline, element)
        clock = gst.SystemClock.obtain()
        self.pipeline.use_clock(clock)
        bus = self.pipeline.get_bus()
        watched = gst.MessageType.ERROR | gst.MessageType.EOS | gst.MessageType.LATENCY
        if self.pipeline.set_state(gst.State.PLAYING) == gst.StateChangeReturn.FAILURE:
            message = bus.timed_pop_filtered(gst.SECOND, gst.MessageType.ERROR)
            if message is not None:
                return self.fail_by(message)
            return self.fail(None, "it does not start", element=self.stuck())
        try:
            return self.attend(bus, watched)
        finally:
            self.stopped.set()
            self.pipeline.set_state(gst.State.NULL)

    def attend(self, bus: Any, watched: Any) -> int:
        """Follow the messages of the pipeline's bus until it ends or is stopped; return the exit status."""
        gst = self.gst
        while not self.stopped.is_set():
            message = bus.timed_pop_filtered(POLL_NS, watched)
            if message is not None:
                if message.type == gst.MessageType.ERROR:
                    return self.fail_by(message)
                if message.type == gst.MessageType.EOS:
                    ctypes.CDLL(None).fflush(None)  # what C code printed must be there before the parent looks for it
                    send(self.link, {"eos": True, "camera": self.camera})
                    return 0
                self.pipeline.recalculate_latency()
            try:
                self.link.recv(1 << 16, socket.MSG_DONTWAIT)
                return 0  # "stop", or the parent is gone
            except BlockingIOError:
                pass
        return 1

    def on_element(self, pipeline: Any, parent: Any, element: Any) -> None:
        """Prepare an element that decodebin has made."""
        name = factory_name(element)
        if name == "multipartdemux":
            # JPEG pictures in a multipart document: a camera. Without this, decodebin waits for its end.
            element.set_property("single-stream", True)
            self.camera = True
        elif name == "decodebin":
            element.connect("autoplug-select", self.choose)
            element.connect("no-more-pads", self.look_for_pictures)
        elif name == "souphttpsrc":
            HttpDocument(self, element.get_static_pad("src"))
        elif name == "qtdemux":
            element.connect("pad-added", lambda demux, pad: Ending(self.gst, pad))
        elif "Decoder" in (element.get_metadata("klass") or "") and element.get_static_pad("src") is not None:
            WholeRange(self.gst, element.get_static_pad("src"))
        elif name == "rtspsrc":
            element.connect("before-send", self.guard, place(element.get_property("location")))

    def guard(self, rtspsrc: Any, request: Any, home: Tuple[str, int]) -> bool:
        """Before each request of RTSP: no other place than the one asked for gets the account, whoever sends us there.

        rtspsrc itself would follow a redirect with it, and without end.
        """
        self.requests += 1
        there = place(rtspsrc.get_property("location"))
        if there != home and not self.elsewhere:
            self.elsewhere = "{}:{}".format(*there)
            for name in ("user-id", "user-pw"):
                rtspsrc.set_property(name, None)
        if self.requests > MOST_REQUESTS and not self.produced:
            if not self.stopped.is_set():
                self.fail(None, f"no picture after {MOST_REQUESTS} requests: it redirects in circles")
                self.stopped.set()
            time.sleep(PAUSE_S)
        return True

    def choose(self, decodebin: Any, pad: Any, caps: Any, factory: Any) -> int:
        """Tell whether decodebin may try an element. It goes by rank, and hardware ranks first.

        JPEG is jpegdec's: NVIDIA's nvjpegdec breaks on many webcams, and nvv4l2decoder needs a parser before it.
        """
        name, kind = factory.get_name(), factory.get_metadata("klass") or ""
        if "Decoder" not in kind or "Audio" in kind:
            return TRY
        if caps.get_structure(0).get_name() == "image/jpeg" and self.jpegdec and name != "jpegdec":
            return SKIP
        if self.config.get("software") and ("Hardware" in kind or name.startswith(HARDWARE)):
            return SKIP
        self.tried.append(name)
        return TRY

    def look_for_pictures(self, decodebin: Any) -> None:
        """Fail where a decodebin has found all that a source holds, and none of it is pictures."""
        kinds = [pad.query_caps(None).to_string().partition(",")[0] for pad in decodebin.srcpads]
        if kinds and not any(kind.startswith(("video/", "image/")) for kind in kinds):
            self.fail(None, f"it holds no pictures, only {' and '.join(sorted(set(kinds)))}")
            self.stopped.set()

    def decoder(self) -> str:
        """Find the decoder of the pictures, where there is one."""
        for element in self.elements():
            kind = element.get_metadata("klass") or ""
            if "Codec/Decoder" in kind and "Audio" not in kind:
                return factory_name(element)
        return ""

    def stuck(self) -> str:
        """Find the first element that did not follow the pipeline's change of state."""
        failure = self.gst.StateChangeReturn.FAILURE
        return next((factory_name(one) for one in self.elements() if one.get_state(0)[0] == failure), "")

    def elements(self) -> Iterator[Any]:
        """List all elements, those within others too."""
        found = self.pipeline.iterate_recurse()
        while True:
            result, element = found.next()
            if result == self.gst.IteratorResult.OK:
                yield element
            elif result == self.gst.IteratorResult.RESYNC:
                found.resync()
            else:
                return

    def fail_by(self, message: Any) -> int:
        """Tell the parent of an error message of the bus; return the exit status."""
        error, debug = message.parse_error()
        return self.fail(error, debug, factory_name(message.src))

    def fail(self, error: Any, debug: str, element: str = "") -> int:
        """Tell the parent what failed, with its domain and code; return the exit status."""
        ctypes.CDLL(None).fflush(None)
        domain = getattr(error, "domain", "") or ""
        text = getattr(error, "message", "") or debug or "unknown"
        if self.elsewhere:
            text += f" (redirected to {self.elsewhere}, which gets no password: name that address)"
        failure = {
            "domain": domain,
            "code": getattr(error, "code", 0),
            "text": text,
            "debug": debug or "",
            "element": element,
        }
        send(self.link, {"error": failure})
        return 1

    def on_sample(self, sink: Any) -> Any:
        """Take a frame, in the streaming thread: blocking here holds the pipeline back, as ``waits`` asks."""
        try:
            return self.take(sink)
        except Exception as error:  # the bindings would print it and go on
            self.fail(error, f"{type(error).__name__}: {error}")
            self.stopped.set()
            return self.gst.FlowReturn.ERROR

    def take(self, sink: Any) -> Any:
        """Take one sample of the appsink, in GStreamer's thread, and lay it into a free slot."""
        sample = sink.emit("pull-sample")
        if sample is None or self.stopped.is_set():
            return self.gst.FlowReturn.EOS
        buffer = sample.get_buffer()
        with self.counting:
            index = self.produced
            self.produced += 1
        self.count()
        if buffer.has_flags(self.gst.BufferFlags.CORRUPTED):
            with self.counting:
                self.corrupt += 1
            self.count()
            return self.gst.FlowReturn.OK
        caps = sample.get_caps()
        if self.caps is None or not caps.is_equal(self.caps):
            self.lay_out(caps)
        slot = self.free_slot()
        if slot is None and self.stopped.is_set():
            return self.gst.FlowReturn.EOS
        if slot is None:
            self.busy += 1
            self.count()
            return self.gst.FlowReturn.OK
        # The hash of a boxed value is its address; mapped in Python the picture would be copied twice, under the lock.
        place = self.address + FRAMES_AT + slot * self.size
        if self.extract(hash(buffer), 0, place, self.size) != self.size:
            with self.counting:
                self.corrupt += 1
            self.count()
            return self.gst.FlowReturn.OK
        self.memory[slot] = 1  # before the parent hears of it, so that it is not given to two frames
        told = {"frame": index, "slot": slot, "at": self.captured_ns(sample, buffer), **self.media_ns(sample, buffer)}
        if not send(self.link, told):
            return self.gst.FlowReturn.EOS
        return self.gst.FlowReturn.OK

    def cut(self, pictures: int) -> None:
        """Count pictures that came and were not whole."""
        if pictures:
            with self.counting:
                self.produced += pictures
                self.corrupt += pictures
            self.count()

    def captured_ns(self, sample: Any, buffer: Any) -> int:
        """Return when the frame was captured on CLOCK_MONOTONIC, as far as the pipeline knows; else now."""
        now = time.monotonic_ns()
        if not self.config["live"] or buffer.pts == self.gst.CLOCK_TIME_NONE:
            return now
        running = sample.get_segment().to_running_time(self.gst.Format.TIME, buffer.pts)
        if running == self.gst.CLOCK_TIME_NONE:
            return now
        return min(now, int(self.pipeline.get_base_time() + running))

    def media_ns(self, sample: Any, buffer: Any) -> Any:
        """Return when and how long the frame is shown in a stored source's time; None and 0 where it does not say."""
        none, media = self.gst.CLOCK_TIME_NONE, None
        if self.waits and buffer.pts != none:
            media = sample.get_segment().to_stream_time(self.gst.Format.TIME, buffer.pts)
        known = buffer.duration != none and buffer.duration > 1000  # h264parse says 1 ns where it knows none
        return {"media": None if media == none else media, "duration": buffer.duration if known else 0}

    def lay_out(self, caps: Any) -> None:
        """New frame memory for a new frame size; the parent keeps the old one as long as it needs it."""
        # By hand, for GstVideo.VideoInfo.new_from_caps is of 1.20 and JetPack 5 has 1.16.
        structure = caps.get_structure(0)
        (_, width), (_, height) = structure.get_int("width"), structure.get_int("height")
        known, count, duration = structure.get_fraction("framerate")
        stride = (3 * width + 3) // 4 * 4
        self.size: int = stride * height
        handle = os.memfd_create("edgeseg-frames")
        length = FRAMES_AT + self.size * self.slots
        os.ftruncate(handle, length)
        self.memory = mmap.mmap(handle, length)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        caps_message = {
            "caps": [height, width, stride],
            "size": self.size,
            # H.264 of a variable rate tells the ticks of its clock: 1e9 fps in what x264enc writes of a camera.
            "fps": count / duration if known and 0 < count <= MOST_FPS * duration else 0.0,
            "decoder": self.decoder(),
            "tried": self.tried,
        }
        send(self.link, caps_message, handle)
        os.close(handle)
        self.caps = caps

    def free_slot(self) -> Optional[int]:
        """Return the number of a free slot; None where the parent holds all, or the capture ends."""
        while not self.stopped.is_set():
            slot: int = self.memory.find(b"\0", 0, self.slots)
            if slot >= 0:
                return slot
            if not self.waits:
                return None
            time.sleep(0.001)
        return None

    def count(self) -> None:
        """Write the counters where the parent reads them."""
        COUNTERS.pack_into(self.board, 0, self.produced, self.busy, self.corrupt)


class Instead:
    """Sends other bytes on than a file holds at one place, as often as it is read."""

    def __init__(self, gst: Any, pad: Any, place: int, data: bytes) -> None:
        self.gst, self.place, self.data, self.pushing = gst, place, data, False
        pad.add_probe(gst.PadProbeType.BUFFER | gst.PadProbeType.PUSH, self.on_buffer)

    def on_buffer(self, pad: Any, info: Any) -> Any:
        """Replace the bytes of this buffer that stand where the corrected ones belong."""
        buffer = info.get_buffer()
        first, last = buffer.offset, buffer.offset + buffer.get_size()
        begin, end = max(first, self.place), min(last, self.place + len(self.data))
        if self.pushing or begin >= end:
            return self.gst.PadProbeReturn.OK
        changed = buffer.copy_deep()
        changed.fill(begin - first, self.data[begin - self.place : end - self.place])
        self.pushing = True  # it comes through here too
        pad.push(changed)
        self.pushing = False
        return self.gst.PadProbeReturn.DROP


class Ending:
    """Lets a track's last pictures through. Where pictures are coded in another order than they are shown and no edit
    list says by how much the first one is late, the end of the track stands before the last ones."""

    def __init__(self, gst: Any, pad: Any) -> None:
        self.gst = gst
        pad.add_probe(gst.PadProbeType.BUFFER, self.on_first)

    def on_first(self, pad: Any, info: Any) -> Any:
        """Look at the first picture and its segment: they tell where a video's time begins."""
        none = self.gst.CLOCK_TIME_NONE
        told = pad.get_sticky_event(self.gst.EventType.SEGMENT, 0)
        segment = told.parse_segment().copy() if told is not None else None
        pts = info.get_buffer().pts
        if segment is not None and none not in (segment.stop, pts) and pts > segment.start:
            segment.stop += pts - segment.start
            pad.push_event(self.gst.Event.new_segment(segment))
        return self.gst.PadProbeReturn.REMOVE


class WholeRange:
    """Says BT.601, or BT.709 of larger pictures, of those that use the whole range of values and do not say how they
    code colours: converters of GStreamer take them for such of the narrow range."""

    def __init__(self, gst: Any, pad: Any) -> None:
        self.gst, self.pushing = gst, False
        pad.add_probe(gst.PadProbeType.EVENT_DOWNSTREAM, self.on_event)

    def on_event(self, pad: Any, info: Any) -> Any:
        """Replace the caps of what the camera calls a multipart document."""
        event = info.get_event()
        if self.pushing or event.type != self.gst.EventType.CAPS:
            return self.gst.PadProbeReturn.OK
        caps = event.parse_caps()
        structure = caps.get_structure(0)
        parts = (structure.get_string("colorimetry") or "").split(":")
        if parts[:2] != ["1", "0"] or structure.get_name() != "video/x-raw":
            return self.gst.PadProbeReturn.OK
        known, height = structure.get_int("height")
        matrix = "3" if known and height > 576 else "4"
        told = caps.copy()
        told.set_value("colorimetry", ":".join(["1", matrix, *parts[2:]]))
        self.pushing = True  # it comes through here too
        pad.push_event(self.gst.Event.new_caps(told))
        self.pushing = False
        return self.gst.PadProbeReturn.DROP


class HttpDocument:
    """What an HTTP source sends on. JPEG pictures of a multipart stream go on in well-formed parts, without those that
    are cut: what GStreamer does with other parts depends on their boundaries and lengths, and cut ones it shows."""

    def __init__(self, capture: Capture, pad: Any) -> None:
        self.capture, self.gst = capture, capture.gst
        self.normaliser_of = runpy.run_path(os.path.join(os.path.dirname(__file__), "jpeg_parts.py"))["Normaliser"]
        self.normaliser = self.normaliser_of()
        self.began = time.monotonic()
        self.cut = 0
        self.pushing = False
        types = self.gst.PadProbeType
        pad.add_probe(types.BUFFER | types.EVENT_DOWNSTREAM, self.on_data)

    def on_data(self, pad: Any, info: Any) -> Any:
        """Pass bytes through the normaliser; let through what it gives."""
        verdict = self.gst.PadProbeReturn
        if self.pushing:
            return verdict.OK
        if info.type & self.gst.PadProbeType.BUFFER:
            return verdict.OK if self.normaliser.passes else self.on_buffer(pad, info.get_buffer())
        event = info.get_event()
        if event.type == self.gst.EventType.CUSTOM_DOWNSTREAM_STICKY:
            self.normaliser, self.cut = self.normaliser_of(content_type(event.get_structure())), 0
            self.began = time.monotonic()
        elif event.type == self.gst.EventType.EOS:
            self.push(pad, self.normaliser.finish())
            self.look()
        return verdict.OK

    def on_buffer(self, pad: Any, buffer: Any) -> Any:
        """Take a buffer's bytes out, and push whole JPEG pictures in its place."""
        data = buffer.extract_dup(0, buffer.get_size())
        self.push(pad, self.normaliser.add(data))
        self.look()
        return self.gst.PadProbeReturn.DROP

    def push(self, pad: Any, data: bytes) -> None:
        """Push bytes as a buffer behind the pad."""
        if data:
            self.pushing = True  # it comes through here too
            pad.push(self.gst.Buffer.new_wrapped(data))
            self.pushing = False

    def look(self) -> None:
        """Count what was cut, and give up where no picture comes."""
        parts = self.normaliser.parts
        if self.normaliser.is_page:
            self.give_up("a web page comes, and no stream: it may ask for a login, or have the stream's address in it")
        if parts is None:
            return
        self.capture.cut(parts.cut - self.cut)
        self.cut = parts.cut
        enough = parts.received > NO_PICTURE_BYTES and time.monotonic() - self.began > NO_PICTURE_S
        if enough and not parts.found and not parts.cut:
            self.give_up(
                f"{parts.received} bytes of a multipart stream hold no JPEG picture; see in a browser what is there"
            )

    def give_up(self, text: str) -> None:
        """Fail the capture with a text."""
        if not self.capture.stopped.is_set():
            self.capture.fail(None, text)
            self.capture.stopped.set()


def content_type(headers: Any) -> str:
    """Return the content type that an HTTP source tells downstream; empty where it is not told."""
    answer: Any = headers.get_value("response-headers") if headers and headers.has_field("response-headers") else None
    for number in range(answer.n_fields() if answer is not None else 0):
        name = answer.nth_field_name(number)
        if name.lower() == "content-type":
            return str(answer.get_value(name))
    return ""


def confine(gst: Any, schemes: Set[str]) -> None:
    """Forget, in this process, the elements that open other addresses: a playlist from the network reads no files."""

    def forget(registry: Any, feature: Any) -> None:
        if not isinstance(feature, gst.ElementFactory) or feature.get_uri_type() != gst.URIType.SRC:
            return
        if not set(feature.get_uri_protocols() or ()) <= schemes:
            registry.remove_feature(feature)

    registry = gst.Registry.get()
    registry.connect("feature-added", forget)  # a plugin that is loaded brings them all again
    for factory in registry.get_feature_list(gst.ElementFactory.__gtype__):
        forget(registry, factory)


def place(address: Optional[str]) -> Tuple[str, int]:
    """Host and port of an RTSP address."""
    try:
        parts = urlsplit(address or "")
        return (parts.hostname or "").lower(), parts.port or (322 if parts.scheme.startswith("rtsps") else 554)
    except ValueError:
        return str(address), 0


def factory_name(element: Any) -> str:
    """Return the name of an element's factory, such as ``nvarguscamerasrc``; empty for what has none."""
    factory = element.get_factory() if hasattr(element, "get_factory") else None
    return str(factory.get_name()) if factory is not None else ""


def send(link: socket.socket, message: Any, handle: Optional[int] = None) -> bool:
    """Send a message as JSON, maybe with a descriptor; False when the parent is gone."""
    rights = [] if handle is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", handle))]
    try:
        link.sendmsg([json.dumps(message).encode()[: 1 << 16]], rights)
        return True
    except OSError:  # the parent is gone
        return False


def die_with_parent() -> None:
    """Ignore the signals of a terminal, and ask Linux for SIGKILL when the parent dies."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they reach the parent too, who then says stop
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
