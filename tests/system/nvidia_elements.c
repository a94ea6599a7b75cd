/* NVIDIA's GStreamer elements, imitated: what they print, when they fail and what they negotiate, over plain memory.
 *
 * The texts and the order of events are those of NVIDIA's published sources (gstnvarguscamerasrc.cpp, gst-nvvideo4linux2,
 * gst-nvvidconv); the pictures are ours. NVMM is only a feature of the caps here. The environment says how an element
 * behaves; a value @FILE is read from that file each time, so that a test can mend what was broken:
 *
 *   NV_ARGUS         empty: a camera; no-provider, no-session: it does not open; mute: it ends and says nothing;
 *                    crash: no session, and the process dies of it; TIMEOUT, DISCONNECTED ...: it posts that error
 *   NV_CAMERAS       cameras that there are, 1 unless given
 *   NV_ARGUS_FRAMES  frames before that happens
 *   NV_ARGUS_LATE_MS the reason is printed so long after the end of the stream
 *   NV_ARGUS_NOISE   lines that are printed after the reason
 *   NV_ENC, NV_DEC, NV_VIDCONV
 *                    empty: works; null-ready, ready-paused: this change of state fails; caps: it takes no caps;
 *                    buffer=N: it fails at the Nth buffer; hang: it never returns from its first one; crash: it aborts
 */
#include <gst/base/gstbasetransform.h>
#include <gst/base/gstpushsrc.h>
#include <gst/gst.h>
#include <gst/video/video.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLACE "/dvs/git/dirty/git-master_linux/multimedia/nvgstreamer/gst-nvarguscamera/gstnvarguscamerasrc.cpp"
#define FORMATS "{ I420, UYVY, YUY2, YVYU, NV12, GRAY8, BGRx, RGBA }" /* those of every release; never BGR */
#define NVMM "memory:NVMM"

static const char *setting(const char *name)
{
  static __thread char text[256];
  const char *value = getenv(name);
  if (value == NULL || value[0] != '@')
    return value ? value : "";
  text[0] = 0;
  FILE *file = fopen(value + 1, "r");
  if (file != NULL) {
    if (fgets(text, sizeof text, file) == NULL)
      text[0] = 0;
    fclose(file);
  }
  text[strcspn(text, "\n")] = 0;
  return text;
}

static int number(const char *name, int otherwise)
{
  const char *value = setting(name);
  return value[0] ? atoi(value) : otherwise;
}

/* What the hardware elements have in common: ways to fail. */

static gboolean refuses(GstElement *element, const char *name, const char *device, GstStateChange change)
{
  const char *mode = setting(name);
  gboolean opens = change == GST_STATE_CHANGE_NULL_TO_READY && strcmp(mode, "null-ready") == 0;
  gboolean starts = change == GST_STATE_CHANGE_READY_TO_PAUSED && strcmp(mode, "ready-paused") == 0;
  if (opens)
    GST_ELEMENT_ERROR(element, RESOURCE, NOT_FOUND, ("Cannot identify device '%s'.", device),
                      ("system error: No such file or directory"));
  if (starts)
    GST_ELEMENT_ERROR(element, RESOURCE, SETTINGS, ("Device '%s' does not support any format.", device), (NULL));
  return opens || starts;
}

typedef struct {
  const char *name;
  int buffers;
} Fault;

static GstPadProbeReturn on_data(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
  Fault *fault = data;
  const char *mode = setting(fault->name);
  GstElement *element = GST_ELEMENT(gst_pad_get_parent(pad));
  GstPadProbeReturn verdict = GST_PAD_PROBE_OK;
  if (GST_PAD_PROBE_INFO_TYPE(info) & GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM) {
    if (GST_EVENT_TYPE(GST_PAD_PROBE_INFO_EVENT(info)) == GST_EVENT_CAPS && strcmp(mode, "caps") == 0)
      verdict = GST_PAD_PROBE_DROP;
  } else {
    fault->buffers++;
    if (strcmp(mode, "hang") == 0)
      while (TRUE)
        g_usleep(1000000);
    if (strcmp(mode, "crash") == 0)
      abort();
    if (g_str_has_prefix(mode, "buffer=") && fault->buffers >= atoi(mode + 7)) {
      GST_ELEMENT_ERROR(element, STREAM, FAILED, ("Failed to process frame."), ("Maybe be due to not enough memory"));
      gst_buffer_unref(GST_PAD_PROBE_INFO_BUFFER(info));
      GST_PAD_PROBE_INFO_FLOW_RETURN(info) = GST_FLOW_ERROR;
      verdict = GST_PAD_PROBE_HANDLED;
    }
  }
  gst_object_unref(element);
  return verdict;
}

