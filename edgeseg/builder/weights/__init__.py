"""Give a network weights to start from: a hub's, a package's, or those of a file that anybody wrote."""

from edgeseg.builder.weights.files import StoredWeights, read_weights
from edgeseg.builder.weights.mapping import KEEPS, load_stored
from edgeseg.builder.weights.packages import PACKAGES
from edgeseg.builder.weights.start import load_start

__all__ = [
    "KEEPS",
    "PACKAGES",
    "StoredWeights",
    "load_start",
    "load_stored",
    "read_weights",
]
