"""Draw class maps: colours over frames, contours, run lengths."""
