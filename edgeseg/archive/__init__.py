"""Segment an archive of pictures and videos: a plan, shards of it, results, and what works them off."""
