"""What the old runtimes do not compute: patterns of case names, and what is found there.

A case that fails and is not listed is an error, and so is one that is listed and passes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What became of a case: ``kind``, and ``text``, the reason where it is not ``passed``."""

    kind: str
    text: str = ""


# Refused at export, by pattern the reason that is given.
REFUSED: dict[str, str] = {}

# By runtime and pattern: what is known of it.
LIMITS: dict[str, dict[str, str]] = {"mindspore": {}, "lite": {}}


def unexpected(
    limits: Mapping[str, str], names: Sequence[str], found: Mapping[str, Outcome]
) -> list[str]:
    """Cases that failed without being listed, or that are listed and passed; a line each."""
    lines: list[str] = []
    for name in names:
        outcome = found.get(name, Outcome("passed"))
        listed = next((pattern for pattern in limits if re.search(pattern, name)), None)
        if outcome.kind == "passed" and listed is not None:
            lines.append(f"{name}: passes, and {listed} says that it does not; take it out")
        elif outcome.kind != "passed" and listed is None:
            text = " ".join(outcome.text.split())[:300]
            lines.append(f"{name}: {outcome.kind}: {text}")
    return lines
