"""Forecast ms per frame on a Jetson from a graph alone."""
