"""GStreamer, always in a process of its own: what wedges there can be killed, and cv2's own build does not matter."""
