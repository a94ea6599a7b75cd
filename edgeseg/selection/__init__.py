"""Choose calibration frames from any source."""