static void watch(GstPad *pad, const char *name)
{
  Fault *fault = g_new0(Fault, 1);
  fault->name = name;
  gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM, on_data, fault, g_free);
}

/* nvarguscamerasrc */

typedef struct {
  GstPushSrc parent;
  int sensor;
  guint64 frames;
  GstVideoInfo info;
  GThread *late;
} Argus;
typedef GstPushSrcClass ArgusClass;
G_DEFINE_TYPE(Argus, argus, GST_TYPE_PUSH_SRC)

static GstStaticPadTemplate argus_src = GST_STATIC_PAD_TEMPLATE(
    "src", GST_PAD_SRC, GST_PAD_ALWAYS,
    GST_STATIC_CAPS("video/x-raw(" NVMM "), width=(int)[ 1, MAX ], height=(int)[ 1, MAX ], format=(string){ NV12 }, "
                    "framerate=(fraction)[ 0, MAX ]"));

static gpointer say(gpointer text)
{
  fputs(text, stderr);
  for (int line = number("NV_ARGUS_NOISE", 0); line > 0; line--)
    fprintf(stderr, "(Argus) Error InvalidState:  (propagating from src/api/ScfCaptureThread.cpp, function run(), "
                    "line 109) %d\n", line);
  g_free(text);
  return NULL;
}

static gpointer say_late(gpointer text)
{
  g_usleep(1000 * number("NV_ARGUS_LATE_MS", 0));
  return say(text);
}

static void originate_error(Argus *self, int line, char *text)
{
  char *whole = g_strdup_printf("Error generated. %s, execute:%d %s\n", PLACE, line, text);
  g_free(text);
  if (number("NV_ARGUS_LATE_MS", 0))
    self->late = g_thread_new("late", say_late, whole);
  else
    say(whole);
}

static gboolean argus_stop(GstBaseSrc *base)
{
  Argus *self = (Argus *)base;
  g_clear_pointer(&self->late, g_thread_join); /* as NVIDIA's waits for its argus_thread */
  return TRUE;
}

/* NVIDIA's execute(): whether there is a camera. */
static gboolean argus_execute(Argus *self)
{
  const char *mode = setting("NV_ARGUS");
  int cameras = number("NV_CAMERAS", 1);
  if (strcmp(mode, "no-provider") == 0)
    originate_error(self, 736, g_strdup("Failed to create CameraProvider"));
  else if (cameras == 0)
    originate_error(self, 751, g_strdup("No cameras available"));
  else if (self->sensor >= cameras)
    originate_error(self, 754, g_strdup_printf("Invalid camera device specified %d specified, %d max index",
                                                    self->sensor, cameras - 1));
  else if (strcmp(mode, "no-session") == 0 || strcmp(mode, "crash") == 0)
    originate_error(self, 762, g_strdup("Failed to create CaptureSession"));
  else
    return TRUE;
  return FALSE;
}

