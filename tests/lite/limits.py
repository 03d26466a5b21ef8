"""What the old runtimes do not compute: a case that fails and is not listed is an error, and so is
one that is listed and passes.

MindSpore's limits are patterns of case names with reasons. Lite's are as many as the kernels that
it lacks, so they are recorded case by case in lite_limits.json, by what happened: ``make test-lite
EVERY=1 RECORD=--record`` writes it, and every change of it is seen in a review.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RECORDED = Path(__file__).with_name("lite_limits.json")
PASSED, REFUSED_BY_US = "passed", "refused by us"


@dataclass(frozen=True)
class Outcome:
    """What became of a case: ``kind``, and ``text``, the reason where it is not ``passed``."""

    kind: str
    text: str = ""


# Refused at export: patterns of case names, and of the reason that is given.
REFUSED: dict[str, str] = {
    r"^(div|rem): (edges of )?uint64": "kernel of Div does not compute uint64",
    r"^digamma: float64": "kernel of Digamma does not compute float64",
    r"^nextafter: float(32|64)": "NextAfter gives wrong numbers",
    r"^(argsort|sort|top_k): (edges of )?(float64|u?int64)": "kernel of TopK does not",
    r"^top_k: uint32": "kernel of TopK does not",
    r"^conv: uint32|^matmul: (u?int64|uint32)": "kernel of MatMul does not compute int64",
    r"bfloat16|^reduce_precision: \(8, 7\)|^flax half": "has no bfloat16",
}

# What MindSpore 2.0.0 does otherwise: patterns of case names, and why.
MINDSPORE: dict[str, str] = {
    r": (bool)?\[0, | where nothing is$|: (reshape|broadcast) of nothing$": "no empty Tensor",
    r"^(read|write) rows: (none|of no)|^(reduce|cum\w+): no elements": "no empty Tensor",
    r"^matmul: (nothing|no)|^conv: no batch": "no empty Tensor",
    r"^rem: edges of float(16|32|64)": "the remainder of infinities is NaN",
    r"^(exp|log): edges of float(16|32)": "Exp and Log of NaN are none",
    r"^(div|rem): edges of int64": "it divides integers as doubles, exact to 2^53",
    r"^reduce_sum: (int32|u?int64) that overflows": "it sums integers as doubles",
    r"^window (max|min): float64|^nn.softmax: float64": "float32's digits in double",
    r"^complex pow: float32": "a last digit",
}


def lite_limits() -> dict[str, str]:
    """What happened to each case that Lite does not compute."""
    if not RECORDED.exists():
        return {}
    by_kind: dict[str, list[str]] = json.loads(RECORDED.read_text())
    return {name: kind for kind, names in by_kind.items() for name in names}


def record(found: Mapping[str, Outcome]) -> None:
    """Write what Lite does not compute."""
    kinds = sorted({each.kind for each in found.values()} - {PASSED, REFUSED_BY_US})
    by_kind = {k: sorted(name for name, each in found.items() if each.kind == k) for k in kinds}
    RECORDED.write_text(json.dumps(by_kind, indent=0) + "\n")


def matching(table: Mapping[str, str], name: str) -> str | None:
    """What a table of patterns says of a name."""
    return next((reason for pattern, reason in table.items() if re.search(pattern, name)), None)


def wrongly_refused(names: Sequence[str], refused: Mapping[str, Outcome]) -> list[str]:
    """Refusals that are not listed, or without the listed reason, and the listed that are none."""
    lines: list[str] = []
    for name in names:
        reason, outcome = matching(REFUSED, name), refused.get(name)
        if reason is None and outcome is not None:
            lines.append(f"{name}: refused, and no limit says so: {short(outcome.text)}")
        elif reason is not None and outcome is None:
            lines.append(f"{name}: not refused, where a limit says that it is; take it out")
        elif reason and outcome and not re.search(reason, outcome.text):
            lines.append(f"{name}: refused for another reason: {short(outcome.text)}")
    return lines


def unexpected(judge: str, found: Mapping[str, Outcome]) -> list[str]:
    """Cases that failed without being listed, or that are listed and passed; a line each."""
    lines: list[str] = []
    limits = lite_limits() if judge == "lite" else {}
    for name, outcome in found.items():
        listed = limits.get(name) if judge == "lite" else matching(MINDSPORE, name)
        if outcome.kind == PASSED and listed is not None:
            lines.append(f"{judge}: {name}: passes, where a limit says {listed!r}; take it out")
        elif outcome.kind != PASSED and listed is None:
            lines.append(f"{judge}: {name}: {outcome.kind}: {short(outcome.text)}")
    return lines


def short(text: str) -> str:
    """The beginning of a message, in one line."""
    return " ".join(text.split())[:300]
