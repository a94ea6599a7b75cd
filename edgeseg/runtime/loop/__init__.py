"""Run the loop: read sources, batch frames, infer, hand results to sinks."""
