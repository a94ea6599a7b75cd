"""How well a model does in the field: agreement with a higher precision, and drift away from the calibration data."""

from edgeseg.runtime.field.drift import DriftWatch
from edgeseg.runtime.field.shadow import ShadowAgreement
from edgeseg.runtime.field.sink import FieldSink

__all__ = ["DriftWatch", "FieldSink", "ShadowAgreement"]
