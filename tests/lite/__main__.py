"""Files with ``mindspore="2.0"`` in the runtimes that read them: ``python -m tests.lite PYTHON``.

PYTHON is one with mindspore==2.0.0 and mindspore-lite==2.0.0. It prints how many cases each of the
two computed as JAX does, and ends with 1 where that is not what ``limits`` says.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from tempfile import TemporaryDirectory

from fnckpt.ir.targets.mindir import TARGET, check
from fnckpt.ir.targets.target import Refused, legalized
from fnckpt.proto.mind_ir_pb2 import ModelProto
from tests.ir.targets.mindir.judge import Judged, judge
from tests.lite.limits import (
    PASSED,
    REFUSED_BY_US,
    Outcome,
    record,
    unexpected,
    wrongly_refused,
)
from tests.lite.trials import Trial, trials

JUDGES = ("mindspore", "lite")
SCRIPT = Path(__file__).with_name("old_runtime.py")


def main() -> None:
    """Write, run, compare, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take each N-th case")
    parser.add_argument("--only", default="", help="take cases whose name has this in it")
    parser.add_argument("--judge", choices=JUDGES, nargs="+", default=JUDGES)
    parser.add_argument(
        "--keep", type=Path, help="a folder to leave files and results in, a new one"
    )
    parser.add_argument("--record", action="store_true", help="write what Lite fails at")
    options = parser.parse_args()
    some = trials(options.every, options.only)
    with TemporaryDirectory() as made:
        found = run(some, options.keep or Path(made), options.python.absolute(), options.judge)
    refused = {name: each for name, each in found[""].items() if each.kind == REFUSED_BY_US}
    surprises = wrongly_refused([trial.name for trial in some], refused)
    if options.record:
        record(found["lite"])
    for judge_name in options.judge:
        surprises += unexpected(judge_name, found[judge_name])
    print("\n".join(surprises))
    sys.exit(bool(surprises))


Outcomes = Mapping[str, Outcome]


def run(
    some: Sequence[Trial], folder: Path, python: Path, judges: Sequence[str]
) -> dict[str, Outcomes]:
    """What became of each trial by judge, and under no name what was refused at export."""
    refused: dict[str, Outcome] = {}
    files: dict[str, Trial] = {}
    written: dict[str, bytes] = {}
    for number, trial in enumerate(some):
        try:
            written[f"{number:05}"] = encoded(trial)
            files[f"{number:05}"] = trial
        except Refused as error:
            refused[trial.name] = Outcome(REFUSED_BY_US, str(error))
    found: dict[str, Outcomes] = {"": refused}
    for name in judges:
        found[name] = outcomes(files, judged(folder / name, files, written, python, name))
        report(name, {**refused, **found[name]})
        passing = {file for file, trial in files.items() if found[name][trial.name].kind == PASSED}
        print(f"  in no file that passed: {', '.join(never(written, passing))}", flush=True)
    return found


def never(written: Mapping[str, bytes], passing: Set[str]) -> list[str]:
    """The primitives that are in files, and in none of those that passed."""
    ops = {file: primitives(data) for file, data in written.items()}
    fine = {op for file in passing for op in ops[file]}
    return sorted({op for each in ops.values() for op in each} - fine)


def primitives(data: bytes) -> set[str]:
    """The operators of a file."""
    return {node.op_type for node in ModelProto.FromString(data).graph.node}


def encoded(trial: Trial) -> bytes:
    """The file in the attribute style."""
    parts = TARGET.encode(legalized(trial.graph(), TARGET), mindspore="2.0").parts
    return b"".join(map(bytes, parts))


def judged(
    folder: Path, files: Mapping[str, Trial], written: Mapping[str, bytes], python: Path, name: str
) -> Mapping[str, Judged]:
    """What a runtime makes of the files."""
    folder.mkdir(parents=True)
    for file, data in written.items():
        path = folder / f"{file}.mindir"
        path.write_bytes(data)
        assert check(path) == [], files[file].name
    names = {file: input_names(data) for file, data in written.items()}
    (folder / "inputs.json").write_text(json.dumps(names))
    jobs = {file: trial.inputs for file, trial in files.items()}
    return judge(
        folder, jobs, lambda start: [str(python), str(SCRIPT), str(folder), str(start), name]
    )


def input_names(data: bytes) -> list[str]:
    """What the inputs are called in a file."""
    return [given.name for given in ModelProto.FromString(data).graph.input]


def outcomes(files: Mapping[str, Trial], judged: Mapping[str, Judged]) -> dict[str, Outcome]:
    """By the name of the trial."""
    return {trial.name: outcome(trial, judged[file]) for file, trial in files.items()}


def outcome(trial: Trial, judged: Judged) -> Outcome:
    """Passed, or how it did not."""
    if judged.error.startswith("the process ended"):
        return Outcome("crashed", judged.error)
    if judged.error:
        return Outcome("refused by the runtime", judged.error)
    try:
        trial.compare(judged.outputs)
    except AssertionError as error:
        return Outcome("differs", str(error))
    return Outcome(PASSED)


def report(name: str, found: Outcomes) -> None:
    """The counts of one runtime."""
    counts = Counter(each.kind for each in found.values())
    print(f"{name}: {len(found)} cases", flush=True)
    for kind, count in counts.most_common():
        print(f"  {count:5} {kind}")


if __name__ == "__main__":
    main()
