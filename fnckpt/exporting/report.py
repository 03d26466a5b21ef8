"""A Markdown report beside an exported file: each stage, what it left, how long it took."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fnckpt.exporting.result import ExportResult
from fnckpt.exporting.runtimes import RUNTIMES, is_installed
from fnckpt.extras import install
from fnckpt.files import replacing
from fnckpt.ir.targets.target import Target

MOST_PROBLEMS = 20


@dataclass(frozen=True)
class Stage:
    """A stage of an export that is over: what it left, and its seconds."""

    name: str
    left: str
    seconds: float


class Stages:
    """The stages so far, in order."""

    def __init__(self) -> None:
        self.past: list[Stage] = []
        self._since = time.perf_counter()

    def done(self, name: str, left: str) -> None:
        """The stage ``name`` is over."""
        now = time.perf_counter()
        self.past.append(Stage(name, left, now - self._since))
        self._since = now


def write_report(result: ExportResult, goal: Target, stages: Stages) -> Path:
    """Check the file and write its report; the report's path is the file's with ``.md`` behind."""
    problems = goal.check(result.path)
    stages.done("checked", f"{len(problems)} problems" if problems else "no problems")
    path = result.path.with_name(f"{result.path.name}.md")
    with replacing(path) as file:
        file.write(text(result, goal, stages.past, problems).encode())
    return path


def text(
    result: ExportResult, goal: Target, stages: Sequence[Stage], problems: Sequence[str]
) -> str:
    """The report, section by section."""
    facts = [row for row in result.rows() if row[0] not in ("file", "report", "seconds")]
    counts = Counter(node.op for node in goal.summarize(result.path).every_node()).most_common()
    heavy = [
        (h.op, h.scope, f"{h.flops:,}")
        for h in result.heaviest()
    ]  # fmt: skip
    sections = [
        f"# {result.path.name}",
        _table(("", ""), facts),
        "## Stages",
        _table(
            ("stage", "left", "seconds"), [(s.name, s.left, f"{s.seconds:.3f}") for s in stages]
        ),
        *_checked(problems),
        *_errors(result),
        "## Operators",
        _table(("operator", "nodes"), [(op, f"{n:,}") for op, n in counts]),
        *(["## Heaviest nodes", _table(("operator", "module", "FLOPs"), heavy)] if heavy else []),
    ]
    return "\n\n".join(sections) + "\n"


def _checked(problems: Sequence[str]) -> list[str]:
    if not problems:
        return []
    more = len(problems) - MOST_PROBLEMS
    lines = [f"- {problem}" for problem in problems[:MOST_PROBLEMS]]
    return ["## Problems", "\n".join([*lines, *([f"- and {more} more"] if more > 0 else [])])]


def _errors(result: ExportResult) -> list[str]:
    outcome = result.verified
    if outcome is None:
        runtime = RUNTIMES[result.file_format][0]
        assert not is_installed(result.file_format)
        return ["## Errors", f"Not run: {runtime} is not installed, `{install(runtime)}`."]
    rows = [(name, f"{error:.1e}") for name, error in outcome.errors.items()]
    about = (
        f"{outcome.runtime} against JAX, on {outcome.given}: the greatest difference over the "
        "greatest number; of integers and bools, the share of elements that differ. Allowed by "
        f"`verify`: {outcome.tolerance:g}."
    )
    return ["## Errors", about, _table(("output", "error"), rows)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
