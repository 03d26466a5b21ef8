"""The table of behaviours that every target is judged by; a module for each family."""

from tests.conformance.case import Case
from tests.conformance.cases import elementwise

CASES: list[Case] = [*elementwise.CASES]
