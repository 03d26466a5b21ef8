"""Exports cells, and what MindSpore computes: ``python -m ...exporting <folder> <names>``."""

import pickle
import sys
from collections.abc import Sequence
from pathlib import Path

import mindspore
import numpy as np
from mindspore import Tensor, nn

from tests.ir.sources.mindir.cells import CELLS
from tests.ir.sources.mindir.nets import NETS


def flat(value: object) -> list[np.ndarray]:
    if isinstance(value, tuple | list):
        return [leaf for each in value for leaf in flat(each)]
    assert isinstance(value, Tensor)
    return [value.asnumpy()]


def main(folder: Path, names: Sequence[str]) -> None:
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    for name in names:
        make, arrays = (CELLS | NETS)[name]
        cell = make(nn)
        cell.set_train(False)
        inputs = [Tensor(x) for x in arrays]
        found = flat(cell(*inputs))
        mindspore.export(cell, *inputs, file_name=str(folder / name), file_format="MINDIR")
        (folder / f"{name}.pkl").write_bytes(pickle.dumps((arrays, found)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
