"""What ``import fnckpt`` and its first names cost beyond ``import jax``.

Claims, seconds beyond JAX's own, the least of each over rounds of processes in turn:
  import fnckpt                                     < 0.4
  import fnckpt, and fnckpt.train and fnckpt.export looked up   printed

Run: python -m benchmarks.import_time [--rounds 7]
"""

import argparse
import subprocess
import sys

BAR = 0.4
PROGRAMS = {
    "jax": "import jax",
    "fnckpt": "import jax, fnckpt",
    "fnckpt, its functions": "import jax, fnckpt; fnckpt.train, fnckpt.export",
}
TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def seconds(program: str) -> float:
    """How long ``program`` takes in a fresh interpreter, the interpreter's start not counted."""
    command = [sys.executable, "-c", TIMED.format(program)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    turns = [{name: seconds(program) for name, program in PROGRAMS.items()} for _ in range(rounds)]
    least = {name: min(turn[name] for turn in turns) for name in PROGRAMS}
    for name, took in least.items():
        print(f"{name:<22}{took:.3f} s, {took - least['jax']:+.3f} s beyond jax")
    held = least["fnckpt"] - least["jax"] < BAR
    print(f"the bar of {BAR} s is {'held' if held else 'MISSED'}")


if __name__ == "__main__":
    main()
