"""Record a run, replay it, and compare the replay with what was recorded."""