static GstFlowReturn argus_create(GstPushSrc *base, GstBuffer **buffer)
{
  Argus *self = (Argus *)base;
  const char *mode = setting("NV_ARGUS");
  GstMapInfo map;
  if (self->frames == (guint64)number("NV_ARGUS_FRAMES", 0)) {
    gboolean works = argus_execute(self);
    if (strcmp(mode, "crash") == 0)
      abort();
    if (!works || strcmp(mode, "mute") == 0)
      return GST_FLOW_EOS;
    if (g_ascii_isupper(mode[0])) {
      GError *error = g_error_new_literal(g_quark_from_static_string("NvArgusCameraSrc"), 6, mode);
      gst_element_post_message(GST_ELEMENT(self), gst_message_new_error(GST_OBJECT(self), error, "Argus Error Status"));
      g_error_free(error);
      return GST_FLOW_EOS;
    }
  }
  if (self->frames == 0)
    printf("GST_ARGUS: Creating output stream\nCONSUMER: Waiting until producer is connected...\n");
  g_usleep(1000000 / 30);
  *buffer = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(&self->info), NULL);
  gst_buffer_map(*buffer, &map, GST_MAP_WRITE);
  memset(map.data, 128, map.size);
  /* The left half is dark, the right one bright: what turns pictures shows. */
  for (int row = 0; row < GST_VIDEO_INFO_HEIGHT(&self->info); row++) {
    guint8 *line = map.data + row * GST_VIDEO_INFO_PLANE_STRIDE(&self->info, 0);
    int width = GST_VIDEO_INFO_WIDTH(&self->info);
    memset(line, 40, width / 2);
    memset(line + width / 2, 200, width - width / 2);
  }
  gst_buffer_unmap(*buffer, &map);
  self->frames++;
  return GST_FLOW_OK;
}

static GstCaps *argus_fixate(GstBaseSrc *base, GstCaps *caps)
{
  caps = gst_caps_make_writable(caps);
  GstStructure *structure = gst_caps_get_structure(caps, 0);
  gst_structure_fixate_field_nearest_int(structure, "width", 1920);
  gst_structure_fixate_field_nearest_int(structure, "height", 1080);
  gst_structure_fixate_field_nearest_fraction(structure, "framerate", 30, 1);
  return GST_BASE_SRC_CLASS(argus_parent_class)->fixate(base, caps);
}

static gboolean argus_set_caps(GstBaseSrc *base, GstCaps *caps)
{
  return gst_video_info_from_caps(&((Argus *)base)->info, caps);
}

static void argus_set(GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  ((Argus *)object)->sensor = g_value_get_int(value);
}

static void argus_get(GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  g_value_set_int(value, ((Argus *)object)->sensor);
}

static void argus_class_init(ArgusClass *klass)
{
  G_OBJECT_CLASS(klass)->set_property = argus_set;
  G_OBJECT_CLASS(klass)->get_property = argus_get;
  g_object_class_install_property(G_OBJECT_CLASS(klass), 1,
                                  g_param_spec_int("sensor-id", "", "", 0, 255, 0, G_PARAM_READWRITE));
  gst_element_class_set_static_metadata(GST_ELEMENT_CLASS(klass), "NvArgusCameraSrc", "Video/Capture", "imitated", "edgeseg");
  gst_element_class_add_static_pad_template(GST_ELEMENT_CLASS(klass), &argus_src);
  GST_BASE_SRC_CLASS(klass)->fixate = argus_fixate;
  GST_BASE_SRC_CLASS(klass)->set_caps = argus_set_caps;
  GST_BASE_SRC_CLASS(klass)->stop = argus_stop;
  GST_PUSH_SRC_CLASS(klass)->create = argus_create;
}

static void argus_init(Argus *self)
{
  gst_base_src_set_live(GST_BASE_SRC(self), TRUE);
  gst_base_src_set_format(GST_BASE_SRC(self), GST_FORMAT_TIME);
  gst_base_src_set_do_timestamp(GST_BASE_SRC(self), TRUE);
}

/* nvvidconv: scales, turns and converts between NVMM and plain memory. */

typedef struct {
  GstBaseTransform parent;
  int flip;
  GstVideoInfo in, upright, turned, out;
  GstVideoConverter *before, *after;
} Conv;
typedef GstBaseTransformClass ConvClass;
G_DEFINE_TYPE(Conv, conv, GST_TYPE_BASE_TRANSFORM)

