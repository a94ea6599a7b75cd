"""Measurement and comparison on this machine."""
