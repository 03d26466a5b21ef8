"""The networks that exports are measured on: random weights, the form for inference.

An entry is a function of no arguments that gives parameters, the pure function, and inputs.
"""

from benchmarks.zoo.images import IMAGES
from benchmarks.zoo.sequences import SEQUENCES

ZOO = IMAGES | SEQUENCES
