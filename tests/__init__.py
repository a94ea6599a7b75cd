"""Tests of edgeseg."""

HANG_S = 1800
"""Seconds after which a child process counts as hung. Tests wait for its end, which a busy machine delays at will."""
