"""Runs JAX's harnesses, by default all of them in ONNX, and says what is not equal, and why.

``python -m tests.ir.harnesses ONNX MINDIR AIR graph --only '^fft' --every 10``
"""

import argparse
import re
import sys
import time
from collections import Counter

from tests.ir.harnesses.harness import harnesses
from tests.ir.harnesses.judging import FORMATS, verdicts
from tests.ir.harnesses.unequal import row_of


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.ir.harnesses")
    parser.add_argument("formats", nargs="*", default=["ONNX"], help=", ".join(FORMATS))
    parser.add_argument("--only", default="", help="a pattern of names")
    parser.add_argument("--every", type=int, default=1, help="take each n-th alone")
    options = parser.parse_args()
    chosen = [h for h in harnesses() if re.search(options.only, h.name)][:: options.every]
    surprises = 0
    for file_format in options.formats:
        start, bad, reasons = time.perf_counter(), Counter[str](), Counter[str]()
        for verdict in verdicts(chosen, file_format):
            row = row_of(verdict.harness.name, file_format)
            if verdict.problem is None:
                continue
            bad[verdict.harness.family] += 1
            if row is None:
                surprises += 1
                print(f"NOT LISTED  {file_format} {verdict.harness.name}: {verdict.problem[:300]}")
            else:
                reasons[f"{row.reason} ({row.fault})"] += 1
        equal = len(chosen) - bad.total()
        seconds = time.perf_counter() - start
        print(f"{file_format}: {equal} of {len(chosen)} equal, in {seconds:.0f} s")
        for line, count in (*bad.most_common(), *reasons.most_common()):
            print(f"  {count:4}  {line}")
    return min(surprises, 1)


if __name__ == "__main__":
    sys.exit(main())
