"""HOST: networks, weights, data sets, training. The only room that imports torch at module level."""