#define CONV_CAPS GST_VIDEO_CAPS_MAKE_WITH_FEATURES(NVMM, FORMATS) ";" GST_VIDEO_CAPS_MAKE(FORMATS)
static GstStaticPadTemplate conv_sink =
    GST_STATIC_PAD_TEMPLATE("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS(CONV_CAPS));
static GstStaticPadTemplate conv_src =
    GST_STATIC_PAD_TEMPLATE("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS(CONV_CAPS));

static gboolean quarter(Conv *self)
{
  return self->flip % 2 == 1;
}

static GstCaps *conv_transform_caps(GstBaseTransform *base, GstPadDirection direction, GstCaps *caps, GstCaps *filter)
{
  GstCaps *result = gst_caps_new_empty();
  for (guint index = 0; index < gst_caps_get_size(caps); index++) {
    GstStructure *structure = gst_structure_copy(gst_caps_get_structure(caps, index));
    gst_structure_remove_fields(structure, "format", "width", "height", "pixel-aspect-ratio", "colorimetry",
                                "chroma-site", NULL);
    gst_caps_append_structure_full(result, gst_structure_copy(structure), gst_caps_features_new(NVMM, NULL));
    gst_caps_append_structure_full(result, structure, NULL);
  }
  GstStaticPadTemplate *other = direction == GST_PAD_SINK ? &conv_src : &conv_sink;
  GstCaps *possible = gst_static_pad_template_get_caps(other);
  GstCaps *both = gst_caps_intersect_full(result, possible, GST_CAPS_INTERSECT_FIRST);
  gst_caps_unref(result);
  gst_caps_unref(possible);
  if (filter != NULL) {
    result = gst_caps_intersect_full(filter, both, GST_CAPS_INTERSECT_FIRST);
    gst_caps_unref(both);
    both = result;
  }
  return both;
}

static GstCaps *conv_fixate(GstBaseTransform *base, GstPadDirection direction, GstCaps *caps, GstCaps *other)
{
  int width = 0, height = 0;
  gst_structure_get_int(gst_caps_get_structure(caps, 0), "width", &width);
  gst_structure_get_int(gst_caps_get_structure(caps, 0), "height", &height);
  other = gst_caps_make_writable(gst_caps_truncate(other));
  GstStructure *structure = gst_caps_get_structure(other, 0);
  gst_structure_fixate_field_nearest_int(structure, "width", quarter((Conv *)base) ? height : width);
  gst_structure_fixate_field_nearest_int(structure, "height", quarter((Conv *)base) ? width : height);
  return gst_caps_fixate(other);
}

static gboolean conv_unit_size(GstBaseTransform *base, GstCaps *caps, gsize *size)
{
  GstVideoInfo info;
  if (!gst_video_info_from_caps(&info, caps))
    return FALSE;
  *size = GST_VIDEO_INFO_SIZE(&info);
  return TRUE;
}

static void conv_forget(Conv *self)
{
  g_clear_pointer(&self->before, gst_video_converter_free);
  g_clear_pointer(&self->after, gst_video_converter_free);
}

static gboolean conv_set_caps(GstBaseTransform *base, GstCaps *in, GstCaps *out)
{
  Conv *self = (Conv *)base;
  if (!gst_video_info_from_caps(&self->in, in) || !gst_video_info_from_caps(&self->out, out))
    return FALSE;
  int width = self->in.width, height = self->in.height;
  gst_video_info_set_format(&self->upright, GST_VIDEO_FORMAT_BGRx, width, height);
  gst_video_info_set_format(&self->turned, GST_VIDEO_FORMAT_BGRx, quarter(self) ? height : width,
                            quarter(self) ? width : height);
  self->upright.fps_n = self->turned.fps_n = self->in.fps_n;
  self->upright.fps_d = self->turned.fps_d = self->in.fps_d;
  conv_forget(self);
  self->before = gst_video_converter_new(&self->in, &self->upright, NULL);
  self->after = gst_video_converter_new(&self->turned, &self->out, NULL);
  return self->before != NULL && self->after != NULL;
}

static void conv_turn(Conv *self, const guint32 *from, guint32 *to)
{
  int width = self->turned.width, height = self->turned.height;
  int right = self->upright.width - 1, bottom = self->upright.height - 1;
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++) {
      int u = x, v = y;
      switch (self->flip) {
      case 1: u = right - y; v = x; break;          /* counter-clockwise */
      case 2: u = right - x; v = bottom - y; break;
      case 3: u = y; v = bottom - x; break;         /* clockwise */
      case 4: u = right - x; break;                 /* horizontal */
      case 6: v = bottom - y; break;                /* vertical */
      }
      to[y * width + x] = from[v * self->upright.width + u];
    }
}

static GstFlowReturn conv_transform(GstBaseTransform *base, GstBuffer *in, GstBuffer *out)
{
  Conv *self = (Conv *)base;
  GstVideoFrame from, to, upright, turned;
  GstBuffer *first = gst_buffer_new_allocate(NULL, self->upright.size, NULL);
  GstBuffer *second = gst_buffer_new_allocate(NULL, self->turned.size, NULL);
  gst_video_frame_map(&from, &self->in, in, GST_MAP_READ);
  gst_video_frame_map(&to, &self->out, out, GST_MAP_WRITE);
  gst_video_frame_map(&upright, &self->upright, first, GST_MAP_READWRITE);
  gst_video_frame_map(&turned, &self->turned, second, GST_MAP_READWRITE);
  gst_video_converter_frame(self->before, &from, &upright);
  conv_turn(self, upright.data[0], turned.data[0]);
  gst_video_converter_frame(self->after, &turned, &to);
  gst_video_frame_unmap(&from);
  gst_video_frame_unmap(&to);
  gst_video_frame_unmap(&upright);
  gst_video_frame_unmap(&turned);
  gst_buffer_unref(first);
  gst_buffer_unref(second);
  return GST_FLOW_OK;
}

static GstStateChangeReturn conv_change_state(GstElement *element, GstStateChange change)
{
  if (refuses(element, "NV_VIDCONV", "/dev/nvhost-vic", change))
    return GST_STATE_CHANGE_FAILURE;
  return GST_ELEMENT_CLASS(conv_parent_class)->change_state(element, change);
}

static void conv_set(GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  ((Conv *)object)->flip = g_value_get_int(value);
}

static void conv_get(GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  g_value_set_int(value, ((Conv *)object)->flip);
}

static void conv_finalize(GObject *object)
{
  conv_forget((Conv *)object);
  G_OBJECT_CLASS(conv_parent_class)->finalize(object);
}

static void conv_class_init(ConvClass *klass)
{
  GstBaseTransformClass *base = GST_BASE_TRANSFORM_CLASS(klass);
  G_OBJECT_CLASS(klass)->set_property = conv_set;
  G_OBJECT_CLASS(klass)->get_property = conv_get;
  G_OBJECT_CLASS(klass)->finalize = conv_finalize;
  g_object_class_install_property(G_OBJECT_CLASS(klass), 1,
                                  g_param_spec_int("flip-method", "", "", 0, 7, 0, G_PARAM_READWRITE));
  gst_element_class_set_static_metadata(GST_ELEMENT_CLASS(klass), "NvVidConv", "Filter/Converter/Video/Scaler", "imitated",
                                        "edgeseg");
  gst_element_class_add_static_pad_template(GST_ELEMENT_CLASS(klass), &conv_sink);
  gst_element_class_add_static_pad_template(GST_ELEMENT_CLASS(klass), &conv_src);
  GST_ELEMENT_CLASS(klass)->change_state = conv_change_state;
  base->transform_caps = conv_transform_caps;
  base->fixate_caps = conv_fixate;
  base->get_unit_size = conv_unit_size;
  base->set_caps = conv_set_caps;
  base->transform = conv_transform;
}

static void conv_init(Conv *self)
{
  watch(GST_BASE_TRANSFORM_SINK_PAD(self), "NV_VIDCONV");
}

/* nvv4l2h264enc and nvv4l2decoder: a software codec behind NVIDIA's name, caps and faults. */

typedef struct {
  GstBin parent;
  GstElement *codec;
  guint idr, bitrate;
} Codec;
typedef GstBinClass CodecClass;
typedef Codec Enc;
typedef CodecClass EncClass;
typedef Codec Dec;
typedef CodecClass DecClass;
G_DEFINE_TYPE(Enc, enc, GST_TYPE_BIN)
G_DEFINE_TYPE(Dec, dec, GST_TYPE_BIN)

static GstStaticPadTemplate enc_sink = GST_STATIC_PAD_TEMPLATE(
    "sink", GST_PAD_SINK, GST_PAD_ALWAYS,
    GST_STATIC_CAPS("video/x-raw(" NVMM "), format=(string){ I420, NV12, P010_10LE, NV24 }, framerate=(fraction)[ 0/1, MAX ]"));
static GstStaticPadTemplate enc_src = GST_STATIC_PAD_TEMPLATE(
    "src", GST_PAD_SRC, GST_PAD_ALWAYS,
    GST_STATIC_CAPS("video/x-h264, stream-format=(string)byte-stream, alignment=(string)au"));
static GstStaticPadTemplate dec_sink = GST_STATIC_PAD_TEMPLATE(
    "sink", GST_PAD_SINK, GST_PAD_ALWAYS,
    GST_STATIC_CAPS("image/jpeg; video/x-h264, stream-format=(string)byte-stream, alignment=(string)au"));
static GstStaticPadTemplate dec_src =
    GST_STATIC_PAD_TEMPLATE("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS("video/x-raw(" NVMM "), format=NV12"));

static void fill(GstBin *self, const char *chain, GstStaticPadTemplate *sink, GstStaticPadTemplate *src,
                 const char *fault)
{
  GstElement *inside = gst_parse_bin_from_description(chain, TRUE, NULL);
  if (inside == NULL) /* no software codec here: the element cannot even be made */
    return;
  gst_bin_add(self, inside);
  GstPad *in = gst_element_get_static_pad(inside, "sink"), *out = gst_element_get_static_pad(inside, "src");
  GstPad *entry = gst_ghost_pad_new_from_template("sink", in, gst_static_pad_template_get(sink));
  gst_element_add_pad(GST_ELEMENT(self), entry);
  gst_element_add_pad(GST_ELEMENT(self), gst_ghost_pad_new_from_template("src", out, gst_static_pad_template_get(src)));
  gst_object_unref(in);
  gst_object_unref(out);
  watch(entry, fault);
}

static GstStateChangeReturn enc_change_state(GstElement *element, GstStateChange change)
{
  if (refuses(element, "NV_ENC", "/dev/v4l2-nvenc", change))
    return GST_STATE_CHANGE_FAILURE;
  return GST_ELEMENT_CLASS(enc_parent_class)->change_state(element, change);
}

static void enc_set(GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  GstElement *codec = gst_bin_get_by_name(GST_BIN(object), "codec");
  if (codec == NULL)
    return;
  if (id == 1)
    g_object_set(codec, "bitrate", g_value_get_uint(value) / 1000, NULL);
  if (id == 2)
    g_object_set(codec, "key-int-max", g_value_get_uint(value), NULL);
  gst_object_unref(codec);
}

static void enc_class_init(EncClass *klass)
{
  GObjectClass *object = G_OBJECT_CLASS(klass);
  object->set_property = enc_set;
  g_object_class_install_property(object, 1, g_param_spec_uint("bitrate", "", "", 0, G_MAXUINT, 0, G_PARAM_WRITABLE));
  g_object_class_install_property(object, 2, g_param_spec_uint("idrinterval", "", "", 0, 999, 0, G_PARAM_WRITABLE));
  g_object_class_install_property(object, 3, g_param_spec_boolean("insert-sps-pps", "", "", FALSE, G_PARAM_WRITABLE));
  g_object_class_install_property(object, 4, g_param_spec_boolean("maxperf-enable", "", "", FALSE, G_PARAM_WRITABLE));
  gst_element_class_set_static_metadata(GST_ELEMENT_CLASS(klass), "V4L2 H.264 Encoder", "Codec/Encoder/Video/Hardware",
                                        "imitated", "edgeseg");
  gst_element_class_add_static_pad_template(GST_ELEMENT_CLASS(klass), &enc_sink);
  gst_element_class_add_static_pad_template(GST_ELEMENT_CLASS(klass), &enc_src);
  GST_ELEMENT_CLASS(klass)->change_state = enc_change_state;
}

static void enc_init(Enc *self)
{
  fill(GST_BIN(self),
       "nvvidconv ! video/x-raw,format=I420 ! x264enc name=codec tune=zerolatency speed-preset=ultrafast ! "
       "video/x-h264,stream-format=byte-stream,alignment=au",
       &enc_sink, &enc_src, "NV_ENC");
}

static GstStateChangeReturn dec_change_state(GstElement *element, GstStateChange change)
{
  if (refuses(element, "NV_DEC", "/dev/v4l2-nvdec", change))
    return GST_STATE_CHANGE_FAILURE;
  return GST_ELEMENT_CLASS(dec_parent_class)->change_state(element, change);
}

static void dec_class_init(DecClass *klass)
{
  gst_element_class_set_static_metadata(GST_ELEMENT_CLASS(klass), "NVIDIA v4l2 video decoder", "Codec/Decoder/Video", "imitated",
                                        "edgeseg");
  gst_element_class_add_static_pad_template(GST_ELEMENT_CLASS(klass), &dec_sink);
  gst_element_class_add_static_pad_template(GST_ELEMENT_CLASS(klass), &dec_src);
  GST_ELEMENT_CLASS(klass)->change_state = dec_change_state;
}

static void dec_init(Dec *self)
{
  fill(GST_BIN(self), "avdec_h264 ! nvvidconv ! capsfilter caps=\"video/x-raw(" NVMM "),format=NV12\"", &dec_sink, &dec_src, "NV_DEC");
}

/* nvjpegdec: ranks first, and breaks on what webcams send. */

typedef GstElement Jpeg;
typedef GstElementClass JpegClass;
G_DEFINE_TYPE(Jpeg, jpeg, GST_TYPE_ELEMENT)

static GstStaticPadTemplate jpeg_sink =
    GST_STATIC_PAD_TEMPLATE("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS("image/jpeg"));
static GstStaticPadTemplate jpeg_src = GST_STATIC_PAD_TEMPLATE(
    "src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS("video/x-raw(" NVMM "), format=I420; video/x-raw, format=I420"));

static GstFlowReturn jpeg_chain(GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
  gst_buffer_unref(buffer);
  GST_ELEMENT_ERROR(parent, STREAM, DECODE, ("Failed to decode JPEG image"), ("Decode error"));
  return GST_FLOW_ERROR;
}

static void jpeg_class_init(JpegClass *klass)
{
  gst_element_class_set_static_metadata(klass, "JPEG image decoder", "Codec/Decoder/Image", "imitated", "edgeseg");
  gst_element_class_add_static_pad_template(klass, &jpeg_sink);
  gst_element_class_add_static_pad_template(klass, &jpeg_src);
}

static void jpeg_init(Jpeg *self)
{
  GstPad *sink = gst_pad_new_from_static_template(&jpeg_sink, "sink");
  gst_pad_set_chain_function(sink, jpeg_chain);
  gst_element_add_pad(self, sink);
  gst_element_add_pad(self, gst_pad_new_from_static_template(&jpeg_src, "src"));
}

static gboolean plugin_init(GstPlugin *plugin)
{
  /* Argus connects when the library is loaded, whoever loads it and for whatever pipeline. */
  if (strcmp(setting("NV_ARGUS"), "no-provider") == 0)
    fputs("(Argus) Error FileOperationFailed: Connecting to nvargus-daemon failed: No such file or directory (in "
          "src/rpc/socket/client/SocketClientDispatch.cpp, function openSocketConnection(), line 205)\n"
          "(Argus) Error FileOperationFailed: Cannot create camera provider (in "
          "src/rpc/socket/client/SocketClientDispatch.cpp, function createCameraProvider(), line 107)\n",
          stderr);
  return gst_element_register(plugin, "nvarguscamerasrc", GST_RANK_PRIMARY, argus_get_type()) &&
         gst_element_register(plugin, "nvvidconv", GST_RANK_PRIMARY, conv_get_type()) &&
         gst_element_register(plugin, "nvv4l2h264enc", GST_RANK_PRIMARY + 10, enc_get_type()) &&
         gst_element_register(plugin, "nvv4l2decoder", GST_RANK_PRIMARY + 11, dec_get_type()) &&
         gst_element_register(plugin, "nvjpegdec", GST_RANK_PRIMARY + 15, jpeg_get_type());
}

#define PACKAGE "edgeseg"
GST_PLUGIN_DEFINE(GST_VERSION_MAJOR, GST_VERSION_MINOR, nvidiaelements, "NVIDIA's elements, imitated", plugin_init, "1",
                  "LGPL", "edgeseg tests", "https://example.org")
