"""Complex numbers at the border of a file: real arrays with a last axis of 2, the real part first.

complex64 is float32 there, complex128 float64. Which values are complex stands in the file as one
text under ``KEY``: ONNX has it in ``metadata_props``, MindIR in ``user_info``, AIR among the
attributes of its ``ModelDef``.
"""

import json
from dataclasses import dataclass

import numpy as np

KEY = "fnckpt.complex"


@dataclass(frozen=True)
class Border:
    """Which values of a graph stand for complex ones.

    Attributes:
      inputs: their numbers, from 0.
      outputs: the same.
      weights: their names.
    """

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    weights: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.inputs or self.outputs or self.weights)

    def text(self) -> str:
        """As a file holds it.

        >>> Border(inputs=(0,), weights=("params.w",)).text()
        '{"inputs": [0], "outputs": [], "weights": ["params.w"]}'
        """
        return json.dumps(
            {
                "inputs": list(self.inputs),
                "outputs": list(self.outputs),
                "weights": list(self.weights),
            }
        )


NO_COMPLEX = Border()


def border_of(text: str) -> Border:
    """What ``Border.text`` wrote; nothing where it did not write this.

    >>> border_of('{"inputs": [0], "outputs": [1], "weights": []}')
    Border(inputs=(0,), outputs=(1,), weights=())
    >>> border_of("")
    Border(inputs=(), outputs=(), weights=())
    """
    try:
        held = json.loads(text or "{}")
    except json.JSONDecodeError:
        return NO_COMPLEX
    if not isinstance(held, dict):
        return NO_COMPLEX
    rows = {name: held.get(name, []) for name in ("inputs", "outputs", "weights")}
    if not all(isinstance(row, list) for row in rows.values()):
        return NO_COMPLEX
    inputs, outputs = (
        tuple(n for n in rows[name] if isinstance(n, int)) for name in ("inputs", "outputs")
    )
    return Border(inputs, outputs, tuple(n for n in rows["weights"] if isinstance(n, str)))


def as_real(x: np.ndarray) -> np.ndarray:
    """A complex array with its parts along a new last axis; another as it is.

    >>> as_real(np.array([1 + 2j], np.complex64))
    array([[1., 2.]], dtype=float32)
    """
    if x.dtype.kind != "c":
        return x
    return np.stack([np.real(x), np.imag(x)], -1)


def as_complex(x: np.ndarray) -> np.ndarray:
    """The complex array whose parts lie along the last axis of ``x``.

    >>> as_complex(np.array([[1, 2]], np.float32))
    array([1.+2.j], dtype=complex64)
    """
    plain = np.ascontiguousarray(x)
    return plain.view(np.result_type(x.dtype, np.complex64)).reshape(x.shape[:-1])
