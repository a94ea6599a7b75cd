"""How well a model does in the field: agreement with a higher precision, and drift away from the calibration data."""

from edgeseg.runtime.monitoring.drift import DriftWatch
from edgeseg.runtime.monitoring.shadow import ShadowAgreement
from edgeseg.runtime.monitoring.sink import FieldSink

__all__ = ["DriftWatch", "FieldSink", "ShadowAgreement"]
