"""Files with ``mindspore="2.0"`` in the runtimes that read them: ``python -m tests.lite PYTHON``.

PYTHON is one with mindspore==2.0.0 and mindspore-lite==2.0.0. It prints how many cases each of the
two computed as JAX does, and ends with 1 where that is not what ``limits`` says.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fnckpt.ir.targets.mindir import TARGET, check
from fnckpt.ir.targets.target import Refused, legalized
from tests.lite.limits import LIMITS, REFUSED, Outcome, unexpected
from tests.lite.trials import Trial, trials
from tests.targets.mindir.judge import Judged, judge

SCRIPT = Path(__file__).with_name("old_runtime.py")


def main() -> None:
    """Write, run, compare, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take each N-th case")
    parser.add_argument("--only", default="", help="take cases whose name has this in it")
    parser.add_argument("--judge", choices=LIMITS, nargs="+", default=list(LIMITS))
    parser.add_argument("--keep", type=Path, help="a folder to leave files and results in")
    options = parser.parse_args()
    some = [trial for trial in trials(options.every) if options.only in trial.name]
    with TemporaryDirectory() as made:
        folder = options.keep or Path(made)
        surprises = run(some, folder, options.python.absolute(), options.judge)
    print("\n".join(surprises))
    sys.exit(bool(surprises))


def run(some: Sequence[Trial], folder: Path, python: Path, judges: Sequence[str]) -> list[str]:
    """Judge each trial; what was not expected, a line each."""
    refused: dict[str, Outcome] = {}
    files: dict[str, Trial] = {}
    written: dict[str, bytes] = {}
    for number, trial in enumerate(some):
        try:
            written[f"{number:05}"] = encoded(trial)
            files[f"{number:05}"] = trial
        except Refused as error:
            refused[trial.name] = Outcome("refused by us", str(error))
    surprises = unexpected(REFUSED, [trial.name for trial in some], refused)
    names = [trial.name for trial in files.values()]
    for name in judges:
        found = refused | outcomes(files, judged(folder / name, files, written, python, name))
        report(name, found, folder / f"{name}.json")
        surprises += [f"{name}: {line}" for line in unexpected(LIMITS[name], names, found)]
    return surprises


def encoded(trial: Trial) -> bytes:
    """The file in the attribute style."""
    parts = TARGET.encode(legalized(trial.graph(), TARGET), mindspore="2.0").parts
    return b"".join(map(bytes, parts))


def judged(
    folder: Path, files: Mapping[str, Trial], written: Mapping[str, bytes], python: Path, name: str
) -> Mapping[str, Judged]:
    """What a runtime makes of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in written.items():
        path = folder / f"{file}.mindir"
        path.write_bytes(data)
        assert check(path) == [], files[file].name
    jobs = {file: trial.inputs for file, trial in files.items()}
    return judge(
        folder, jobs, lambda start: [str(python), str(SCRIPT), str(folder), str(start), name]
    )


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
    return Outcome("passed")


def report(name: str, found: Mapping[str, Outcome], path: Path) -> None:
    """The counts of one runtime, and what became of each case as a JSON file."""
    counts = Counter(each.kind for each in found.values())
    print(f"{name}: {len(found)} cases", flush=True)
    for kind, count in counts.most_common():
        print(f"  {count:5} {kind}")
    path.write_text(json.dumps({case: [each.kind, each.text] for case, each in found.items()}))


if __name__ == "__main__":
    main()
