"""A file of a graph computed by JAX."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fnckpt.importing.load import load_graph
from fnckpt.ir.lowering import compat


def computed(path: Path, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a file for ``inputs`` in order, with 64 bits where it has them."""
    with compat.enable_x64():
        params, apply_fn = load_graph(path)
        outputs = apply_fn(params, *inputs)
        results = outputs if isinstance(outputs, tuple) else (outputs,)
        return [np.asarray(each) for each in results]
