"""Evaluate rules on masks and act on alarms. Empty, so that the table of actions costs nothing to read."""
