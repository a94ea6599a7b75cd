/* A webcam in the place of v4l2src: its library has the name of GStreamer's, and is found first.
 *
 * NV_WEBCAM: mjpeg (4:2:2 pictures, as most webcams send, each with rubbish behind its end) or yuyv.
 */
#include <gst/gst.h>
#include <stdlib.h>
#include <string.h>

typedef GstBin Webcam;
typedef GstBinClass WebcamClass;
G_DEFINE_TYPE(Webcam, webcam, GST_TYPE_BIN)

static GstStaticPadTemplate source =
    GST_STATIC_PAD_TEMPLATE("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS("image/jpeg; video/x-raw"));

static GstPadProbeReturn add_rubbish(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
  GstBuffer *buffer = gst_buffer_make_writable(GST_PAD_PROBE_INFO_BUFFER(info));
  gst_buffer_append_memory(buffer, gst_allocator_alloc(NULL, 512, NULL));
  GstMapInfo map;
  gst_buffer_map(buffer, &map, GST_MAP_WRITE);
  memset(map.data + map.size - 512, 0, 512);
  gst_buffer_unmap(buffer, &map);
  GST_PAD_PROBE_INFO_DATA(info) = buffer;
  return GST_PAD_PROBE_OK;
}

static void set(GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  g_object_set_data_full(object, "device", g_value_dup_string(value), g_free);
}

static void get(GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  g_value_set_string(value, g_object_get_data(object, "device"));
}

static void webcam_class_init(WebcamClass *klass)
{
  G_OBJECT_CLASS(klass)->set_property = set;
  G_OBJECT_CLASS(klass)->get_property = get;
  g_object_class_install_property(G_OBJECT_CLASS(klass), 1,
                                  g_param_spec_string("device", "", "", NULL, G_PARAM_READWRITE));
  gst_element_class_set_static_metadata(GST_ELEMENT_CLASS(klass), "Webcam", "Source/Video", "imitated", "edgeseg");
  gst_element_class_add_static_pad_template(GST_ELEMENT_CLASS(klass), &source);
}

static void webcam_init(Webcam *self)
{
  const char *format = getenv("NV_WEBCAM");
  gboolean raw = format != NULL && strcmp(format, "yuyv") == 0;
  GstElement *inside = gst_parse_bin_from_description(
      raw ? "videotestsrc is-live=true pattern=ball ! video/x-raw,format=YUY2,width=320,height=240,framerate=30/1"
          : "videotestsrc is-live=true pattern=ball ! video/x-raw,format=Y42B,width=320,height=240,framerate=30/1 ! "
            "jpegenc",
      TRUE, NULL);
  gst_bin_add(self, inside);
  GstPad *pad = gst_element_get_static_pad(inside, "src");
  GstPad *ghost = gst_ghost_pad_new_from_template("src", pad, gst_static_pad_template_get(&source));
  gst_element_add_pad(GST_ELEMENT(self), ghost);
  if (!raw)
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, add_rubbish, NULL, NULL);
  gst_object_unref(pad);
  GST_OBJECT_FLAG_SET(self, GST_ELEMENT_FLAG_SOURCE);
}

static gboolean plugin_init(GstPlugin *plugin)
{
  return gst_element_register(plugin, "v4l2src", GST_RANK_PRIMARY, webcam_get_type());
}

#define PACKAGE "edgeseg"
GST_PLUGIN_DEFINE(GST_VERSION_MAJOR, GST_VERSION_MINOR, video4linux2, "A webcam, imitated", plugin_init, "1", "LGPL",
                  "edgeseg tests", "https://example.org")
