"""Bring a model to boards over ssh, look whether it is well there, and go back where it is not."""
