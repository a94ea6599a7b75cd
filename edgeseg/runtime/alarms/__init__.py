"""Evaluate rules on masks and act on alarms."""

from edgeseg.runtime.alarms.evaluate import Measured, Watch
from edgeseg.runtime.alarms.expression import Rule
from edgeseg.runtime.alarms.parser import parse
from edgeseg.runtime.alarms.roi import RoiSet

__all__ = ["Measured", "RoiSet", "Rule", "Watch", "parse"]
