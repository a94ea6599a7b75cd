"""ROS bags: camera images in, masks out."""
