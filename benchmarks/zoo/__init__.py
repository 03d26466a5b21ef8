"""The networks and functions that exports are measured on: random weights, the form for inference.

An entry is a function of no arguments that gives parameters, the pure function, and inputs.
``SMALL_ONES`` are those that take a second to export and a few milliseconds to run.
"""

from benchmarks.zoo.functions import FUNCTIONS
from benchmarks.zoo.images import IMAGES
from benchmarks.zoo.losses import LOSSES
from benchmarks.zoo.pixels import PIXELS
from benchmarks.zoo.sequences import SEQUENCES
from benchmarks.zoo.small import SMALL
from benchmarks.zoo.structured import STRUCTURED

SMALL_ONES = PIXELS | LOSSES | SMALL | STRUCTURED | FUNCTIONS
ZOO = IMAGES | SEQUENCES | SMALL_ONES
