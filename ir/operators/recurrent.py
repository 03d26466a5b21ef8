"""Recurrent networks, as ONNX means its LSTM and GRU of one direction.

Inputs lie as ``[time, batch, features]``; weights, states and biases have a first axis of 1, the
direction. The bias is that of the input, then that of the state.
"""

from collections.abc import Callable

import numpy as np

from fnckpt.ir.graph import Aval
from fnckpt.ir.operators.arrays import JNP, LAX, is_jax, module_of, special_of
from fnckpt.ir.operators.table import operator

States = tuple[np.ndarray, ...]
Step = Callable[[np.ndarray, States], States]


def _infer(gates: int) -> Callable[..., tuple[Aval, ...]]:
    def infer(x: Aval, w: Aval, r: Aval, b: Aval, *states: Aval, **_: object) -> tuple[Aval, ...]:
        units, (time, batch, features) = r.shape[-1], x.shape
        wanted = {
            "the weight": (w, (1, gates * units, features)),
            "the weight of the state": (r, (1, gates * units, units)),
            "the bias": (b, (1, 2 * gates * units)),
        } | {f"the state {i}": (state, (1, batch, units)) for i, state in enumerate(states)}
        for what, (aval, shape) in wanted.items():
            if aval != Aval(shape, x.dtype):
                raise ValueError(f"{what} is {aval}, it must be {Aval(shape, x.dtype)}")
        return (Aval((time, 1, batch, units), x.dtype), *states)

    return infer


def _over_time(x: np.ndarray, states: States, reverse: bool, step: Step) -> States:
    """The first state of all times, and the last states; ``x`` is multiplied for all at once."""
    if is_jax(x, *states):

        def trip(carry: States, row: np.ndarray) -> tuple[States, np.ndarray]:
            after = step(row, carry)
            return after, after[0]

        carry, rows = LAX.scan(trip, tuple(map(JNP.asarray, states)), x, reverse=reverse)
        return (rows, *carry)
    rows = np.empty((len(x), *states[0].shape), x.dtype)
    for i in reversed(range(len(x))) if reverse else range(len(x)):
        states = step(x[i], states)
        rows[i] = states[0]
    return (rows, *states)


def _products(x: np.ndarray, w: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The product with the weights of all gates, their biases added; of one step or of all."""
    return module_of(x, w).matmul(x, w[0].T) + bias


@operator("Lstm", _infer(4))
def lstm(
    x: np.ndarray, w: np.ndarray, r: np.ndarray, b: np.ndarray, h: np.ndarray, c: np.ndarray,
    *, reverse: bool,
) -> States:  # fmt: skip
    """All states, the last one and the last cell; gates lie as input, output, forget, cell."""
    xp, sigmoid = module_of(x, w), special_of(x, w).expit
    of_input, of_state = xp.split(b[0], 2)

    def step(row: np.ndarray, states: States) -> States:
        h, c = states
        i, o, f, g = xp.split(row + _products(h, r, of_state), 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * xp.tanh(g)
        return sigmoid(o) * xp.tanh(c), c

    return _over_time(_products(x, w, of_input), (h, c), reverse, step)


@operator("Gru", _infer(3))
def gru(
    x: np.ndarray, w: np.ndarray, r: np.ndarray, b: np.ndarray, h: np.ndarray,
    *, reverse: bool, reset_after: bool,
) -> States:  # fmt: skip
    """All states and the last one; gates lie as update, reset, new.

    ``reset_after``: the reset gate multiplies the product with the state, else the state.
    """
    xp, sigmoid = module_of(x, w), special_of(x, w).expit
    of_input, of_state = xp.split(b[0], 2)
    units = h.shape[-1]

    def step(row: np.ndarray, states: States) -> States:
        (h,) = states
        of_row, of_h = (xp.split(x, 3, axis=-1) for x in (row, _products(h, r, of_state)))
        update, reset = (sigmoid(of_row[i] + of_h[i]) for i in (0, 1))
        own = slice(2 * units, None)
        later = xp.matmul(reset * h, r[0, own].T) + of_state[own]
        new = xp.tanh(of_row[2] + (reset * of_h[2] if reset_after else later))
        return ((1 - update) * new + update * h,)

    return _over_time(_products(x, w, of_input), (h,), reverse, step)
