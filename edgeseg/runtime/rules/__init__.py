"""Rules on masks: when is an alarm on."""

from edgeseg.runtime.rules.evaluate import Measured, Watch
from edgeseg.runtime.rules.expression import Rule
from edgeseg.runtime.rules.parser import parse
from edgeseg.runtime.rules.roi import RoiSet

__all__ = ["Measured", "RoiSet", "Rule", "Watch", "parse"]
