"""The page on primitives says what the tables say, and no primitive is forgotten."""

from fnckpt.ir.lowering import COMPLEX_RULES, KEY_RULES, REFUSED, RULES
from tests.ir.conformance import coverage
from tests.ir.conformance.cases import CASES


def test_the_page_is_up_to_date() -> None:
    assert coverage.PAGE.read_text() == coverage.page(), (
        "run python -m tests.ir.conformance.coverage"
    )


def test_every_primitive_of_the_installed_jax_has_a_rule_or_a_reason() -> None:
    assert not coverage.names_of_jax() - {*RULES, *COMPLEX_RULES, *KEY_RULES, *REFUSED}


def test_every_reason_says_what_to_do() -> None:
    assert all("; " in reason for reason in REFUSED.values())


def test_there_are_at_least_1500_cases() -> None:
    assert len(CASES) >= 1500
