"""The table of behaviours that every target is judged by; a module for each family."""

from tests.ir.conformance.case import Case
from tests.ir.conformance.cases import (
    bits,
    complexes,
    control,
    eigenvalues,
    elementwise,
    indexing,
    known_numbers,
    linalg,
    loops,
    loops_of_libraries,
    networks,
    products,
    random,
    reductions,
    shapes,
    small,
)

FAMILIES = (
    elementwise,
    shapes,
    indexing,
    reductions,
    products,
    networks,
    control,
    loops,
    loops_of_libraries,
    complexes,
    linalg,
    eigenvalues,
    random,
    small,
    bits,
    known_numbers,
)
CASES: list[Case] = [case for family in FAMILIES for case in family.CASES]
