"""The harnesses that are not equal, each with the reason and whose fault it is.

One that is not equal and not listed fails, and so does a row that no harness needs any more.
"""

import re
from dataclasses import dataclass

FREE, FORMATS = "nobody's: JAX leaves it open", "the formats'"


@dataclass(frozen=True)
class Row:
    """``pattern`` of names, in ``formats``: why they are not equal, and whose fault that is."""

    pattern: str
    formats: tuple[str, ...]
    reason: str
    fault: str


EVERY = ("graph", "ONNX", "MINDIR", "AIR")
RUNTIMES = ("ONNX", "MINDIR", "AIR")

UNEQUAL = (
    Row(
        r"^(eig|random_gamma)_", ("AIR",),
        "a loop whose length depends on data, of which AIR has none", "GE's",
    ),
    Row(r"^(svd|eigh)_", ("AIR",), "a loop longer than max_unroll, of which AIR has none", "GE's"),
    Row(
        r"^scatter_.*modes_out_of_bounds.*PROMISE_IN_BOUNDS", EVERY,
        "an index outside, though the caller promised none: XLA drops the update, runtimes raise",
        FREE,
    ),
    Row(
        r"^sort_multiple_arrays_.*isstable_False", EVERY,
        "the order of equal keys in a sort that need not be stable", FREE,
    ),
    Row(r"^approx_top_k_large_True", EVERY, "which of equal elements is taken", FREE),
    Row(
        r"^top_k_sort_inf_nan", EVERY,
        "a negative NaN is the least in JAX, and no operator tells the sign of a NaN", FORMATS,
    ),
    Row(
        r"bfloat16", ("AIR",), "GE r1.1 has no type for bfloat16", "GE's",
    ),
)  # fmt: skip

# Matrices of hundreds of columns, written out column by column, take minutes of compiling.
LARGE = re.compile(r"200_|_100_100")


def row_of(name: str, file_format: str) -> Row | None:
    """What the table says of a harness in a format."""
    rows = (row for row in UNEQUAL if file_format in row.formats)
    return next((row for row in rows if re.search(row.pattern, name)), None)
