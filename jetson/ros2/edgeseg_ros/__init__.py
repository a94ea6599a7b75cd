"""Segment the images of a ROS 2 topic."""
