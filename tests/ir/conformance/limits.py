"""What a target refuses, or does otherwise: patterns of case names, and what is said.

A case that is refused and not listed fails, and so does one that is listed and not refused.
"""

import re

REFUSED: dict[str, dict[str, str]] = {
    "ONNX": {},
    "AIR": {
        r"bfloat16|^reduce_precision: \(8, 7\)|^flax half": "GE r1.1 has no type for bfloat16",
        r"^(div|rem): (edges of )?uint64": "Truncate(Div|Mod) takes no uint64",
    },
    "MINDIR": {
        r"^(div|rem): (edges of )?uint64": "CPU kernel of Div does not compute uint64",
    },
}

# An older opset of ONNX lacks this, too.
REFUSED["ONNX-17"] = REFUSED["ONNX"] | {
    r"^write (segment_)?(max|min)": "a scatter by (max|min) needs opset 18; pass opset=18",
    r"float8_e(4m3fn|5m2)": r"a cast to float8_\w+ needs opset 19; pass opset=20",
}

# The runtime's own kernel gives another result, and exactness would cost every user of it.
DIFFERS: dict[str, dict[str, str]] = {
    "ONNX": {
        r"^max_pool: of -inf and NaN": "ONNX Runtime passes over NaN",
    },
    "AIR": {},
    "MINDIR": {
        r"^(div|rem): edges of int64": "MindSpore divides integers as doubles, exact to 2^53",
        r"^reduce_sum: (int32|u?int64) that overflows": "MindSpore sums integers as doubles",
    },
}


def listed(table: dict[str, dict[str, str]], target: str, name: str) -> str | None:
    """What ``table`` says of a case; None where it does not name it."""
    rows = table[target].items()
    return next((reason for pattern, reason in rows if re.search(pattern, name)), None)
