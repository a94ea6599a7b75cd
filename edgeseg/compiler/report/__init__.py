"""Render the report of a bundle as one HTML page."""
