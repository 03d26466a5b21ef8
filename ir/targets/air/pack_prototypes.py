"""Makes ``prototypes.json.gz`` from a facts file, the one argument of this script.

The facts file was parsed from the operator headers of graphengine, the folder
``third_party/fwkacllib/inc/ops`` of branch r1.1 (February 2021) and the folder ``910`` of the
master branch. For each of the two sets and each type it has rows of inputs and outputs
``[name, req | opt | dyn, dtypes]`` and of attributes ``[name, kind]``, or ``[name, kind, default]``
where they may be left out.
"""

import gzip
import json
import sys
from pathlib import Path

SOURCE = (
    "operator prototypes of graphengine: set r1.1 from branch r1.1 (February 2021), "
    "set 910 from the 910 folder of branch master"
)
KEPT = ("in", "out", "attr", "types", "graph")


def pack(facts: dict) -> bytes:
    """The data file's bytes; the same facts give the same bytes."""
    ops = {
        release: {
            name: {k: row[k] for k in KEPT if row.get(k)} for name, row in sorted(rows.items())
        }
        for release, rows in facts["ops"].items()
    }
    packed = {"source": SOURCE, "dtype_sets": facts["dtype_sets"], "ops": ops}
    return gzip.compress(json.dumps(packed, separators=(",", ":")).encode(), 9, mtime=0)


if __name__ == "__main__":
    packed = pack(json.loads(Path(sys.argv[1]).read_text()))
    Path(__file__).with_name("prototypes.json.gz").write_bytes(packed)
    print(f"{len(packed)} bytes")
